/* Layer, instance and group normalisation: the normalize operation, then scale and bias as far as there are
 * any. */
#include "run/executor/executor_parts.h"

#include <string.h>

/* Input k as a value that broadcasts over x: along the last axes, or along the channels. A scale of a whole
 * group is repeated for its channels. */
static nd_status normalize_operand(nd_exec *exec, const nd_node *node, int k, bool layer, const nd_view *x,
                                   nd_place *out) {
    ND_TRY(nd_exec_source(exec, node->in[k], out));
    if (layer) return nd_status_ok;
    const int64_t given = out->view.dims[0], channels = x->dims[1], each = given ? channels / given : 0;
    ND_REQUIRE(out->view.rank == 1 && given * each == channels, nd_status_format,
               "%s: %lld numbers for %lld channels", nd_exec_label(exec, node), (long long)given,
               (long long)channels);
    if (each != 1) {
        const nd_place from = {.slot = out->slot,
                               .view = {2, {given, each}, {out->view.strides[0], 0}, out->view.offset}};
        const nd_view apart = nd_view_row_major(2, from.view.dims);
        ND_TRY(nd_exec_place_new(exec, &apart, out));
        ND_TRY(nd_exec_emit_copy(exec, node, &from, out));
        out->view.strides[0] = out->view.strides[1]; /* both axes as one */
    }
    nd_view spread = {.rank = x->rank, .offset = out->view.offset};
    for (int i = 0; i < x->rank; i++) spread.dims[i] = 1;
    spread.dims[1] = channels;
    spread.strides[1] = out->view.strides[0];
    out->view = spread;
    return nd_status_ok;
}

/* The statistics' axes, and for groups the views with the channels split. */
static nd_status normalize_emit(nd_exec *exec, const nd_node *node, bool layer, const nd_place *x,
                                const nd_place *y) {
    const nd_attr *attr = &node->attr;
    nd_work work = {.operation = nd_operation_normalize, .epsilon = attr->epsilon};
    nd_operands operands = {.x = *x, .y = *y};
    const bool groups = *node->op_type == 'G';
    const int first = layer ? nd_exec_axis(attr->axis, x->view.rank) : 2;
    nd_place *sides[] = {&operands.x, &operands.y};
    for (int i = 0; groups && i < 2; i++) {
        nd_view *view = &sides[i]->view;
        const nd_view old = *view;
        ND_REQUIRE(old.rank < nd_rank_max, nd_status_unsupported, "%s: %d axes", nd_exec_label(exec, node),
                   old.rank);
        view->rank++;
        for (int axis = old.rank; axis > 2; axis--) {
            view->dims[axis] = old.dims[axis - 1];
            view->strides[axis] = old.strides[axis - 1];
        }
        view->dims[1] = attr->groups;
        view->dims[2] = old.dims[1] / attr->groups;
        view->strides[2] = old.strides[1];
        view->strides[1] = old.strides[1] * view->dims[2];
    }
    for (int i = first; i < operands.x.view.rank; i++) work.axes[i] = true;
    return nd_exec_emit(exec, node, work, &operands);
}

nd_status nd_lower_normalize(nd_exec *exec, const nd_node *node) {
    const bool layer = *node->op_type == 'L';
    const nd_pairing pairings[] = {nd_pairing_mul, nd_pairing_mul, nd_pairing_add};
    nd_place x, y;
    int last = 0;
    for (int k = 1; k < 3 && k < node->n_in; k++)
        if (node->in[k] >= 0) last = k;
    for (int k = 1; k < node->n_out; k++)
        ND_REQUIRE(node->out[k] < 0 || !exec->values[node->out[k]].uses, nd_status_unsupported,
                   "%s: its mean or deviation as an output", nd_exec_label(exec, node));
    ND_TRY(nd_exec_source(exec, node->in[0], &x));
    ND_TRY(nd_exec_target(exec, node->out[0], &y));
    const nd_view layout = nd_exec_layout(exec, y.view.rank, y.view.dims);
    for (int k = 0; k <= last; k++) {
        nd_place to = y, operand;
        if (k && node->in[k] < 0) continue;
        if (k < last) ND_TRY(nd_exec_place_new(exec, &layout, &to));
        if (k) {
            const nd_work work = {.operation = nd_operation_binary, .pairing = pairings[k]};
            ND_TRY(normalize_operand(exec, node, k, layer, &x.view, &operand));
            ND_TRY(nd_exec_lower_pairing(exec, node, &work, x, operand, &to));
        } else {
            ND_TRY(normalize_emit(exec, node, layer, &x, &to));
        }
        x = to;
    }
    return nd_status_ok;
}
