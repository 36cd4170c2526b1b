#include "check/cases.h"

#include <math.h>

typedef struct nd_activation_case {
    const char *title;
    int rank;
    int64_t dims[4];
    nd_activation act;
    enum { any, positive, negative, large } domain; /* of x: > 0, <= 0, |x| >= 1/8 */
} nd_activation_case;

static const nd_activation_case nd_activation_cases[] = {
    {"relu", 4, {2, 33, 7, 5}, {.act = nd_act_relu}, any},
    {"relu_matrix", 2, {3, 100}, {.act = nd_act_relu}, any},
    {"clip_0_6", 4, {1, 20, 6, 6}, {nd_act_clip, 0, 6}, any},
    {"clip_below", 4, {1, 20, 6, 6}, {nd_act_clip, -0.5f, INFINITY}, any},
    {"clip_above", 4, {1, 20, 6, 6}, {nd_act_clip, -INFINITY, 0.75f}, any},
    {"leaky_relu", 4, {1, 64, 8, 8}, {.act = nd_act_leaky_relu, .a = 0.1f}, any},
    {"leaky_relu_negative", 3, {2, 7, 9}, {.act = nd_act_leaky_relu, .a = -0.25f}, any},
    {"sigmoid", 4, {3, 17, 5, 5}, {.act = nd_act_sigmoid}, any},
    {"hard_sigmoid", 4, {1, 17, 5, 5}, {nd_act_hard_sigmoid, 1.0f / 6, 0.5f}, any},
    {"hard_swish", 4, {2, 40, 3, 3}, {.act = nd_act_hard_swish}, any},
    {"abs", 3, {2, 7, 9}, {.act = nd_act_abs}, any},
    {"neg", 4, {2, 17, 3, 3}, {.act = nd_act_neg}, any},
    {"reciprocal", 2, {5, 19}, {.act = nd_act_reciprocal}, large},
    {"sqrt", 4, {2, 17, 3, 3}, {.act = nd_act_sqrt}, positive},
    {"exp", 4, {2, 17, 3, 3}, {.act = nd_act_exp}, negative},
    {"log", 3, {2, 7, 9}, {.act = nd_act_log}, positive},
    {"sin", 3, {2, 7, 9}, {.act = nd_act_sin}, any},
    {"cos", 3, {2, 7, 9}, {.act = nd_act_cos}, any},
    {"tanh", 4, {2, 17, 5, 5}, {.act = nd_act_tanh}, any},
    {"erf", 4, {2, 17, 5, 5}, {.act = nd_act_erf}, any},
    {"floor", 3, {2, 7, 9}, {.act = nd_act_floor}, any},
    {"ceil", 3, {2, 7, 9}, {.act = nd_act_ceil}, any},
    {"round", 3, {2, 7, 9}, {.act = nd_act_round}, any},
    {"sign", 3, {2, 7, 9}, {.act = nd_act_sign}, any},
    {"softplus", 4, {2, 17, 5, 5}, {.act = nd_act_softplus}, any},
    {"softsign", 3, {2, 7, 9}, {.act = nd_act_softsign}, any},
    {"elu", 4, {2, 17, 5, 5}, {nd_act_elu, 0.75f, 1}, any},
    {"selu", 4, {2, 17, 5, 5}, {nd_act_elu, 1.6732632f, 1.050701f}, any},
    {"celu", 3, {2, 7, 9}, {nd_act_celu, 2, 0}, any},
    {"threshold", 3, {2, 7, 9}, {nd_act_threshold, 0.5f, 0}, any},
    {"swish", 4, {2, 17, 5, 5}, {nd_act_swish, 1, 0}, any},
    {"mish", 4, {2, 17, 5, 5}, {.act = nd_act_mish}, any},
    {"gelu", 4, {2, 17, 5, 5}, {.act = nd_act_gelu}, any},
    {"gelu_matrix", 2, {3, 100}, {.act = nd_act_gelu}, any},
    {"gelu_tanh", 4, {2, 17, 5, 5}, {.act = nd_act_gelu_tanh}, any},
};

static const char *activation_title(int index) {
    return nd_activation_cases[index].title;
}

static nd_status activation_make(nd_problem *problem, int index) {
    const nd_activation_case *c = &nd_activation_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    problem->work =
        (nd_work){.operation = nd_operation_activation, .x = view, .y = view, .activation = c->act};
    ND_TRY(nd_problem_operands(problem));
    for (int64_t i = 0; i < nd_view_count(&view); i++) {
        float *x = &problem->x[i];
        if (c->domain == positive) *x = *x == 0 ? 1 : fabsf(*x);
        if (c->domain == negative) *x = -fabsf(*x);
        if (c->domain == large && fabsf(*x) < 0.125f) *x = 1;
    }
    return nd_status_ok;
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
    /* What a rounding of the argument can do to the value. */
    for (int64_t i = 0; i < nd_view_count(&problem->work.y); i++) {
        const nd_activation act = problem->work.activation;
        const double x = problem->x[i], step = 0x1p-22;
        problem->slack[i] += fabs(nd_check_activate(act, x * (1 + step)) - problem->expected[i]) +
                             fabs(nd_check_activate(act, x * (1 - step)) - problem->expected[i]);
    }
    return nd_status_ok;
}

const nd_check_operation nd_check_activation = {
    "activation",      sizeof nd_activation_cases / sizeof *nd_activation_cases,
    activation_title,  activation_make,
    activation_expect, false};
