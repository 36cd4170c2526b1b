/* Products of two values of which any may be computed. */
#include "run/executor/executor_parts.h"

#include <string.h>

/* Constant, one number a column or one for all. */
static bool is_row(const nd_tensor *c, int64_t columns) {
    const int64_t last = c && c->rank ? c->dims[c->rank - 1] : 1;
    return c && nd_tensor_count(c) == last && (last == columns || last == 1);
}

bool nd_exec_is_gemm(const nd_exec *exec, const nd_node *node) {
    const nd_tensor *weights = nd_exec_constant(exec, node, 1);
    if (!weights || weights->rank != 2 || nd_exec_constant(exec, node, 0)) return false;
    if (exec->values[node->in[0]].rank < 2) return false;
    if (node->n_in < 3 || node->in[2] < 0) return true;
    return is_row(nd_exec_constant(exec, node, 2), weights->dims[!node->attr.trans_b]);
}

static void view_turn(nd_view *view) {
    const nd_view old = *view;
    view->dims[0] = old.dims[1];
    view->dims[1] = old.dims[0];
    view->strides[0] = old.strides[1];
    view->strides[1] = old.strides[0];
}

/* A vector as a row or a column, of all leading dims of the product. */
static bool view_matrix(nd_view *view, bool column, const nd_view *y) {
    int64_t dims[nd_rank_max];
    if (view->rank == 1) {
        const int64_t length = view->dims[0], step = view->strides[0];
        *view = (nd_view){2, {1, length}, {length * step, step}, view->offset};
        if (column) view_turn(view);
    }
    memcpy(dims, y->dims, sizeof dims);
    dims[y->rank - 2] = view->dims[view->rank - 2];
    dims[y->rank - 1] = view->dims[view->rank - 1];
    return nd_exec_broadcast(view, y->rank, dims, view);
}

/* y with the axes that vectors have not: its dims are those of a product of matrices. */
static bool view_product(const nd_exec *exec, const nd_node *node, nd_view *y) {
    const int left = exec->values[node->in[0]].rank, right = exec->values[node->in[1]].rank;
    int64_t dims[nd_rank_max + 2];
    int rank = y->rank;
    memcpy(dims, y->dims, sizeof y->dims);
    if (right == 1) dims[rank++] = 1;
    if (left == 1) {
        if (right > 1) dims[rank] = dims[rank - 1];
        dims[right > 1 ? rank - 1 : rank] = 1;
        rank++;
    }
    return rank <= nd_rank_max && nd_view_reshape(y, rank, dims, y);
}

/* Gemm's C, added to its product; a constant one is scaled by beta. */
static nd_status product_add(nd_exec *exec, const nd_node *node, const nd_place *product, const nd_place *y) {
    const nd_tensor *c = nd_exec_constant(exec, node, 2);
    const nd_work add = {.operation = nd_operation_binary};
    nd_place third;
    ND_TRY(nd_exec_source(exec, node->in[2], &third));
    if (node->attr.beta != 1) {
        ND_REQUIRE(c, nd_status_unsupported, "%s: a computed C with a beta of %g", nd_exec_label(exec, node),
                   (double)node->attr.beta);
        const int64_t count = nd_tensor_count(c);
        const float *values = nd_exec_floats(exec, c);
        float *scaled = nd_arena_alloc(&exec->scratch, (size_t)count * sizeof *scaled);
        ND_REQUIRE(values && scaled, nd_status_memory, "no memory for a constant");
        for (int64_t i = 0; i < count; i++) scaled[i] = node->attr.beta * values[i];
        const nd_view layout = nd_view_row_major(c->rank, c->dims);
        ND_TRY(nd_exec_place_new(exec, &layout, &third));
        exec->slots[third.slot].source = scaled;
        exec->slots[third.slot].source_view = layout;
    }
    return nd_exec_lower_pairing(exec, node, &add, *product, third, y);
}

nd_status nd_lower_product(nd_exec *exec, const nd_node *node) {
    const bool gemm = node->op == nd_op_gemm, adds = gemm && node->n_in > 2 && node->in[2] >= 0;
    nd_work work = {.operation = nd_operation_product, .alpha = gemm ? node->attr.alpha : 1};
    nd_operands operands = {0};
    nd_place y;
    ND_REQUIRE(node->n_in > 1 && node->in[1] >= 0, nd_status_format, "%s: an operand is missing",
               nd_exec_label(exec, node));
    ND_TRY(nd_exec_source(exec, node->in[0], &operands.x));
    ND_TRY(nd_exec_source(exec, node->in[1], &operands.x2));
    ND_TRY(nd_exec_target(exec, node->out[0], &y));
    operands.y = y;
    if (adds) {
        const nd_view layout = nd_view_row_major(y.view.rank, y.view.dims);
        ND_TRY(nd_exec_place_new(exec, &layout, &operands.y));
    }
    const nd_place product = operands.y;
    if (gemm && node->attr.trans_a) view_turn(&operands.x.view);
    if (gemm && node->attr.trans_b) view_turn(&operands.x2.view);
    const bool fits = view_product(exec, node, &operands.y.view) &&
                      view_matrix(&operands.x.view, false, &operands.y.view) &&
                      view_matrix(&operands.x2.view, true, &operands.y.view);
    ND_REQUIRE(fits, nd_status_unsupported, "%s: operands of these dims", nd_exec_label(exec, node));
    ND_TRY(nd_exec_emit(exec, node, work, &operands));
    return adds ? product_add(exec, node, &product, &y) : nd_status_ok;
}
