#include "check/cases.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static float problem_round(nd_dtype storage, float value) {
    if (storage == nd_dtype_f16) return nd_f16_to_f32(nd_f32_to_f16(value));
    if (storage == nd_dtype_bf16) return nd_bf16_to_f32(nd_f32_to_bf16(value));
    return value;
}

float *nd_problem_numbers(nd_problem *problem, int64_t count, double scale) {
    float *values = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *values);
    for (int64_t i = 0; values && i < count; i++) {
        const double kind = nd_rng_uniform(&problem->rng), number = nd_rng_normal(&problem->rng);
        const double size = kind < 0.1 ? 0 : kind < 0.13 ? 16 : kind < 0.16 ? 0x1p-10 : 1;
        values[i] = problem_round(problem->storage, (float)(number * size * scale));
    }
    return values;
}

nd_status nd_problem_operands(nd_problem *problem) {
    const nd_work *work = &problem->work;
    problem->x = nd_problem_numbers(problem, nd_view_count(&work->x), 1);
    ND_REQUIRE(problem->x, nd_status_memory, "no memory for the inputs of a check");
    if (!work->residual && work->operation != nd_operation_binary) return nd_status_ok;
    problem->work.x2 = nd_view_row_major(work->y.rank, work->y.dims);
    int64_t count = 1;
    for (int i = 0; i < work->y.rank; i++) count *= problem->repeat[i] ? 1 : work->y.dims[i];
    problem->x2 = nd_problem_numbers(problem, count, 1);
    ND_REQUIRE(problem->x2, nd_status_memory, "no memory for the inputs of a check");
    return nd_status_ok;
}

nd_status nd_problem_results(nd_problem *problem) {
    const size_t count = (size_t)nd_view_count(&problem->work.y);
    problem->expected = nd_arena_alloc(&problem->arena, count * sizeof *problem->expected);
    problem->slack = nd_arena_alloc(&problem->arena, count * sizeof *problem->slack);
    ND_REQUIRE(problem->expected && problem->slack, nd_status_memory, "no memory for the result of a check");
    return nd_status_ok;
}

double nd_check_activate(nd_activation activation, double x) {
    const double a = activation.a, b = activation.b;
    switch (activation.act) {
    case nd_act_relu:
        return fmax(x, 0);
    case nd_act_clip:
        return fmin(fmax(x, a), b);
    case nd_act_leaky_relu:
        return fmax(x, 0) + a * fmin(x, 0);
    case nd_act_sigmoid:
        return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
    case nd_act_hard_sigmoid:
        return fmin(fmax(a * x + b, 0), 1);
    case nd_act_hard_swish:
        return x * fmin(fmax(x + 3, 0), 6) / 6;
    case nd_act_abs:
        return x < 0 ? -x : x;
    case nd_act_neg:
        return 0 - x;
    case nd_act_reciprocal:
        return 1 / x;
    case nd_act_sqrt:
        return pow(x, 0.5);
    case nd_act_exp:
        return exp(x);
    case nd_act_log:
        return log2(x) * 0.69314718055994530942;
    case nd_act_sin:
        return sin(x);
    case nd_act_cos:
        return cos(x);
    case nd_act_tanh:
        return x < 0 ? 1 - 2 / (1 + exp(2 * x)) : 2 / (1 + exp(-2 * x)) - 1;
    case nd_act_erf:
        return 1 - erfc(x);
    case nd_act_floor:
        return x - (fmod(x, 1) < 0 ? fmod(x, 1) + 1 : fmod(x, 1));
    case nd_act_ceil:
        return -floor(-x);
    case nd_act_round:
        return nearbyint(x);
    case nd_act_sign:
        return x > 0 ? 1 : x < 0 ? -1 : 0;
    case nd_act_softplus:
        return x > 30 ? x : log(1 + exp(x));
    case nd_act_softsign:
        return x / (1 + fabs(x));
    case nd_act_elu:
        return b * (fmax(x, 0) + a * (exp(fmin(x, 0)) - 1));
    case nd_act_celu:
        return fmax(x, 0) + a * (exp(fmin(x, 0) / a) - 1);
    case nd_act_threshold:
        return x > a ? x : 0;
    case nd_act_swish:
        return x * (x * a < 0 ? exp(a * x) / (1 + exp(a * x)) : 1 / (1 + exp(-a * x)));
    case nd_act_mish: /* tanh(log(1 + e)) = ((1 + e)^2 - 1) / ((1 + e)^2 + 1) */
        return x > 30 ? x : x * (exp(x) * (exp(x) + 2)) / (exp(x) * (exp(x) + 2) + 2);
    case nd_act_gelu:
        return x * 0.5 * (1 + erf(x * 0.70710678118654752440));
    case nd_act_gelu_tanh:
        return x * 0.5 * (1 + tanh(0.79788456080286535588 * x * (1 + 0.044715 * x * x)));
    case nd_act_none:
    case nd_act_count:
        break;
    }
    return x;
}

/* How much an activation stretches an error, and the relative error of evaluating it. */
static double check_slope(nd_activation activation) {
    if (activation.act == nd_act_hard_swish) return 1.5;
    if (activation.act == nd_act_swish) return 1.1;
    if (activation.act == nd_act_leaky_relu || activation.act == nd_act_hard_sigmoid)
        return fmax(1, fabs(activation.a));
    return 1;
}

void nd_problem_finish(nd_problem *problem, double length) {
    const nd_work *work = &problem->work;
    const nd_view *y = &work->y;
    const nd_rounding *rounding = &problem->rounding;
    int64_t inner = 1, channels = y->rank > 1 ? y->dims[1] : 1;
    for (int i = 2; i < y->rank; i++) inner *= y->dims[i];
    const int64_t count = nd_view_count(y);
    for (int64_t i = 0; i < count; i++) {
        double value = problem->expected[i], magnitude = problem->slack[i], products = magnitude;
        const double bias = work->bias ? work->bias[i / inner % channels] : 0;
        const double residual = work->residual ? problem->x2[i] : 0;
        value += bias + residual;
        magnitude += fabs(bias) + fabs(residual);
        double error = (length + 4) * rounding->sum * magnitude + rounding->product * products;
        /* Libraries fuse no activation but ReLU: the sum may be stored before any other. */
        if (work->activation.act > nd_act_relu) error += rounding->store * fabs(value);
        value = nd_check_activate(work->activation, value);
        /* Evaluating: a few roundings, or the exponential of a vector library. */
        error = check_slope(work->activation) * error;
        if (work->activation.act) error += 0x1p-20 * fabs(value) + 0x1p-40;
        problem->expected[i] = value;
        problem->slack[i] = error;
    }
}

void nd_identity_note(nd_identity *identity, double error, double bound, const char *format, ...) {
    const bool worse = !(error * identity->bound <= identity->error * bound);
    if (identity->bound > 0 && !worse) return;
    identity->error = error;
    identity->bound = bound;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(identity->detail, sizeof identity->detail, format, arguments);
    va_end(arguments);
}
