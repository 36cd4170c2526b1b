#include "run/ref/ref.h"

#include <math.h>

/* The window of `size` channels is centred; an even size reaches one further up (ONNX LRN). */
nd_status nd_ref_lrn(const nd_work *work, const float *x, const float *x2, float *y) {
    (void)x2;
    const int64_t channels = work->x.dims[1];
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(&work->y)) return nd_status_ok;
    do {
        const int64_t c = at[1], low = c - (work->size - 1) / 2, high = c + work->size / 2;
        double sum = 0;
        for (int64_t i = low < 0 ? 0 : low; i <= high && i < channels; i++) {
            at[1] = i;
            double value = x[nd_ref_at(&work->x, at)];
            sum += value * value;
        }
        at[1] = c;
        double scale = pow(work->k + work->alpha / (double)work->size * sum, -work->beta);
        y[nd_ref_at(&work->y, at)] = (float)(x[nd_ref_at(&work->x, at)] * scale);
    } while (nd_ref_next(&work->y, work->y.rank, at));
    return nd_status_ok;
}
