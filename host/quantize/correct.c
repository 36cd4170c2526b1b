#include "quantize/correct.h"

#include <stdlib.h>

/* The mean, over the places of the output, of what tap (ky, kx) reads of one channel of a mean image. */
static double tap_mean(const nd_window *g, const int64_t *in, const int64_t *out, const float *image,
                       int64_t ky, int64_t kx) {
    double sum = 0;
    for (int64_t y = 0; y < out[0]; y++) {
        const int64_t row = y * g->stride[0] - g->pad[0] + ky * g->dilation[0];
        if (row < 0 || row >= in[0]) continue;
        for (int64_t x = 0; x < out[1]; x++) {
            const int64_t column = x * g->stride[1] - g->pad[1] + kx * g->dilation[1];
            if (column >= 0 && column < in[1]) sum += (double)image[row * in[1] + column];
        }
    }
    return sum / (double)(out[0] * out[1]);
}

/* means[channels][taps] of a mean image. */
static void tap_means(const nd_graph *graph, const nd_node *node, const nd_tensor *weights,
                      const float *image, double *means) {
    const nd_window *g = &node->attr.window;
    const int64_t *in = graph->values[node->in[0]].dims, *out = graph->values[node->out[0]].dims;
    for (int64_t c = 0; c < in[1]; c++) {
        for (int64_t ky = 0; ky < weights->dims[2]; ky++) {
            for (int64_t kx = 0; kx < weights->dims[3]; kx++)
                *means++ = tap_mean(g, in + 2, out + 2, image + c * in[2] * in[3], ky, kx);
        }
    }
}

static double weight_at(const nd_tensor *q, int64_t i) {
    if (q->dtype == nd_dtype_e4m3) return (double)nd_e4m3_to_f32(((const uint8_t *)q->data)[i]);
    return ((const int8_t *)q->data)[i];
}

static void conv_shift(const nd_node *node, const nd_tensor *weights, const double *real,
                       const double *stored, const nd_tensor *q, const float *scales, double *shift) {
    const int64_t outputs = weights->dims[0], length = nd_tensor_count(weights) / outputs;
    const float *w = weights->data;
    for (int64_t o = 0; o < outputs; o++) {
        const int64_t first = o / (outputs / node->attr.groups) * length;
        shift[o] = 0;
        for (int64_t i = 0; i < length; i++)
            shift[o] += weight_at(q, o * length + i) * (double)scales[o] * stored[first + i] -
                        (double)w[o * length + i] * real[first + i];
    }
}

static void gemm_shift(const nd_tensor *weights, int axis, const nd_means *means, const nd_tensor *q,
                       const float *scales, double *shift) {
    const int64_t outputs = weights->dims[axis], length = weights->dims[1 - axis];
    const float *w = weights->data;
    for (int64_t o = 0; o < outputs; o++) {
        shift[o] = 0;
        for (int64_t i = 0; i < length; i++) {
            const int64_t at = axis ? i * outputs + o : o * length + i;
            shift[o] += weight_at(q, at) * (double)scales[o] * (double)means->stored[i] -
                        (double)w[at] * (double)means->real[i];
        }
    }
}

nd_status nd_correct_shift(const nd_graph *graph, const nd_node *node, const nd_means *means,
                           const nd_tensor *q, const float *scales, int axis, double *shift) {
    const nd_tensor *weights = nd_graph_constant(graph, node, 1);
    if (node->op == nd_op_gemm) {
        gemm_shift(weights, axis, means, q, scales, shift);
        return nd_status_ok;
    }
    const int64_t taps = weights->dims[2] * weights->dims[3], channels = graph->values[node->in[0]].dims[1];
    double *both = nd_alloc_array((size_t)(2 * channels * taps), sizeof *both);
    ND_REQUIRE(both, nd_status_memory, "%s: no memory for means", node->name);
    tap_means(graph, node, weights, means->real, both);
    tap_means(graph, node, weights, means->stored, both + channels * taps);
    conv_shift(node, weights, both, both + channels * taps, q, scales, shift);
    free(both);
    return nd_status_ok;
}
