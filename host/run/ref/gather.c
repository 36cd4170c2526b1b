#include "run/ref/ref.h"

nd_status nd_ref_gather(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(&work->y)) return nd_status_ok;
    do {
        int64_t from[nd_rank_max];
        for (int i = 0; i < work->y.rank; i++) from[i] = i == 1 ? work->channel[at[1]] : at[i];
        y[nd_ref_at(&work->y, at)] = x[nd_ref_at(&work->x, from)];
    } while (nd_ref_next(&work->y, work->y.rank, at));
    return nd_status_ok;
}
