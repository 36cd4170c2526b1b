#include "base/parallel.h"
#include "run/ref/reduction.h"
#include "run/ref/ref.h"

typedef struct nd_ref_reduce_call {
    const nd_work *work;
    nd_view reduced; /* the index space of one result */
    const float *x;
    float *y;
} nd_ref_reduce_call;

static double reduce_over(const nd_ref_reduce_call *call, nd_reduction reduction, const nd_view *in,
                          double largest) {
    int64_t at[nd_rank_max] = {0};
    double sum = nd_reduction_start(reduction);
    do {
        sum = nd_reduction_step(reduction, sum, call->x[nd_ref_at(in, at)], largest);
    } while (nd_ref_next(&call->reduced, call->reduced.rank, at));
    return sum;
}

static void reduce_results(void *context, int64_t begin, int64_t end, int worker) {
    const nd_ref_reduce_call *call = context;
    const nd_work *work = call->work;
    const nd_reduction reduction = work->reduction;
    const double count = (double)nd_view_count(&call->reduced);
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        int64_t start[nd_rank_max] = {0};
        nd_view in = work->x;
        nd_ref_index(&work->y, i, start);
        in.offset = nd_ref_at(&in, start);
        double largest = 0;
        if (reduction == nd_reduction_log_sum_exp) {
            largest = reduce_over(call, nd_reduction_max, &in, 0);
            if (!isfinite(largest)) largest = 0;
        }
        const double sum = reduce_over(call, reduction, &in, largest);
        call->y[nd_ref_at(&work->y, start)] = (float)nd_reduction_finish(reduction, sum, count, largest);
    }
}

nd_status nd_ref_reduce(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    nd_ref_reduce_call call = {work, work->x, x, y};
    for (int i = 0; i < call.reduced.rank; i++)
        if (!work->axes[i]) call.reduced.dims[i] = 1;
    const int64_t count = nd_view_count(&call.reduced);
    if (count) nd_parallel_for(nd_view_count(&work->y), count, reduce_results, &call);
    return nd_status_ok;
}
