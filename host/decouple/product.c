/* Gemm and MatMul by a constant as pointwise convolutions: read from a graph, and put back into one. */
#include "decouple/product.h"

#include <string.h>

static nd_product kind_of(const nd_node *node) {
    return node->op == nd_op_gemm     ? nd_product_gemm
           : node->op == nd_op_matmul ? nd_product_matmul
                                      : nd_product_none;
}

/* Rows are images, or lie within one: what calibration is fed by. */
static nd_status check_rows(const nd_graph *graph, const nd_node *node, int64_t ni) {
    const nd_value *x = &graph->values[node->in[0]], *image = &graph->values[graph->inputs[0]];
    ND_REQUIRE(x->rank >= 2 && nd_dims_count(x->rank, x->dims) > 0 && x->dims[x->rank - 1] == ni,
               nd_status_unsupported, "product %s: the size of its input is not known", node->name);
    ND_REQUIRE(image->rank > 0 && x->dims[0] == image->dims[0], nd_status_unsupported,
               "product %s: its input does not begin with the images of a batch", node->name);
    return nd_status_ok;
}

static nd_status check_gemm(const nd_graph *graph, const nd_node *node, int64_t no, const float **bias) {
    *bias = NULL;
    ND_REQUIRE(!node->attr.trans_a && node->attr.alpha == 1, nd_status_unsupported,
               "product %s: its operand is scaled or turned", node->name);
    if (node->n_in < 3 || node->in[2] < 0) return nd_status_ok;
    const nd_tensor *c = nd_graph_constant(graph, node, 2);
    ND_REQUIRE(c && c->dtype == nd_dtype_f32 && nd_tensor_count(c) == no && node->attr.beta == 1,
               nd_status_unsupported, "product %s: its bias is not one constant an output", node->name);
    *bias = c->data;
    return nd_status_ok;
}

/* [columns][rows] of from[rows][columns] */
static void turn(int64_t rows, int64_t columns, const float *from, float *to) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c];
}

nd_status nd_conv_from_product(const nd_graph *graph, const nd_node *node, nd_arena *arena, nd_conv *out) {
    const nd_tensor *weight = nd_graph_constant(graph, node, 1);
    ND_REQUIRE(kind_of(node) && node->in[0] >= 0 && !graph->values[node->in[0]].init && weight &&
                   weight->dtype == nd_dtype_f32 && weight->rank == 2 && nd_tensor_count(weight) > 0,
               nd_status_unsupported, "product %s: not by a constant fp32 matrix", node->name);
    const int64_t ni = weight->dims[node->attr.trans_b], no = weight->dims[!node->attr.trans_b];
    ND_REQUIRE(no <= INT32_MAX / ni, nd_status_unsupported, "product %s: the matrix is too large",
               node->name);
    nd_conv conv = {.name = node->name,
                    .no = no,
                    .ni = ni,
                    .groups = 1,
                    .window = nd_window_pointwise(),
                    .in_w = 1,
                    .weights = weight->data,
                    .product = kind_of(node),
                    .stored = weight->data};
    ND_TRY(check_rows(graph, node, ni));
    if (conv.product == nd_product_gemm) ND_TRY(check_gemm(graph, node, no, &conv.bias));
    const nd_value *x = &graph->values[node->in[0]];
    conv.in_h = nd_dims_count(x->rank - 1, x->dims + 1) / ni;
    if (!node->attr.trans_b) {
        float *copy = nd_arena_alloc(arena, (size_t)(ni * no) * sizeof *copy);
        ND_REQUIRE(copy, nd_status_memory, "product %s: no memory for its weights", node->name);
        turn(ni, no, weight->data, copy);
        conv.weights = copy;
    }
    *out = conv;
    return nd_status_ok;
}

nd_status nd_product_weights(bool trans_b, int64_t no, int64_t ni, const float *weights, nd_tensor *out) {
    const int64_t dims[2] = {trans_b ? no : ni, trans_b ? ni : no};
    ND_TRY(nd_tensor_new(nd_dtype_f32, 2, dims, out));
    if (!weights) return nd_status_ok;
    if (trans_b)
        memcpy(out->data, weights, nd_tensor_bytes(out));
    else
        turn(no, ni, weights, out->data);
    return nd_status_ok;
}
