#include "base/parallel.h"
#include "run/ref/ref.h"

typedef struct nd_ref_planes_call {
    const nd_work *work;
    const float *x, *x2;
    float *y;
    nd_ref_plane *body;
} nd_ref_planes_call;

static void ref_planes_range(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_ref_planes_call *call = context;
    const int64_t channels = call->work->y.dims[1];
    for (int64_t plane = begin; plane < end; plane++)
        call->body(call->work, call->x, call->x2, call->y, plane / channels, plane % channels);
}

void nd_ref_planes(const nd_work *work, const float *x, const float *x2, float *y, nd_ref_plane *body) {
    nd_ref_planes_call call = {work, x, x2, y, body};
    /* Of one image, per channel: at least the taps of its own window. */
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    const int64_t depth = work->weights ? work->x.dims[1] / (work->groups > 0 ? work->groups : 1) : 1;
    nd_parallel_for(work->y.dims[0] * work->y.dims[1], work->y.dims[2] * work->y.dims[3] * taps * depth,
                    ref_planes_range, &call);
}
