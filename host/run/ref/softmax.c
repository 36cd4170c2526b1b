#include "run/ref/ref.h"

#include <math.h>

/* Normalises the elements that share the leading index: axes [axis, axis + axes) run, the rest stay. */
static void ref_softmax_group(const nd_work *work, const nd_view *group, const float *x, float *y,
                              const int64_t *start) {
    int64_t at[nd_rank_max] = {0};
    nd_view in = work->x, out = work->y;
    in.offset = nd_ref_at(&in, start);
    out.offset = nd_ref_at(&out, start);
    float largest = -INFINITY;
    double sum = 0;
    do {
        largest = fmaxf(largest, x[nd_ref_at(&in, at)]);
    } while (nd_ref_next(group, group->rank, at));
    do {
        sum += exp((double)x[nd_ref_at(&in, at)] - largest);
    } while (nd_ref_next(group, group->rank, at));
    do {
        y[nd_ref_at(&out, at)] = (float)(exp((double)x[nd_ref_at(&in, at)] - largest) / sum);
    } while (nd_ref_next(group, group->rank, at));
}

nd_status nd_ref_softmax(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    if (!nd_view_count(&work->y)) return nd_status_ok;
    /* Every axis belongs to one of two index spaces: within a group, or across groups. */
    nd_view within = work->y, across = work->y;
    int64_t product = 1;
    for (int i = 0; i < work->y.rank; i++) {
        bool inside = i == work->axis || (i > work->axis && product < work->inner);
        if (inside) product *= work->y.dims[i];
        (inside ? &across : &within)->dims[i] = 1;
    }
    int64_t start[nd_rank_max] = {0};
    do {
        ref_softmax_group(work, &within, x, y, start);
    } while (nd_ref_next(&across, across.rank, start));
    return nd_status_ok;
}
