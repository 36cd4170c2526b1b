#include "run/ref/ref.h"

nd_status nd_ref_mean(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    nd_view reduced = work->x; /* the index space of one mean */
    for (int i = 0; i < reduced.rank; i++)
        if (!work->axes[i]) reduced.dims[i] = 1;
    const int64_t count = nd_view_count(&reduced);
    if (!nd_view_count(&work->y) || !count) return nd_status_ok;
    int64_t start[nd_rank_max] = {0}, at[nd_rank_max] = {0};
    do {
        nd_view in = work->x;
        in.offset = nd_ref_at(&in, start);
        double sum = 0;
        do {
            sum += x[nd_ref_at(&in, at)];
        } while (nd_ref_next(&reduced, reduced.rank, at));
        y[nd_ref_at(&work->y, start)] = (float)(sum / (double)count);
    } while (nd_ref_next(&work->y, work->y.rank, start));
    return nd_status_ok;
}
