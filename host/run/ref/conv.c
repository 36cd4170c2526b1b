#include "run/ref/ref.h"

/* Sum over one window; what lies outside the input counts as zero. */
static double ref_window(const nd_work *work, const float *x, const float *filter, int64_t n, int64_t first,
                         int64_t channels, int64_t oh, int64_t ow) {
    const nd_window *g = &work->window;
    const nd_view *in = &work->x;
    double sum = 0;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < g->kernel[0]; i++)
            for (int64_t j = 0; j < g->kernel[1]; j++) {
                int64_t h = oh * g->stride[0] - g->pad[0] + i * g->dilation[0];
                int64_t w = ow * g->stride[1] - g->pad[1] + j * g->dilation[1];
                if (h < 0 || h >= in->dims[2] || w < 0 || w >= in->dims[3]) continue;
                double weight = filter[(c * g->kernel[0] + i) * g->kernel[1] + j];
                sum += weight * x[nd_ref_at4(in, n, first + c, h, w)];
            }
    return sum;
}

static void ref_conv_plane(const nd_work *work, const float *x, const float *x2, float *y, int64_t n,
                           int64_t o) {
    const nd_view *out = &work->y;
    const int64_t channels = work->x.dims[1] / work->groups; /* of one group */
    const int64_t first = o / (out->dims[1] / work->groups) * channels;
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    const float *filter = work->weights + o * channels * window;
    for (int64_t h = 0; h < out->dims[2]; h++)
        for (int64_t w = 0; w < out->dims[3]; w++) {
            double sum = ref_window(work, x, filter, n, first, channels, h, w);
            if (work->bias) sum += work->bias[o];
            if (work->residual) sum += x2[nd_ref_at4(&work->x2, n, o, h, w)];
            y[nd_ref_at4(out, n, o, h, w)] = nd_activation_apply(work->activation, (float)sum);
        }
}

nd_status nd_ref_conv(const nd_work *work, const float *x, const float *x2, float *y) {
    nd_ref_planes(work, x, x2, y, ref_conv_plane);
    return nd_status_ok;
}
