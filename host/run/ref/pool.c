#include "run/ref/ref.h"

#include <math.h>

/* What an average divides by: the taps on real pixels, or, with count_include_pad, those on declared padding
 * too. Taps beyond the declared padding, which ceil mode can reach, never count. */
static int64_t ref_pool_taps(const nd_work *work, int axis, int64_t position) {
    const nd_window *g = &work->window;
    const int64_t size = work->x.dims[2 + axis];
    const int64_t low = work->count_include_pad ? -g->pad[axis] : 0;
    const int64_t high = size + (work->count_include_pad ? g->pad[2 + axis] : 0);
    int64_t taps = 0;
    for (int64_t i = 0; i < g->kernel[axis]; i++) {
        int64_t at = position * g->stride[axis] - g->pad[axis] + i * g->dilation[axis];
        taps += at >= low && at < high;
    }
    return taps;
}

static float ref_pool_at(const nd_work *work, const float *x, int64_t n, int64_t c, int64_t oh, int64_t ow) {
    const nd_window *g = &work->window;
    const nd_view *in = &work->x;
    double sum = 0;
    float largest = -INFINITY;
    for (int64_t i = 0; i < g->kernel[0]; i++)
        for (int64_t j = 0; j < g->kernel[1]; j++) {
            int64_t h = oh * g->stride[0] - g->pad[0] + i * g->dilation[0];
            int64_t w = ow * g->stride[1] - g->pad[1] + j * g->dilation[1];
            if (h < 0 || h >= in->dims[2] || w < 0 || w >= in->dims[3]) continue;
            float value = x[nd_ref_at4(in, n, c, h, w)];
            sum += value;
            largest = fmaxf(largest, value);
        }
    if (work->maximum) return largest;
    int64_t taps = ref_pool_taps(work, 0, oh) * ref_pool_taps(work, 1, ow);
    return taps ? (float)(sum / (double)taps) : 0;
}

static void ref_pool_plane(const nd_work *work, const float *x, const float *x2, float *y, int64_t n,
                           int64_t c) {
    (void)x2;
    for (int64_t h = 0; h < work->y.dims[2]; h++)
        for (int64_t w = 0; w < work->y.dims[3]; w++)
            y[nd_ref_at4(&work->y, n, c, h, w)] = ref_pool_at(work, x, n, c, h, w);
}

nd_status nd_ref_pool(const nd_work *work, const float *x, const float *x2, float *y) {
    nd_ref_planes(work, x, x2, y, ref_pool_plane);
    return nd_status_ok;
}
