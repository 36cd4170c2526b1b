#include "check/cases.h"

#include <math.h>

typedef struct nd_affine_case {
    const char *title;
    int rank;
    int64_t dims[4];
    bool bias;
    nd_activation act;
} nd_affine_case;

static const nd_affine_case nd_affine_cases[] = {
    {"image", 4, {2, 35, 6, 7}, true, {0}},
    {"image_relu", 4, {1, 64, 9, 9}, true, {.act = nd_act_relu}},
    {"no_bias", 4, {1, 16, 5, 5}, false, {0}},
    {"one_pixel", 4, {3, 20, 1, 1}, true, {.act = nd_act_hard_swish}},
    {"matrix", 2, {5, 41}, true, {.act = nd_act_relu}},
    {"cube", 3, {2, 6, 13}, true, {0}},
};

static const char *affine_title(int index) {
    return nd_affine_cases[index].title;
}

static nd_status affine_make(nd_problem *problem, int index) {
    const nd_affine_case *c = &nd_affine_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_affine, .x = view, .y = view, .activation = c->act};
    work->weights = nd_problem_numbers(problem, c->dims[1], 1);
    if (c->bias) work->bias = nd_problem_numbers(problem, c->dims[1], 1);
    ND_REQUIRE(work->weights && (work->bias || !c->bias), nd_status_memory, "no memory for weights");
    return nd_problem_operands(problem);
}

static nd_status affine_expect(nd_problem *problem) {
    const nd_view *y = &problem->work.y;
    ND_TRY(nd_problem_results(problem));
    int64_t inner = 1;
    for (int i = 2; i < y->rank; i++) inner *= y->dims[i];
    for (int64_t plane = 0; plane < y->dims[0] * y->dims[1]; plane++)
        for (int64_t i = plane * inner; i < (plane + 1) * inner; i++) {
            problem->expected[i] = (double)problem->x[i] * problem->work.weights[plane % y->dims[1]];
            problem->slack[i] = fabs(problem->expected[i]);
        }
    problem->rounding.product = 0;
    nd_problem_finish(problem, 1);
    return nd_status_ok;
}

const nd_check_operation nd_check_affine = {"affine",      sizeof nd_affine_cases / sizeof *nd_affine_cases,
                                            affine_title,  affine_make,
                                            affine_expect, false};
