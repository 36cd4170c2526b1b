/* Weights in 8 bits, integers or e4m3. A weight is rounded so that it takes up what rounding those before it
 * did to the output: with C = L L' the covariance of what the weights of an output meet, the squared error
 * of that output is |L' (w - q)|^2, and weights are rounded from the last to the first to what row i of that
 * leaves, w_i + sum_{j > i} L_ji (w_j - q_j) / L_ii (GPTQ, Frantar et al. 2022, arXiv 2210.17323, which is
 * Babai's nearest plane). Means are of no account: biases take them up. */
#include "quantize/quantizing.h"

#include "base/parallel.h"
#include "run/captures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    weight_most = 127,
    weight_most_e4m3 = 448,
    met_most = 2304,       /* weights of an output, beyond which each is rounded by itself */
    places_least = 8192,   /* of which a covariance is made, where there are as many */
    places_a_weight = 8,   /* or so many for each weight of an output */
    pass_bytes = 1 << 28,  /* of covariances that one pass over the images makes */
    block_bytes = 1 << 22, /* of patches at once */
};

/* Part of the mean variance that is added to each: what is not known of other images. */
static const double unseen = .01;

/* What the weights of one node meet. */
typedef struct nd_met {
    int node, value;
    int64_t k, groups, outputs; /* of a group */
    int64_t places, step, next; /* of an image; every step-th is seen, from next on */
    int64_t seen;
    double *gram, *mean; /* [groups][k][k], [groups][k] */
} nd_met;

typedef struct nd_meeting {
    nd_quantizing *q;
    nd_met *met;
    int n;
    float *patches;
    nd_captures captures;
} nd_meeting;

static bool is_transposed(const nd_node *node) {
    return node->op == nd_op_gemm && !node->attr.trans_b;
}

/* The nodes whose outputs have few enough weights, none of which was rounded yet. */
static bool met_open(const nd_quantizing *q, int index, nd_met *met) {
    const nd_node *node = &q->graph->nodes[index];
    if (!q->chosen[index] || q->rounded[index].scales) return false;
    const nd_tensor *w = nd_graph_constant(q->graph, node, 1);
    const bool conv = node->op == nd_op_conv;
    const int64_t outputs = w->dims[is_transposed(node)], groups = conv ? node->attr.groups : 1;
    const nd_value *out = &q->graph->values[node->out[0]];
    *met = (nd_met){.node = index,
                    .value = node->in[0],
                    .k = nd_tensor_count(w) / outputs,
                    .groups = groups,
                    .outputs = outputs / groups,
                    .places = conv ? out->dims[2] * out->dims[3] : 1};
    const int64_t images = nd_sample_count(q->settings->calib, q->settings->images);
    const int64_t wanted = met->k * places_a_weight > places_least ? met->k * places_a_weight : places_least;
    met->step = images * met->places / wanted | 1; /* odd: not the same columns of every row */
    return met->k <= met_most && w->rank == (conv ? 4 : 2);
}

static size_t met_bytes(const nd_met *met) {
    return (size_t)(met->groups * met->k * (met->k + 1)) * sizeof(double);
}

/* What the weights of a group meet at one place of an image, zeros beyond its border. */
static void patch_of(const nd_graph *graph, const nd_node *node, int64_t k, int64_t group, int64_t place,
                     const float *image, float *patch) {
    if (node->op == nd_op_gemm) {
        memcpy(patch, image, (size_t)k * sizeof *patch);
        return;
    }
    const nd_window *g = &node->attr.window;
    const int64_t *in = graph->values[node->in[0]].dims, width = graph->values[node->out[0]].dims[3];
    const int64_t channels = k / (g->kernel[0] * g->kernel[1]);
    nd_window_patch(g, channels, in[2], in[3], image + group * channels * in[2] * in[3],
                    place / width * g->stride[0] - g->pad[0], place % width * g->stride[1] - g->pad[1],
                    patch);
}

static nd_status see_patches(const nd_meeting *m, nd_met *met, int64_t group, int64_t rows) {
    double *mean = met->mean + group * met->k, *gram = met->gram + group * met->k * met->k;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < met->k; i++) mean[i] += (double)m->patches[r * met->k + i];
    return m->q->backend->table->linalg.accumulate(m->q->backend, rows, met->k, m->patches, met->k,
                                                   m->patches, gram);
}

static nd_status see_node(const nd_meeting *m, nd_met *met, const float *images, int64_t n) {
    const nd_graph *graph = m->q->graph;
    const nd_node *node = &graph->nodes[met->node];
    const int64_t size = nd_value_size(graph, met->value), all = n * met->places;
    const int64_t room = block_bytes / (met->k * (int64_t)sizeof(float));
    int64_t at = met->next;
    for (int64_t group = 0; group < met->groups; group++) {
        int64_t rows = 0;
        for (at = met->next; at < all; at += met->step) {
            patch_of(graph, node, met->k, group, at % met->places, images + at / met->places * size,
                     m->patches + rows++ * met->k);
            if (rows < room) continue;
            ND_TRY(see_patches(m, met, group, rows));
            rows = 0;
        }
        if (rows) ND_TRY(see_patches(m, met, group, rows));
    }
    met->seen += (at - met->next) / met->step;
    met->next = at - all;
    return nd_status_ok;
}

static nd_status see_block(void *context, int64_t n) {
    nd_meeting *m = context;
    for (int i = 0; i < m->n; i++) ND_TRY(see_node(m, &m->met[i], m->captures.data[i], n));
    return nd_status_ok;
}

static nd_status see_images(nd_meeting *m) {
    const nd_quantizing *q = m->q;
    nd_captures *captures = &m->captures;
    int *values = nd_alloc_array((size_t)m->n, sizeof *values);
    ND_REQUIRE(values, nd_status_memory, "no memory for covariances");
    for (int i = 0; i < m->n; i++) values[i] = m->met[i].value;
    nd_status status =
        nd_captures_open(q->backend, q->graph, q->settings->calib->batch, NULL, 0, values, m->n, captures);
    free(values);
    ND_TRY(status);
    status = nd_sample(q->settings->calib, q->settings->images, &captures, 1, see_block, m);
    nd_captures_close(captures);
    return status;
}

/* The variance that rounding what is read adds: of integers that of even steps, of e4m3 in proportion to
 * what is read, whose squares these sums are. */
static double met_noise(const nd_meeting *m, const nd_met *met, const double *gram) {
    const nd_range *range = &m->q->range[met->value];
    const double step = (double)nd_range_quant(range).scale;
    double squares = 0;
    if (!range->e4m3) return step * step / 12;
    for (int64_t i = 0; i < met->k; i++) squares += gram[i * (met->k + 1)];
    return range->error * range->error * squares / (double)(met->k * met->seen);
}

/* Sums become the factor L of the covariance. */
static nd_status factor_group(const nd_meeting *m, const nd_met *met, int64_t group) {
    const int64_t k = met->k;
    double *mean = met->mean + group * k, *gram = met->gram + group * k * k, trace = 0;
    const double share = 1 / (double)met->seen, noise = met_noise(m, met, gram);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            gram[i * k + j] = gram[i * k + j] * share - mean[i] * share * mean[j] * share;
    for (int64_t i = 0; i < k; i++) trace += gram[i * (k + 1)];
    const double add = noise + unseen * trace / (double)k;
    for (int64_t i = 0; i < k; i++) gram[i * (k + 1)] += add > 0 ? add : 1;
    return m->q->backend->table->linalg.solve(m->q->backend, k, gram, false, 0, NULL);
}

/* What rounding count weights at this scale does to them: in eight sums side by side, and rounding by a sum
 * whose last bit is worth 1, so that compilers make vectors of it. */
static double square_error(const float *w, int64_t count, float scale) {
    enum { lanes = 8 };
    const float inverse = 1 / scale, whole = 0x1.8p23F;
    float sums[lanes] = {0};
    double error = 0;
    for (int64_t i = 0; i < count; i += lanes) {
        for (int64_t k = 0; k < lanes; k++) {
            const float x = i + k < count ? w[i + k] : 0;
            float q = x * inverse;
            q = q < weight_most ? q : weight_most;
            q = q > -weight_most ? q : -weight_most;
            const float off = x - (q + whole - whole) * scale;
            sums[k] += off * off;
        }
    }
    for (int k = 0; k < lanes; k++) error += (double)sums[k];
    return error;
}

static double square_error_e4m3(const float *w, int64_t count, float scale) {
    double error = 0;
    for (int64_t i = 0; i < count; i++) {
        const double off = (double)w[i] - (double)(nd_e4m3_to_f32(nd_f32_to_e4m3(w[i] / scale)) * scale);
        error += off * off;
    }
    return error;
}

/* The symmetric scale of least square error for count weights; those of e4m3 are alike an octave apart. */
static float weight_scale(const float *w, int64_t count, bool e4m3) {
    const int lowest = e4m3 ? 52 : 76;
    const float highest = e4m3 ? weight_most_e4m3 : weight_most;
    float most = 0, best = 1;
    double least = INFINITY;
    for (int64_t i = 0; i < count; i++) most = fmaxf(most, fabsf(w[i]));
    if (!(most > 0)) return 1;
    for (int part = 100; part >= lowest; part -= 3) {
        const float scale = most * (float)part / 100 / highest;
        const double error = e4m3 ? square_error_e4m3(w, count, scale) : square_error(w, count, scale);
        if (error < least) least = error, best = scale;
    }
    return best;
}

typedef struct nd_rounding {
    const float *w;
    int8_t *q;
    float *scales, *rows; /* rows: [workers][length] */
    double *left;         /* [workers][length] */
    const double *factor; /* [groups][length][length], NULL: each weight by itself */
    int64_t length, outputs, per_group;
    bool columns; /* outputs run along the last axis */
    bool e4m3;
} nd_rounding;

/* The byte of a weight, and the number that it stands for. */
static double round_weight(double x, bool e4m3, int8_t *q) {
    if (e4m3) {
        const uint8_t code = nd_f32_to_e4m3((float)x);
        *q = (int8_t)code;
        return (double)nd_e4m3_to_f32(code);
    }
    const double whole = fmin(fmax(rint(x), -weight_most), weight_most);
    *q = (int8_t)whole;
    return whole;
}

/* left[i] gathers what row i of L' has of the weights behind it. */
static void round_row(const float *w, int64_t n, float scale, bool e4m3, const double *factor, double *left,
                      int8_t *q, int64_t stride) {
    for (int64_t i = 0; factor && i < n; i++) left[i] = 0;
    for (int64_t i = n; i-- > 0;) {
        const double *row = factor ? factor + i * n : NULL;
        const double target = (double)w[i] + (row ? left[i] / row[i] : 0);
        const double x = round_weight(target / (double)scale, e4m3, &q[i * stride]);
        const double off = (double)w[i] - x * (double)scale;
        for (int64_t j = 0; row && j < i; j++) left[j] += row[j] * off;
    }
}

static void round_outputs(void *context, int64_t begin, int64_t end, int worker) {
    const nd_rounding *r = context;
    const int64_t stride = r->columns ? r->outputs : 1, n = r->length;
    float *row = r->rows + worker * n;
    for (int64_t o = begin; o < end; o++) {
        const int64_t first = r->columns ? o : o * n;
        const double *factor = r->factor ? r->factor + o / r->per_group * n * n : NULL;
        for (int64_t i = 0; i < n; i++) row[i] = r->w[first + i * stride];
        r->scales[o] = weight_scale(row, n, r->e4m3);
        round_row(row, n, r->scales[o], r->e4m3, factor, r->left + worker * n, r->q + first, stride);
    }
}

/* Bytes and a scale an output. met: with the factors of covariances, or NULL. */
static nd_status round_node(nd_quantizing *q, int index, const nd_met *met) {
    const nd_node *node = &q->graph->nodes[index];
    const nd_tensor *weights = nd_graph_constant(q->graph, node, 1);
    nd_rounded *rounded = &q->rounded[index];
    const int64_t outputs = weights->dims[is_transposed(node)], length = nd_tensor_count(weights) / outputs;
    nd_rounding r = {.w = weights->data,
                     .length = length,
                     .outputs = outputs,
                     .columns = is_transposed(node),
                     .factor = met ? met->gram : NULL,
                     .per_group = met ? met->outputs : outputs,
                     .e4m3 = q->settings->e4m3};
    nd_status status = nd_status_ok;
    r.scales = nd_alloc_array((size_t)outputs, sizeof *r.scales);
    r.rows = nd_alloc_array((size_t)nd_threads(), (size_t)length * sizeof *r.rows);
    r.left = nd_alloc_array((size_t)nd_threads(), (size_t)length * sizeof *r.left);
    ND_REQUIRE_DONE(r.scales && r.rows && r.left, nd_status_memory, "no memory for weights");
    ND_TRY_DONE(nd_tensor_new(r.e4m3 ? nd_dtype_e4m3 : nd_dtype_i8, weights->rank, weights->dims,
                              &rounded->integers));
    r.q = rounded->integers.data;
    nd_parallel_for(outputs, met ? length * length : 64 * length, round_outputs, &r);
    rounded->scales = r.scales;
    r.scales = NULL;
done:
    free(r.scales);
    free(r.rows);
    free(r.left);
    return status;
}

static nd_status round_met(nd_meeting *m) {
    ND_TRY(see_images(m));
    for (int i = 0; i < m->n; i++) {
        const nd_met *met = &m->met[i];
        for (int64_t group = 0; group < met->groups; group++) ND_TRY(factor_group(m, met, group));
        ND_TRY(round_node(m->q, met->node, met));
    }
    return nd_status_ok;
}

/* As many nodes as there is memory for, one at least, and none twice. */
static nd_status meeting_fill(nd_meeting *m) {
    size_t bytes = 0;
    m->n = 0;
    for (int i = 0; i < (int)m->q->n_nodes && bytes < pass_bytes; i++) {
        nd_met *met = &m->met[m->n];
        if (!met_open(m->q, i, met)) continue;
        met->gram = nd_alloc_array(met_bytes(met) / sizeof(double), sizeof(double));
        ND_REQUIRE(met->gram, nd_status_memory, "no memory for covariances");
        met->mean = met->gram + met->groups * met->k * met->k;
        bytes += met_bytes(met);
        m->n++;
    }
    return nd_status_ok;
}

nd_status nd_quantizing_round(nd_quantizing *q) {
    nd_status status = nd_status_ok;
    nd_meeting m = {.q = q, .met = nd_alloc_array(q->n_nodes + 1, sizeof *m.met)};
    m.patches = nd_alloc_array(block_bytes / sizeof *m.patches, sizeof *m.patches);
    ND_REQUIRE_DONE(m.met && m.patches, nd_status_memory, "no memory for covariances");
    do {
        status = q->settings->calib ? meeting_fill(&m) : nd_status_ok;
        if (!status && m.n) status = round_met(&m);
        for (int i = 0; i < m.n; i++) free(m.met[i].gram);
    } while (!status && m.n);
    for (int i = 0; i < (int)q->n_nodes && !status; i++)
        if (q->chosen[i] && !q->rounded[i].scales) status = round_node(q, i, NULL);
done:
    free(m.met);
    free(m.patches);
    return status;
}
