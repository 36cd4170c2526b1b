#include "run/ref/ref.h"

nd_status nd_ref_binary(const nd_work *work, const float *x, const float *x2, float *y) {
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(&work->y)) return nd_status_ok;
    do {
        const float a = x[nd_ref_at(&work->x, at)], b = x2[nd_ref_at(&work->x2, at)];
        y[nd_ref_at(&work->y, at)] =
            nd_activation_apply(work->activation, nd_pairing_apply(work->pairing, a, b));
    } while (nd_ref_next(&work->y, work->y.rank, at));
    return nd_status_ok;
}
