/* Preparing the plain kernels of 8-bit integers, and of what moves e4m3, makes it and reads it. */
#include "cuda/quantized/quantized.h"
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>

/* A convolution, a product as one of 1x1 pixels, or the two halves of a separable layer. */
typedef struct nd_quantized_sums {
    nd_cuda_quantized_conv conv;
    nd_cuda_quantized_depthwise depthwise; /* with 0 terms: none */
} nd_quantized_sums;

static nd_status quantized_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_quantized_sums *state = kernel->state;
    nd_cuda_quantized_conv conv = state->conv;
    conv.x = operands->x;
    conv.x2 = kernel->work.residual ? operands->x2 : NULL;
    conv.y = operands->y;
    if (state->depthwise.terms) {
        nd_cuda_quantized_depthwise depthwise = state->depthwise;
        depthwise.x = operands->x;
        depthwise.y = operands->workspace;
        conv.x = operands->workspace;
        ND_TRY(nd_cuda_quantized_depthwise_launch(&depthwise));
    }
    return nd_cuda_quantized_conv_launch(&conv);
}

static void quantized_release(nd_kernel *kernel) {
    free(kernel->state);
}

static const nd_cuda_functions nd_quantized_functions = {quantized_run, quantized_release};

/* Weights, integers in fp32, as [length][no]. */
static nd_status quantized_weights(nd_kernel *kernel, const nd_work *work, int64_t length,
                                   nd_cuda_quantized_conv *conv) {
    const int64_t no = work->y.dims[1];
    const void *constant;
    int8_t *turned = nd_alloc_array((size_t)(no * length), sizeof *turned);
    ND_REQUIRE(turned, nd_status_memory, "no memory for %lld weights", (long long)(no * length));
    for (int64_t o = 0; o < no; o++)
        for (int64_t i = 0; i < length; i++) turned[i * no + o] = (int8_t)work->weights[o * length + i];
    const nd_status status = nd_cuda_constant(kernel, turned, (size_t)(no * length), &constant);
    free(turned);
    conv->weights = constant;
    return status;
}

static nd_status quantized_factors(nd_kernel *kernel, const nd_work *work, nd_quantized_sums *state) {
    const size_t no = (size_t)work->y.dims[1], terms = (size_t)work->terms;
    const bool separable = work->operation == nd_operation_separable;
    const void *constant = NULL;
    nd_status status = nd_status_ok;
    float *host = nd_alloc_array(2 * no + (separable ? terms : 0), sizeof *host);
    ND_REQUIRE(host, nd_status_memory, "no memory for %zu channels", no);
    state->conv.requant = nd_requant_of(work, host, host + no, separable ? host + 2 * no : NULL);
    ND_TRY_DONE(nd_cuda_constant(kernel, host, no * sizeof *host, &constant));
    state->conv.factor = constant;
    ND_TRY_DONE(nd_cuda_constant(kernel, host + no, no * sizeof *host, &constant));
    state->conv.shift = constant;
    if (separable) ND_TRY_DONE(nd_cuda_constant(kernel, host + 2 * no, terms * sizeof *host, &constant));
    if (separable) state->depthwise.middle_factor = constant;
done:
    free(host);
    return status;
}

static nd_status quantized_depthwise(nd_kernel *kernel, const nd_work *work, nd_cuda_quantized_depthwise *d) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1], terms = work->terms;
    const void *constant;
    d->window = work->window;
    d->x_view = work->x;
    d->images = work->y.dims[0];
    d->out_height = work->y.dims[2];
    d->out_width = work->y.dims[3];
    d->terms = terms;
    d->x_zero = work->x_quant.zero;
    d->middle_zero = work->middle_quant.zero;
    d->stream = kernel->cuda->stream;
    float *turned = nd_alloc_array((size_t)(taps * terms), sizeof *turned);
    ND_REQUIRE(turned, nd_status_memory, "no memory for %lld filters", (long long)terms);
    for (int64_t r = 0; r < terms; r++)
        for (int64_t t = 0; t < taps; t++) turned[t * terms + r] = work->depthwise[r * taps + t];
    const nd_status status =
        nd_cuda_constant(kernel, turned, (size_t)(taps * terms) * sizeof *turned, &constant);
    free(turned);
    ND_TRY(status);
    d->filters = constant;
    ND_TRY(nd_cuda_constant(kernel, work->channel, (size_t)terms * sizeof *work->channel, &constant));
    d->channel = constant;
    kernel->workspace = (size_t)(d->images * d->out_height * d->out_width * terms);
    return nd_status_ok;
}

/* The pointwise half: a 1x1 convolution of what the depthwise half left. */
static void quantized_pointwise(const nd_work *work, nd_cuda_quantized_conv *conv) {
    const int64_t dims[] = {work->y.dims[0], work->terms, work->y.dims[2], work->y.dims[3]};
    conv->x_view = nd_view_channels_last(4, dims);
    conv->x_zero = work->middle_quant.zero;
    conv->window = (nd_window){.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
}

static nd_status quantized_sums_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_quantized_sums *state = kernel->state = nd_alloc_array(1, sizeof *state);
    ND_REQUIRE(state, nd_status_memory, "no memory for a quantised layer");
    kernel->functions = &nd_quantized_functions;
    nd_cuda_quantized_conv *conv = &state->conv;
    const nd_work as = nd_cuda_as_conv(work);
    *conv = (nd_cuda_quantized_conv){
        .window = as.window,
        .groups = as.operation == nd_operation_conv ? as.groups : 1,
        .x_view = as.x,
        .x2_view = as.x2,
        .y_view = as.y,
        .x_zero = work->x_quant.zero,
        .real = !(work->y_quant.scale > 0),
        .stream = kernel->cuda->stream,
    };
    ND_TRY(quantized_factors(kernel, work, state));
    if (work->operation == nd_operation_separable) {
        ND_TRY(quantized_depthwise(kernel, work, &state->depthwise));
        quantized_pointwise(work, conv);
    }
    const nd_window *g = &conv->window;
    const int64_t length = conv->x_view.dims[1] / conv->groups * g->kernel[0] * g->kernel[1];
    snprintf(kernel->engine, sizeof kernel->engine, "nd:%s:s8_plain", nd_operation_name(work->operation));
    return quantized_weights(kernel, work, length, conv);
}

static nd_cuda_launch *const nd_quantized_launches[nd_operation_count] = {
    [nd_operation_binary] = nd_cuda_quantized_add_launch,  [nd_operation_quantize] = nd_cuda_quantize_launch,
    [nd_operation_dequantize] = nd_cuda_dequantize_launch, [nd_operation_pool] = nd_cuda_pool_launch,
    [nd_operation_gather] = nd_cuda_gather_launch,         [nd_operation_copy] = nd_cuda_copy_launch,
};

static nd_status quantized_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_cuda_launch *launch = nd_quantized_launches[work->operation];
    if (!launch) return quantized_sums_prepare(kernel, work);
    const void *constant = NULL;
    kernel->functions = &nd_cuda_simple_functions;
    kernel->launch = launch;
    snprintf(kernel->engine, sizeof kernel->engine, "nd:%s:%s", nd_operation_name(work->operation),
             kernel->precision == nd_precision_e4m3 ? "e4m3" : "s8");
    if (work->operation != nd_operation_gather) return nd_status_ok;
    ND_TRY(nd_cuda_constant(kernel, work->channel, (size_t)work->terms * sizeof *work->channel, &constant));
    kernel->channel = constant;
    return nd_status_ok;
}

/* All that int8 is defined for, in any strides, and of e4m3 what has no sums. */
static bool quantized_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    if (!nd_quantized_agrees(work, precision)) return false;
    if (precision == nd_precision_e4m3 && !nd_quantized_launches[work->operation]) return false;
    for (int i = 0; i < work->y.rank; i++)
        if (work->y.dims[i] > INT32_MAX) return false;
    return true;
}

const nd_cuda_implementation nd_cuda_quantized_implementation = {quantized_supports, quantized_prepare};
