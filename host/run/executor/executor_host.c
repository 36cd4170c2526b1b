/* Steps that the backend has no kernel for: the reference runs them, on copies in host memory. */
#include "run/executor/executor_parts.h"

#include "base/log.h"
#include "run/plugins.h"

#include <stdio.h>
#include <string.h>

/* A pair of its own is what a kernel is for, and a turned plan is only another way of running what the
 * backend runs: neither is worth having on the host. Moving alone is what gets values to the host. */
bool nd_exec_host_takes(const nd_exec *exec, const nd_work *work, const nd_operands *operands) {
    if (exec->settings.turned || work->operation == nd_operation_separable ||
        work->operation == nd_operation_copy)
        return false;
    /* Nor are 8-bit integers worth a way there and back. */
    if (operands->x.quant.scale > 0 || operands->x2.quant.scale > 0 || operands->y.quant.scale > 0)
        return false;
    nd_work dense = *work;
    dense.x = nd_view_row_major(operands->x.view.rank, operands->x.view.dims);
    dense.x2 = nd_view_row_major(operands->x2.view.rank, operands->x2.view.dims);
    dense.y = nd_view_row_major(operands->y.view.rank, operands->y.view.dims);
    return nd_work_agrees(&dense);
}

static float *host_floats(nd_exec *exec, int64_t count) {
    return nd_arena_alloc(&exec->arena, (size_t)count * sizeof(float));
}

/* A constant is fetched once, as the device stores it, and keeps the layout that the views of it are of. */
static nd_status host_constant(nd_exec *exec, const nd_slot *slot, float **out) {
    const nd_view *layout = &slot->source_view;
    const nd_work copy = {
        .operation = nd_operation_copy, .x = nd_view_row_major(layout->rank, layout->dims), .y = *layout};
    float *flat = host_floats(exec, slot->elements);
    *out = host_floats(exec, slot->elements);
    ND_REQUIRE(flat && *out, nd_status_memory, "no memory for a step on the host");
    ND_TRY(
        exec->backend->table->download(exec->backend, slot->memory, layout, exec->settings.precision, flat));
    return nd_ref_run(&copy, flat, NULL, *out);
}

/* Room for an operand, and the view of it there. */
static nd_status host_operand(nd_exec *exec, nd_host *host, int slot, nd_view *view, float **out,
                              bool *constant) {
    if (slot < 0) return nd_status_ok;
    *constant = exec->slots[slot].source != NULL;
    if (*constant) return host_constant(exec, &exec->slots[slot], out);
    const int64_t count = nd_view_count(view);
    *view = nd_view_row_major(view->rank, view->dims);
    *out = host_floats(exec, count);
    ND_REQUIRE(*out, nd_status_memory, "no memory for a step on the host");
    host->bytes += count * (int64_t)sizeof **out;
    return nd_status_ok;
}

nd_status nd_exec_prepare_host(nd_exec *exec, nd_step *step) {
    nd_host *host = step->host;
    bool made;
    host->work = step->work;
    ND_REQUIRE(nd_ref_keep(&host->work, exec->settings.precision, &exec->arena), nd_status_memory,
               "no memory for a step on the host");
    snprintf(host->engine, sizeof host->engine, "host:%s", nd_operation_name(step->work.operation));
    ND_TRY(host_operand(exec, host, step->x, &host->work.x, &host->x, &host->x_constant));
    ND_TRY(host_operand(exec, host, step->x2, &host->work.x2, &host->x2, &host->x2_constant));
    return host_operand(exec, host, step->y, &host->work.y, &host->y, &made);
}

nd_status nd_exec_run_host(nd_exec *exec, const nd_step *step) {
    const nd_backend_table *table = exec->backend->table;
    const nd_host *host = step->host;
    const nd_precision precision = exec->settings.precision;
    if (host->x && !host->x_constant)
        ND_TRY(table->download(exec->backend, exec->block, &step->work.x, precision, host->x));
    if (host->x2 && !host->x2_constant)
        ND_TRY(table->download(exec->backend, exec->block, &step->work.x2, precision, host->x2));
    ND_TRY(nd_ref_run(&host->work, host->x, host->x2, host->y));
    return table->upload(exec->backend, exec->block, &step->work.y, precision, host->y);
}

/* The operators, each once, in the order of the network. */
void nd_exec_say_host(const nd_exec *exec) {
    char list[256] = "";
    if (!exec->n_host) return;
    for (int i = 0; i < exec->n_steps; i++) {
        const nd_host *host = exec->steps[i].host;
        bool said = !host;
        for (int k = 0; k < i && !said; k++)
            said = exec->steps[k].host && !strcmp(exec->steps[k].host->op, host->op);
        const size_t used = strlen(list);
        if (!said) snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", host->op);
    }
    nd_log(nd_log_warn,
           "%s: backend %s has no kernel for %s: the host runs that, and the way there and back takes time",
           exec->graph->name, exec->backend->name, list);
}
