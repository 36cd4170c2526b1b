#include "quantize/quantize.h"
#include "base/parallel.h"
#include "base/text/text.h"
#include "model/images.h"
#include "model/infer/infer.h"
#include "quantize/balance.h"
#include "quantize/correct.h"
#include "quantize/ranges.h"
#include "run/captures.h"
#include "run/quantized.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { weight_most = 127, activation_levels = 255, made_opset = 17 };

/* A network on its way. All arrays but `nodes` run over the values. */
typedef struct nd_quantizing {
    nd_graph *graph;
    const nd_quantize_settings *settings;
    bool *chosen;    /* by node: runs in integers */
    bool *marked;    /* in 8 bits */
    int *like;       /* has the range of that value, -1: its own */
    nd_range *range; /* of what is marked */
    nd_means *means; /* of what products read */
} nd_quantizing;

static bool is_product(const nd_graph *graph, const nd_node *node) {
    const nd_tensor *weights = node->n_in > 1 ? nd_graph_constant(graph, node, 1) : NULL;
    if (!weights || weights->dtype != nd_dtype_f32 ||
        (node->n_in > 2 && node->in[2] >= 0 && !nd_graph_constant(graph, node, 2)))
        return false;
    const nd_attr *attr = &node->attr;
    return node->op == nd_op_conv ||
           (node->op == nd_op_gemm && !attr->trans_a && attr->alpha == 1 && attr->beta == 1);
}

static bool is_skipped(const nd_quantize_settings *settings, const nd_node *node) {
    for (size_t i = 0; i < settings->n_skip; i++)
        if (nd_text_match(settings->skip[i], node->name)) return true;
    return false;
}

/* Nodes that hand elements on as they are. */
static bool is_move(nd_op op) {
    switch (op) {
    case nd_op_max_pool:
    case nd_op_gather:
    case nd_op_concat:
    case nd_op_flatten:
    case nd_op_reshape:
    case nd_op_squeeze:
    case nd_op_unsqueeze:
    case nd_op_transpose:
        return true;
    default:
        return false;
    }
}

static bool is_computed(const nd_graph *graph, int value) {
    return value >= 0 && !graph->values[value].init && !graph->values[value].pinned;
}

/* Both ends of a move have one range: that of where the elements come from, if that has one itself, and else
 * the one they have afterwards. */
static void mark_move(nd_quantizing *q, int in, int out) {
    const int from = q->like[out] >= 0 ? q->like[out] : out;
    if (!is_computed(q->graph, in)) return;
    if (!q->marked[in]) {
        q->marked[in] = true;
        q->like[in] = from;
        return;
    }
    const int root = q->like[in] >= 0 ? q->like[in] : in;
    for (int v = 0; v < q->graph->n_values && root != from; v++)
        if (q->like[v] == from) q->like[v] = root;
    if (root != from) q->like[from] = root;
}

/* What goes into integer nodes; both operands of an addition that one of them makes a term of, or else
 * onnxruntime runs that node in fp32; and what is only moved before it gets there. What several are moved
 * into keeps a range of its own where some of them have theirs. */
static void mark(nd_quantizing *q) {
    nd_graph *graph = q->graph;
    for (int i = 0; i < graph->n_nodes; i++)
        if (q->chosen[i]) q->marked[graph->nodes[i].in[0]] = true;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (node->op != nd_op_add || !is_computed(graph, node->in[0]) || !is_computed(graph, node->in[1]))
            continue;
        const int a = graph->values[node->in[0]].producer, b = graph->values[node->in[1]].producer;
        if ((a >= 0 && q->chosen[a]) || (b >= 0 && q->chosen[b]))
            q->marked[node->in[0]] = q->marked[node->in[1]] = true;
    }
    for (int i = graph->n_nodes - 1; i >= 0; i--) {
        const nd_node *node = &graph->nodes[i];
        const bool several = node->op == nd_op_concat;
        if (!is_move(node->op) || !q->marked[node->out[0]]) continue;
        for (int k = 0; k < (several ? node->n_in : 1); k++)
            if (!several || !q->marked[node->in[k]]) mark_move(q, node->in[k], node->out[0]);
    }
}

/* The range of a value that is only moved is that of where it comes from, when that has one itself. */
static nd_status measure(nd_quantizing *q, nd_backend *backend, nd_quantize_report *report) {
    nd_status status = nd_status_ok;
    const int count = q->graph->n_values;
    int *values = nd_alloc_array((size_t)count + 1, sizeof *values), n = 0;
    nd_range *ranges = nd_alloc_array((size_t)count + 1, sizeof *ranges);
    ND_REQUIRE_DONE(values && ranges, nd_status_memory, "no memory for ranges");
    for (int v = 0; v < count; v++)
        if (q->marked[v] && q->like[v] < 0) values[n++] = v;
    ND_REQUIRE_DONE(n > 0, nd_status_unsupported, "%s: no Conv or Gemm with constant weights to quantise",
                    q->graph->name);
    ND_TRY_DONE(
        nd_ranges_find(q->graph, backend, q->settings->calib, q->settings->images, values, n, ranges));
    for (int i = 0; i < n; i++) {
        q->range[values[i]] = ranges[i];
        report->mean_error += ranges[i].error / n;
    }
    for (int v = 0; v < count; v++) {
        if (q->marked[v] && q->like[v] >= 0) q->range[v] = q->range[q->like[v]];
        report->tensors += q->marked[v];
    }
done:
    free(values);
    free(ranges);
    return status;
}

/* Of what every product reads. */
static nd_status measure_means(nd_quantizing *q, nd_backend *backend) {
    nd_status status = nd_status_ok;
    const size_t count = (size_t)q->graph->n_values + 1;
    int *values = nd_alloc_array(count, sizeof *values), n = 0;
    nd_range *ranges = nd_alloc_array(count, sizeof *ranges);
    float **real = nd_alloc_array(count, sizeof *real), **stored = nd_alloc_array(count, sizeof *stored);
    ND_REQUIRE_DONE(values && ranges && real && stored, nd_status_memory, "no memory for means");
    for (int i = 0; i < q->graph->n_nodes; i++) {
        const int value = q->chosen[i] ? q->graph->nodes[i].in[0] : -1;
        if (value < 0 || q->means[value].real) continue;
        const size_t size = (size_t)nd_value_size(q->graph, value);
        nd_means *means = &q->means[value];
        means->real = real[n] = nd_alloc_array(size + 1, sizeof(float));
        means->stored = stored[n] = nd_alloc_array(size + 1, sizeof(float));
        ND_REQUIRE_DONE(means->real && means->stored, nd_status_memory, "no memory for means");
        values[n] = value;
        ranges[n++] = q->range[value];
    }
    ND_TRY_DONE(nd_ranges_means(q->graph, backend, q->settings->calib, q->settings->images, values, n, ranges,
                                real, stored));
done:
    free(values);
    free(ranges);
    free(real);
    free(stored);
    return status;
}

static nd_status add_constant(nd_graph *graph, const char *name, const char *what, nd_dtype dtype,
                              int64_t count, bool scalar, const void *data, int *value) {
    nd_tensor tensor;
    char text[512];
    snprintf(text, sizeof text, "%s.%s", name, what);
    ND_TRY(nd_tensor_new(dtype, scalar ? 0 : 1, &count, &tensor));
    memcpy(tensor.data, data, nd_tensor_bytes(&tensor));
    const nd_status status = nd_graph_add_init(graph, text, &tensor, value);
    nd_tensor_free(&tensor);
    return status;
}

static nd_status add_node(nd_graph *graph, nd_op op, const char *name, const char *what, const int *in,
                          int n_in, int64_t axis, int *out) {
    char text[512];
    nd_node *node;
    snprintf(text, sizeof text, "%s.%s", name, what);
    ND_TRY(nd_graph_add_value(graph, text, out));
    ND_TRY(nd_graph_add_node(graph, op, text, in, n_in, out, 1, &node));
    node->attr.axis = axis;
    return nd_status_ok;
}

/* Every reader of `value` reads it through 8 bits; the network's own outputs stay. */
static nd_status put_activation(nd_graph *graph, int value, const nd_range *range) {
    const nd_quant quant = nd_range_quant(range);
    const uint8_t zero = (uint8_t)quant.zero;
    const int readers = graph->n_nodes;
    int s, z, q, d;
    const char *name = graph->values[value].name;
    ND_TRY(add_constant(graph, name, "scale", nd_dtype_f32, 1, true, &quant.scale, &s));
    ND_TRY(add_constant(graph, name, "zero", nd_dtype_u8, 1, true, &zero, &z));
    ND_TRY(add_node(graph, nd_op_quantize, name, "quantized", (const int[]){value, s, z}, 3, 1, &q));
    ND_TRY(add_node(graph, nd_op_dequantize, name, "dequantized", (const int[]){q, s, z}, 3, 1, &d));
    for (int i = 0; i < readers; i++)
        for (int k = 0; k < graph->nodes[i].n_in; k++)
            if (graph->nodes[i].in[k] == value) graph->nodes[i].in[k] = d;
    return nd_status_ok;
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

/* The symmetric scale of least square error for count weights. */
static float weight_scale(const float *w, int64_t count) {
    float most = 0, best = 1;
    double least = INFINITY;
    for (int64_t i = 0; i < count; i++) most = fmaxf(most, fabsf(w[i]));
    if (!(most > 0)) return 1;
    for (int part = 100; part >= 76; part -= 3) {
        const float scale = most * (float)part / 100 / weight_most;
        const double error = square_error(w, count, scale);
        if (error < least) least = error, best = scale;
    }
    return best;
}

typedef struct nd_rounding {
    const float *w;
    int8_t *q;
    float *scales, *rows; /* rows: [workers][length] */
    int64_t length, outputs;
    bool columns; /* outputs run along the last axis */
} nd_rounding;

static void round_outputs(void *context, int64_t begin, int64_t end, int worker) {
    const nd_rounding *r = context;
    const int64_t stride = r->columns ? r->outputs : 1;
    float *row = r->rows + worker * r->length;
    for (int64_t o = begin; o < end; o++) {
        const int64_t first = r->columns ? o : o * r->length;
        for (int64_t i = 0; i < r->length; i++) row[i] = r->w[first + i * stride];
        r->scales[o] = weight_scale(row, r->length);
        for (int64_t i = 0; i < r->length; i++) {
            const float x = rintf(row[i] / r->scales[o]);
            r->q[first + i * stride] = (int8_t)fminf(fmaxf(x, -weight_most), weight_most);
        }
    }
}

/* q[i] and scales[outputs] of the weights of a node, whose outputs run along `axis` 0 or, of matrices, 1. */
static nd_status round_weights(const nd_tensor *weights, int axis, int8_t *q, float *scales) {
    const int64_t outputs = weights->dims[axis], length = nd_tensor_count(weights) / outputs;
    nd_rounding rounding = {.w = weights->data,
                            .q = q,
                            .scales = scales,
                            .rows = nd_alloc_array((size_t)nd_threads(), (size_t)length * sizeof(float)),
                            .length = length,
                            .outputs = outputs,
                            .columns = axis == 1};
    ND_REQUIRE(rounding.rows, nd_status_memory, "no memory for weights");
    nd_parallel_for(outputs, 64 * length, round_outputs, &rounding);
    free(rounding.rows);
    return nd_status_ok;
}

/* Biases are i32 in units of the sums; those that do not fit stay as they are. */
static nd_status put_bias(nd_graph *graph, int index, const char *name, float x_scale, float *scales,
                          int64_t outputs) {
    const nd_tensor *bias = nd_graph_constant(graph, &graph->nodes[index], 2);
    if (!bias || bias->dtype != nd_dtype_f32 || nd_tensor_count(bias) != outputs || bias->rank != 1)
        return nd_status_ok;
    int32_t *q = nd_arena_alloc(&graph->arena, (size_t)outputs * sizeof *q);
    ND_REQUIRE(q, nd_status_memory, "no memory for a bias");
    for (int64_t i = 0; i < outputs; i++) {
        scales[i] *= x_scale;
        const double units = (double)((const float *)bias->data)[i] / (double)scales[i];
        if (!(fabs(units) < (double)(1 << 30))) return nd_status_ok;
        q[i] = (int32_t)lrint(units);
    }
    int b, s, d;
    ND_TRY(add_constant(graph, name, "bias_q", nd_dtype_i32, outputs, false, q, &b));
    ND_TRY(add_constant(graph, name, "bias_scale", nd_dtype_f32, outputs, false, scales, &s));
    ND_TRY(add_node(graph, nd_op_dequantize, name, "bias_dq", (const int[]){b, s}, 2, 0, &d));
    graph->nodes[index].in[2] = d;
    return nd_status_ok;
}

/* A layer without a bias hands its shift on to the layer that alone reads it: a depthwise half to the
 * pointwise one. */
static void hand_on(nd_quantizing *q, int value, const double *shift, int64_t outputs) {
    float *stored = q->means[value].stored;
    const int64_t area = stored ? nd_value_size(q->graph, value) / outputs : 0;
    for (int64_t i = 0; i < area * outputs; i++) stored[i] += (float)shift[i / area];
}

/* Takes off the bias by how much the mean of an output grows. */
static nd_status correct_bias(nd_quantizing *q, int index, const int8_t *integers, const float *scales,
                              int axis, int64_t outputs) {
    nd_graph *graph = q->graph;
    nd_node *node = &graph->nodes[index];
    const nd_tensor *bias = nd_graph_constant(graph, node, 2);
    nd_tensor corrected = {0};
    double *shift = nd_alloc_array((size_t)outputs, sizeof *shift);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(shift, nd_status_memory, "no memory for a bias");
    ND_TRY_DONE(nd_correct_shift(graph, node, &q->means[node->in[0]], integers, scales, axis, shift));
    if (!bias || bias->dtype != nd_dtype_f32 || nd_tensor_count(bias) != outputs || bias->rank != 1) {
        hand_on(q, node->out[0], shift, outputs);
        goto done;
    }
    ND_TRY_DONE(nd_tensor_new(nd_dtype_f32, 1, &outputs, &corrected));
    for (int64_t o = 0; o < outputs; o++)
        ((float *)corrected.data)[o] = (float)((double)((const float *)bias->data)[o] - shift[o]);
    ND_TRY_DONE(nd_graph_add_init(graph, graph->values[node->in[2]].name, &corrected, &node->in[2]));
done:
    nd_tensor_free(&corrected);
    free(shift);
    return status;
}

static nd_status put_weights(nd_quantizing *q, int index) {
    nd_graph *graph = q->graph;
    const nd_node *node = &graph->nodes[index];
    const char *name = node->name;
    const nd_tensor *weights = nd_graph_constant(graph, node, 1);
    const int axis = node->op == nd_op_gemm && !node->attr.trans_b ? 1 : 0, input = node->in[0];
    const int64_t outputs = weights->dims[axis];
    nd_tensor integers;
    int w, s, z, d;
    float *scales = nd_arena_alloc(&graph->arena, (size_t)outputs * sizeof *scales);
    int8_t *zeros = nd_arena_alloc(&graph->arena, (size_t)outputs);
    ND_REQUIRE(scales && zeros, nd_status_memory, "no memory for weights");
    memset(zeros, 0, (size_t)outputs);
    ND_TRY(nd_tensor_new(nd_dtype_i8, weights->rank, weights->dims, &integers));
    char text[512];
    snprintf(text, sizeof text, "%s.weight_q", name);
    nd_status status = round_weights(weights, axis, integers.data, scales);
    if (!status) status = correct_bias(q, index, integers.data, scales, axis, outputs);
    if (!status) status = nd_graph_add_init(graph, text, &integers, &w);
    nd_tensor_free(&integers);
    if (status) return status;
    ND_TRY(add_constant(graph, name, "weight_scale", nd_dtype_f32, outputs, false, scales, &s));
    ND_TRY(add_constant(graph, name, "weight_zero", nd_dtype_i8, outputs, false, zeros, &z));
    ND_TRY(add_node(graph, nd_op_dequantize, name, "weight_dq", (const int[]){w, s, z}, 3, axis, &d));
    graph->nodes[index].in[1] = d;
    return put_bias(graph, index, name, nd_range_quant(&q->range[input]).scale, scales, outputs);
}

static nd_status rewrite(nd_quantizing *q) {
    nd_graph *graph = q->graph;
    const int nodes = graph->n_nodes, values = graph->n_values;
    for (int i = 0; i < nodes; i++)
        if (q->chosen[i]) ND_TRY(put_weights(q, i));
    for (int v = 0; v < values; v++)
        if (q->marked[v]) ND_TRY(put_activation(graph, v, &q->range[v]));
    for (int i = 0; i < graph->n_nodes; i++) {
        nd_node *node = &graph->nodes[i];
        node->raw = node->norm = NULL;
        node->raw_bytes = 0;
        node->edited = 0;
    }
    nd_buffer_unref(graph->source);
    graph->source = NULL;
    graph->opset = made_opset;
    ND_TRY(nd_graph_sort(graph));
    return nd_graph_infer(graph, &(nd_infer_settings){.batch = 1});
}

static nd_status choose(nd_quantizing *q, nd_quantize_report *report) {
    for (int i = 0; i < q->graph->n_nodes; i++) {
        const nd_node *node = &q->graph->nodes[i];
        if (!is_product(q->graph, node)) continue;
        report->layers++;
        q->chosen[i] = !is_skipped(q->settings, node) && is_computed(q->graph, node->in[0]);
        report->quantised += q->chosen[i];
    }
    for (size_t s = 0; s < q->settings->n_skip; s++) {
        bool met = false;
        for (int i = 0; i < q->graph->n_nodes; i++)
            met = met || (is_product(q->graph, &q->graph->nodes[i]) &&
                          nd_text_match(q->settings->skip[s], q->graph->nodes[i].name));
        ND_REQUIRE(met, nd_status_usage, "--skip %s: no Conv or Gemm is called so", q->settings->skip[s]);
    }
    return nd_status_ok;
}

nd_status nd_quantize_graph(nd_graph *graph, nd_backend *backend, const nd_quantize_settings *settings,
                            nd_quantize_report *report) {
    nd_status status = nd_status_ok;
    size_t n = 0;
    *report = (nd_quantize_report){0};
    ND_TRY(nd_graph_fold(graph));
    ND_TRY(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    ND_TRY(nd_images_fit(graph, settings->calib));
    for (int i = 0; i < graph->n_nodes; i++)
        ND_REQUIRE(graph->nodes[i].op != nd_op_quantize, nd_status_unsupported, "is quantised already");
    nd_quantizing q = {.graph = graph, .settings = settings};
    q.chosen = nd_alloc_array((size_t)graph->n_nodes + 1, sizeof *q.chosen);
    ND_REQUIRE_DONE(q.chosen, nd_status_memory, "no memory to quantise");
    ND_TRY_DONE(choose(&q, report));
    ND_TRY_DONE(nd_balance(graph, backend, settings->calib, settings->images, q.chosen, &report->balanced));
    n = (size_t)graph->n_values + 1;
    q.marked = nd_alloc_array(n, sizeof *q.marked);
    q.like = nd_alloc_array(n, sizeof *q.like);
    q.range = nd_alloc_array(n, sizeof *q.range);
    q.means = nd_alloc_array(n, sizeof *q.means);
    ND_REQUIRE_DONE(q.marked && q.like && q.range && q.means, nd_status_memory, "no memory to quantise");
    for (size_t v = 0; v < n; v++) q.like[v] = -1;
    mark(&q);
    ND_TRY_DONE(measure(&q, backend, report));
    ND_TRY_DONE(measure_means(&q, backend));
    status = rewrite(&q);
done:
    for (int v = 0; q.means && v < (int)n; v++) {
        free(q.means[v].real);
        free(q.means[v].stored);
    }
    free(q.chosen);
    free(q.marked);
    free(q.like);
    free(q.range);
    free(q.means);
    return status;
}
