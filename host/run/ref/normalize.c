#include "base/parallel.h"
#include "run/ref/ref.h"

#include <math.h>

typedef struct nd_ref_normalize_call {
    const nd_work *work;
    nd_view within, across; /* the index space of one group, and of the groups */
    const float *x;
    float *y;
} nd_ref_normalize_call;

static void normalize_groups(void *context, int64_t begin, int64_t end, int worker) {
    const nd_ref_normalize_call *call = context;
    const nd_view *within = &call->within;
    const double count = (double)nd_view_count(within);
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        int64_t start[nd_rank_max], at[nd_rank_max] = {0};
        nd_view in = call->work->x, out = call->work->y;
        nd_ref_index(&call->across, i, start);
        in.offset = nd_ref_at(&in, start);
        out.offset = nd_ref_at(&out, start);
        double sum = 0, squares = 0;
        do {
            sum += call->x[nd_ref_at(&in, at)];
        } while (nd_ref_next(within, within->rank, at));
        const double mean = sum / count;
        do {
            const double distance = call->x[nd_ref_at(&in, at)] - mean;
            squares += distance * distance;
        } while (nd_ref_next(within, within->rank, at));
        const double scale = 1 / sqrt(squares / count + (double)call->work->epsilon);
        do {
            call->y[nd_ref_at(&out, at)] = (float)((call->x[nd_ref_at(&in, at)] - mean) * scale);
        } while (nd_ref_next(within, within->rank, at));
    }
}

nd_status nd_ref_normalize(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    nd_ref_normalize_call call = {work, work->x, work->x, x, y};
    for (int i = 0; i < work->x.rank; i++) (work->axes[i] ? &call.across : &call.within)->dims[i] = 1;
    if (nd_view_count(&work->x))
        nd_parallel_for(nd_view_count(&call.across), 4 * nd_view_count(&call.within), normalize_groups,
                        &call);
    return nd_status_ok;
}
