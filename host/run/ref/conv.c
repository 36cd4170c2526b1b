#include "base/machine/clones.h"
#include "run/ref/ref.h"

enum { part = 256 }; /* outputs of a row at once */

/* Sums over the windows of outputs [first, first + n) of row oh; what lies outside the input counts as zero.
 * They advance together, for the vector units, each in the order of its own window. */
ND_CLONES static void ref_windows(const nd_work *work, const float *x, const float *filter, int64_t image,
                                  int64_t channel, int64_t channels, int64_t oh, int64_t first, int64_t n,
                                  double *restrict sum) {
    const nd_window *g = &work->window;
    const nd_view *in = &work->x;
    const int64_t stride = g->stride[1];
    for (int64_t k = 0; k < n; k++) sum[k] = 0;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < g->kernel[0]; i++)
            for (int64_t j = 0; j < g->kernel[1]; j++) {
                int64_t h = oh * g->stride[0] - g->pad[0] + i * g->dilation[0];
                int64_t w = first * stride - g->pad[1] + j * g->dilation[1]; /* of the first output */
                int64_t begin = 0, end = n;
                if (h < 0 || h >= in->dims[2]) continue;
                while (begin < end && w + begin * stride < 0) begin++;
                while (begin < end && w + (end - 1) * stride >= in->dims[3]) end--;
                const double weight = filter[(c * g->kernel[0] + i) * g->kernel[1] + j];
                const float *row = x + nd_ref_at4(in, image, channel + c, h, 0);
                if (stride == 1 && in->strides[3] == 1)
                    for (int64_t k = begin; k < end; k++) sum[k] += weight * row[w + k];
                else
                    for (int64_t k = begin; k < end; k++)
                        sum[k] += weight * row[(w + k * stride) * in->strides[3]];
            }
}

static void ref_conv_plane(const nd_work *work, const float *x, const float *x2, float *y, int64_t n,
                           int64_t o) {
    const nd_view *out = &work->y;
    const int64_t channels = work->x.dims[1] / work->groups; /* of one group */
    const int64_t first = o / (out->dims[1] / work->groups) * channels;
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    const float *filter = work->weights + o * channels * window;
    double sum[part];
    for (int64_t h = 0; h < out->dims[2]; h++)
        for (int64_t w = 0; w < out->dims[3]; w++) {
            const int64_t left = out->dims[3] - w;
            if (w % part == 0)
                ref_windows(work, x, filter, n, first, channels, h, w, left < part ? left : part, sum);
            double result = sum[w % part];
            if (work->bias) result += work->bias[o];
            if (work->residual) result += x2[nd_ref_at4(&work->x2, n, o, h, w)];
            y[nd_ref_at4(out, n, o, h, w)] = nd_activation_apply(work->activation, (float)result);
        }
}

nd_status nd_ref_conv(const nd_work *work, const float *x, const float *x2, float *y) {
    nd_ref_planes(work, x, x2, y, ref_conv_plane);
    return nd_status_ok;
}
