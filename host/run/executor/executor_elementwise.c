/* Functions of one number and of two, and reductions. */
#include "run/executor/executor_parts.h"

#include <string.h>

nd_status nd_exec_lower_pairing(nd_exec *exec, const nd_node *node, const nd_work *work, nd_place x,
                                nd_place x2, const nd_place *y) {
    nd_operands operands = {.x = x, .x2 = x2, .y = *y};
    nd_place *inputs[] = {&operands.x, &operands.x2};
    for (int i = 0; i < 2; i++)
        ND_REQUIRE(nd_exec_broadcast(&inputs[i]->view, y->view.rank, y->view.dims, &inputs[i]->view),
                   nd_status_format, "%s: operand %d does not broadcast", nd_exec_label(exec, node), i);
    return nd_exec_emit(exec, node, *work, &operands);
}

/* Quantised operands into quantised sums, where the backend has that. */
static nd_status lower_pair_integers(nd_exec *exec, const nd_group *group, const nd_work *work, bool *done) {
    const nd_node *nodes = exec->graph->nodes, *node = &nodes[group->main];
    nd_operands operands = {0};
    *done = false;
    if (group->quantize < 0 || node->n_in != 2) return nd_status_ok;
    const nd_node *last = &nodes[group->quantize];
    ND_TRY(nd_exec_source_stored(exec, node->in[0], &operands.x));
    ND_TRY(nd_exec_source_stored(exec, node->in[1], &operands.x2));
    if (!(operands.x.quant.scale > 0) || !(operands.x2.quant.scale > 0)) return nd_status_ok;
    nd_exec_quant(exec, last, &exec->values[last->out[0]].place.quant);
    ND_TRY(nd_exec_target(exec, last->out[0], &operands.y));
    const nd_view *y = &operands.y.view;
    if (!nd_exec_broadcast(&operands.x.view, y->rank, y->dims, &operands.x.view) ||
        !nd_exec_broadcast(&operands.x2.view, y->rank, y->dims, &operands.x2.view) ||
        !nd_exec_can_emit(exec, *work, &operands, true))
        return nd_status_ok;
    *done = true;
    return nd_exec_emit(exec, last, *work, &operands);
}

/* More than two operands one after the other, each result in a place of its own. */
static nd_status lower_pair_reals(nd_exec *exec, const nd_node *node, const nd_node *act, nd_work work,
                                  bool turned) {
    const nd_activation activation = work.activation;
    const nd_node *last = act ? act : node;
    nd_place y, so_far;
    work.activation = (nd_activation){0};
    ND_TRY(nd_exec_target(exec, last->out[0], &y));
    ND_TRY(nd_exec_source(exec, node->in[0], &so_far));
    for (int i = 1; i < node->n_in; i++) {
        nd_place other, to = y;
        ND_TRY(nd_exec_source(exec, node->in[i], &other));
        if (i + 1 < node->n_in) {
            const nd_view layout = nd_exec_layout(exec, y.view.rank, y.view.dims);
            ND_TRY(nd_exec_place_new(exec, &layout, &to));
        } else {
            work.activation = activation;
        }
        ND_TRY(
            nd_exec_lower_pairing(exec, last, &work, turned ? other : so_far, turned ? so_far : other, &to));
        so_far = to;
    }
    return nd_status_ok;
}

nd_status nd_exec_lower_pair(nd_exec *exec, const nd_group *group) {
    const nd_node *nodes = exec->graph->nodes, *node = &nodes[group->main];
    const nd_node *act = group->act >= 0 ? &nodes[group->act] : NULL;
    bool turned, done;
    nd_work work = {.operation = nd_operation_binary};
    ND_REQUIRE(nd_exec_pairing(node, &work.pairing, &turned) && node->n_in >= 2, nd_status_format,
               "%s: %d operands", nd_exec_label(exec, node), node->n_in);
    work.activation = nd_exec_epilogue(nodes, group->act, group->gate);
    ND_TRY(lower_pair_integers(exec, group, &work, &done));
    if (done) return nd_status_ok;
    ND_TRY(lower_pair_reals(exec, node, act, work, turned));
    if (group->quantize < 0) return nd_status_ok;
    return nd_lower_quantize(exec, &nodes[group->quantize]);
}

/* What the condition keeps of one operand, and what it drops of the other, added: a number that is none or
 * infinite in the operand that was not chosen leaves no trace. */
nd_status nd_lower_where(nd_exec *exec, const nd_node *node) {
    nd_place y, condition, parts[2] = {{.slot = -1}, {.slot = -1}};
    ND_TRY(nd_exec_source(exec, node->in[0], &condition));
    ND_TRY(nd_exec_target(exec, node->out[0], &y));
    for (int i = 0; i < 2; i++) {
        const nd_view layout = nd_exec_layout(exec, y.view.rank, y.view.dims);
        const nd_work choose = {.operation = nd_operation_binary,
                                .pairing = i ? nd_pairing_drop : nd_pairing_keep};
        nd_place operand;
        ND_TRY(nd_exec_source(exec, node->in[1 + i], &operand));
        ND_TRY(nd_exec_place_new(exec, &layout, &parts[i]));
        ND_TRY(nd_exec_lower_pairing(exec, node, &choose, operand, condition, &parts[i]));
    }
    const nd_work add = {.operation = nd_operation_binary, .pairing = nd_pairing_add};
    return nd_exec_emit(exec, node, add, &(nd_operands){.x = parts[0], .x2 = parts[1], .y = y});
}

/* The mean over whole planes is a pool as well, which libraries are better at. */
static nd_status lower_reduction(nd_exec *exec, const nd_node *node, nd_reduction reduction,
                                 const bool *axes) {
    nd_operands operands = {0};
    ND_TRY(nd_exec_source(exec, node->in[0], &operands.x));
    ND_TRY(nd_exec_target(exec, node->out[0], &operands.y));
    const nd_view *x = &operands.x.view;
    int64_t kept[nd_rank_max];
    for (int i = 0; i < x->rank; i++) kept[i] = axes[i] ? 1 : x->dims[i];
    ND_REQUIRE(nd_view_reshape(&operands.y.view, x->rank, kept, &operands.y.view), nd_status_internal,
               "%s: the dims of the result", nd_exec_label(exec, node));
    if (reduction == nd_reduction_mean && x->rank == 4 && !axes[0] && !axes[1] && axes[2] && axes[3]) {
        nd_work pool = {.operation = nd_operation_pool};
        for (int i = 0; i < 2; i++) {
            pool.window.kernel[i] = x->dims[2 + i];
            pool.window.stride[i] = pool.window.dilation[i] = 1;
        }
        if (nd_exec_supports(exec, pool, &operands, true)) return nd_exec_emit(exec, node, pool, &operands);
    }
    nd_work work = {.operation = nd_operation_reduce, .reduction = reduction};
    memcpy(work.axes, axes, sizeof work.axes);
    return nd_exec_emit(exec, node, work, &operands);
}

nd_status nd_lower_global(nd_exec *exec, const nd_node *node, nd_reduction reduction) {
    bool axes[nd_rank_max] = {false};
    for (int i = 2; i < exec->values[node->in[0]].rank; i++) axes[i] = true;
    return lower_reduction(exec, node, reduction, axes);
}

nd_status nd_lower_global_average(nd_exec *exec, const nd_node *node) {
    return nd_lower_global(exec, node, nd_reduction_mean);
}

nd_status nd_lower_reduce(nd_exec *exec, const nd_node *node) {
    bool axes[nd_rank_max] = {false};
    const int rank = exec->values[node->in[0]].rank;
    nd_reduction reduction;
    ND_REQUIRE(nd_exec_reduction(node, &reduction), nd_status_internal, "%s: no such reduction",
               nd_exec_label(exec, node));
    for (int i = 0; i < rank; i++) axes[i] = node->attr.n == 0; /* no list: all */
    for (int i = 0; i < node->attr.n; i++) {
        const int axis = nd_exec_axis(node->attr.list[i], rank);
        ND_REQUIRE(axis >= 0, nd_status_format, "%s: a bad axis", nd_exec_label(exec, node));
        axes[axis] = true;
    }
    return lower_reduction(exec, node, reduction, axes);
}
