#include "base/parallel.h"
#include "run/ref/ref.h"

typedef struct nd_ref_gemm_call {
    const nd_work *work;
    const float *x, *x2;
    float *y;
} nd_ref_gemm_call;

static void ref_gemm_columns(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_ref_gemm_call *call = context;
    const nd_work *work = call->work;
    const nd_view *in = &work->x;
    const int64_t k = in->dims[1];
    for (int64_t column = begin; column < end; column++)
        for (int64_t row = 0; row < work->y.dims[0]; row++) {
            double sum = work->bias ? work->bias[column] : 0;
            for (int64_t i = 0; i < k; i++)
                sum += (double)work->weights[column * k + i] * call->x[nd_ref_at(in, (int64_t[]){row, i})];
            const int64_t at[] = {row, column};
            if (work->residual) sum += call->x2[nd_ref_at(&work->x2, at)];
            call->y[nd_ref_at(&work->y, at)] = nd_activation_apply(work->activation, (float)sum);
        }
}

nd_status nd_ref_gemm(const nd_work *work, const float *x, const float *x2, float *y) {
    nd_ref_gemm_call call = {work, x, x2, y};
    nd_parallel_for(work->y.dims[1], work->y.dims[0] * work->x.dims[1], ref_gemm_columns, &call);
    return nd_status_ok;
}
