#include "model/cost.h"

#include <stdlib.h>

/* Hostile shapes saturate instead of overflowing. */
static int64_t times(int64_t a, int64_t b) {
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static int64_t plus(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

/* Elements of a value without its first dim, the batch; 0 where the shape is unknown. */
static int64_t per_image(const nd_value *value) {
    const int64_t count = value->rank > 0 ? nd_dims_count(value->rank - 1, value->dims + 1) : 0;
    return count > 0 ? count : 0;
}

/* The axes that the result lacks. */
static int64_t einsum_reduction(const nd_value *x, const nd_attr *attr) {
    int64_t product = x->rank == attr->n;
    for (int i = 0; product && i < x->rank; i++) {
        bool kept = false;
        for (int k = 0; k < attr->groups; k++) kept = kept || attr->axes[k] == attr->list[i];
        if (!kept) product = times(product, x->dims[i]);
    }
    return product;
}

/* Products that make one element of the node's output; 0 where it is neither convolution nor inner product,
 * or its shapes are unknown. */
static int64_t reduction_of(const nd_graph *graph, const nd_node *node) {
    if (node->n_in < 2 || node->in[0] < 0 || node->in[1] < 0) return 0;
    const nd_value *x = &graph->values[node->in[0]], *w = &graph->values[node->in[1]];
    switch (node->op) {
    case nd_op_conv:
    case nd_op_conv_1d:
        return w->rank >= 3 ? per_image(w) : 0;
    case nd_op_gemm:
        return x->rank == 2 ? x->dims[node->attr.trans_a ? 0 : 1] : 0;
    case nd_op_einsum:
        return einsum_reduction(x, &node->attr);
    case nd_op_matmul:
        return x->rank > 0 ? x->dims[x->rank - 1] : 0;
    default:
        return 0;
    }
}

/* Elements of the node's weight and bias, but not of those in `counted` (by value number; NULL counts all).
 */
static int64_t params_of(const nd_graph *graph, const nd_node *node, bool *counted) {
    int64_t params = 0;
    for (int i = 1; i < node->n_in; i++) {
        const nd_tensor *tensor = nd_graph_constant(graph, node, i);
        if (!tensor || (counted && counted[node->in[i]])) continue;
        if (counted) counted[node->in[i]] = true;
        params = plus(params, nd_tensor_count(tensor));
    }
    return params;
}

static nd_cost cost_of(const nd_graph *graph, const nd_node *node, bool *counted) {
    nd_cost cost = {0};
    const bool transposed = node->op == nd_op_conv_transpose,
               conv = node->op == nd_op_conv || node->op == nd_op_conv_1d || transposed;
    if (!conv && node->op != nd_op_gemm && node->op != nd_op_matmul && node->op != nd_op_einsum) return cost;
    const int64_t reduction = reduction_of(graph, node);
    if (reduction > 0 && node->n_out && node->out[0] >= 0)
        cost.total_macs = times(per_image(&graph->values[node->out[0]]), reduction);
    if (transposed && node->n_in > 1 && node->in[0] >= 0 &&
        node->in[1] >= 0) /* every input pixel by the filter */
        cost.total_macs =
            times(per_image(&graph->values[node->in[0]]), per_image(&graph->values[node->in[1]]));
    if (conv) cost.conv_macs = cost.total_macs;
    cost.params = params_of(graph, node, counted);
    return cost;
}

nd_cost nd_cost_node(const nd_graph *graph, const nd_node *node) {
    return cost_of(graph, node, NULL);
}

nd_cost nd_cost_graph(const nd_graph *graph) {
    nd_cost sum = {0};
    /* Weights that several nodes share count once; without memory for that, once for every node. */
    bool *counted = calloc((size_t)graph->n_values + 1, sizeof *counted);
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_cost cost = cost_of(graph, &graph->nodes[i], counted);
        sum.conv_macs = plus(sum.conv_macs, cost.conv_macs);
        sum.total_macs = plus(sum.total_macs, cost.total_macs);
        sum.params = plus(sum.params, cost.params);
    }
    free(counted);
    return sum;
}
