#include "base/parallel.h"
#include "run/ref/ref.h"

typedef struct nd_ref_product_call {
    const nd_work *work;
    const float *x, *x2;
    float *y;
} nd_ref_product_call;

static void product_results(void *context, int64_t begin, int64_t end, int worker) {
    const nd_ref_product_call *call = context;
    const nd_view *a = &call->work->x, *b = &call->work->x2, *y = &call->work->y;
    const int row = y->rank - 2, column = y->rank - 1;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        int64_t at[nd_rank_max], left[nd_rank_max], right[nd_rank_max];
        nd_ref_index(y, i, at);
        for (int axis = 0; axis < y->rank; axis++) left[axis] = right[axis] = at[axis];
        left[column] = right[row] = 0;
        const float *from = call->x + nd_ref_at(a, left), *other = call->x2 + nd_ref_at(b, right);
        double sum = 0;
        for (int64_t k = 0; k < a->dims[column]; k++)
            sum += (double)from[k * a->strides[column]] * other[k * b->strides[row]];
        call->y[nd_ref_at(y, at)] = (float)(sum * (double)call->work->alpha);
    }
}

nd_status nd_ref_product(const nd_work *work, const float *x, const float *x2, float *y) {
    nd_ref_product_call call = {work, x, x2, y};
    nd_parallel_for(nd_view_count(&work->y), work->x.dims[work->x.rank - 1], product_results, &call);
    return nd_status_ok;
}
