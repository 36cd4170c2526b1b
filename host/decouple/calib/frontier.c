#include "decouple/calib/frontier.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

enum { networks = 2 }; /* original, current: the second is missing where only one network is looked at */

typedef struct block {
    int64_t n;
    float *data[networks][nd_taps_max];
} block;

struct nd_frontier {
    nd_batches *batches;
    int64_t images;
    size_t limit;
    int node;                  /* the cut is before this node */
    int n, value[nd_taps_max]; /* n == 0: at the image, nothing is stored */
    block *blocks;
    size_t n_blocks, capacity;
};

static void block_free(block *b) {
    for (int g = 0; g < networks; g++)
        for (int v = 0; v < nd_taps_max; v++) {
            free(b->data[g][v]);
            b->data[g][v] = NULL;
        }
}

static void blocks_free(nd_frontier *f) {
    for (size_t b = 0; b < f->n_blocks; b++) block_free(&f->blocks[b]);
    free(f->blocks);
    f->blocks = NULL;
    f->n_blocks = f->capacity = 0;
}

nd_status nd_frontier_new(nd_batches *batches, int64_t images, size_t limit, nd_frontier **out) {
    nd_frontier *f = calloc(1, sizeof *f);
    ND_REQUIRE(f, nd_status_memory, "no memory for a walk");
    f->batches = batches;
    f->images = images;
    f->limit = limit;
    *out = f;
    return nd_status_ok;
}

void nd_frontier_free(nd_frontier *f) {
    if (!f) return;
    blocks_free(f);
    free(f);
}

/* The values that cross the cut before `node`; false where they do not fit in memory `graphs` times. */
static bool cut_before(const nd_frontier *f, const nd_graph *graph, int graphs, int node, int *values,
                       int *n) {
    int64_t images = f->images > 0 && f->images < f->batches->count ? f->images : f->batches->count, size = 0;
    *n = 0;
    for (int v = 0; v < graph->n_values; v++) {
        const nd_value *value = &graph->values[v];
        bool crosses = nd_graph_is_output(graph, v) && value->producer >= 0;
        if (value->init || value->producer >= node) continue;
        for (int i = node; i < graph->n_nodes && !crosses; i++)
            for (int j = 0; j < graph->nodes[i].n_in; j++) crosses = crosses || graph->nodes[i].in[j] == v;
        if (!crosses) continue;
        if (*n == nd_taps_max || nd_value_size(graph, v) == 0) return false;
        values[(*n)++] = v;
        size += nd_value_size(graph, v);
    }
    return *n > 0 && (double)size * (double)images * graphs * sizeof(float) <= (double)f->limit;
}

typedef struct move {
    nd_frontier *from, *to;
    int graphs;
    nd_taps taps[networks];
    size_t next; /* block of `from` */
} move;

static nd_status keep_block(void *context, int64_t n) {
    move *m = context;
    nd_frontier *to = m->to;
    if (m->from->n) block_free(&m->from->blocks[m->next++]); /* its values are in the taps by now */
    block *blocks = nd_array_grow(to->blocks, to->n_blocks, &to->capacity, sizeof *blocks);
    ND_REQUIRE(blocks, nd_status_memory, "no memory for a walk");
    to->blocks = blocks;
    block *b = &to->blocks[to->n_blocks++];
    *b = (block){.n = n};
    for (int g = 0; g < m->graphs; g++)
        for (int v = 0; v < to->n; v++) {
            size_t size = (size_t)nd_value_size(m->taps[g].graph, to->value[v]) * sizeof(float);
            b->data[g][v] = nd_alloc_array((size_t)n, size);
            ND_REQUIRE(b->data[g][v], nd_status_memory, "no memory for the activations of a walk");
            memcpy(b->data[g][v], m->taps[g].data[v], (size_t)n * size);
        }
    return nd_status_ok;
}

nd_status nd_frontier_move(nd_frontier *f, nd_backend *backend, const nd_graph *original,
                           const nd_graph *current, int node) {
    nd_status status = nd_status_ok;
    const nd_graph *graphs[networks] = {original, current};
    nd_frontier to = {.batches = f->batches, .images = f->images, .limit = f->limit, .node = node};
    move m = {.from = f, .to = &to, .graphs = current ? 2 : 1};
    if (node <= f->node) return nd_status_ok;
    if (!cut_before(f, original, m.graphs, node, to.value, &to.n)) {
        nd_log(nd_log_debug, "%s: too much to keep; computed anew", original->nodes[node].name);
        return nd_status_ok;
    }
    for (int g = 0; g < m.graphs; g++)
        ND_TRY_DONE(nd_frontier_taps(f, backend, graphs[g], to.value, to.n, &m.taps[g]));
    ND_TRY_DONE(nd_frontier_sample(f, 0, &m.taps[0], current ? &m.taps[1] : NULL, keep_block, &m));
done:
    for (int g = 0; g < networks; g++) nd_taps_close(&m.taps[g]);
    blocks_free(status ? &to : f);
    if (!status) *f = to;
    return status;
}

nd_status nd_frontier_taps(const nd_frontier *f, nd_backend *backend, const nd_graph *graph,
                           const int *values, int n, nd_taps *out) {
    return nd_taps_open(backend, graph, f->batches->batch, f->n ? f->value : NULL, f->n, values, n, out);
}

nd_status nd_frontier_sample(const nd_frontier *f, int64_t images, nd_taps *original, nd_taps *current,
                             nd_sample_block *block, void *context) {
    nd_taps *taps[networks] = {original, current};
    int graphs = current ? 2 : 1;
    if (images <= 0 || (f->images > 0 && f->images < images)) images = f->images;
    if (!f->n) return nd_sample(f->batches, images, taps, graphs, block, context);
    int64_t done = 0;
    for (size_t b = 0; b < f->n_blocks && (images <= 0 || done < images); b++) {
        int64_t n = f->blocks[b].n;
        if (images > 0 && n > images - done) n = images - done;
        for (int g = 0; g < graphs; g++)
            ND_TRY(nd_taps_run(taps[g], n, (const float *const *)f->blocks[b].data[g]));
        ND_TRY(block(context, n));
        done += n;
    }
    return nd_status_ok;
}
