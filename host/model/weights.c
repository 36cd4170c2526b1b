/* Weights that no result can come from: found where they are read, not as a NaN in a table. */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Squares of larger ones, summed over a kernel, leave fp32: neither energies nor outputs mean anything. */
static const float nd_weight_limit = 0x1p60f;

enum { nd_weight_block = 4096 };

/* Largest magnitude as bits of a float: NaN and infinity come above every number. */
static uint32_t weights_largest(const float *values, size_t count) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

static bool weight_is_usable(float value, bool bounded) {
    return isfinite(value) && (!bounded || fabsf(value) <= nd_weight_limit);
}

/* Index of the first that is not usable, -1 where all are. */
static int64_t weights_first(const float *values, size_t count, bool bounded) {
    float largest;
    const uint32_t bits = weights_largest(values, count);
    memcpy(&largest, &bits, sizeof largest);
    if (weight_is_usable(largest, bounded)) return -1;
    for (size_t i = 0; i < count; i++)
        if (!weight_is_usable(values[i], bounded)) return (int64_t)i;
    return -1;
}

static nd_status weights_refuse(const nd_tensor *tensor, int64_t at, float value) {
    char index[nd_rank_max * 21 + 1] = "", dims[nd_rank_max * 21 + 1];
    int64_t below = nd_tensor_count(tensor);
    size_t used = 0;
    for (int i = 0; i < tensor->rank && used < sizeof index; i++) {
        below /= tensor->dims[i];
        used += (size_t)snprintf(index + used, sizeof index - used, i ? ",%lld" : "%lld",
                                 (long long)(at / below % tensor->dims[i]));
    }
    nd_dims_format(tensor->rank, tensor->dims, dims, sizeof dims);
    if (isfinite(value))
        return nd_fail(nd_status_format, "%g at [%s] of %s: too large to compute with", (double)value, index,
                       dims);
    return nd_fail(nd_status_format, "%s at [%s] of %s", isnan(value) ? "NaN" : "an infinity", index, dims);
}

static nd_status weights_check(const nd_tensor *tensor, bool bounded) {
    if (tensor->dtype > nd_dtype_bf16) return nd_status_ok; /* the floating-point types come first */
    const size_t count = (size_t)nd_tensor_count(tensor), element = nd_dtype_bytes(tensor->dtype);
    float block[nd_weight_block];
    for (size_t at = 0; at < count; at += nd_weight_block) {
        const size_t n = count - at < nd_weight_block ? count - at : nd_weight_block;
        const nd_tensor part = {.dtype = tensor->dtype,
                                .rank = 1,
                                .dims = {(int64_t)n},
                                .data = (char *)tensor->data + at * element};
        if (tensor->dtype == nd_dtype_f32)
            memcpy(block, part.data, n * sizeof *block); /* mapped files promise no alignment */
        else
            nd_tensor_to_f32(&part, block);
        const int64_t bad = weights_first(block, n, bounded);
        if (bad >= 0) return weights_refuse(tensor, (int64_t)at + bad, block[bad]);
    }
    return nd_status_ok;
}

/* Whether scales alone say that all are usable that 8-bit integers stand for: a second pass over weights that
 * are as many as those of the file is not needed then. Of e4m3 some bytes are no numbers. */
static bool weights_follow(const nd_integers *integers, bool bounded) {
    enum { most = 128 };
    if (!integers || integers->e4m3) return false;
    for (int64_t i = 0; i < integers->n_scales; i++)
        if (!weight_is_usable(most * integers->scales[i], bounded)) return false;
    return true;
}

nd_status nd_model_check_weights(const nd_graph *graph) {
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        const bool linear = node->op == nd_op_conv || node->op == nd_op_gemm || node->op == nd_op_matmul;
        if (!linear && node->op != nd_op_batchnorm) continue;
        for (int k = 0; k < node->n_in; k++) {
            const nd_tensor *tensor = nd_graph_constant(graph, node, k);
            if (!tensor || weights_follow(graph->values[node->in[k]].integers, linear)) continue;
            const nd_status status = weights_check(tensor, linear);
            if (status)
                return nd_fail_in(status, "layer '%.200s' (%s): weights '%.200s'", node->name,
                                  nd_op_name(node->op), graph->values[node->in[k]].name);
        }
    }
    return nd_status_ok;
}
