#include "check/cases.h"

#include <math.h>

/* Ranks are terms per channel: the same for all, or by turns those of `pattern` (0 = the channel
 * is unused). */
typedef struct nd_separable_case {
    const char *title;
    int64_t n, ni, no, h, w;
    nd_window window;
    const char *pattern;
    bool bias, residual;
    nd_activation act;
} nd_separable_case;

static const nd_separable_case nd_separable_cases[] = {
    {"t1", 1, 32, 64, 14, 14, ND_3X3, "1", true, false, {.act = nd_act_relu}},
    {"t2", 1, 64, 64, 14, 14, ND_3X3, "2", true, false, {.act = nd_act_relu}},
    {"t3_n3_c17", 3, 17, 19, 9, 7, ND_3X3, "3", true, false, {0}},
    {"t4_residual", 2, 48, 40, 8, 8, ND_3X3, "4", true, true, {.act = nd_act_relu}},
    {"t5_no_bias", 1, 33, 65, 7, 7, ND_3X3, "5", false, false, {0}},
    {"t9_full", 1, 16, 16, 10, 10, ND_3X3, "9", true, false, {0}},
    {"one_channel", 1, 1, 1, 6, 6, ND_3X3, "1", true, false, {0}},
    {"adaptive", 1, 24, 32, 9, 9, ND_3X3, "0312049", true, false, {.act = nd_act_relu}},
    {"adaptive_residual", 3, 31, 47, 6, 5, ND_3X3, "10205", true, true, {nd_act_leaky_relu, 0.1f, 0}},
    {"adaptive_one_term", 1, 20, 16, 5, 5, ND_3X3, "00000000000100000000", true, false, {0}},
    {"s2", 1, 32, 64, 15, 13, {{3, 3}, {2, 2}, ND_ONE, {1, 1, 1, 1}}, "2", true, false, {.act = nd_act_relu}},
    {"s2_even", 2, 24, 24, 14, 14, {{3, 3}, {2, 2}, ND_ONE, {0, 0, 1, 1}}, "3", true, true, {0}},
    {"s3_s1", 1, 16, 24, 16, 11, {{3, 3}, {3, 1}, ND_ONE, {1, 1, 1, 1}}, "2", true, false, {0}},
    {"dilated", 1, 20, 20, 12, 12, {{3, 3}, ND_ONE, {2, 2}, {2, 2, 2, 2}}, "2", true, false, {0}},
    {"no_pad", 1, 32, 32, 5, 6, {{3, 3}, ND_ONE, ND_ONE, {0}}, "2", true, false, {0}},
    {"pad_2_0_1_3", 1, 16, 20, 6, 8, {{3, 3}, ND_ONE, ND_ONE, {2, 0, 1, 3}}, "3", true, false, {0}},
    {"on_1x1", 3, 40, 24, 1, 1, ND_3X3, "2", true, false, {0}},
    {"on_2x3", 1, 64, 64, 2, 3, ND_3X3, "2", true, true, {.act = nd_act_relu}},
    {"on_4x4", 1, 128, 32, 4, 4, ND_3X3, "3", true, false, {0}},
    {"on_7x7", 1, 96, 80, 7, 7, ND_3X3, "4", true, false, {.act = nd_act_relu}},
    {"3x1", 1, 24, 24, 9, 9, {{3, 1}, ND_ONE, ND_ONE, {1, 0, 1, 0}}, "2", true, false, {0}},
    {"1x3_s2", 1, 24, 24, 9, 9, {{1, 3}, {1, 2}, ND_ONE, {0, 1, 0, 1}}, "2", true, false, {0}},
    {"5x5", 1, 12, 36, 11, 11, {{5, 5}, ND_ONE, ND_ONE, {2, 2, 2, 2}}, "3", true, false, {0}},
    {"7x7_s2",
     1,
     3,
     64,
     28,
     28,
     {{7, 7}, {2, 2}, ND_ONE, {3, 3, 3, 3}},
     "8",
     true,
     false,
     {.act = nd_act_relu}},
    {"1x1", 1, 16, 24, 5, 5, {{1, 1}, ND_ONE, ND_ONE, {0}}, "1", true, false, {0}},
    {"clip", 1, 16, 16, 6, 6, ND_3X3, "2", true, false, {nd_act_clip, 0, 6}},
    {"sigmoid", 1, 16, 16, 6, 6, ND_3X3, "2", true, false, {.act = nd_act_sigmoid}},
    {"hard_sigmoid", 1, 16, 16, 6, 6, ND_3X3, "2", true, true, {nd_act_hard_sigmoid, 0.2f, 0.5f}},
    {"hard_swish", 1, 16, 16, 6, 6, ND_3X3, "2", true, true, {.act = nd_act_hard_swish}},
    {"silu", 2, 16, 24, 6, 6, ND_3X3, "2", true, true, {.act = nd_act_swish, .a = 1}},
    {"long_sum", 1, 512, 16, 4, 4, ND_3X3, "4", true, false, {0}},
    {"wide_adaptive", 2, 150, 40, 9, 7, ND_3X3, "3124", true, true, {.act = nd_act_relu}},
    {"wide_s2_dilated", 1, 64, 32, 13, 17, {{3, 3}, {2, 2}, {2, 2}, {3, 2, 1, 3}}, "2", true, false, {0}},
    {"wide_outputs", 2, 24, 140, 6, 7, ND_3X3, "2", true, true, {.act = nd_act_relu}},
    {"wide_4x3", 1, 64, 32, 9, 9, {{4, 3}, ND_ONE, ND_ONE, {1, 1, 2, 1}}, "3", true, false, {0}},
};

/* Maps smaller than the kernel. */
static const nd_separable_case nd_separable_small_cases[] = {
    {"3x3_on_1x1", 2, 24, 40, 1, 1, ND_3X3, "1", true, false, {0}},
    {"3x3_on_1x1_t3", 2, 17, 19, 1, 1, ND_3X3, "3", true, false, {0}},
    {"5x5_on_1x3", 2, 24, 40, 1, 3, {{5, 5}, ND_ONE, ND_ONE, {2, 2, 2, 2}}, "2", true, false, {0}},
    {"5x5_on_2x2_s2", 2, 24, 40, 2, 2, {{5, 5}, {2, 2}, ND_ONE, {2, 2, 2, 2}}, "2", true, false, {0}},
    {"7x7_on_2x2", 2, 24, 40, 2, 2, {{7, 7}, ND_ONE, ND_ONE, {3, 3, 3, 3}}, "4", true, false, {0}},
    {"7x7_on_2x2_adaptive",
     2,
     24,
     40,
     2,
     2,
     {{7, 7}, ND_ONE, ND_ONE, {3, 3, 3, 3}},
     "3102",
     true,
     false,
     {0}},
    {"7x7_on_9x2", 2, 24, 40, 9, 2, {{7, 7}, ND_ONE, ND_ONE, {3, 3, 3, 3}}, "2", true, false, {0}},
    {"3x3_on_2x2_dilated", 2, 24, 40, 2, 2, {{3, 3}, ND_ONE, {2, 2}, {2, 2, 2, 2}}, "2", true, false, {0}},
};

static const char *separable_title(int index) {
    return nd_separable_cases[index].title;
}

static const char *separable_small_title(int index) {
    return nd_separable_small_cases[index].title;
}

static nd_status separable_channels(nd_problem *problem, const nd_separable_case *c) {
    nd_work *work = &problem->work;
    int32_t *channel = nd_arena_alloc(&problem->arena, (size_t)(9 * c->ni) * sizeof *channel);
    ND_REQUIRE(channel, nd_status_memory, "no memory for terms");
    const char *next = c->pattern;
    for (int64_t i = 0; i < c->ni; i++) {
        for (int t = 0; t < *next - '0'; t++) channel[work->terms++] = (int32_t)i;
        if (!*++next) next = c->pattern;
    }
    work->channel = channel;
    return nd_status_ok;
}

static nd_status separable_set(nd_problem *problem, const nd_separable_case *c) {
    nd_work *work = &problem->work;
    const int64_t x[] = {c->n, c->ni, c->h, c->w},
                  y[] = {c->n, c->no, nd_window_output(&c->window, 0, c->h, false),
                         nd_window_output(&c->window, 1, c->w, false)};
    *work = (nd_work){.operation = nd_operation_separable,
                      .x = nd_view_row_major(4, x),
                      .y = nd_view_row_major(4, y),
                      .window = c->window,
                      .residual = problem->epilogue ? problem->epilogue->residual : c->residual,
                      .activation = problem->epilogue ? problem->epilogue->act : c->act};
    ND_TRY(separable_channels(problem, c));
    const int64_t window = c->window.kernel[0] * c->window.kernel[1];
    work->depthwise = nd_problem_numbers(problem, work->terms * window, 1 / sqrt((double)window));
    work->weights = nd_problem_numbers(problem, c->no * work->terms, 1 / sqrt((double)work->terms));
    if (c->bias) work->bias = nd_problem_numbers(problem, c->no, 1);
    ND_REQUIRE(work->depthwise && work->weights && (work->bias || !c->bias), nd_status_memory,
               "no memory for weights");
    return nd_problem_operands(problem);
}

static nd_status separable_make(nd_problem *problem, int index) {
    return separable_set(problem, &nd_separable_cases[index]);
}

static nd_status separable_small_make(nd_problem *problem, int index) {
    return separable_set(problem, &nd_separable_small_cases[index]);
}

/* The dense kernel it stands for: W[o][c] = sum over the terms of c of P[o][r] * D[r]. */
static nd_status separable_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    const int64_t length = work->x.dims[1] * window, no = work->y.dims[1];
    double *kernel = nd_arena_alloc(&problem->arena, (size_t)(no * length) * sizeof *kernel);
    double *absolute = nd_arena_alloc(&problem->arena, (size_t)(no * length) * sizeof *absolute);
    ND_REQUIRE(kernel && absolute, nd_status_memory, "no memory for a kernel");
    for (int64_t o = 0; o < no; o++)
        for (int64_t r = 0; r < work->terms; r++)
            for (int64_t k = 0; k < window; k++) {
                const double product =
                    (double)work->weights[o * work->terms + r] * work->depthwise[r * window + k];
                kernel[o * length + work->channel[r] * window + k] += product;
                absolute[o * length + work->channel[r] * window + k] += fabs(product);
            }
    ND_TRY(nd_problem_results(problem));
    ND_TRY(nd_check_convolve(problem, kernel, absolute));
    /* The value between the parts is rounded to storage, or to the operand of a second product. */
    problem->rounding.product = 2 * problem->rounding.product + problem->rounding.store;
    nd_problem_finish(problem, (double)(window + work->terms));
    return nd_status_ok;
}

const nd_check_operation nd_check_separable = {
    "separable",      sizeof nd_separable_cases / sizeof *nd_separable_cases,
    separable_title,  separable_make,
    separable_expect, false};
const nd_check_operation nd_check_separable_small = {
    "separable",           sizeof nd_separable_small_cases / sizeof *nd_separable_small_cases,
    separable_small_title, separable_small_make,
    separable_expect,      true};
