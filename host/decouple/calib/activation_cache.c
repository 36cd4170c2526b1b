#include "decouple/calib/activation_cache.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

enum { networks = 2 }; /* original, current: the second is missing where only one network is looked at */

typedef struct block {
    int64_t n;
    float *data[nd_captures_max];
} block;

/* The values that cross one network before a node. */
typedef struct cut {
    int node;
    int n, value[nd_captures_max]; /* n == 0: at the image, nothing is stored */
    block *blocks;
    size_t n_blocks, capacity;
} cut;

struct nd_activation_cache {
    nd_batches *batches;
    int64_t images;
    size_t limit;
    const nd_graph *graphs[networks];
    cut at[networks];
    cut ahead; /* of the original: what the next pass leaves, without blocks, or has left; n == 0: nothing */
    bool passed; /* nothing needs the original's cut once the next pass has been at it */
};

static void block_free(block *b) {
    for (int v = 0; v < nd_captures_max; v++) {
        free(b->data[v]);
        b->data[v] = NULL;
    }
}

static void cut_free(cut *c) {
    for (size_t b = 0; b < c->n_blocks; b++) block_free(&c->blocks[b]);
    free(c->blocks);
    *c = (cut){0};
}

nd_status nd_activation_cache_new(nd_batches *batches, int64_t images, size_t limit,
                                  nd_activation_cache **out) {
    nd_activation_cache *f = calloc(1, sizeof *f);
    ND_REQUIRE(f, nd_status_memory, "no memory for a calibration pass");
    f->batches = batches;
    f->images = images;
    f->limit = limit;
    *out = f;
    return nd_status_ok;
}

void nd_activation_cache_free(nd_activation_cache *f) {
    if (!f) return;
    for (int g = 0; g < networks; g++) cut_free(&f->at[g]);
    cut_free(&f->ahead);
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

/* What is stored of a cut, or will be. */
static double cut_bytes(const nd_activation_cache *f, const cut *c) {
    double size = 0;
    for (int v = 0; v < c->n; v++) size += (double)nd_value_size(f->graphs[0], c->value[v]);
    return size * (double)nd_sample_count(f->batches, f->images) * sizeof(float);
}

/* Finds the values that cross before `node`; false where they are not as many images one after the other, or
 * do not fit in memory beside `others` bytes. */
static bool cut_before(const nd_activation_cache *f, int node, double others, cut *out) {
    const nd_graph *graph = f->graphs[0];
    bool *varies = nd_alloc_array((size_t)graph->n_values, sizeof *varies), fits = varies != NULL;
    *out = (cut){.node = node};
    if (varies) nd_mark_images(graph, varies);
    for (int v = 0; fits && v < graph->n_values; v++) {
        const nd_value *value = &graph->values[v];
        if (value->init || value->producer >= node) continue;
        if (!varies[v] || !is_read_after(graph, node, v))
            continue; /* what is the same for all is computed again */
        fits = out->n < nd_captures_max && nd_value_size(graph, v) > 0 &&
               value->dims[0] == graph->values[graph->inputs[0]].dims[0];
        if (fits) out->value[out->n++] = v;
    }
    free(varies);
    fits = fits && out->n > 0 && cut_bytes(f, out) + others <= (double)f->limit;
    if (!fits) *out = (cut){0};
    return fits;
}

/* Appends n images of the values of a cut, which are the last that `from` has captured. */
static nd_status cut_append(cut *to, const nd_captures *from, int64_t n) {
    block *blocks = nd_array_grow(to->blocks, to->n_blocks, &to->capacity, sizeof *blocks);
    ND_REQUIRE(blocks, nd_status_memory, "no memory for a calibration pass");
    to->blocks = blocks;
    block *b = &to->blocks[to->n_blocks++];
    *b = (block){.n = n};
    for (int v = 0; v < to->n; v++) {
        const size_t size = (size_t)nd_value_size(from->graph, to->value[v]) * sizeof(float);
        b->data[v] = nd_alloc_array((size_t)n, size);
        ND_REQUIRE(b->data[v], nd_status_memory, "no memory for the activations of a calibration pass");
        memcpy(b->data[v], from->data[from->n - to->n + v], (size_t)n * size);
    }
    return nd_status_ok;
}

/* Whether the next pass is to leave what is ahead. */
static bool is_asked(const nd_activation_cache *f) {
    return f->ahead.n && !f->ahead.n_blocks;
}

nd_status nd_activation_cache_captures(const nd_activation_cache *f, nd_backend *backend,
                                       const nd_graph *graph, const int *values, int n, nd_captures *out) {
    const int g = graph == f->graphs[1];
    const int more = is_asked(f) && !g ? f->ahead.n : 0;
    int *wanted = nd_alloc_array((size_t)(n + more) + 1, sizeof *wanted);
    ND_REQUIRE(wanted, nd_status_memory, "no memory for a calibration pass");
    memcpy(wanted, values, (size_t)n * sizeof *wanted);
    memcpy(wanted + n, f->ahead.value, (size_t)more * sizeof *wanted);
    const cut *at = &f->at[g];
    const nd_status status = nd_captures_open(backend, graph, f->batches->batch, at->n ? at->value : NULL,
                                              at->n, wanted, n + more, out);
    free(wanted);
    return status;
}

/* Where a pass through one or both networks is. */
typedef struct pass {
    nd_activation_cache *cache;
    nd_captures *captures[networks]; /* NULL: not run */
    cut *kept[networks];             /* gets what the captures end with; or NULL */
    bool passed[networks];           /* what it begins with is freed on the way */
    size_t next;                     /* block */
    nd_sample_block *block;
    void *context;
} pass;

/* n images, with which the captures that begin at the image are done, through those that begin at a cut. */
static nd_status pass_block(void *context, int64_t n) {
    pass *p = context;
    for (int g = 0; g < networks; g++) {
        if (!p->captures[g]) continue;
        cut *at = &p->cache->at[g];
        ND_REQUIRE(!at->n || (p->next < at->n_blocks && n <= at->blocks[p->next].n), nd_status_internal,
                   "%s: other images than in the pass before", p->cache->batches->name);
        if (at->n) ND_TRY(nd_captures_run(p->captures[g], n, (const float *const *)at->blocks[p->next].data));
        if (at->n && p->passed[g]) block_free(&at->blocks[p->next]);
        if (p->kept[g]) ND_TRY(cut_append(p->kept[g], p->captures[g], n));
    }
    p->next++;
    return p->block ? p->block(p->context, n) : nd_status_ok;
}

static nd_status pass_run(pass *p, int64_t images) {
    nd_activation_cache *f = p->cache;
    nd_captures *from_image[networks];
    const cut *from = NULL;
    int n_from_image = 0;
    if (images <= 0 || (f->images > 0 && f->images < images)) images = f->images;
    for (int g = 0; g < networks; g++) {
        if (!p->captures[g]) continue;
        if (f->at[g].n)
            from = &f->at[g];
        else
            from_image[n_from_image++] = p->captures[g];
    }
    if (n_from_image) return nd_sample(f->batches, images, from_image, n_from_image, pass_block, p);
    for (int64_t done = 0; p->next < from->n_blocks && (images <= 0 || done < images);) {
        const int64_t n = from->blocks[p->next].n;
        const int64_t some = images > 0 && n > images - done ? images - done : n;
        ND_TRY(pass_block(p, some));
        done += some;
    }
    return nd_status_ok;
}

/* One of the networks to the values before `node`. */
static nd_status move_one(nd_activation_cache *f, nd_backend *backend, int g, int node) {
    cut to;
    pass p = {.cache = f};
    nd_captures captures = {0};
    ND_REQUIRE(node >= f->at[g].node, nd_status_internal, "%s: its activations are gone",
               f->graphs[0]->nodes[node].name);
    if (node == f->at[g].node) return nd_status_ok;
    if (!cut_before(f, node, cut_bytes(f, &f->at[!g]), &to)) {
        nd_log(nd_log_debug, "%s: too much to keep of the %s network; computed anew",
               f->graphs[0]->nodes[node].name, g ? "new" : "original");
        return nd_status_ok;
    }
    nd_status status = nd_activation_cache_captures(f, backend, f->graphs[g], to.value, to.n, &captures);
    p.captures[g] = &captures;
    p.kept[g] = &to;
    p.passed[g] = true;
    if (!status) status = pass_run(&p, 0);
    nd_captures_close(&captures);
    cut_free(status ? &to : &f->at[g]);
    if (!status) f->at[g] = to;
    return status;
}

/* What the last pass has left stands for the original's cut. */
static void step_ahead(nd_activation_cache *f) {
    cut_free(&f->at[0]);
    f->at[0] = f->ahead;
    f->ahead = (cut){0};
}

nd_status nd_activation_cache_move(nd_activation_cache *f, nd_backend *backend, const nd_graph *original,
                                   const nd_graph *current, int node) {
    f->graphs[0] = original;
    f->graphs[1] = current;
    if (f->ahead.n_blocks && f->ahead.node == node) step_ahead(f);
    cut_free(&f->ahead);
    for (int g = 0; g < networks; g++)
        if (f->graphs[g]) ND_TRY(move_one(f, backend, g, node));
    return nd_status_ok;
}

void nd_activation_cache_ahead(nd_activation_cache *f, int node, bool passed) {
    double others = cut_bytes(f, &f->at[1]);
    if (!passed) others += cut_bytes(f, &f->at[0]);
    cut_free(&f->ahead);
    f->passed = passed;
    if (node > f->at[0].node) (void)cut_before(f, node, others, &f->ahead);
}

nd_status nd_activation_cache_sample(nd_activation_cache *f, int64_t images, nd_captures *original,
                                     nd_captures *current, nd_sample_block *block, void *context) {
    pass p = {.cache = f, .captures = {original, current}, .block = block, .context = context};
    if (is_asked(f)) p.kept[0] = &f->ahead;
    p.passed[0] = p.kept[0] && f->passed;
    const nd_status status = pass_run(&p, images);
    if (status) cut_free(&f->ahead);
    if (!status && p.passed[0]) step_ahead(f);
    return status;
}
