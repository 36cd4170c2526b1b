#include "check/cases.h"

#include <math.h>

typedef struct nd_binary_case {
    const char *title;
    int rank;
    int64_t dims[4];
    bool repeat[4]; /* axes on which x2 has one element */
    bool multiply;
    nd_activation act;
} nd_binary_case;

static const nd_binary_case nd_binary_cases[] = {
    {"add", 4, {1, 64, 9, 9}, {0}, false, {0}},
    {"add_relu", 4, {3, 17, 5, 7}, {0}, false, {.act = nd_act_relu}},
    {"add_clip", 4, {1, 20, 1, 1}, {0}, false, {nd_act_clip, -1, 1}},
    {"add_matrix", 2, {3, 37}, {0}, false, {0}},
    {"add_cube", 3, {2, 5, 11}, {0}, false, {0}},
    {"mul", 4, {2, 24, 6, 6}, {0}, true, {0}},
    {"mul_by_channel", 4, {2, 33, 7, 7}, {false, false, true, true}, true, {0}},
    {"mul_by_pixel", 4, {1, 16, 6, 5}, {false, true, false, false}, true, {0}},
    {"add_one_for_all_images", 4, {3, 8, 4, 4}, {true, false, false, false}, false, {0}},
    {"add_scalar", 4, {2, 12, 3, 3}, {true, true, true, true}, false, {.act = nd_act_leaky_relu, .a = 0.1f}},
    {"mul_row", 2, {4, 19}, {true, false}, true, {0}},
};

static const char *binary_title(int index) {
    return nd_binary_cases[index].title;
}

static nd_status binary_make(nd_problem *problem, int index) {
    const nd_binary_case *c = &nd_binary_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    problem->work = (nd_work){.operation = nd_operation_binary,
                              .x = view,
                              .y = view,
                              .multiply = c->multiply,
                              .activation = c->act};
    for (int i = 0; i < c->rank; i++) problem->repeat[i] = c->repeat[i];
    return nd_problem_operands(problem);
}

static nd_status binary_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const nd_view *y = &work->y;
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < nd_view_count(y); i++) {
        int64_t rest = i, other = 0, step = 1;
        for (int axis = y->rank - 1; axis >= 0; axis--) {
            if (!problem->repeat[axis]) {
                other += rest % y->dims[axis] * step;
                step *= y->dims[axis];
            }
            rest /= y->dims[axis];
        }
        const double a = problem->x[i], b = problem->x2[other];
        problem->expected[i] = work->multiply ? a * b : a + b;
        problem->slack[i] = work->multiply ? fabs(a * b) : fabs(a) + fabs(b);
    }
    problem->rounding.product = 0; /* nothing here runs on tensor cores */
    nd_problem_finish(problem, 1);
    return nd_status_ok;
}

const nd_check_operation nd_check_binary = {"binary",      sizeof nd_binary_cases / sizeof *nd_binary_cases,
                                            binary_title,  binary_make,
                                            binary_expect, false};
