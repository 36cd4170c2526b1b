#include "base/parallel.h"
#include "run/ref/ref.h"

typedef struct nd_ref_resample_call {
    const nd_work *work;
    const float *x;
    float *y;
} nd_ref_resample_call;

static void resample_results(void *context, int64_t begin, int64_t end, int worker) {
    const nd_ref_resample_call *call = context;
    const nd_work *work = call->work;
    const int64_t axis = work->axis, step = work->x.strides[axis];
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        int64_t at[nd_rank_max];
        nd_ref_index(&work->y, i, at);
        const int64_t to = nd_ref_at(&work->y, at), first = at[axis] * work->terms;
        at[axis] = 0;
        const float *from = call->x + nd_ref_at(&work->x, at);
        double sum = 0;
        for (int64_t k = first; k < first + work->terms; k++)
            sum += (double)work->weights[k] * from[work->channel[k] * step];
        call->y[to] = (float)sum;
    }
}

nd_status nd_ref_resample(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    nd_ref_resample_call call = {work, x, y};
    nd_parallel_for(nd_view_count(&work->y), 8 * work->terms, resample_results, &call);
    return nd_status_ok;
}
