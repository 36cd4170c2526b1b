/* Einsum of two operands as a product of matrices: axes that both and the result have come first, of the
 * others those of the left make its rows, those of the right its columns; what the result lacks is summed. */
#include "run/executor/executor_parts.h"

#include <string.h>

/* Axes of an operand, each named by a letter, in the order that a product wants them in. */
typedef struct axes {
    const int64_t *letters;
    int rank, order[nd_rank_max], n;
} axes;

static int find_letter(const int64_t *letters, int rank, int64_t letter) {
    for (int i = 0; i < rank; i++)
        if (letters[i] == letter) return i;
    return -1;
}

/* Appends the axes of `from`'s letters, in their order, that `to` has and `other` has too, or has not. */
static void append(axes *to, const axes *from, const axes *other, bool in_other) {
    for (int i = 0; i < from->rank; i++) {
        const int at = find_letter(to->letters, to->rank, from->letters[i]);
        const bool shared = find_letter(other->letters, other->rank, from->letters[i]) >= 0;
        if (at >= 0 && shared == in_other) to->order[to->n++] = at;
    }
}

/* The letters that both operands have and the result lacks. */
static void append_summed(axes *to, const axes *a, const axes *y) {
    for (int i = 0; i < a->rank; i++)
        if (find_letter(y->letters, y->rank, a->letters[i]) < 0)
            to->order[to->n++] = find_letter(to->letters, to->rank, a->letters[i]);
}

static nd_view permuted(const nd_view *view, const axes *by) {
    nd_view out = {.rank = by->n, .offset = view->offset};
    for (int i = 0; i < by->n; i++) {
        out.dims[i] = view->dims[by->order[i]];
        out.strides[i] = view->strides[by->order[i]];
    }
    return out;
}

/* [batch..][axes up to `split` as one][the rest as one]. */
static bool as_matrices(nd_view *view, int batch, int split) {
    int64_t dims[nd_rank_max];
    if (batch + 2 > nd_rank_max) return false;
    memcpy(dims, view->dims, sizeof dims);
    dims[batch] = nd_dims_count(split - batch, view->dims + batch);
    dims[batch + 1] = nd_dims_count(view->rank - split, view->dims + split);
    return nd_view_reshape(view, batch + 2, dims, view);
}

/* An operand in the product's order, in a copy where its strides cannot say that. */
static nd_status einsum_operand(nd_exec *exec, const nd_node *node, const axes *by, int batch, int split,
                                nd_place *place) {
    place->view = permuted(&place->view, by);
    const nd_place from = *place;
    if (as_matrices(&place->view, batch, split)) return nd_status_ok;
    const nd_view dense = nd_view_row_major(from.view.rank, from.view.dims);
    ND_TRY(nd_exec_place_new(exec, &dense, place));
    ND_TRY(nd_exec_emit_copy(exec, node, &from, place));
    ND_REQUIRE(as_matrices(&place->view, batch, split), nd_status_unsupported, "%s: %d axes",
               nd_exec_label(exec, node), by->n);
    return nd_status_ok;
}

nd_status nd_lower_einsum(nd_exec *exec, const nd_node *node) {
    const nd_attr *attr = &node->attr;
    const nd_work work = {.operation = nd_operation_product, .alpha = 1};
    nd_operands operands = {0};
    ND_REQUIRE(node->n_in == 2 && node->in[1] >= 0, nd_status_format, "%s: two operands",
               nd_exec_label(exec, node));
    ND_TRY(nd_exec_source(exec, node->in[0], &operands.x));
    ND_TRY(nd_exec_source(exec, node->in[1], &operands.x2));
    ND_TRY(nd_exec_target(exec, node->out[0], &operands.y));
    axes a = {attr->list, operands.x.view.rank, {0}, 0}, b = {attr->ends, operands.x2.view.rank, {0}, 0},
         y = {attr->axes, operands.y.view.rank, {0}, 0};
    append(&a, &y, &b, true);
    append(&b, &y, &a, true);
    const int batch = a.n;
    append(&a, &y, &b, false);
    const int rows = a.n;
    append_summed(&a, &a, &y);
    append_summed(&b, &a, &y);
    const int summed = b.n;
    append(&b, &y, &a, false);
    /* of y: what both have, then what is of the left, then of the right */
    for (int i = 0; i < rows; i++) y.order[y.n++] = find_letter(y.letters, y.rank, a.letters[a.order[i]]);
    for (int i = summed; i < b.n; i++) y.order[y.n++] = find_letter(y.letters, y.rank, b.letters[b.order[i]]);
    ND_TRY(einsum_operand(exec, node, &a, batch, rows, &operands.x));
    ND_TRY(einsum_operand(exec, node, &b, batch, summed, &operands.x2));
    nd_place to = operands.y;
    to.view = permuted(&to.view, &y);
    operands.y = to;
    if (as_matrices(&operands.y.view, batch, rows)) return nd_exec_emit(exec, node, work, &operands);
    nd_place dense = {.slot = -1};
    const nd_view layout = nd_view_row_major(to.view.rank, to.view.dims);
    ND_TRY(nd_exec_place_new(exec, &layout, &dense));
    operands.y = dense;
    ND_REQUIRE(as_matrices(&operands.y.view, batch, rows), nd_status_unsupported, "%s: %d axes",
               nd_exec_label(exec, node), y.n);
    ND_TRY(nd_exec_emit(exec, node, work, &operands));
    return nd_exec_emit_copy(exec, node, &dense, &to);
}
