/* Preparing the depthwise kernel: for convolutions whose groups have one input channel each, and for the
 * first half of separable layers in two steps. */
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>

/* [terms][taps] -> [taps][terms] */
static nd_status depthwise_filters(nd_kernel *kernel, const float *filters, int64_t taps,
                                   nd_cuda_depthwise *call) {
    const size_t count = (size_t)(taps * call->terms);
    const void *constant;
    float *transposed = nd_alloc_array(count, sizeof *transposed);
    ND_REQUIRE(transposed, nd_status_memory, "no memory for %lld filters", (long long)call->terms);
    for (int64_t r = 0; r < call->terms; r++)
        for (int64_t t = 0; t < taps; t++) transposed[t * call->terms + r] = filters[r * taps + t];
    const nd_status status = nd_cuda_constant(kernel, transposed, count * sizeof *transposed, &constant);
    free(transposed);
    ND_TRY(status);
    call->filters = constant;
    return nd_status_ok;
}

static int64_t depthwise_uniform(const int32_t *channel, int64_t terms, int64_t channels) {
    const int64_t each = terms % channels ? 0 : terms / channels;
    for (int64_t r = 0; r < terms && each; r++)
        if (channel[r] != r / each) return 0;
    return each;
}

nd_status nd_cuda_depthwise_make(nd_kernel *kernel, const nd_work *work, const float *filters,
                                 const int32_t *channel, int64_t terms, nd_cuda_depthwise *call) {
    const void *constant;
    *call = (nd_cuda_depthwise){
        .window = work->window,
        .storage = nd_precision_storage(kernel->precision),
        .images = work->x.dims[0],
        .channels = work->x.dims[1],
        .height = work->x.dims[2],
        .width = work->x.dims[3],
        .out_height = work->y.dims[2],
        .out_width = work->y.dims[3],
        .terms = terms,
        .uniform = depthwise_uniform(channel, terms, work->x.dims[1]),
        .threads = (int64_t)kernel->cuda->multiprocessors * 2048,
        .stream = kernel->cuda->stream,
    };
    (void)nd_cuda_view_is_pixels(&work->x, &call->x_pixel);
    (void)nd_cuda_view_is_pixels(&work->y, &call->y_pixel);
    ND_TRY(depthwise_filters(kernel, filters, work->window.kernel[0] * work->window.kernel[1], call));
    ND_TRY(nd_cuda_constant(kernel, channel, (size_t)terms * sizeof *channel, &constant));
    call->channel = constant;
    return nd_status_ok;
}

static nd_status depthwise_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    nd_cuda_depthwise call = *(const nd_cuda_depthwise *)kernel->state;
    call.x = nd_cuda_at(operands->x, &kernel->work.x, kernel->precision);
    call.y = nd_cuda_at(operands->y, &kernel->work.y, kernel->precision);
    return nd_cuda_depthwise_launch(&call);
}

static void depthwise_release(nd_kernel *kernel) {
    free(kernel->state);
}

static const nd_cuda_functions nd_depthwise_functions = {depthwise_run, depthwise_release};

static bool depthwise_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    int64_t distance;
    (void)cuda;
    (void)precision;
    return work->groups == work->x.dims[1] && work->groups > 1 && !work->residual &&
           nd_cuda_view_is_pixels(&work->x, &distance) && nd_cuda_view_is_pixels(&work->y, &distance);
}

static nd_status depthwise_prepare(nd_kernel *kernel, const nd_work *work) {
    const int64_t terms = work->y.dims[1], each = terms / work->groups;
    nd_cuda_depthwise *call = kernel->state = nd_alloc_array(1, sizeof *call);
    ND_REQUIRE(call, nd_status_memory, "no memory for a depthwise convolution");
    kernel->functions = &nd_depthwise_functions;
    int32_t *channel = nd_alloc_array((size_t)terms, sizeof *channel);
    ND_REQUIRE(channel, nd_status_memory, "no memory for %lld filters", (long long)terms);
    for (int64_t r = 0; r < terms; r++) channel[r] = (int32_t)(r / each);
    const nd_status status = nd_cuda_depthwise_make(kernel, work, work->weights, channel, terms, call);
    free(channel);
    ND_TRY(status);
    ND_TRY(nd_cuda_constant_bias(kernel, work));
    call->bias = kernel->bias;
    call->activation = work->activation;
    /* Alignment is part of the choice: buffers are aligned, so the views' offsets decide. */
    nd_cuda_depthwise named = *call;
    named.x = nd_cuda_at(NULL, &work->x, kernel->precision);
    named.y = nd_cuda_at(NULL, &work->y, kernel->precision);
    snprintf(kernel->engine, sizeof kernel->engine, "%s", nd_cuda_depthwise_name(&named));
    return nd_status_ok;
}

const nd_cuda_implementation nd_cuda_depthwise_implementation = {depthwise_supports, depthwise_prepare};
