/* Products of two computed values: oneDNN's sgemm, one matrix of the leading dims after the other. */
#include "run/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct product_kernel {
    nd_kernel base;
    nd_view x, x2, y;
    float alpha;
} product_kernel;

/* Rows or columns lie in memory as they are; *transposed says columns. `*step` is what the other
 * axis takes. */
static bool product_order(const nd_view *view, bool *transposed, int64_t *step) {
    const int row = view->rank - 2, column = view->rank - 1;
    const int64_t rows = view->dims[row], columns = view->dims[column];
    const int64_t down = view->strides[row], across = view->strides[column];
    *transposed = !(across == 1 || columns == 1);
    *step = *transposed ? across : down;
    if (*transposed && down != 1 && rows != 1) return false;
    const int64_t least = *transposed ? rows : columns; /* what sgemm wants of a leading dimension */
    if ((*transposed ? columns : rows) == 1 && *step < least) *step = least;
    return *step >= least;
}

bool nd_cpu_product_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    bool transposed;
    int64_t step;
    (void)cpu;
    return precision == nd_precision_fp32 && nd_work_agrees(work) && nd_view_count(&work->y) > 0 &&
           product_order(&work->x, &transposed, &step) && product_order(&work->x2, &transposed, &step) &&
           product_order(&work->y, &transposed, &step) && !transposed;
}

static nd_status product_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const product_kernel *k = (const product_kernel *)kernel;
    const nd_view *const views[] = {&k->x, &k->x2, &k->y};
    const int last = k->y.rank - 1;
    bool transposed[3];
    int64_t step[3], at[nd_rank_max] = {0}, batches = 1;
    for (int i = 0; i < 3; i++) product_order(views[i], &transposed[i], &step[i]);
    for (int i = 0; i < last - 1; i++) batches *= k->y.dims[i];
    for (int64_t batch = 0; batch < batches; batch++) {
        int64_t start[3];
        for (int i = 0; i < 3; i++) {
            start[i] = views[i]->offset;
            for (int axis = 0; axis < last - 1; axis++) start[i] += at[axis] * views[i]->strides[axis];
        }
        const dnnl_status_t status = dnnl_sgemm(
            transposed[0] ? 'T' : 'N', transposed[1] ? 'T' : 'N', k->y.dims[last - 1], k->y.dims[last],
            k->x.dims[last], k->alpha, (const float *)buffers->x + start[0], step[0],
            (const float *)buffers->x2 + start[1], step[1], 0, (float *)buffers->y + start[2], step[2]);
        ND_REQUIRE(status == dnnl_success, nd_status_failed, "oneDNN: a product ended with status %d",
                   (int)status);
        for (int axis = last - 2; axis >= 0; axis--) {
            if (++at[axis] < k->y.dims[axis]) break;
            at[axis] = 0;
        }
    }
    return nd_status_ok;
}

static void product_release(nd_kernel *kernel) {
    free(kernel);
}

nd_status nd_cpu_product_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    (void)precision;
    product_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "product: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = product_run, .release = product_release};
    k->x = work->x;
    k->x2 = work->x2;
    k->y = work->y;
    k->alpha = work->alpha;
    snprintf(k->base.engine, sizeof k->base.engine, "onednn:sgemm");
    *out = &k->base;
    return nd_status_ok;
}
