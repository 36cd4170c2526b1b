/* Convolutions of 8-bit integers: cuDNN's sums between two kernels of ours, to the bit of run/quantized.h;
 * where cuDNN has no engine, the plain kernel.
 *
 * cuDNN multiplies signed integers alone, and pads with 0. So x, unsigned with a zero of its own, is copied
 * first: less 128, with its zero around it, channels up to a multiple of 16, which tensor cores want; then
 * nothing is left to pad, and
 *
 *     sum over taps of (q - 128) w + (128 - zero) (sum of w) = sum over taps of (q - zero) w
 *
 * holds at every pixel, the last term a constant of the output channel. The sums, int32, go through memory:
 * an epilogue in cuDNN's graph would multiply and add with a rounding after each, where the definition has
 * one fused operation. A slice of images at a time, so that both copies stay in L2.
 *
 * What it costs beside the products: each integer of x is read and written once, 4 bytes of every sum written
 * and read, of which only what does not fit L2 reaches memory. */
#include "cuda/libs/dnn.h"
#include "cuda/quantized/quantized.h"

#include <stdio.h>
#include <stdlib.h>

enum { nd_quantized_aligned = 16 };

/* Of one slice; the calls' pointers are set when it runs. */
typedef struct nd_quantized_dnn {
    nd_dnn_plan *plan;
    const void *weights; /* [no up to 16][kh][kw][ni up to 16] */
    int64_t slices, images;
    nd_cuda_quantized_signed in;
    nd_cuda_quantized_end end;
    size_t sums_at, plan_at; /* in the workspace, after x */
} nd_quantized_dnn;

static int64_t quantized_up(int64_t count, int64_t unit) {
    return (count + unit - 1) / unit * unit;
}

static nd_view quantized_slice(const nd_view *view, int64_t images, int64_t slice) {
    nd_view part = *view;
    part.dims[0] = images;
    part.offset += slice * images * view->strides[0];
    return part;
}

static nd_status quantized_dnn_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_quantized_dnn *state = kernel->state;
    const nd_work *work = &kernel->work;
    unsigned char *workspace = operands->workspace;
    for (int64_t i = 0; i < state->slices; i++) {
        nd_cuda_quantized_signed in = state->in;
        nd_cuda_quantized_end end = state->end;
        in.x_view = quantized_slice(&work->x, state->images, i);
        in.x = operands->x;
        in.y = workspace;
        ND_TRY(nd_cuda_quantized_signed_launch(&in));
        const nd_dnn_operands sums = {.x = workspace,
                                      .w = state->weights,
                                      .y = workspace + state->sums_at,
                                      .workspace = workspace + state->plan_at};
        ND_TRY(nd_dnn_plan_run(state->plan, &sums));
        end.x2_view = quantized_slice(&work->x2, state->images, i);
        end.y_view = quantized_slice(&work->y, state->images, i);
        end.sums = (const int32_t *)(const void *)(workspace + state->sums_at);
        end.x2 = work->residual ? operands->x2 : NULL;
        end.y = operands->y;
        ND_TRY(nd_cuda_quantized_end_launch(&end));
    }
    return nd_status_ok;
}

static void quantized_dnn_release(nd_kernel *kernel) {
    nd_quantized_dnn *state = kernel->state;
    if (state) nd_dnn_plan_free(state->plan);
    free(state);
    kernel->state = NULL;
    kernel->functions = NULL;
}

static const nd_cuda_functions nd_quantized_dnn_functions = {quantized_dnn_run, quantized_dnn_release};

/* Pixels that the windows reach along an axis: what x is padded to. */
static int64_t quantized_reach(const nd_work *work, int axis) {
    const nd_window *g = &work->window;
    return (work->y.dims[2 + axis] - 1) * g->stride[axis] + (g->kernel[axis] - 1) * g->dilation[axis] + 1;
}

/* The fewest slices of equally many images whose copies take half of L2, or one image. */
static void quantized_cut(nd_quantized_dnn *state, const nd_work *work, size_t l2) {
    const int64_t all = work->x.dims[0], pixels = work->y.dims[2] * work->y.dims[3];
    const size_t x = (size_t)(state->in.height * state->in.width * state->in.channels),
                 sums = (size_t)(pixels * state->end.row) * sizeof(int32_t);
    for (state->slices = 1; state->slices < all; state->slices++)
        if (all % state->slices == 0 && (size_t)(all / state->slices) * (x + sums) <= l2 / 2) break;
    state->images = all / state->slices;
    state->sums_at = (size_t)quantized_up((int64_t)(x * (size_t)state->images), 256);
    state->plan_at = state->sums_at + (size_t)quantized_up((int64_t)(sums * (size_t)state->images), 256);
}

static nd_status quantized_plan(nd_kernel *kernel, const nd_work *work, nd_quantized_dnn *state) {
    nd_dnn_problem problem = {.precision = nd_precision_int8, .channels_last = true};
    const int64_t x[] = {state->images, state->in.channels, state->in.height, state->in.width},
                  y[] = {state->images, state->end.row, work->y.dims[2], work->y.dims[3]};
    problem.work.operation = nd_operation_conv;
    problem.work.groups = 1;
    problem.work.window = work->window;
    for (int i = 0; i < 4; i++) problem.work.window.pad[i] = 0;
    problem.work.x = nd_view_channels_last(4, x);
    problem.work.y = nd_view_channels_last(4, y);
    return nd_dnn_plan_make(kernel->cuda, &problem, &state->plan);
}

static nd_status quantized_dnn_weights(nd_kernel *kernel, const nd_work *work, nd_quantized_dnn *state) {
    const int64_t ni = work->x.dims[1], no = work->y.dims[1], channels = state->in.channels;
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    const size_t bytes = (size_t)(state->end.row * taps * channels);
    int8_t *weights = nd_alloc_array(bytes, sizeof *weights);
    ND_REQUIRE(weights, nd_status_memory, "no memory for %zu weights", bytes);
    for (int64_t o = 0; o < no; o++)
        for (int64_t c = 0; c < ni; c++)
            for (int64_t t = 0; t < taps; t++)
                weights[(o * taps + t) * channels + c] = (int8_t)work->weights[(o * ni + c) * taps + t];
    const nd_status status = nd_cuda_constant(kernel, weights, bytes, &state->weights);
    free(weights);
    return status;
}

static nd_status quantized_dnn_ends(nd_kernel *kernel, const nd_work *work, nd_quantized_dnn *state) {
    const size_t no = (size_t)work->y.dims[1];
    const int64_t length = work->x.dims[1] * work->window.kernel[0] * work->window.kernel[1];
    const void *constant = NULL;
    nd_status status = nd_status_ok;
    int32_t *start = nd_alloc_array(no, sizeof *start);
    float *factors = nd_alloc_array(2 * no, sizeof *factors);
    ND_REQUIRE_DONE(start && factors, nd_status_memory, "no memory for %zu channels", no);
    for (size_t o = 0; o < no; o++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < length; i++) sum += (int64_t)work->weights[(int64_t)o * length + i];
        start[o] = (int32_t)(sum * (128 - work->x_quant.zero));
    }
    state->end.requant = nd_requant_of(work, factors, factors + no, NULL);
    ND_TRY_DONE(nd_cuda_constant(kernel, start, no * sizeof *start, &constant));
    state->end.start = constant;
    ND_TRY_DONE(nd_cuda_constant(kernel, factors, no * sizeof *factors, &constant));
    state->end.factor = constant;
    ND_TRY_DONE(nd_cuda_constant(kernel, factors + no, no * sizeof *factors, &constant));
    state->end.shift = constant;
done:
    free(start);
    free(factors);
    return status;
}

static nd_status quantized_dnn_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_quantized_dnn *state = kernel->state = nd_alloc_array(1, sizeof *state);
    ND_REQUIRE(state, nd_status_memory, "no memory for a quantised layer");
    kernel->functions = &nd_quantized_dnn_functions;
    state->in = (nd_cuda_quantized_signed){
        .height = quantized_reach(work, 0),
        .width = quantized_reach(work, 1),
        .channels = quantized_up(work->x.dims[1], nd_quantized_aligned),
        .top = work->window.pad[0],
        .left = work->window.pad[1],
        .x_zero = work->x_quant.zero,
        .stream = kernel->cuda->stream,
    };
    state->end = (nd_cuda_quantized_end){
        .row = quantized_up(work->y.dims[1], nd_quantized_aligned),
        .real = !(work->y_quant.scale > 0),
        .stream = kernel->cuda->stream,
    };
    quantized_cut(state, work, kernel->cuda->base.last_cache_bytes);
    const size_t copies = state->plan_at;
    ND_REQUIRE(copies <= kernel->cuda->workspace_limit, nd_status_unsupported,
               "the copies of an image take %zu bytes", copies);
    ND_TRY(quantized_plan(kernel, work, state));
    ND_TRY(quantized_dnn_weights(kernel, work, state));
    ND_TRY(quantized_dnn_ends(kernel, work, state));
    kernel->workspace = copies + nd_dnn_plan_workspace(state->plan);
    snprintf(kernel->engine, sizeof kernel->engine, "%.150s, s8, %lld slices", nd_dnn_plan_name(state->plan),
             (long long)state->slices);
    return nd_status_ok;
}

static nd_status quantized_conv_prepare(nd_kernel *kernel, const nd_work *work) {
    if (work->groups == 1) {
        const nd_status status = quantized_dnn_prepare(kernel, work);
        if (status != nd_status_unsupported) return status;
        quantized_dnn_release(kernel);
    }
    return nd_cuda_quantized_implementation.prepare(kernel, work);
}

static bool quantized_conv_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    return nd_cuda_quantized_implementation.supports(cuda, work, precision);
}

const nd_cuda_implementation nd_cuda_quantized_conv_implementation = {quantized_conv_supports,
                                                                      quantized_conv_prepare};
