#include "decouple/calib/activation_cache.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

enum { networks = 2 }; /* original, current: the second is missing where only one network is looked at */

typedef struct block {
    int64_t n;
    float *data[networks][nd_captures_max];
    float *kept;
} block;

struct nd_activation_cache {
    nd_batches *batches;
    int64_t images;
    size_t limit;
    int node;                      /* the cut is before this node */
    int n, value[nd_captures_max]; /* n == 0: at the image, nothing is stored */
    block *blocks;
    size_t n_blocks, capacity;
    int keep;                /* value of the original that the next pass is to keep, or -1 */
    const nd_graph *kept_of; /* of which every block has the value `kept` as well; NULL: of none */
    int kept;
};

static void block_free(block *b) {
    for (int g = 0; g < networks; g++)
        for (int v = 0; v < nd_captures_max; v++) {
            free(b->data[g][v]);
            b->data[g][v] = NULL;
        }
    free(b->kept);
    b->kept = NULL;
}

static void blocks_free(nd_activation_cache *f) {
    for (size_t b = 0; b < f->n_blocks; b++) block_free(&f->blocks[b]);
    free(f->blocks);
    f->blocks = NULL;
    f->n_blocks = f->capacity = 0;
}

nd_status nd_activation_cache_new(nd_batches *batches, int64_t images, size_t limit,
                                  nd_activation_cache **out) {
    nd_activation_cache *f = calloc(1, sizeof *f);
    ND_REQUIRE(f, nd_status_memory, "no memory for a calibration pass");
    f->batches = batches;
    f->images = images;
    f->limit = limit;
    f->keep = -1;
    *out = f;
    return nd_status_ok;
}

void nd_activation_cache_free(nd_activation_cache *f) {
    if (!f) return;
    blocks_free(f);
    free(f);
}

/* Whether a node after the cut reads the value that a pass may want: not post-processing, whose sizes only
 * the run knows. */
static bool is_read_after(const nd_graph *graph, int node, int value) {
    if (nd_graph_is_output(graph, value) && graph->values[value].producer >= 0) return true;
    for (int i = node; i < graph->n_nodes; i++) {
        const nd_node *reader = &graph->nodes[i];
        if (reader->dynamic || reader->out[0] < 0 || !nd_value_size(graph, reader->out[0])) continue;
        for (int j = 0; j < reader->n_in; j++)
            if (reader->in[j] == value) return true;
    }
    return false;
}

/* The values that cross the cut before `node`; false where they do not fit in memory `graphs` times, or are
 * no images one after the other. */
static bool cut_before(const nd_activation_cache *f, const nd_graph *graph, int graphs, int node, int *values,
                       int *n) {
    int64_t images = nd_sample_count(f->batches, f->images), size = 0;
    bool *varies = nd_alloc_array((size_t)graph->n_values, sizeof *varies), fits = varies != NULL;
    *n = 0;
    if (varies) nd_mark_images(graph, varies);
    for (int v = 0; fits && v < graph->n_values; v++) {
        const nd_value *value = &graph->values[v];
        if (value->init || value->producer >= node) continue;
        if (!varies[v] || !is_read_after(graph, node, v))
            continue; /* what is the same for all is computed again */
        fits = *n < nd_captures_max && nd_value_size(graph, v) > 0 &&
               value->dims[0] == graph->values[graph->inputs[0]].dims[0];
        if (!fits) break;
        values[(*n)++] = v;
        size += nd_value_size(graph, v);
    }
    free(varies);
    return fits && *n > 0 && (double)size * (double)images * graphs * sizeof(float) <= (double)f->limit;
}

typedef struct move {
    nd_activation_cache *from, *to;
    int graphs;
    nd_captures captures[networks];
    size_t next; /* block of `from` */
} move;

static nd_status keep_block(void *context, int64_t n) {
    move *m = context;
    nd_activation_cache *to = m->to;
    if (m->from->n) block_free(&m->from->blocks[m->next++]); /* its values are in the captures by now */
    block *blocks = nd_array_grow(to->blocks, to->n_blocks, &to->capacity, sizeof *blocks);
    ND_REQUIRE(blocks, nd_status_memory, "no memory for a calibration pass");
    to->blocks = blocks;
    block *b = &to->blocks[to->n_blocks++];
    *b = (block){.n = n};
    for (int g = 0; g < m->graphs; g++)
        for (int v = 0; v < to->n; v++) {
            size_t size = (size_t)nd_value_size(m->captures[g].graph, to->value[v]) * sizeof(float);
            b->data[g][v] = nd_alloc_array((size_t)n, size);
            ND_REQUIRE(b->data[g][v], nd_status_memory,
                       "no memory for the activations of a calibration pass");
            memcpy(b->data[g][v], m->captures[g].data[v], (size_t)n * size);
        }
    return nd_status_ok;
}

nd_status nd_activation_cache_move(nd_activation_cache *f, nd_backend *backend, const nd_graph *original,
                                   const nd_graph *current, int node) {
    nd_status status = nd_status_ok;
    const nd_graph *graphs[networks] = {original, current};
    nd_activation_cache to = {
        .batches = f->batches, .images = f->images, .limit = f->limit, .node = node, .keep = -1};
    move m = {.from = f, .to = &to, .graphs = current ? 2 : 1};
    if (node <= f->node) return nd_status_ok;
    if (!cut_before(f, original, m.graphs, node, to.value, &to.n)) {
        nd_log(nd_log_debug, "%s: too much to keep; computed anew", original->nodes[node].name);
        return nd_status_ok;
    }
    for (int g = 0; g < m.graphs; g++)
        ND_TRY_DONE(nd_activation_cache_captures(f, backend, graphs[g], to.value, to.n, &m.captures[g]));
    ND_TRY_DONE(
        nd_activation_cache_sample(f, 0, &m.captures[0], current ? &m.captures[1] : NULL, keep_block, &m));
done:
    for (int g = 0; g < networks; g++) nd_captures_close(&m.captures[g]);
    blocks_free(status ? &to : f);
    if (!status) *f = to;
    return status;
}

void nd_activation_cache_keep(nd_activation_cache *f, const nd_graph *original, int value) {
    const int graphs = f->n_blocks && f->blocks[0].data[1][0] ? 2 : 1;
    int64_t size = nd_value_size(original, value);
    for (int v = 0; v < f->n; v++) size += graphs * nd_value_size(original, f->value[v]);
    const double bytes = (double)size * (double)nd_sample_count(f->batches, f->images) * sizeof(float);
    if (f->n && !f->kept_of && f->n < nd_captures_max && bytes <= (double)f->limit) f->keep = value;
}

nd_status nd_activation_cache_captures(const nd_activation_cache *f, nd_backend *backend,
                                       const nd_graph *graph, const int *values, int n, nd_captures *out) {
    int inputs[nd_captures_max], n_inputs = f->n;
    memcpy(inputs, f->value, sizeof inputs);
    if (f->kept_of == graph) inputs[n_inputs++] = f->kept;
    return nd_captures_open(backend, graph, f->batches->batch, f->n ? inputs : NULL, n_inputs, values, n,
                            out);
}

/* Of those of a block. */
static nd_status run_captures(const nd_activation_cache *f, const block *b, int g, int64_t n,
                              nd_captures *captures) {
    const float *inputs[nd_captures_max];
    for (int v = 0; v < f->n; v++) inputs[v] = b->data[g][v];
    if (captures->n_inputs > f->n) inputs[f->n] = b->kept;
    return nd_captures_run(captures, n, inputs);
}

static nd_status keep_value(const nd_captures *from, int value, block *b) {
    const size_t size = (size_t)nd_value_size(from->graph, value) * sizeof(float);
    int i = 0;
    while (i < from->n && from->value[i] != value) i++;
    ND_REQUIRE(i < from->n, nd_status_internal, "%s: what is to be kept is not captured", from->graph->name);
    b->kept = nd_alloc_array((size_t)b->n, size);
    ND_REQUIRE(b->kept, nd_status_memory, "no memory for the activations of a calibration pass");
    memcpy(b->kept, from->data[i], (size_t)b->n * size);
    return nd_status_ok;
}

nd_status nd_activation_cache_sample(nd_activation_cache *f, int64_t images, nd_captures *original,
                                     nd_captures *current, nd_sample_block *block, void *context) {
    nd_captures *captures[networks] = {original, current};
    int graphs = current ? 2 : 1;
    if (images <= 0 || (f->images > 0 && f->images < images)) images = f->images;
    if (!f->n) return nd_sample(f->batches, images, captures, graphs, block, context);
    int64_t done = 0;
    for (size_t b = 0; b < f->n_blocks && (images <= 0 || done < images); b++) {
        int64_t n = f->blocks[b].n;
        if (images > 0 && n > images - done) n = images - done;
        for (int g = 0; g < graphs; g++) ND_TRY(run_captures(f, &f->blocks[b], g, n, captures[g]));
        if (f->keep >= 0) ND_TRY(keep_value(original, f->keep, &f->blocks[b]));
        ND_TRY(block(context, n));
        done += n;
    }
    if (f->keep >= 0) {
        f->kept = f->keep;
        f->kept_of = original->graph;
        f->keep = -1;
    }
    return nd_status_ok;
}
