/* Convolutions and products in 8 bits: cuDNN's sums between two kernels of ours, as run/quantized.h defines
 * them: of integers to the bit. A product is a convolution of pixels that lie alone.
 *
 * Integers: cuDNN multiplies signed ones alone, and pads with 0. So x, unsigned with a zero of its own, is
 * copied first: less 128, with its zero around it, channels up to a multiple of 16, which tensor cores want;
 * then nothing is left to pad, and
 *
 *     sum over taps of (q - 128) w + (128 - zero) (sum of w) = sum over taps of (q - zero) w
 *
 * holds at every pixel, the last term a constant of the output channel. Where cuDNN has no engine, the plain
 * kernel does it all.
 *
 * e4m3: its zero is 0, so cuDNN reads x where it lies and pads; x is copied only where pixels are no 16-byte
 * groups of channels. Without an engine `supports` says no, and the executor computes in fp32.
 *
 * The sums, int32 or fp32, go through memory: an epilogue in cuDNN's graph would multiply and add with a
 * rounding after each, where the definition has one fused operation. A slice of images at a time, so that
 * the copies stay in L2.
 *
 * What it costs beside the products: each number of x that is copied is read and written once, 4 bytes of
 * every sum written and read, of which only what does not fit L2 reaches memory. */
#include "cuda/libs/dnn.h"
#include "cuda/quantized/quantized.h"

#include <stdio.h>
#include <stdlib.h>

enum { nd_quantized_aligned = 16 };

/* Of one slice; the calls' views are of all images, their pointers are set when it runs. */
typedef struct nd_quantized_dnn {
    nd_dnn_problem problem;
    nd_dnn_plan *plan;
    const void *weights; /* [no up to 16][kh][kw][ni up to 16] */
    int64_t slices, images;
    bool copied; /* x, into the workspace */
    nd_cuda_quantized_in in;
    nd_cuda_quantized_end end;
    size_t sums_at, plan_at; /* in the workspace, after x */
} nd_quantized_dnn;

static int64_t quantized_up(int64_t count, int64_t unit) {
    return nd_ceil_div(count, unit) * unit;
}

static nd_view quantized_slice(const nd_view *view, int64_t images, int64_t slice) {
    nd_view part = *view;
    part.dims[0] = images;
    part.offset += slice * images * view->strides[0];
    return part;
}

/* What cuDNN reads: a copy, or x from the slice on. */
static nd_status quantized_dnn_x(const nd_quantized_dnn *state, const nd_cuda_operands *operands,
                                 int64_t slice, const void **out) {
    nd_cuda_quantized_in in = state->in;
    const int64_t start = slice * state->images * in.x_view.strides[0];
    *out = state->copied ? operands->workspace : (const unsigned char *)operands->x + start;
    if (!state->copied) return nd_status_ok;
    in.x_view = quantized_slice(&in.x_view, state->images, slice);
    in.x = operands->x;
    in.y = operands->workspace;
    return nd_cuda_quantized_in_launch(&in);
}

static nd_status quantized_dnn_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_quantized_dnn *state = kernel->state;
    unsigned char *workspace = operands->workspace;
    for (int64_t i = 0; i < state->slices; i++) {
        nd_cuda_quantized_end end = state->end;
        nd_dnn_operands sums = {
            .w = state->weights, .y = workspace + state->sums_at, .workspace = workspace + state->plan_at};
        ND_TRY(quantized_dnn_x(state, operands, i, &sums.x));
        ND_TRY(nd_dnn_plan_run(state->plan, &sums));
        end.x2_view = quantized_slice(&end.x2_view, state->images, i);
        end.y_view = quantized_slice(&end.y_view, state->images, i);
        end.sums = sums.y;
        end.x2 = kernel->work.residual ? operands->x2 : NULL;
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

/* Pixels that the windows reach along an axis. */
static int64_t quantized_reach(const nd_work *work, int axis) {
    const nd_window *g = &work->window;
    return (work->y.dims[2 + axis] - 1) * g->stride[axis] + (g->kernel[axis] - 1) * g->dilation[axis] + 1;
}

/* The copy of x: of integers with what is to be padded. */
static nd_cuda_quantized_in quantized_in(const nd_cuda *cuda, const nd_work *work) {
    nd_cuda_quantized_in in = {
        .x_view = work->x,
        .height = work->x.dims[2],
        .width = work->x.dims[3],
        .channels = quantized_up(work->x.dims[1], nd_quantized_aligned),
        .x_zero = work->x_quant.zero,
        .e4m3 = work->x_quant.e4m3,
        .stream = cuda->stream,
    };
    if (in.e4m3) return in;
    in.height = quantized_reach(work, 0);
    in.width = quantized_reach(work, 1);
    in.top = work->window.pad[0];
    in.left = work->window.pad[1];
    return in;
}

/* Whether cuDNN may read x where it lies, `distance` from pixel to pixel. */
static bool quantized_lies(const nd_work *work, int64_t *distance) {
    return work->x_quant.e4m3 && nd_cuda_view_is_pixels(&work->x, distance) &&
           (work->x.dims[1] | *distance | work->x.offset) % nd_quantized_aligned == 0;
}

/* The fewest slices of equally many images whose copies take half of L2, or one image. */
static void quantized_cut(nd_quantized_dnn *state, size_t l2) {
    const nd_cuda_quantized_in *in = &state->in;
    const nd_view *y = &state->end.y_view;
    const int64_t all = y->dims[0];
    const size_t x = state->copied ? (size_t)(in->height * in->width * in->channels) : 0,
                 sums = (size_t)(y->dims[2] * y->dims[3] * state->end.row) * sizeof(int32_t);
    for (state->slices = 1; state->slices < all; state->slices++)
        if (all % state->slices == 0 && (size_t)(all / state->slices) * (x + sums) <= l2 / 2) break;
    state->images = all / state->slices;
    state->sums_at = (size_t)quantized_up((int64_t)(x * (size_t)state->images), 256);
    state->plan_at = state->sums_at + (size_t)quantized_up((int64_t)(sums * (size_t)state->images), 256);
}

/* The sums alone, of one slice; `distance` from pixel to pixel of x. */
static nd_dnn_problem quantized_problem(const nd_quantized_dnn *state, const nd_work *work,
                                        int64_t distance) {
    const nd_cuda_quantized_in *in = &state->in;
    const int64_t y[] = {state->images, state->end.row, work->y.dims[2], work->y.dims[3]};
    nd_dnn_problem problem = {.precision = in->e4m3 ? nd_precision_e4m3 : nd_precision_int8,
                              .channels_last = true};
    problem.work.operation = nd_operation_conv;
    problem.work.groups = 1;
    problem.work.window = work->window;
    for (int i = 0; i < 4 && !in->e4m3; i++) problem.work.window.pad[i] = 0;
    problem.work.x = (nd_view){
        .rank = 4,
        .dims = {state->images, in->channels, in->height, in->width},
        .strides = {in->height * in->width * distance, 1, in->width * distance, distance},
        .offset = state->copied ? 0 : work->x.offset,
    };
    problem.work.y = nd_view_channels_last(4, y);
    return problem;
}

/* All of a convolution that needs no memory: sizes, slices, and what cuDNN is asked for. */
static nd_quantized_dnn quantized_lay(const nd_cuda *cuda, const nd_work *work) {
    nd_quantized_dnn state = {.in = quantized_in(cuda, work)};
    int64_t distance = 0;
    state.copied = !quantized_lies(work, &distance);
    state.end = (nd_cuda_quantized_end){
        .x2_view = work->x2,
        .y_view = work->y,
        .row = quantized_up(work->y.dims[1], nd_quantized_aligned),
        .e4m3 = work->x_quant.e4m3,
        .real = !(work->y_quant.scale > 0),
        .stream = cuda->stream,
    };
    quantized_cut(&state, cuda->base.last_cache_bytes);
    state.problem = quantized_problem(&state, work, state.copied ? state.in.channels : distance);
    return state;
}

static nd_status quantized_dnn_weights(nd_kernel *kernel, const nd_work *work, nd_quantized_dnn *state) {
    const int64_t ni = work->x.dims[1], no = work->y.dims[1], channels = state->in.channels;
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    const size_t bytes = (size_t)(state->end.row * taps * channels);
    uint8_t *weights = nd_alloc_array(bytes, sizeof *weights);
    ND_REQUIRE(weights, nd_status_memory, "no memory for %zu weights", bytes);
    for (int64_t o = 0; o < no; o++)
        for (int64_t c = 0; c < ni; c++)
            for (int64_t t = 0; t < taps; t++) {
                const float weight = work->weights[(o * ni + c) * taps + t];
                weights[(o * taps + t) * channels + c] =
                    state->in.e4m3 ? nd_f32_to_e4m3(weight) : (uint8_t)(int8_t)weight;
            }
    const nd_status status = nd_cuda_constant(kernel, weights, bytes, &state->weights);
    free(weights);
    return status;
}

/* What integers less 128 lack in a sum, of every output channel. */
static nd_status quantized_dnn_start(nd_kernel *kernel, const nd_work *work, nd_quantized_dnn *state) {
    const int64_t no = work->y.dims[1];
    const int64_t length = work->x.dims[1] * work->window.kernel[0] * work->window.kernel[1];
    const void *constant = NULL;
    int32_t *start = nd_alloc_array((size_t)no, sizeof *start);
    ND_REQUIRE(start, nd_status_memory, "no memory for %lld channels", (long long)no);
    for (int64_t o = 0; o < no; o++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < length; i++) sum += (int64_t)work->weights[o * length + i];
        start[o] = (int32_t)(sum * (128 - work->x_quant.zero));
    }
    const nd_status status = nd_cuda_constant(kernel, start, (size_t)no * sizeof *start, &constant);
    free(start);
    state->end.start = constant;
    return status;
}

static nd_status quantized_dnn_factors(nd_kernel *kernel, const nd_work *work, nd_quantized_dnn *state) {
    const size_t no = (size_t)work->y.dims[1];
    const void *constant = NULL;
    nd_status status = nd_status_ok;
    float *factors = nd_alloc_array(2 * no, sizeof *factors);
    ND_REQUIRE(factors, nd_status_memory, "no memory for %zu channels", no);
    state->end.requant = nd_requant_of(work, factors, factors + no, NULL);
    ND_TRY_DONE(nd_cuda_constant(kernel, factors, no * sizeof *factors, &constant));
    state->end.factor = constant;
    ND_TRY_DONE(nd_cuda_constant(kernel, factors + no, no * sizeof *factors, &constant));
    state->end.shift = constant;
done:
    free(factors);
    return status;
}

static nd_status quantized_dnn_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_quantized_dnn *state = kernel->state = nd_alloc_array(1, sizeof *state);
    ND_REQUIRE(state, nd_status_memory, "no memory for a quantised layer");
    kernel->functions = &nd_quantized_dnn_functions;
    *state = quantized_lay(kernel->cuda, work);
    ND_REQUIRE(state->plan_at <= kernel->cuda->workspace_limit, nd_status_unsupported,
               "the copies of an image take %zu bytes", state->plan_at);
    ND_TRY(nd_dnn_plan_make(kernel->cuda, &state->problem, &state->plan));
    ND_TRY(quantized_dnn_weights(kernel, work, state));
    if (!state->in.e4m3) ND_TRY(quantized_dnn_start(kernel, work, state));
    ND_TRY(quantized_dnn_factors(kernel, work, state));
    kernel->workspace = state->plan_at + nd_dnn_plan_workspace(state->plan);
    snprintf(kernel->engine, sizeof kernel->engine, "%.150s, %s, %lld slices", nd_dnn_plan_name(state->plan),
             state->in.e4m3 ? "e4m3" : "s8", (long long)state->slices);
    return nd_status_ok;
}

static nd_status quantized_conv_prepare(nd_kernel *kernel, const nd_work *work) {
    const nd_work conv = nd_cuda_as_conv(work);
    if (conv.groups == 1) {
        const nd_status status = quantized_dnn_prepare(kernel, &conv);
        if (status != nd_status_unsupported || work->x_quant.e4m3) return status;
        quantized_dnn_release(kernel);
    }
    return nd_cuda_quantized_implementation.prepare(kernel, work);
}

/* Of integers what the plain kernel takes; of e4m3 what cuDNN has an engine for, which is built here and
 * kept. */
static bool quantized_conv_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    if (precision == nd_precision_int8)
        return nd_cuda_quantized_implementation.supports(cuda, work, precision);
    if (!nd_quantized_agrees(work, precision)) return false;
    const nd_work conv = nd_cuda_as_conv(work);
    if (conv.groups != 1) return false;
    const nd_quantized_dnn state = quantized_lay(cuda, &conv);
    return state.plan_at <= cuda->workspace_limit && nd_dnn_has(cuda, &state.problem);
}

const nd_cuda_implementation nd_cuda_quantized_conv_implementation = {quantized_conv_supports,
                                                                      quantized_conv_prepare};
