#include "check/cases.h"

#include <math.h>

typedef struct nd_activation_case {
    const char *title;
    int rank;
    int64_t dims[4];
    nd_activation act;
} nd_activation_case;

static const nd_activation_case nd_activation_cases[] = {
    {"relu", 4, {2, 33, 7, 5}, {.act = nd_act_relu}},
    {"relu_matrix", 2, {3, 100}, {.act = nd_act_relu}},
    {"clip_0_6", 4, {1, 20, 6, 6}, {nd_act_clip, 0, 6}},
    {"clip_below", 4, {1, 20, 6, 6}, {nd_act_clip, -0.5f, INFINITY}},
    {"clip_above", 4, {1, 20, 6, 6}, {nd_act_clip, -INFINITY, 0.75f}},
    {"leaky_relu", 4, {1, 64, 8, 8}, {.act = nd_act_leaky_relu, .a = 0.1f}},
    {"leaky_relu_negative", 3, {2, 7, 9}, {.act = nd_act_leaky_relu, .a = -0.25f}},
    {"sigmoid", 4, {3, 17, 5, 5}, {.act = nd_act_sigmoid}},
    {"hard_sigmoid", 4, {1, 17, 5, 5}, {nd_act_hard_sigmoid, 1.0f / 6, 0.5f}},
    {"hard_swish", 4, {2, 40, 3, 3}, {.act = nd_act_hard_swish}},
};

static const char *activation_title(int index) {
    return nd_activation_cases[index].title;
}

static nd_status activation_make(nd_problem *problem, int index) {
    const nd_activation_case *c = &nd_activation_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    problem->work =
        (nd_work){.operation = nd_operation_activation, .x = view, .y = view, .activation = c->act};
    return nd_problem_operands(problem);
}

static nd_status activation_expect(nd_problem *problem) {
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < nd_view_count(&problem->work.y); i++) {
        problem->expected[i] = problem->x[i];
        /* x itself is exact; a*x + b is not. */
        problem->slack[i] = problem->work.activation.act == nd_act_hard_sigmoid ? fabs(problem->x[i]) + 1 : 0;
    }
    problem->rounding.product = 0;
    nd_problem_finish(problem, 0);
    return nd_status_ok;
}

const nd_check_operation nd_check_activation = {
    "activation",      sizeof nd_activation_cases / sizeof *nd_activation_cases,
    activation_title,  activation_make,
    activation_expect, false};
