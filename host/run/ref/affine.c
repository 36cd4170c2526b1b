#include "run/ref/ref.h"

nd_status nd_ref_affine(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(&work->y)) return nd_status_ok;
    do {
        double value = (double)work->weights[at[1]] * x[nd_ref_at(&work->x, at)];
        if (work->bias) value += work->bias[at[1]];
        y[nd_ref_at(&work->y, at)] = nd_activation_apply(work->activation, (float)value);
    } while (nd_ref_next(&work->y, work->y.rank, at));
    return nd_status_ok;
}
