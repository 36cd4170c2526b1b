#include "check/cases.h"

#include <math.h>

typedef struct nd_conv_case {
    const char *title;
    int64_t n, ni, no, groups, h, w;
    nd_window window;
    bool bias, residual;
    nd_activation act;
} nd_conv_case;

static const nd_conv_case nd_conv_cases[] = {
    {"3x3", 1, 64, 64, 1, 14, 14, ND_3X3, true, false, {0}},
    {"3x3_n3_c17", 3, 17, 19, 1, 9, 7, ND_3X3, true, false, {0}},
    {"3x3_first_layer", 1, 3, 32, 1, 30, 30, ND_3X3, true, false, {.act = nd_act_relu}},
    {"3x3_one_channel", 2, 1, 1, 1, 5, 5, ND_3X3, false, false, {0}},
    {"3x3_no_bias", 1, 33, 31, 1, 7, 7, ND_3X3, false, false, {0}},
    {"3x3_s2",
     2,
     32,
     48,
     1,
     15,
     13,
     {{3, 3}, {2, 2}, ND_ONE, {1, 1, 1, 1}},
     true,
     false,
     {.act = nd_act_relu}},
    {"3x3_s2_even", 1, 16, 16, 1, 14, 14, {{3, 3}, {2, 2}, ND_ONE, {0, 0, 1, 1}}, true, false, {0}},
    {"3x3_s3_s1", 1, 16, 24, 1, 16, 11, {{3, 3}, {3, 1}, ND_ONE, {1, 1, 1, 1}}, true, false, {0}},
    {"3x3_dilated", 1, 20, 20, 1, 12, 12, {{3, 3}, ND_ONE, {2, 2}, {2, 2, 2, 2}}, true, false, {0}},
    {"3x3_dilated_2_3", 1, 8, 12, 1, 13, 16, {{3, 3}, ND_ONE, {2, 3}, {1, 0, 2, 4}}, true, false, {0}},
    {"3x3_no_pad", 1, 32, 32, 1, 5, 6, {{3, 3}, ND_ONE, ND_ONE, {0}}, true, false, {0}},
    {"3x3_pad_2_0_1_3", 1, 16, 20, 1, 6, 8, {{3, 3}, ND_ONE, ND_ONE, {2, 0, 1, 3}}, true, false, {0}},
    {"3x3_on_1x1", 3, 40, 24, 1, 1, 1, ND_3X3, true, false, {0}},
    {"3x3_on_2x3", 1, 64, 64, 1, 2, 3, ND_3X3, true, true, {.act = nd_act_relu}},
    {"3x3_on_4x4", 1, 128, 32, 1, 4, 4, ND_3X3, true, false, {0}},
    {"3x3_on_7x7", 2, 96, 80, 1, 7, 7, ND_3X3, true, true, {0}},
    {"1x1", 1, 64, 96, 1, 10, 10, {{1, 1}, ND_ONE, ND_ONE, {0}}, true, false, {.act = nd_act_relu}},
    {"1x1_c7", 3, 7, 5, 1, 3, 3, {{1, 1}, ND_ONE, ND_ONE, {0}}, false, false, {0}},
    {"1x1_s2", 1, 32, 64, 1, 9, 9, {{1, 1}, {2, 2}, ND_ONE, {0}}, false, false, {0}},
    {"1x1_residual", 2, 48, 40, 1, 6, 6, {{1, 1}, ND_ONE, ND_ONE, {0}}, true, true, {.act = nd_act_relu}},
    {"3x1", 1, 24, 24, 1, 9, 9, {{3, 1}, ND_ONE, ND_ONE, {1, 0, 1, 0}}, true, false, {0}},
    {"1x3", 1, 24, 24, 1, 9, 9, {{1, 3}, {1, 2}, ND_ONE, {0, 1, 0, 1}}, true, false, {0}},
    {"5x5", 1, 12, 36, 1, 11, 11, {{5, 5}, ND_ONE, ND_ONE, {2, 2, 2, 2}}, true, false, {0}},
    {"5x3_s2", 1, 20, 12, 1, 12, 10, {{5, 3}, {2, 1}, ND_ONE, {2, 1, 2, 1}}, true, false, {0}},
    {"7x7_s2",
     1,
     3,
     64,
     1,
     28,
     28,
     {{7, 7}, {2, 2}, ND_ONE, {3, 3, 3, 3}},
     false,
     false,
     {.act = nd_act_relu}},
    {"11x11_s4", 1, 3, 16, 1, 35, 35, {{11, 11}, {4, 4}, ND_ONE, {2, 2, 2, 2}}, true, false, {0}},
    {"groups_2", 1, 32, 48, 2, 8, 8, ND_3X3, true, false, {.act = nd_act_relu}},
    {"groups_4_c28", 2, 28, 20, 4, 6, 6, {{3, 3}, {2, 2}, ND_ONE, {1, 1, 1, 1}}, true, true, {0}},
    {"depthwise", 1, 64, 64, 64, 12, 12, ND_3X3, true, false, {.act = nd_act_relu}},
    {"depthwise_c37_s2", 3, 37, 37, 37, 9, 9, {{3, 3}, {2, 2}, ND_ONE, {1, 1, 1, 1}}, false, false, {0}},
    {"depthwise_times_3", 1, 16, 48, 16, 7, 7, ND_3X3, false, false, {0}},
    {"depthwise_times_2_5x5", 1, 9, 18, 9, 10, 10, {{5, 5}, ND_ONE, ND_ONE, {2, 2, 2, 2}}, true, false, {0}},
    {"terms_to_outputs", 1, 60, 20, 20, 8, 8, ND_3X3, true, true, {.act = nd_act_relu}},
    {"clip", 1, 16, 16, 1, 6, 6, ND_3X3, true, false, {nd_act_clip, 0, 6}},
    {"leaky_relu", 1, 16, 16, 1, 6, 6, ND_3X3, true, true, {nd_act_leaky_relu, 0.1f, 0}},
    {"sigmoid", 1, 16, 16, 1, 6, 6, ND_3X3, true, false, {.act = nd_act_sigmoid}},
    {"hard_sigmoid", 1, 16, 16, 1, 6, 6, ND_3X3, true, false, {nd_act_hard_sigmoid, 0.2f, 0.5f}},
    {"hard_swish", 1, 16, 16, 1, 6, 6, ND_3X3, true, false, {.act = nd_act_hard_swish}},
    {"silu", 2, 16, 24, 1, 6, 6, ND_3X3, true, true, {.act = nd_act_swish, .a = 1}},
    {"long_sum", 1, 512, 16, 1, 4, 4, ND_3X3, true, false, {0}},
};

/* Maps smaller than the kernel, where most taps fall on padding and libraries take other paths: each kind of
 * convolution on each such map. */
#define ND_SMALL(kind, map, ni, no, groups, h, w, k, stride, dilation, pad)                                  \
    {                                                                                                        \
        kind map, 2, ni, no, groups, h, w, {{k, k}, stride, dilation, {pad, pad, pad, pad}}, true, false, {  \
            0                                                                                                \
        }                                                                                                    \
    }
#define ND_TWO                                                                                               \
    { 2, 2 }
#define ND_SMALL_MAPS(kind, ni, no, groups)                                                                  \
    ND_SMALL(kind, "_3x3_on_1x1", ni, no, groups, 1, 1, 3, ND_ONE, ND_ONE, 1),                               \
        ND_SMALL(kind, "_5x5_on_1x3", ni, no, groups, 1, 3, 5, ND_ONE, ND_ONE, 2),                           \
        ND_SMALL(kind, "_5x5_on_2x2_s2", ni, no, groups, 2, 2, 5, ND_TWO, ND_ONE, 2),                        \
        ND_SMALL(kind, "_7x7_on_2x2", ni, no, groups, 2, 2, 7, ND_ONE, ND_ONE, 3),                           \
        ND_SMALL(kind, "_7x7_on_9x2", ni, no, groups, 9, 2, 7, ND_ONE, ND_ONE, 3),                           \
        ND_SMALL(kind, "_3x3_on_2x2_dilated", ni, no, groups, 2, 2, 3, ND_ONE, ND_TWO, 2)

static const nd_conv_case nd_conv_small_cases[] = {
    ND_SMALL_MAPS("dense", 24, 40, 1),
    ND_SMALL_MAPS("depthwise", 20, 20, 20),
    ND_SMALL_MAPS("times_3", 16, 48, 16),
    ND_SMALL_MAPS("to_outputs", 48, 16, 16),
    ND_SMALL_MAPS("groups_2", 32, 32, 2),
    ND_SMALL("depthwise", "_3x3_on_1x1_c1", 1, 1, 1, 1, 1, 3, ND_ONE, ND_ONE, 1),
    ND_SMALL("depthwise", "_7x7_on_2x2_c64", 64, 64, 64, 2, 2, 7, ND_ONE, ND_ONE, 3),
};

static const char *conv_title(int index) {
    return nd_conv_cases[index].title;
}

static const char *conv_small_title(int index) {
    return nd_conv_small_cases[index].title;
}

static nd_status conv_set(nd_problem *problem, const nd_conv_case *c) {
    const int64_t x[] = {c->n, c->ni, c->h, c->w},
                  y[] = {c->n, c->no, nd_window_output(&c->window, 0, c->h, false),
                         nd_window_output(&c->window, 1, c->w, false)};
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_conv,
                      .x = nd_view_row_major(4, x),
                      .y = nd_view_row_major(4, y),
                      .window = c->window,
                      .groups = c->groups,
                      .residual = problem->epilogue ? problem->epilogue->residual : c->residual,
                      .activation = problem->epilogue ? problem->epilogue->act : c->act};
    const int64_t length = c->ni / c->groups * c->window.kernel[0] * c->window.kernel[1];
    work->weights = nd_problem_numbers(problem, c->no * length, 1 / sqrt((double)length));
    if (c->bias) work->bias = nd_problem_numbers(problem, c->no, 1);
    ND_REQUIRE(work->weights && (work->bias || !c->bias), nd_status_memory, "no memory for weights");
    return nd_problem_operands(problem);
}

static nd_status conv_make(nd_problem *problem, int index) {
    return conv_set(problem, &nd_conv_cases[index]);
}

static nd_status conv_small_make(nd_problem *problem, int index) {
    return conv_set(problem, &nd_conv_small_cases[index]);
}

static nd_status conv_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t length = work->x.dims[1] / work->groups * work->window.kernel[0] * work->window.kernel[1];
    const int64_t count = work->y.dims[1] * length;
    double *kernel = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *kernel);
    double *absolute = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *absolute);
    ND_REQUIRE(kernel && absolute, nd_status_memory, "no memory for a kernel");
    for (int64_t i = 0; i < count; i++) {
        kernel[i] = work->weights[i];
        absolute[i] = fabs(kernel[i]);
    }
    ND_TRY(nd_problem_results(problem));
    ND_TRY(nd_check_convolve(problem, kernel, absolute));
    nd_problem_finish(problem, (double)length);
    return nd_status_ok;
}

const nd_check_operation nd_check_conv = {
    "conv", sizeof nd_conv_cases / sizeof *nd_conv_cases, conv_title, conv_make, conv_expect, false};
const nd_check_operation nd_check_conv_small = {
    "conv",           sizeof nd_conv_small_cases / sizeof *nd_conv_small_cases,
    conv_small_title, conv_small_make,
    conv_expect,      true};
