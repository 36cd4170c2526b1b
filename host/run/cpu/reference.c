/* Whatever has no implementation of its own here runs on the loops of the ref backend. Half precision is
 * widened to dense fp32 in the workspace and rounded back. */
#include "run/cpu/cpu.h"
#include "run/plugins.h"
#include "run/quantized.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reference_kernel {
    nd_kernel base;
    nd_work work;
    nd_arena arena;
    bool half, quantised;
    nd_work dense;  /* the same work on row-major fp32, for half precision */
    size_t part[3]; /* bytes of x, x2 and y in the workspace */
} reference_kernel;

bool nd_cpu_reference_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    if (nd_precision_is_quantised(precision)) return nd_quantized_agrees(work, precision);
    if (work->operation == nd_operation_quantize || work->operation == nd_operation_dequantize) return false;
    return (precision == nd_precision_fp32 || precision == nd_precision_bf16) && nd_work_agrees(work);
}

/* Row-major elements of a bf16 view to fp32, or back. */
static void reference_convert(const nd_view *view, uint16_t *half, float *dense, bool widen) {
    const int64_t count = nd_view_count(view);
    int64_t at[nd_rank_max] = {0}, position = view->offset;
    for (int64_t i = 0; i < count; i++) {
        if (widen) {
            dense[i] = nd_bf16_to_f32(half[position]);
        } else {
            half[position] = nd_f32_to_bf16(dense[i]);
        }
        for (int axis = view->rank - 1; axis >= 0; axis--) {
            position += view->strides[axis];
            if (++at[axis] < view->dims[axis]) break;
            position -= at[axis] * view->strides[axis];
            at[axis] = 0;
        }
    }
}

static nd_status reference_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    reference_kernel *k = (reference_kernel *)kernel;
    if (k->quantised) return nd_ref_run_quantized(&k->work, buffers->x, buffers->x2, buffers->y);
    if (!k->half) return nd_ref_run(&k->work, buffers->x, buffers->x2, buffers->y);
    char *workspace = buffers->workspace;
    float *x = (float *)workspace, *x2 = (float *)(workspace + k->part[0]);
    float *y = (float *)(workspace + k->part[0] + k->part[1]);
    if (buffers->x) reference_convert(&k->work.x, (uint16_t *)buffers->x, x, true);
    if (buffers->x2) reference_convert(&k->work.x2, (uint16_t *)buffers->x2, x2, true);
    ND_TRY(nd_ref_run(&k->dense, x, x2, y));
    reference_convert(&k->work.y, buffers->y, y, false);
    return nd_status_ok;
}

static void reference_release(nd_kernel *kernel) {
    reference_kernel *k = (reference_kernel *)kernel;
    nd_arena_free(&k->arena);
    free(k);
}

nd_status nd_cpu_reference_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                   nd_kernel **out) {
    reference_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "%s: no memory for the kernel", nd_operation_name(work->operation));
    k->base = (nd_kernel){.cpu = cpu, .run = reference_run, .release = reference_release};
    k->work = *work;
    k->half = precision == nd_precision_bf16;
    k->quantised = nd_precision_is_quantised(precision);
    if (!nd_ref_keep(&k->work, precision, &k->arena)) {
        reference_release(&k->base);
        return nd_fail(nd_status_memory, "%s: no memory for the weights", nd_operation_name(work->operation));
    }
    k->dense = k->work;
    nd_view *views[] = {&k->dense.x, &k->dense.x2, &k->dense.y};
    for (int i = 0; k->half && i < 3; i++) {
        *views[i] = nd_view_row_major(views[i]->rank, views[i]->dims);
        k->part[i] = nd_cpu_round((size_t)nd_view_count(views[i]) * sizeof(float));
        k->base.workspace_bytes += k->part[i];
    }
    snprintf(k->base.engine, sizeof k->base.engine, "ref:%s", nd_operation_name(work->operation));
    *out = &k->base;
    return nd_status_ok;
}
