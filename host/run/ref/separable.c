#include "base/parallel.h"
#include "run/ref/ref.h"

#include <stdlib.h>

/* y[o] = act(sum_r P[o][r] * (x[channel[r]] conv D[r]) + bias[o] + x2[o]), one row of the output at a time so
 * that every depthwise value is made once. */
typedef struct nd_ref_separable_call {
    const nd_work *work;
    const float *x, *x2;
    float *y;
    double *terms; /* [threads][R] */
} nd_ref_separable_call;

static double ref_depthwise(const nd_work *work, const float *x, int64_t n, int64_t term, int64_t oh,
                            int64_t ow) {
    const nd_window *g = &work->window;
    const nd_view *in = &work->x;
    const float *filter = work->depthwise + term * g->kernel[0] * g->kernel[1];
    double sum = 0;
    for (int64_t i = 0; i < g->kernel[0]; i++)
        for (int64_t j = 0; j < g->kernel[1]; j++) {
            int64_t h = oh * g->stride[0] - g->pad[0] + i * g->dilation[0];
            int64_t w = ow * g->stride[1] - g->pad[1] + j * g->dilation[1];
            if (h < 0 || h >= in->dims[2] || w < 0 || w >= in->dims[3]) continue;
            sum += (double)filter[i * g->kernel[1] + j] * x[nd_ref_at4(in, n, work->channel[term], h, w)];
        }
    return sum;
}

static void ref_separable_rows(void *context, int64_t begin, int64_t end, int worker) {
    const nd_ref_separable_call *call = context;
    const nd_work *work = call->work;
    const nd_view *out = &work->y;
    double *terms = call->terms + worker * work->terms;
    for (int64_t row = begin; row < end; row++) {
        const int64_t n = row / out->dims[2], h = row % out->dims[2];
        for (int64_t w = 0; w < out->dims[3]; w++) {
            for (int64_t r = 0; r < work->terms; r++) terms[r] = ref_depthwise(work, call->x, n, r, h, w);
            for (int64_t o = 0; o < out->dims[1]; o++) {
                double sum = work->bias ? work->bias[o] : 0;
                for (int64_t r = 0; r < work->terms; r++)
                    sum += work->weights[o * work->terms + r] * terms[r];
                if (work->residual) sum += call->x2[nd_ref_at4(&work->x2, n, o, h, w)];
                call->y[nd_ref_at4(out, n, o, h, w)] = nd_activation_apply(work->activation, (float)sum);
            }
        }
    }
}

nd_status nd_ref_separable(const nd_work *work, const float *x, const float *x2, float *y) {
    double *terms = nd_alloc_array((size_t)nd_threads() * (size_t)work->terms, sizeof *terms);
    ND_REQUIRE(terms, nd_status_memory, "no memory for %lld terms", (long long)work->terms);
    nd_ref_separable_call call = {work, x, x2, y, terms};
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    nd_parallel_for(work->y.dims[0] * work->y.dims[2],
                    work->y.dims[3] * work->terms * (work->y.dims[1] + taps), ref_separable_rows, &call);
    free(terms);
    return nd_status_ok;
}
