/* The rewritten graph: weights and biases in integers, activations through 8 bits. */
#include "quantize/quantizing.h"

#include "model/infer/infer.h"
#include "run/captures.h"
#include "run/quantized.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    const uint8_t zero = (uint8_t)quant.zero; /* of e4m3: 0, its code */
    const nd_dtype dtype = quant.e4m3 ? nd_dtype_e4m3 : nd_dtype_u8;
    const int readers = graph->n_nodes;
    int s, z, q, d;
    const char *name = graph->values[value].name;
    ND_TRY(add_constant(graph, name, "scale", nd_dtype_f32, 1, true, &quant.scale, &s));
    ND_TRY(add_constant(graph, name, "zero", dtype, 1, true, &zero, &z));
    ND_TRY(add_node(graph, nd_op_quantize, name, "quantized", (const int[]){value, s, z}, 3, 1, &q));
    ND_TRY(add_node(graph, nd_op_dequantize, name, "dequantized", (const int[]){q, s, z}, 3, 1, &d));
    for (int i = 0; i < readers; i++)
        for (int k = 0; k < graph->nodes[i].n_in; k++)
            if (graph->nodes[i].in[k] == value) graph->nodes[i].in[k] = d;
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

/* A graph being written. */
typedef struct nd_writing {
    nd_quantizing *q;
    nd_graph *graph;
    float **stored; /* by value: means of what is stored with a shift handed on, else NULL */
} nd_writing;

/* A layer without a bias hands its shift on to the layer that alone reads it: a depthwise half to the
 * pointwise one. */
static nd_status hand_on(nd_writing *w, int value, const double *shift, int64_t outputs) {
    const float *stored = w->q->means[value].stored;
    const int64_t area = stored ? nd_value_size(w->graph, value) / outputs : 0;
    if (!stored) return nd_status_ok;
    float *shifted = nd_alloc_array((size_t)(area * outputs), sizeof *shifted);
    ND_REQUIRE(shifted, nd_status_memory, "no memory for means");
    for (int64_t i = 0; i < area * outputs; i++) shifted[i] = stored[i] + (float)shift[i / area];
    w->stored[value] = shifted;
    return nd_status_ok;
}

/* Takes off the bias by how much the mean of an output grows. */
static nd_status correct_bias(nd_writing *w, int index, const nd_rounded *rounded, int axis,
                              int64_t outputs) {
    nd_graph *graph = w->graph;
    nd_node *node = &graph->nodes[index];
    const nd_tensor *bias = nd_graph_constant(graph, node, 2);
    nd_means means = w->q->means[node->in[0]];
    nd_tensor corrected = {0};
    double *shift = nd_alloc_array((size_t)outputs, sizeof *shift);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(shift, nd_status_memory, "no memory for a bias");
    if (w->stored[node->in[0]]) means.stored = w->stored[node->in[0]];
    ND_TRY_DONE(nd_correct_shift(graph, node, &means, &rounded->integers, rounded->scales, axis, shift));
    if (!bias || bias->dtype != nd_dtype_f32 || nd_tensor_count(bias) != outputs || bias->rank != 1) {
        status = hand_on(w, node->out[0], shift, outputs);
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

static nd_status put_weights(nd_writing *writing, int index) {
    nd_graph *graph = writing->graph;
    const nd_node *node = &graph->nodes[index];
    const char *name = node->name;
    const nd_tensor *weights = nd_graph_constant(graph, node, 1);
    const int axis = node->op == nd_op_gemm && !node->attr.trans_b ? 1 : 0, input = node->in[0];
    const int64_t outputs = weights->dims[axis];
    const nd_rounded *rounded = &writing->q->rounded[index];
    int w, s, z, d;
    float *scales = nd_arena_alloc(&graph->arena, (size_t)outputs * sizeof *scales);
    int8_t *zeros = nd_arena_alloc(&graph->arena, (size_t)outputs);
    ND_REQUIRE(scales && zeros, nd_status_memory, "no memory for weights");
    memset(zeros, 0, (size_t)outputs);
    char text[512];
    snprintf(text, sizeof text, "%s.weight_q", name);
    memcpy(scales, rounded->scales, (size_t)outputs * sizeof *scales);
    if (writing->q->settings->calib) ND_TRY(correct_bias(writing, index, rounded, axis, outputs));
    ND_TRY(nd_graph_add_init(graph, text, &rounded->integers, &w));
    ND_TRY(add_constant(graph, name, "weight_scale", nd_dtype_f32, outputs, false, scales, &s));
    ND_TRY(add_constant(graph, name, "weight_zero", rounded->integers.dtype, outputs, false, zeros, &z));
    ND_TRY(add_node(graph, nd_op_dequantize, name, "weight_dq", (const int[]){w, s, z}, 3, axis, &d));
    graph->nodes[index].in[1] = d;
    if (writing->q->settings->e4m3) return nd_status_ok; /* which has no sums of integers: biases stay */
    const float x_scale = nd_range_quant(&writing->q->range[input]).scale;
    return put_bias(graph, index, name, x_scale, scales, outputs);
}

/* Of a network without images: planes that a node in integers puts out are stored, and pooling by far steps
 * is the least that reads them as integers. */
static nd_status put_outputs(nd_writing *w, const bool *in_integers, bool *marked) {
    nd_graph *graph = w->graph;
    char name[512];
    for (int k = 0; k < graph->n_outputs; k++) {
        const int value = graph->outputs[k], producer = graph->values[value].producer;
        const nd_value planes = graph->values[value];
        nd_node *pool;
        if (producer < 0 || !in_integers[producer] || planes.rank != 4) continue;
        snprintf(name, sizeof name, "%s.pixel", planes.name);
        ND_TRY(nd_graph_add_value(graph, name, &graph->outputs[k]));
        ND_TRY(nd_graph_add_node(graph, nd_op_max_pool, name, &value, 1, &graph->outputs[k], 1, &pool));
        pool->attr.window =
            (nd_window){.kernel = {1, 1}, .stride = {planes.dims[2], planes.dims[3]}, .dilation = {1, 1}};
        marked[value] = true;
        w->q->range[value].lo = 0; /* as where a ReLU follows */
    }
    return nd_status_ok;
}

static nd_status finish(nd_graph *graph) {
    ND_TRY(nd_graph_sort(graph));
    return nd_graph_infer(graph, &(nd_infer_settings){.batch = 1});
}

nd_status nd_quantizing_write(nd_quantizing *q, const bool *in_integers, nd_graph *graph) {
    nd_status status = nd_status_ok;
    nd_writing writing = {q, graph, nd_alloc_array(q->n_values, sizeof *writing.stored)};
    bool *marked = nd_alloc_array(q->n_values, sizeof *marked);
    int *like = nd_alloc_array(q->n_values, sizeof *like);
    ND_REQUIRE_DONE(writing.stored && marked && like, nd_status_memory, "no memory to quantise");
    nd_quantizing_mark(graph, in_integers, marked, like);
    for (int i = 0; i < (int)q->n_nodes; i++)
        if (in_integers[i]) ND_TRY_DONE(put_weights(&writing, i));
    if (!q->settings->calib) ND_TRY_DONE(put_outputs(&writing, in_integers, marked));
    for (int v = 0; v < (int)q->n_values; v++)
        if (marked[v]) ND_TRY_DONE(put_activation(graph, v, &q->range[v]));
    status = finish(graph);
done:
    for (size_t v = 0; writing.stored && v < q->n_values; v++) free(writing.stored[v]);
    free(writing.stored);
    free(marked);
    free(like);
    return status;
}
