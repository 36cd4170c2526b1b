#include "decouple/curves/score_loss.h"

#include <stdlib.h>
#include <string.h>

/* One candidate kernel being measured. */
typedef struct trial {
    nd_graph *graph;
    nd_exec *exec;
    double loss[nd_heads_max]; /* of each head, sum |l' - l|^2 */
} trial;

/* One of the outputs that changes are measured at. */
typedef struct head {
    int value;
    int64_t size;         /* numbers of an image */
    float *known;         /* [images][size] of the original, or NULL */
    float *out, *wanted;  /* [batch][size], the original's where they are not known */
    double *sum, squares; /* [size] */
} head;

struct nd_score_loss {
    const nd_layer *layer;
    nd_backend *backend;
    nd_captures original; /* x, then what the rest needs besides y, then y where the heads are not known */
    nd_score_rest rest;
    int value, n_sides; /* y */
    trial *trials;
    int n_trials;
    float *y;
    head heads[nd_heads_max]; /* that the layer changes */
    int n_heads, all_heads;
    int64_t images, all_images, batch; /* images measured so far, and to be measured */
    int64_t at_once;                   /* images of a trial */
    nd_known_heads *known;
    bool knows; /* the heads of the original are known */
};

enum {
    most_known = 1 << 24, /* numbers of a head that are worth keeping */
    most_floats = 1 << 22 /* of the input and output of each trial's own plan, one of which every trial has */
};

void nd_known_heads_free(nd_known_heads *known) {
    for (int h = 0; h < known->n; h++) free(known->data[h]);
    *known = (nd_known_heads){0};
}

static void head_add(head *of, int64_t n, const float *wanted) {
    for (int64_t e = 0; e < n * of->size; e++) {
        of->sum[e % of->size] += wanted[e];
        of->squares += (double)wanted[e] * wanted[e];
    }
}

static double head_distance(const head *of, int64_t n, const float *wanted) {
    double sum = 0;
    for (int64_t e = 0; e < n * of->size; e++) {
        const double change = (double)of->out[e] - wanted[e];
        sum += change * change;
    }
    return sum;
}

/* Sum over images and numbers of |l - mean l|^2, the mean being that of the number; 1 where nothing
 * varies. */
static double head_spread(const head *of, int64_t images) {
    double spread = of->squares;
    for (int64_t c = 0; c < of->size; c++) spread -= of->sum[c] * of->sum[c] / (double)images;
    return spread > 0 ? spread : 1;
}

/* The heads that follow from an output of the layer, to out or, of the original, to `wanted`. */
static nd_status run_rest(nd_score_loss *m, int64_t n, const float *y, bool original) {
    const float *inputs[nd_captures_max] = {y};
    float *outputs[nd_heads_max];
    for (int s = 0; s < m->n_sides; s++) inputs[s + 1] = m->original.data[s + 1];
    for (int h = 0; h < m->n_heads; h++) outputs[h] = original ? m->heads[h].wanted : m->heads[h].out;
    return nd_score_rest_run(&m->rest, n, inputs, outputs);
}

/* The output of the layer with the kernel of a trial, by as many images at once as there is room for. */
static nd_status run_trial(nd_score_loss *m, const trial *of, int64_t n) {
    const int64_t x_size = nd_value_size(m->original.graph, m->original.value[0]);
    const int64_t y_size = nd_value_size(m->original.graph, m->value);
    for (int64_t first = 0; first < n; first += m->at_once) {
        const int64_t some = n - first < m->at_once ? n - first : m->at_once;
        const float *x = m->original.data[0] + first * x_size;
        float *y = m->y + first * y_size;
        ND_TRY(nd_exec_run(of->exec, some, &x, &y));
    }
    return nd_status_ok;
}

static nd_status measure_block(void *context, int64_t n) {
    nd_score_loss *m = context;
    const float *wanted[nd_heads_max] = {NULL};
    if (!m->knows) ND_TRY(run_rest(m, n, m->original.data[m->n_sides + 1], true));
    for (int h = 0; h < m->n_heads; h++) {
        const head *of = &m->heads[h];
        float *known = of->known ? of->known + m->images * of->size : NULL;
        wanted[h] = m->knows ? known : of->wanted;
        if (known && !m->knows) memcpy(known, wanted[h], (size_t)(n * of->size) * sizeof *known);
        head_add(&m->heads[h], n, wanted[h]);
    }
    m->images += n;
    for (int t = 0; t < m->n_trials; t++) {
        ND_TRY(run_trial(m, &m->trials[t], n));
        ND_TRY(run_rest(m, n, m->y, false));
        for (int h = 0; h < m->n_heads; h++)
            m->trials[t].loss[h] += head_distance(&m->heads[h], n, wanted[h]);
    }
    return nd_status_ok;
}

/* A graph of the one convolution with another kernel. */
static nd_status trial_open(nd_backend *backend, const nd_conv *conv, const float *weights, const float *bias,
                            int64_t batch, trial *out) {
    nd_conv changed = *conv;
    changed.weights = weights;
    changed.bias = bias;
    ND_TRY(nd_conv_graph(&changed, batch, &out->graph));
    nd_exec_settings settings = {.batch = batch, .shrink = true};
    return nd_exec_open(backend, out->graph, &settings, &out->exec);
}

void nd_score_loss_close(nd_score_loss *m) {
    if (!m) return;
    nd_captures_close(&m->original);
    nd_score_rest_close(&m->rest);
    for (int t = 0; t < m->n_trials; t++) {
        nd_exec_close(m->trials[t].exec);
        nd_graph_free(m->trials[t].graph);
    }
    free(m->trials);
    free(m->y);
    for (int h = 0; h < m->n_heads; h++) {
        if (!m->knows) free(m->heads[h].known);
        free(m->heads[h].out);
        free(m->heads[h].wanted);
        free(m->heads[h].sum);
    }
    free(m);
}

/* Leaves the heads that follow from `y`: the others are as they were, and cannot be run from there. */
static nd_status keep_changed(const nd_graph *graph, int y, int *values, int *n) {
    bool *after = nd_alloc_array((size_t)graph->n_values, sizeof *after);
    int kept = 0;
    ND_REQUIRE(after, nd_status_memory, "%s: no memory for a cut", graph->name);
    after[y] = true;
    nd_mark_after(graph, after);
    for (int h = 0; h < *n; h++)
        if (after[values[h]]) values[kept++] = values[h];
    *n = kept;
    free(after);
    return nd_status_ok;
}

static nd_status find_heads(const nd_graph *graph, int y, nd_score_loss *m, int *values) {
    m->n_heads = m->all_heads = nd_graph_heads(graph, values);
    ND_TRY(keep_changed(graph, y, values, &m->n_heads));
    ND_REQUIRE(m->n_heads, nd_status_unsupported, "%s: none of its first %d outputs follows from layer %s",
               graph->name, m->all_heads, m->layer->name);
    for (int h = 0; h < m->n_heads; h++) {
        head *of = &m->heads[h];
        of->value = values[h];
        of->size = nd_value_size(graph, values[h]);
        of->out = nd_alloc_array((size_t)m->batch, (size_t)of->size * sizeof *of->out);
        of->sum = nd_alloc_array((size_t)of->size, sizeof *of->sum);
        ND_REQUIRE(of->out && of->sum, nd_status_memory, "%s: no memory for its outputs", graph->name);
    }
    return nd_status_ok;
}

/* All heads, or room for them to become known. */
static nd_status find_known(nd_score_loss *m) {
    const nd_known_heads *known = m->known;
    m->knows = true;
    for (int h = 0; h < m->n_heads; h++) {
        int k = 0;
        while (k < known->n && known->value[k] != m->heads[h].value) k++;
        m->knows = m->knows && k < known->n;
        m->heads[h].known = k < known->n ? known->data[k] : NULL;
    }
    for (int h = 0; h < m->n_heads && !m->knows; h++) m->heads[h].known = NULL;
    for (int h = 0; h < m->n_heads && !m->knows; h++) {
        const int64_t size = m->heads[h].size;
        m->heads[h].wanted = nd_alloc_array((size_t)m->batch, (size_t)size * sizeof(float));
        ND_REQUIRE(m->heads[h].wanted, nd_status_memory, "no memory for measuring %s", m->layer->name);
        if (size > most_known / m->all_images) continue;
        m->heads[h].known = nd_alloc_array((size_t)m->all_images, (size_t)size * sizeof(float));
        ND_REQUIRE(m->heads[h].known, nd_status_memory, "no memory for measuring %s", m->layer->name);
    }
    return nd_status_ok;
}

/* What has been measured becomes known, unless it was or others have taken the room. */
static void leave_known(nd_score_loss *m) {
    nd_known_heads *known = m->known;
    for (int h = 0; h < m->n_heads && !m->knows; h++) {
        head *of = &m->heads[h];
        int k = 0;
        while (k < known->n && known->value[k] != of->value) k++;
        if (!of->known || k < known->n || k == nd_heads_max) continue;
        known->value[k] = of->value;
        known->data[k] = of->known;
        known->n++;
        of->known = NULL;
    }
}

bool nd_score_loss_possible(const nd_graph *graph, const nd_layer *layer) {
    int sides[nd_captures_max], n_sides = 0;
    return !nd_score_rest_sides(graph, graph->nodes[layer->node].out[0], sides, &n_sides);
}

static int64_t images_at_once(const nd_graph *graph, int x, int y, int64_t batch) {
    const int64_t images = most_floats / (nd_value_size(graph, x) + nd_value_size(graph, y));
    return images < 1 ? 1 : images < batch ? images : batch;
}

nd_status nd_score_loss_open(const nd_activation_cache *activations, nd_backend *backend,
                             const nd_graph *graph, const nd_layer *layer, int64_t batch, int n_trials,
                             int64_t images, nd_known_heads *known, const nd_score_tail *tail,
                             nd_score_loss **out) {
    nd_status status = nd_status_ok;
    const nd_node *node = &graph->nodes[layer->node];
    int values[nd_captures_max], heads[nd_heads_max], y = node->out[0];
    nd_score_loss *m = calloc(1, sizeof *m);
    ND_REQUIRE(m, nd_status_memory, "no memory for measuring %s", layer->name);
    m->layer = layer;
    m->backend = backend;
    m->value = y;
    m->batch = batch;
    m->all_images = images;
    m->known = known;
    ND_TRY_DONE(find_heads(graph, y, m, heads));
    ND_TRY_DONE(find_known(m));
    values[0] = node->in[0];
    ND_TRY_DONE(nd_score_rest_sides(graph, y, values + 1, &m->n_sides));
    values[m->n_sides + 1] = y;
    ND_TRY_DONE(nd_activation_cache_captures(activations, backend, graph, values,
                                             m->n_sides + (m->knows ? 1 : 2), &m->original));
    m->at_once = images_at_once(graph, node->in[0], y, batch); /* of sizes that captures has looked at */
    ND_TRY_DONE(nd_score_rest_open(backend, graph, y, heads, m->n_heads, batch, tail, &m->rest));
    m->trials = nd_alloc_array((size_t)n_trials, sizeof *m->trials);
    m->y = nd_alloc_array((size_t)batch, (size_t)nd_value_size(graph, y) * sizeof *m->y);
    ND_REQUIRE_DONE(m->trials && m->y, nd_status_memory, "no memory for measuring %s", layer->name);
done:
    if (status)
        nd_score_loss_close(m);
    else
        *out = m;
    return status;
}

nd_status nd_score_loss_add(nd_score_loss *m, const nd_chain *chain) {
    nd_status status = nd_status_ok;
    const nd_conv *conv = &m->layer->conv;
    const int64_t count = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    double *w = nd_alloc_array((size_t)count, sizeof *w);
    float *weights = nd_alloc_array((size_t)count, sizeof *weights);
    ND_REQUIRE_DONE(w && weights, nd_status_memory, "no memory for measuring %s", m->layer->name);
    ND_TRY_DONE(nd_chain_compose(chain, conv, w));
    for (int64_t e = 0; e < count; e++) weights[e] = (float)w[e];
    ND_TRY_DONE(trial_open(m->backend, conv, weights, chain->stages[chain->n - 1].bias, m->at_once,
                           &m->trials[m->n_trials++]));
done:
    free(w);
    free(weights);
    return status;
}

/* The relative squared change, each head weighing the same, also those that do not change. */
static double trial_loss(const nd_score_loss *m, const trial *of) {
    double loss = 0;
    for (int h = 0; h < m->n_heads; h++)
        loss += of->loss[h] / head_spread(&m->heads[h], m->images) / m->all_heads;
    return loss;
}

nd_status nd_score_loss_measure(nd_score_loss *m, nd_activation_cache *activations, double *losses) {
    ND_TRY(nd_activation_cache_sample(activations, m->all_images, &m->original, NULL, measure_block, m));
    for (int t = 0; t < m->n_trials; t++) losses[t] = trial_loss(m, &m->trials[t]);
    leave_known(m);
    return nd_status_ok;
}
