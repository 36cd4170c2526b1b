/* bf16 where the processor multiplies none: the work in fp32 on copies of its operands in the workspace,
 * which are dense and channels-last. What is stored, and with it the memory traffic between kernels, stays
 * bf16. */
#include "run/cpu/cpu.h"
#include "run/plugins.h"

#include <stdio.h>
#include <stdlib.h>

enum { widened_x, widened_x2, widened_y, widened_count };

typedef struct widened_kernel {
    nd_kernel base;
    nd_kernel *inner;
    nd_view views[widened_count]; /* in bf16 */
    size_t at[widened_count + 1]; /* of the copies in the workspace; last: of the inner kernel's own */
    bool residual;
} widened_kernel;

static nd_work widened_inner(const nd_work *work) {
    nd_work inner = *work;
    inner.x = nd_view_channels_last(work->x.rank, work->x.dims);
    inner.y = nd_view_channels_last(work->y.rank, work->y.dims);
    if (work->residual) inner.x2 = inner.y;
    return inner;
}

/* Inputs and output with adjacent last dims: rows of the views are then runs of memory. */
static bool widened_plain(const nd_view *view) {
    return view->rank == 4 ? nd_cpu_view_channels(view) : nd_view_is_row_major(view);
}

bool nd_cpu_widened_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    if (precision != nd_precision_bf16 || cpu->level >= nd_cpu_level_avx512_bf16) return false;
    if (work->x.rank != 4 && work->x.rank != 2) return false;
    if (!widened_plain(&work->x) || !widened_plain(&work->y)) return false;
    if (work->residual && !widened_plain(&work->x2)) return false;
    const nd_work inner = widened_inner(work);
    for (size_t i = 0; i < cpu->n_implementations; i++) {
        if (cpu->implementations[i].operation != work->operation) continue;
        if (cpu->implementations[i].supports(cpu, &inner, nd_precision_fp32)) return true;
    }
    return false;
}

ND_CLONES static void widened_up(int64_t n, const uint16_t *restrict from, float *restrict to) {
    for (int64_t i = 0; i < n; i++) {
        const union {
            uint32_t bits;
            float value;
        } wide = {(uint32_t)from[i] << 16};
        to[i] = wide.value;
    }
}

ND_CLONES static void widened_down(int64_t n, const float *restrict from, uint16_t *restrict to) {
    for (int64_t i = 0; i < n; i++) {
        const union {
            float value;
            uint32_t bits;
        } wide = {from[i]};
        const uint32_t rounded = wide.bits + 0x7fff + (wide.bits >> 16 & 1);
        to[i] = (uint16_t)((wide.value != wide.value ? wide.bits | 0x400000 : rounded) >> 16);
    }
}

void nd_cpu_widen(int64_t n, const uint16_t *restrict from, float *restrict to) {
    widened_up(n, from, to);
}

void nd_cpu_narrow(int64_t n, const float *restrict from, uint16_t *restrict to) {
    widened_down(n, from, to);
}

typedef struct widened_job {
    const nd_view *view;
    uint16_t *half;
    float *wide;
    bool up;
} widened_job;

/* Units are pixels, or rows of a matrix. */
static void widened_rows(void *context, int64_t begin, int64_t end, int worker) {
    const widened_job *job = context;
    const nd_view *v = job->view;
    const bool image = v->rank == 4;
    const int64_t width = v->dims[1];
    (void)worker;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t at = v->offset + unit * v->strides[0];
        if (image) {
            const int64_t x = unit % v->dims[3], y = unit / v->dims[3] % v->dims[2];
            at = v->offset + unit / v->dims[3] / v->dims[2] * v->strides[0] + y * v->strides[2] +
                 x * v->strides[3];
        }
        if (job->up) {
            nd_cpu_widen(width, job->half + at, job->wide + unit * width);
        } else {
            nd_cpu_narrow(width, job->wide + unit * width, job->half + at);
        }
    }
}

static void widened_convert(const nd_view *view, const void *half, char *wide, bool up) {
    widened_job job = {view, (uint16_t *)(uintptr_t)half, (float *)wide, up};
    nd_parallel_for(nd_view_count(view) / view->dims[1], view->dims[1], widened_rows, &job);
}

static nd_status widened_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const widened_kernel *k = (const widened_kernel *)kernel;
    char *own = buffers->workspace;
    widened_convert(&k->views[widened_x], buffers->x, own + k->at[widened_x], true);
    if (k->residual) widened_convert(&k->views[widened_x2], buffers->x2, own + k->at[widened_x2], true);
    const nd_cpu_buffers inner = {.x = own + k->at[widened_x],
                                  .x2 = k->residual ? own + k->at[widened_x2] : NULL,
                                  .y = own + k->at[widened_y],
                                  .workspace = own + k->at[widened_count]};
    ND_TRY(k->inner->run(k->inner, &inner));
    widened_convert(&k->views[widened_y], buffers->y, own + k->at[widened_y], false);
    return nd_status_ok;
}

static void widened_release(nd_kernel *kernel) {
    widened_kernel *k = (widened_kernel *)kernel;
    if (k->inner) k->inner->release(k->inner);
    free(k);
}

nd_status nd_cpu_widened_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    nd_status status = nd_status_ok;
    nd_arena arena = {0};
    nd_work inner = widened_inner(work);
    const nd_view *views[] = {&work->x, &work->x2, &work->y};
    widened_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "%s: no memory for the kernel", nd_operation_name(work->operation));
    k->base = (nd_kernel){.cpu = cpu, .run = widened_run, .release = widened_release};
    k->residual = work->residual;
    for (int i = 0; i < widened_count; i++) {
        const bool used = i != widened_x2 || work->residual;
        k->views[i] = *views[i];
        k->at[i + 1] = k->at[i] + (used ? nd_cpu_round((size_t)nd_view_count(views[i]) * sizeof(float)) : 0);
    }
    ND_REQUIRE_DONE(nd_ref_keep(&inner, precision, &arena), nd_status_memory, "%s: no memory for the weights",
                    nd_operation_name(work->operation));
    ND_TRY_DONE(nd_cpu_plan(cpu, &inner, nd_precision_fp32, &k->inner));
    k->base.workspace_bytes = k->at[widened_count] + k->inner->workspace_bytes;
    ND_REQUIRE_DONE(k->base.workspace_bytes <= cpu->workspace_limit, nd_status_unsupported,
                    "cpu: widening needs %zu bytes of workspace", k->base.workspace_bytes);
    snprintf(k->base.engine, sizeof k->base.engine, "fp32:%.57s", k->inner->engine);
    *out = &k->base;
done:
    nd_arena_free(&arena);
    if (status) widened_release(&k->base);
    return status;
}
