/* Regular and grouped convolutions: our depthwise kernel where every group has one input channel, else cuDNN,
 * else the direct kernel, so that every shape and stride runs. */
#include "cuda/libs/dnn.h"

#include <stdio.h>
#include <stdlib.h>

/* cuDNN counts the elements of a tensor in 32 bits: what is larger runs in slices of whole images. */
typedef struct nd_conv_dnn {
    nd_dnn_plan *plan; /* of one slice */
    const void *weights, *bias_stored;
    int64_t slices, images; /* of a slice */
} nd_conv_dnn;

static int64_t conv_extent(const nd_view *view) {
    const int64_t count = nd_view_count(view), reach = view->dims[0] * view->strides[0];
    return count > reach ? count : reach;
}

/* The least number of equal slices, each beginning on 16 bytes if the first one does; 0 where there
 * is none. */
static int64_t conv_slices(const nd_work *work, nd_precision precision) {
    const nd_view *views[] = {&work->x, &work->y, work->residual ? &work->x2 : &work->y};
    const int64_t images = work->x.dims[0], size = (int64_t)nd_dtype_bytes(nd_precision_storage(precision));
    int64_t largest = 0, steps = 0; /* steps: the bits of all distances between images */
    for (int i = 0; i < 3; i++) {
        if (conv_extent(views[i]) > largest) largest = conv_extent(views[i]);
        steps |= views[i]->strides[0];
    }
    for (int64_t slices = 1; slices <= images; slices++) {
        const bool aligned = slices == 1 || images / slices * steps * size % 16 == 0;
        if (images % slices == 0 && largest / slices < INT32_MAX && aligned) return slices;
    }
    return 0;
}

static const void *conv_slice(const nd_conv_dnn *state, const nd_kernel *kernel, const void *start,
                              const nd_view *view, int64_t slice) {
    const size_t size = nd_dtype_bytes(nd_precision_storage(kernel->precision));
    return start ? (const char *)start + (size_t)(slice * state->images * view->strides[0]) * size : NULL;
}

static nd_status conv_dnn_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_conv_dnn *state = kernel->state;
    const nd_work *work = &kernel->work;
    for (int64_t i = 0; i < state->slices; i++) {
        const nd_dnn_operands all = {
            .x = conv_slice(state, kernel, operands->x, &work->x, i),
            .w = state->weights,
            .bias_stored = state->bias_stored,
            .x2 = conv_slice(state, kernel, operands->x2, &work->x2, i),
            .bias = kernel->bias,
            .y = (void *)(uintptr_t)conv_slice(state, kernel, operands->y, &work->y, i),
            .workspace = operands->workspace,
        };
        ND_TRY(nd_dnn_plan_run(state->plan, &all));
    }
    return nd_status_ok;
}

static void conv_dnn_release(nd_kernel *kernel) {
    nd_conv_dnn *state = kernel->state;
    if (!state) return;
    nd_dnn_plan_free(state->plan);
    free(state);
}

static const nd_cuda_functions nd_conv_dnn_functions = {conv_dnn_run, conv_dnn_release};

/* [no][channels][taps] -> [no][taps][channels] when `inner`, or -> [channels*taps][no]. NULL when memory is
 * out. */
static float *conv_reorder(const nd_work *work, bool inner) {
    const int64_t no = work->y.dims[1], channels = work->x.dims[1] / work->groups;
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    float *out = nd_alloc_array((size_t)(no * channels * taps), sizeof *out);
    for (int64_t o = 0; out && o < no; o++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t t = 0; t < taps; t++) {
                const float value = work->weights[(o * channels + c) * taps + t];
                out[inner ? (o * taps + t) * channels + c : (c * taps + t) * no + o] = value;
            }
    return out;
}

static nd_status conv_dnn_weights(nd_kernel *kernel, const nd_work *work, bool channels_last) {
    nd_conv_dnn *state = kernel->state;
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    const size_t count = (size_t)(work->y.dims[1] * (work->x.dims[1] / work->groups) * taps);
    if (!channels_last) return nd_cuda_constant_stored(kernel, work->weights, count, &state->weights);
    float *reordered = conv_reorder(work, true);
    ND_REQUIRE(reordered, nd_status_memory, "no memory for %zu weights", count);
    nd_status status = nd_cuda_constant_stored(kernel, reordered, count, &state->weights);
    free(reordered);
    return status;
}

static nd_status conv_dnn_prepare(nd_kernel *kernel, const nd_work *work, bool channels_last) {
    nd_conv_dnn *state = kernel->state = nd_alloc_array(1, sizeof *state);
    ND_REQUIRE(state, nd_status_memory, "no memory for a convolution");
    kernel->functions = &nd_conv_dnn_functions;
    nd_dnn_problem problem = {.work = kernel->work,
                              .precision = kernel->precision,
                              .bias = work->bias != NULL,
                              .channels_last = channels_last};
    state->slices = conv_slices(work, kernel->precision);
    ND_REQUIRE(state->slices, nd_status_unsupported,
               "cuDNN counts in 32 bits: no slices of whole images fit");
    state->images = work->x.dims[0] / state->slices;
    problem.work.x.dims[0] = problem.work.y.dims[0] = state->images;
    if (work->residual) problem.work.x2.dims[0] = state->images;
    ND_TRY(nd_dnn_plan_make(kernel->cuda, &problem, &state->plan));
    ND_TRY(conv_dnn_weights(kernel, work, channels_last));
    ND_TRY(nd_cuda_constant_bias(kernel, work));
    ND_TRY(nd_cuda_constant_bias_stored(kernel, work, &state->bias_stored));
    kernel->workspace = nd_dnn_plan_workspace(state->plan);
    kernel->transformed = nd_dnn_plan_transformed(state->plan);
    if (state->slices == 1)
        snprintf(kernel->engine, sizeof kernel->engine, "%s", nd_dnn_plan_name(state->plan));
    else
        snprintf(kernel->engine, sizeof kernel->engine, "%.150s, %lld slices", nd_dnn_plan_name(state->plan),
                 (long long)state->slices);
    return nd_status_ok;
}

nd_status nd_conv_direct_prepare(nd_kernel *kernel, const nd_work *work) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    const size_t count = (size_t)(work->y.dims[1] * (work->x.dims[1] / work->groups) * taps);
    const void *constant;
    float *transposed = conv_reorder(work, false);
    ND_REQUIRE(transposed, nd_status_memory, "no memory for %zu weights", count);
    nd_status status = nd_cuda_constant(kernel, transposed, count * sizeof *transposed, &constant);
    free(transposed);
    ND_TRY(status);
    kernel->weights = constant;
    kernel->functions = &nd_cuda_simple_functions;
    kernel->launch = nd_cuda_conv_launch;
    kernel->workspace = 0;
    snprintf(kernel->engine, sizeof kernel->engine, "nd:conv:direct");
    return nd_cuda_constant_bias(kernel, work);
}

/* Both channels-last or both row-major, slices of channels included: what cuDNN is asked about. */
static bool conv_layout(const nd_work *work, bool *channels_last) {
    const nd_view *views[] = {&work->x, &work->y, work->residual ? &work->x2 : &work->y};
    bool pixels = true, rows = true;
    for (int i = 0; i < 3; i++) {
        int64_t distance;
        pixels = pixels && nd_cuda_view_is_pixels(views[i], &distance);
        rows = rows && nd_view_is_row_major(views[i]);
    }
    *channels_last = pixels;
    return pixels || rows;
}

/* The direct kernel takes what nothing else does. */
static bool conv_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    (void)work;
    (void)precision;
    return true;
}

static nd_status conv_prepare(nd_kernel *kernel, const nd_work *work) {
    bool channels_last;
    const nd_cuda_implementation *depthwise = &nd_cuda_depthwise_implementation;
    if (depthwise->supports(kernel->cuda, work, kernel->precision)) return depthwise->prepare(kernel, work);
    if (conv_layout(work, &channels_last)) {
        const nd_status status = conv_dnn_prepare(kernel, work, channels_last);
        if (status != nd_status_unsupported) return status;
        conv_dnn_release(kernel);
        kernel->state = NULL;
    }
    return nd_conv_direct_prepare(kernel, work);
}

const nd_cuda_implementation nd_cuda_conv_implementation = {conv_supports, conv_prepare};
const nd_cuda_implementation nd_cuda_direct_implementation = {conv_supports, nd_conv_direct_prepare};
