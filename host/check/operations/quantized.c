/* Problems of 8-bit integers and of e4m3, made from those of the other precisions, and the steps into and
 * out of them. */
#include "run/quantized.h"

#include "check/cases.h"

#include <math.h>
#include <string.h>

enum { quantized_zeros = 3 };

/* Zeros by turns: unsigned, signed, lopsided; of e4m3 none. */
static int32_t quantized_zero(nd_problem *problem) {
    static const int32_t zeros[quantized_zeros] = {0, 128, 37};
    if (problem->e4m3) return 0;
    return zeros[(int)(nd_rng_uniform(&problem->rng) * quantized_zeros) % quantized_zeros];
}

static float quantized_largest(const float *values, int64_t count) {
    float most = 0;
    for (int64_t i = 0; i < count; i++) most = fmaxf(most, fabsf(values[i]));
    return most > 0 ? most : 1;
}

/* The number of e4m3 nearest to x, of two the one whose last bit is 0: by looking at all. */
static double quantized_nearest(double x) {
    double best = 0;
    for (int code = 1; code < 127; code++) {
        const int exponent = code >> 3, fraction = code & 7;
        const double value = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
        const double nearer = fabs(best - fabs(x)) - fabs(value - fabs(x));
        if (nearer > 0 || (nearer == 0 && code % 2 == 0)) best = value;
    }
    return copysign(best, x);
}

/* What a number is in 8 bits, without its scale; in the range of them. */
static double quantized_round(const nd_problem *problem, double t) {
    if (problem->e4m3) return quantized_nearest(t);
    return nearbyint(fmin(fmax(t, 0), 255));
}

/* What saturates: the outliers of nd_problem_numbers. */
static nd_quant quantized_operand(nd_problem *problem, float *values, int64_t count) {
    const nd_quant quant = {.scale = 0x1.1p-5f, .zero = quantized_zero(problem), .e4m3 = problem->e4m3};
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)quantized_round(problem, (double)(values[i] / quant.scale + (float)quant.zero));
    return quant;
}

/* Rows of weights as integers or numbers of e4m3, and their scales. */
static bool quantized_weights(nd_problem *problem, const float **weights, const float **scales, int64_t rows,
                              int64_t length) {
    float *integers = nd_arena_alloc(&problem->arena, (size_t)(rows * length) * sizeof *integers);
    float *scale = nd_arena_alloc(&problem->arena, (size_t)rows * sizeof *scale);
    if (!integers || !scale) return false;
    for (int64_t r = 0; r < rows; r++) {
        scale[r] = quantized_largest(*weights + r * length, length) / (problem->e4m3 ? 448 : 127);
        for (int64_t i = 0; i < length; i++) {
            const float own = (*weights)[r * length + i] / scale[r];
            integers[r * length + i] =
                problem->e4m3 ? (float)quantized_nearest((double)own) : nearbyintf(own);
        }
    }
    *weights = integers;
    *scales = scale;
    return true;
}

/* expected = sums of (q - zero) * w, of integers exact, by patches; slack = those of magnitudes. */
static nd_status quantized_conv_sums(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t count = nd_view_count(&work->x), no = work->y.dims[1];
    const int64_t length =
        no * (work->x.dims[1] / work->groups) * work->window.kernel[0] * work->window.kernel[1];
    float *shifted = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *shifted);
    double *kernel = nd_arena_alloc(&problem->arena, (size_t)(2 * length) * sizeof *kernel);
    ND_REQUIRE(shifted && kernel, nd_status_memory, "no memory for a kernel");
    for (int64_t i = 0; i < count; i++) shifted[i] = problem->x[i] - (float)work->x_quant.zero;
    for (int64_t i = 0; i < length; i++) {
        kernel[i] = work->weights[i];
        kernel[length + i] = fabs(kernel[i]);
    }
    float *kept = problem->x;
    problem->x = shifted;
    const nd_status status = nd_check_convolve(problem, kernel, kernel + length);
    problem->x = kept;
    return status;
}

static void quantized_gemm_sums(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t m = work->y.dims[0], n = work->y.dims[1], k = work->x.dims[1];
    for (int64_t i = 0; i < k; i++)
        for (int64_t row = 0; row < m; row++)
            for (int64_t o = 0; o < n; o++) {
                const double product =
                    (problem->x[row * k + i] - work->x_quant.zero) * (double)work->weights[o * k + i];
                problem->expected[row * n + o] += product;
                problem->slack[row * n + o] += fabs(product);
            }
}

/* One depthwise plane as it is before it is stored: chains of fused multiply-adds, of taps times `factor`. */
static void quantized_plane(const nd_problem *problem, int64_t n, int64_t term, float factor, float *plane) {
    const nd_work *work = &problem->work;
    const nd_window *g = &work->window;
    const int64_t height = work->x.dims[2], width = work->x.dims[3], window = g->kernel[0] * g->kernel[1];
    const float *x = problem->x + (n * work->x.dims[1] + work->channel[term]) * height * width;
    for (int64_t p = 0; p < work->y.dims[2] * work->y.dims[3]; p++) plane[p] = 0;
    for (int64_t tap = 0; tap < window; tap++)
        for (int64_t p = 0; p < work->y.dims[2] * work->y.dims[3]; p++) {
            const int64_t h =
                p / work->y.dims[3] * g->stride[0] + tap / g->kernel[1] * g->dilation[0] - g->pad[0];
            const int64_t w =
                p % work->y.dims[3] * g->stride[1] + tap % g->kernel[1] * g->dilation[1] - g->pad[1];
            if (h < 0 || h >= height || w < 0 || w >= width) continue;
            plane[p] = fmaf(x[h * width + w] - (float)work->x_quant.zero,
                            work->depthwise[term * window + tap] * factor, plane[p]);
        }
}

/* The planes of all terms, first for their range, then for the sums. */
static nd_status quantized_separable_sums(nd_problem *problem) {
    nd_work *work = &problem->work;
    const int64_t pixels = work->y.dims[2] * work->y.dims[3], no = work->y.dims[1], terms = work->terms;
    float *plane = nd_arena_alloc(&problem->arena, (size_t)pixels * sizeof *plane);
    float *factor = nd_arena_alloc(&problem->arena, (size_t)(2 * no + terms) * sizeof *factor);
    ND_REQUIRE(plane && factor, nd_status_memory, "no memory for a plane");
    float most = 0;
    for (int64_t t = 0; t < terms; t++) {
        const float scale = work->x_quant.scale * (work->depthwise_scale ? work->depthwise_scale[t] : 1);
        quantized_plane(problem, 0, t, 1, plane);
        most = fmaxf(most, scale * quantized_largest(plane, pixels));
    }
    work->middle_quant =
        (nd_quant){most / (problem->e4m3 ? 300 : 90), quantized_zero(problem), problem->e4m3};
    work->y_quant.scale = 1; /* any: only the factors of the middle are read */
    nd_requant_of(work, factor, factor + no, factor + 2 * no);
    for (int64_t n = 0; n < work->x.dims[0]; n++)
        for (int64_t t = 0; t < terms; t++) {
            const float zero = (float)work->middle_quant.zero, by = factor[2 * no + t];
            quantized_plane(problem, n, t, problem->e4m3 ? by : 1, plane);
            for (int64_t p = 0; p < pixels; p++) {
                const float q = problem->e4m3 ? plane[p] : fmaf(plane[p], by, zero);
                const double middle = quantized_round(problem, (double)q) - (double)zero;
                for (int64_t o = 0; o < no; o++) {
                    const double product = middle * (double)work->weights[o * terms + t];
                    problem->expected[(n * no + o) * pixels + p] += product;
                    problem->slack[(n * no + o) * pixels + p] += fabs(product);
                }
            }
        }
    return nd_status_ok;
}

/* The real number behind a sum, in double. */
static double quantized_real(const nd_problem *problem, int64_t o, int64_t i) {
    const nd_work *work = &problem->work;
    const double scale =
        work->operation == nd_operation_separable ? work->middle_quant.scale : work->x_quant.scale;
    double real = problem->expected[i] * scale * work->weights_scale[o] + (work->bias ? work->bias[o] : 0);
    if (work->residual) real += (problem->x2[i] - work->x2_quant.zero) * (double)work->x2_quant.scale;
    return nd_check_activate(work->activation, real);
}

/* Sums of e4m3, `length` additions long, may differ, and then what is stored of them. */
static void quantized_loosen(nd_problem *problem, double length, double factor, int64_t i) {
    const double lost = length * problem->rounding.sum * problem->slack[i] * fabs(factor);
    const bool real_y = !(problem->work.y_quant.scale > 0);
    problem->rounding.store = real_y ? 0x1p-22 : 0x1p-4;
    problem->slack[i] = lost + 0x1p-20 * fabs(problem->expected[i]) + (real_y ? 0x1p-20 : 0x1p-10);
}

/* From sums to what is stored: by the definition, which must be near the same in double. */
static nd_status quantized_finish(nd_problem *problem, int64_t length, bool real_y) {
    nd_work *work = &problem->work;
    const int64_t count = nd_view_count(&work->y), no = work->y.dims[1];
    int64_t inner = 1;
    for (int i = 2; i < work->y.rank; i++) inner *= work->y.dims[i];
    float *factor = nd_arena_alloc(&problem->arena, (size_t)(2 * no + work->terms) * sizeof *factor);
    ND_REQUIRE(factor, nd_status_memory, "no memory for a check");
    double most = 1e-6;
    for (int64_t i = 0; i < count; i++) most = fmax(most, fabs(quantized_real(problem, i / inner % no, i)));
    const double low = problem->e4m3 ? -448 : 0, high = problem->e4m3 ? 448 : 255;
    const float unit = (float)(most / (problem->e4m3 ? 400 : 160));
    work->y_quant = real_y ? (nd_quant){0} : (nd_quant){unit, quantized_zero(problem), problem->e4m3};
    const nd_requant r = nd_requant_of(work, factor, factor + no, factor + 2 * no);
    for (int64_t i = 0; i < count; i++) {
        const int64_t o = i / inner % no;
        const double real = quantized_real(problem, o, i);
        float t = fmaf((float)problem->expected[i], factor[o], factor[no + o]);
        if (work->residual) t = fmaf(problem->x2[i], r.x2_factor, t);
        if (r.leaky && t < 0) t *= r.slope;
        t = fminf(fmaxf(t + r.zero, r.low), r.high);
        const double exact =
            real_y ? real : fmin(fmax(real / work->y_quant.scale + work->y_quant.zero, low), high);
        ND_REQUIRE(fabs(t - exact) <= (real_y ? 1e-4 * most : 1e-2), nd_status_internal,
                   "%s: the constants of the epilogue give %g instead of %g",
                   nd_operation_name(work->operation), (double)t, exact);
        problem->expected[i] = real_y || problem->e4m3 ? t : nearbyintf(t);
        if (problem->e4m3)
            quantized_loosen(problem, (double)length, (double)factor[o], i);
        else
            problem->slack[i] = real_y ? 1e-5 * most : 0;
    }
    return nd_status_ok;
}

static nd_status quantized_sums(nd_problem *problem) {
    nd_work *work = &problem->work;
    const int64_t count = nd_view_count(&work->y), no = work->y.dims[1];
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    int64_t length = work->x.dims[1];
    if (work->operation == nd_operation_conv) length = work->x.dims[1] / work->groups * window;
    if (work->operation == nd_operation_separable) length = work->terms;
    work->x_quant = quantized_operand(problem, problem->x, nd_view_count(&work->x));
    if (work->residual) work->x2_quant = quantized_operand(problem, problem->x2, count);
    bool made = quantized_weights(problem, &work->weights, &work->weights_scale, no, length);
    const bool filters = work->operation == nd_operation_separable && nd_rng_uniform(&problem->rng) < 0.6;
    if (made && filters)
        made = quantized_weights(problem, &work->depthwise, &work->depthwise_scale, work->terms, window);
    ND_REQUIRE(made, nd_status_memory, "no memory for weights");
    memset(problem->expected, 0, (size_t)count * sizeof *problem->expected);
    memset(problem->slack, 0, (size_t)count * sizeof *problem->slack);
    if (work->operation == nd_operation_gemm) quantized_gemm_sums(problem);
    if (work->operation == nd_operation_conv) ND_TRY(quantized_conv_sums(problem));
    if (work->operation == nd_operation_separable) ND_TRY(quantized_separable_sums(problem));
    return quantized_finish(problem, length, nd_rng_uniform(&problem->rng) < 0.3);
}

/* Sums of two operands of the same dims: by the definition, which must be near the same in double. */
static nd_status quantized_add(nd_problem *problem) {
    nd_work *work = &problem->work;
    const int64_t count = nd_view_count(&work->y);
    work->x_quant = quantized_operand(problem, problem->x, count);
    work->x2_quant = quantized_operand(problem, problem->x2, count);
    work->x2_quant.scale *= 1.5f;
    work->y_quant = (nd_quant){work->x_quant.scale * 1.75f, quantized_zero(problem), false};
    const nd_requant r = nd_requant_of(work, NULL, NULL, NULL);
    for (int64_t i = 0; i < count; i++) {
        const double a = (problem->x[i] - work->x_quant.zero) * (double)work->x_quant.scale;
        const double b = (problem->x2[i] - work->x2_quant.zero) * (double)work->x2_quant.scale;
        const double real = nd_check_activate(work->activation, a + b);
        const double exact = fmin(fmax(real / (double)work->y_quant.scale + work->y_quant.zero, 0), 255);
        float t = fmaf(problem->x2[i], r.x2_factor, fmaf(problem->x[i], r.x_factor, r.shift));
        if (r.leaky && t < 0) t *= r.slope;
        t = fminf(fmaxf(t + r.zero, r.low), r.high);
        ND_REQUIRE(fabs((double)t - exact) <= 1e-3, nd_status_internal,
                   "binary: the constants of the sum give %g instead of %g", (double)t, exact);
        problem->expected[i] = nearbyintf(t);
        problem->slack[i] = 0;
    }
    return nd_status_ok;
}

nd_status nd_problem_quantize(nd_problem *problem, bool *done) {
    nd_work *work = &problem->work;
    const int64_t count = nd_view_count(&work->y);
    const nd_act act = work->activation.act;
    const bool acts =
        act == nd_act_none || act == nd_act_relu || act == nd_act_clip || act == nd_act_leaky_relu;
    *done = problem->quantised = true;
    switch (work->operation) {
    case nd_operation_conv:
    case nd_operation_separable:
    case nd_operation_gemm:
        *done = acts;
        return acts ? quantized_sums(problem) : nd_status_ok;
    case nd_operation_binary:
        *done = !problem->e4m3 && acts && work->pairing == nd_pairing_add;
        for (int i = 0; i < work->y.rank; i++) *done = *done && !problem->repeat[i];
        return *done ? quantized_add(problem) : nd_status_ok;
    case nd_operation_pool:
    case nd_operation_copy:
    case nd_operation_gather:
        /* These pick among numbers: they do the same among what the numbers became. */
        *done = work->operation != nd_operation_pool || (work->maximum && !problem->e4m3);
        if (!*done) return nd_status_ok;
        work->x_quant = quantized_operand(problem, problem->x, nd_view_count(&work->x));
        work->y_quant = work->x_quant;
        for (int64_t i = 0; i < count; i++) {
            problem->expected[i] =
                quantized_round(problem, (double)((float)problem->expected[i] / work->y_quant.scale +
                                                  (float)work->y_quant.zero));
            problem->slack[i] = 0;
        }
        return nd_status_ok;
    case nd_operation_quantize:
    case nd_operation_dequantize:
        return nd_status_ok; /* integers from the start */
    default:
        *done = false;
        return nd_status_ok;
    }
}

typedef struct quantize_case {
    const char *title;
    int rank;
    int64_t dims[4];
    nd_quant quant;
} quantize_case;

static const quantize_case quantize_cases[] = {
    {"image", 4, {2, 33, 5, 7}, {0.03f, 0, false}},
    {"signed", 4, {1, 40, 9, 3}, {0.02f, 128, false}},
    {"lopsided", 2, {5, 37}, {0.5f, 12, false}},
    {"one_pixel", 4, {1, 1000, 1, 1}, {0.01f, 255, false}},
};

static const char *quantize_title(int index) {
    return quantize_cases[index].title;
}

static nd_status quantize_make(nd_problem *problem, int index) {
    const quantize_case *c = &quantize_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    const nd_quant quant = problem->e4m3 ? (nd_quant){.scale = c->quant.scale / 4, .e4m3 = true} : c->quant;
    problem->work = (nd_work){.operation = nd_operation_quantize, .x = view, .y = view, .y_quant = quant};
    return nd_problem_operands(problem);
}

/* Half a quantum of error allows no other integer but in a tie, which the definition sends to even. */
static nd_status quantize_expect(nd_problem *problem) {
    const nd_quant *quant = &problem->work.y_quant;
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < nd_view_count(&problem->work.y); i++)
        problem->expected[i] =
            quantized_round(problem, (double)(problem->x[i] / quant->scale + (float)quant->zero));
    return nd_status_ok;
}

const nd_check_operation nd_check_quantize = {"quantize",      sizeof quantize_cases / sizeof *quantize_cases,
                                              quantize_title,  quantize_make,
                                              quantize_expect, false};

static nd_status dequantize_make(nd_problem *problem, int index) {
    ND_TRY(quantize_make(problem, index));
    nd_work *work = &problem->work;
    *work =
        (nd_work){.operation = nd_operation_dequantize, .x = work->x, .y = work->y, .x_quant = work->y_quant};
    const int64_t count = nd_view_count(&work->x);
    for (int64_t i = 0; i < count; i++) {
        const int code = (int)(i * 7 % 256);
        problem->x[i] = problem->e4m3 ? nd_e4m3_to_f32((uint8_t)(code % 128 == 127 ? 0 : code)) : (float)code;
    }
    return nd_status_ok;
}

static nd_status dequantize_expect(nd_problem *problem) {
    const nd_quant *quant = &problem->work.x_quant;
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < nd_view_count(&problem->work.y); i++)
        problem->expected[i] = (float)(quant->scale * (problem->x[i] - (float)quant->zero));
    return nd_status_ok;
}

const nd_check_operation nd_check_dequantize = {
    "dequantize",      sizeof quantize_cases / sizeof *quantize_cases,
    quantize_title,    dequantize_make,
    dequantize_expect, false};
