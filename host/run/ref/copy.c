#include "run/ref/ref.h"

nd_status nd_ref_copy(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    const nd_view *in = &work->x, *out = &work->y;
    if (!nd_view_count(out)) return nd_status_ok;
    if (!out->rank) {
        y[out->offset] = x[in->offset];
        return nd_status_ok;
    }
    const int last = out->rank - 1;
    const int64_t length = out->dims[last], from = in->strides[last], to = out->strides[last];
    int64_t at[nd_rank_max] = {0};
    do {
        const float *src = x + nd_ref_at(in, at);
        float *dst = y + nd_ref_at(out, at);
        for (int64_t i = 0; i < length; i++) dst[i * to] = src[i * from];
    } while (nd_ref_next(out, last, at));
    return nd_status_ok;
}
