#include "run/executor/executor_parts.h"

#include <stdlib.h>

static bool work_reads_x(const nd_work *work) {
    return work->operation != nd_operation_fill;
}

static bool work_reads_x2(const nd_work *work) {
    return work->residual || work->operation == nd_operation_binary ||
           work->operation == nd_operation_product;
}

/* The work on these operands, and what it computes in: 8 bits where any of them is quantised, which must
 * then be alike: the definitions know no mixtures. */
static nd_precision emit_bind(const nd_exec *exec, const nd_operands *operands, nd_work *work) {
    const bool x2 = work_reads_x2(work);
    work->x = operands->x.view;
    work->x2 = operands->x2.view;
    work->y = operands->y.view;
    work->x_quant = work_reads_x(work) ? operands->x.quant : (nd_quant){0};
    work->x2_quant = x2 ? operands->x2.quant : (nd_quant){0};
    work->y_quant = operands->y.quant;
    const bool quantised = work->x_quant.scale > 0 || work->x2_quant.scale > 0 || work->y_quant.scale > 0;
    const bool e4m3 = work->x_quant.e4m3 || work->x2_quant.e4m3 || work->y_quant.e4m3;
    return !quantised ? exec->settings.precision : e4m3 ? nd_precision_e4m3 : nd_precision_int8;
}

bool nd_exec_supports(nd_exec *exec, nd_work work, const nd_operands *operands, bool fast) {
    const nd_backend_table *table = exec->backend->table;
    const nd_precision precision = emit_bind(exec, operands, &work);
    if (!table->supports(exec->backend, &work, precision)) return false;
    return !fast || !table->fast || table->fast(exec->backend, &work, precision);
}

/* Which operands to copy, and into which layout: the cheapest first. */
typedef struct nd_detour {
    bool x, x2, y, row_major;
} nd_detour;

static const nd_detour nd_detours[] = {
    {false, false, false, false}, {true, false, false, false}, {false, true, false, false},
    {true, true, false, false},   {false, false, true, false}, {true, false, true, false},
    {true, true, true, false},    {true, false, false, true},  {true, true, false, true},
    {true, false, true, true},    {true, true, true, true},
};
enum { nd_detour_count = sizeof nd_detours / sizeof *nd_detours };

/* A turned plan has no way back to the own layout: copies around its kernels would be timed with it. */
static nd_view detour_view(const nd_exec *exec, const nd_detour *detour, const nd_view *view) {
    if (detour->row_major && !exec->settings.turned) return nd_view_row_major(view->rank, view->dims);
    return nd_exec_layout(exec, view->rank, view->dims);
}

/* The views a detour would run on; operands a work does not have are left alone. */
static void detour_views(const nd_exec *exec, const nd_detour *detour, const nd_work *work,
                         nd_operands *operands) {
    if (detour->x && work_reads_x(work)) operands->x.view = detour_view(exec, detour, &operands->x.view);
    if (detour->x2 && work_reads_x2(work)) operands->x2.view = detour_view(exec, detour, &operands->x2.view);
    if (detour->y) operands->y.view = detour_view(exec, detour, &operands->y.view);
}

static const nd_detour *exec_detour(nd_exec *exec, const nd_work *work, const nd_operands *operands,
                                    bool fast) {
    const int count = work->operation == nd_operation_copy ? 1 : nd_detour_count;
    for (int i = 0; i < count; i++) {
        nd_operands trial = *operands;
        detour_views(exec, &nd_detours[i], work, &trial);
        if (nd_exec_supports(exec, *work, &trial, fast)) return &nd_detours[i];
    }
    return NULL;
}

bool nd_exec_can_emit(nd_exec *exec, nd_work work, const nd_operands *operands, bool fast) {
    return exec_detour(exec, &work, operands, fast) != NULL;
}

static nd_status exec_step(nd_exec *exec, const nd_node *node, nd_work work, const nd_operands *operands) {
    if (exec->n_steps == exec->cap_steps) {
        const int capacity = exec->cap_steps ? 2 * exec->cap_steps : 64;
        nd_step *more = realloc(exec->steps, (size_t)capacity * sizeof *more);
        ND_REQUIRE(more, nd_status_memory, "no memory for the plan");
        exec->steps = more;
        exec->cap_steps = capacity;
    }
    const nd_precision precision = emit_bind(exec, operands, &work);
    exec->steps[exec->n_steps++] = (nd_step){
        .work = work,
        .x = work_reads_x(&work) ? operands->x.slot : -1,
        .x2 = work_reads_x2(&work) ? operands->x2.slot : -1,
        .y = operands->y.slot,
        .name = node ? node->name : "output",
        .macs = nd_work_macs(&work) / exec->settings.batch,
        .precision = precision,
    };
    return nd_status_ok;
}

/* What the backend has in fp32 it lacks for its kind of numbers alone: another one may have those. */
static bool exec_lacks_precision(nd_exec *exec, const nd_work *work, const nd_operands *operands) {
    const nd_precision asked = exec->settings.precision;
    exec->settings.precision = nd_precision_fp32;
    const bool narrow = asked != nd_precision_fp32 && nd_exec_can_emit(exec, *work, operands, false);
    exec->settings.precision = asked;
    return narrow;
}

static nd_status exec_refuse(nd_exec *exec, const nd_node *node, const nd_work *work,
                             const nd_operands *operands) {
    char x[128], y[128];
    const bool narrow = exec_lacks_precision(exec, work, operands);
    const char *order = nd_exec_channels_last(exec) ? " in NHWC" : " in NCHW";
    return nd_fail(
        narrow ? nd_status_backend : nd_status_unsupported, "%s: backend %s has no %s in %s for %s -> %s%s",
        node ? nd_exec_label(exec, node) : "output", exec->backend->name, nd_operation_name(work->operation),
        nd_precision_name(emit_bind(exec, operands, &(nd_work){.operation = work->operation})),
        nd_dims_format(operands->x.view.rank, operands->x.view.dims, x, sizeof x),
        nd_dims_format(operands->y.view.rank, operands->y.view.dims, y, sizeof y),
        exec->settings.turned ? order : "");
}

nd_status nd_exec_emit_copy(nd_exec *exec, const nd_node *node, const nd_place *from, const nd_place *to) {
    const nd_work copy = {.operation = nd_operation_copy};
    const nd_operands operands = {.x = *from, .y = *to};
    if (!nd_exec_supports(exec, copy, &operands, false)) return exec_refuse(exec, node, &copy, &operands);
    return exec_step(exec, node, copy, &operands);
}

/* Uploads and downloads know dense views alone. */
static bool exec_movable(const nd_view *view) {
    return nd_view_is_row_major(view) || nd_view_is_channels_last(view);
}

static nd_status exec_host_reads(nd_exec *exec, const nd_node *node, nd_place *place) {
    const nd_place from = *place;
    if (exec_movable(&from.view) || exec->slots[place->slot].source) return nd_status_ok;
    const nd_view dense = nd_view_row_major(from.view.rank, from.view.dims);
    ND_TRY(nd_exec_place_new(exec, &dense, place));
    return nd_exec_emit_copy(exec, node, &from, place);
}

/* As a step that the host runs. */
static nd_status exec_emit_host(nd_exec *exec, const nd_node *node, const nd_work *work,
                                const nd_operands *operands) {
    nd_operands used = *operands;
    nd_host *host = nd_arena_alloc(&exec->arena, sizeof *host);
    ND_REQUIRE(host, nd_status_memory, "no memory for the plan");
    *host = (nd_host){.op = node && node->op_type ? node->op_type : node ? nd_op_name(node->op) : "output"};
    if (work_reads_x(work)) ND_TRY(exec_host_reads(exec, node, &used.x));
    if (work_reads_x2(work)) ND_TRY(exec_host_reads(exec, node, &used.x2));
    if (!exec_movable(&used.y.view)) {
        const nd_view dense = nd_view_row_major(used.y.view.rank, used.y.view.dims);
        ND_TRY(nd_exec_place_new(exec, &dense, &used.y));
    }
    ND_TRY(exec_step(exec, node, *work, &used));
    exec->steps[exec->n_steps - 1].host = host;
    exec->n_host++;
    return used.y.slot == operands->y.slot ? nd_status_ok
                                           : nd_exec_emit_copy(exec, node, &used.y, &operands->y);
}

nd_status nd_exec_emit(nd_exec *exec, const nd_node *node, nd_work work, const nd_operands *operands) {
    const nd_detour *detour = exec_detour(exec, &work, operands, true);
    if (!detour) detour = exec_detour(exec, &work, operands, false);
    if (!detour && nd_exec_host_takes(exec, &work, operands) && !exec_lacks_precision(exec, &work, operands))
        return exec_emit_host(exec, node, &work, operands);
    if (!detour) return exec_refuse(exec, node, &work, operands);
    nd_operands used = *operands;
    detour_views(exec, detour, &work, &used);
    if (detour->x && work_reads_x(&work)) {
        ND_TRY(nd_exec_place_new(exec, &used.x.view, &used.x));
        ND_TRY(nd_exec_emit_copy(exec, node, &operands->x, &used.x));
    }
    if (detour->x2 && work_reads_x2(&work)) {
        ND_TRY(nd_exec_place_new(exec, &used.x2.view, &used.x2));
        ND_TRY(nd_exec_emit_copy(exec, node, &operands->x2, &used.x2));
    }
    if (!detour->y) return exec_step(exec, node, work, &used);
    ND_TRY(nd_exec_place_new(exec, &used.y.view, &used.y));
    ND_TRY(exec_step(exec, node, work, &used));
    return nd_exec_emit_copy(exec, node, &used.y, &operands->y);
}
