#include "check/cases.h"

#include <math.h>

typedef struct nd_mean_case {
    const char *title;
    int rank;
    int64_t dims[4];
    bool axes[4];
} nd_mean_case;

static const nd_mean_case nd_mean_cases[] = {
    {"planes", 4, {2, 35, 7, 7}, {false, false, true, true}},
    {"planes_1x1", 4, {1, 20, 1, 1}, {false, false, true, true}},
    {"rows", 4, {1, 6, 5, 9}, {false, false, false, true}},
    {"channels", 4, {3, 17, 4, 4}, {false, true, false, false}},
    {"all_but_images", 4, {2, 8, 6, 5}, {false, true, true, true}},
    {"matrix", 2, {4, 50}, {false, true}},
    {"middle", 3, {2, 33, 6}, {false, true, false}},
};

static const char *mean_title(int index) {
    return nd_mean_cases[index].title;
}

static nd_status mean_make(nd_problem *problem, int index) {
    const nd_mean_case *c = &nd_mean_cases[index];
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_mean, .x = nd_view_row_major(c->rank, c->dims)};
    int64_t kept[4];
    for (int i = 0; i < c->rank; i++) {
        work->axes[i] = c->axes[i];
        kept[i] = c->axes[i] ? 1 : c->dims[i];
    }
    work->y = nd_view_row_major(c->rank, kept);
    return nd_problem_operands(problem);
}

/* Every input adds its share to the output it belongs to. */
static nd_status mean_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const nd_view *x = &work->x;
    ND_TRY(nd_problem_results(problem));
    const int64_t count = nd_view_count(x), outputs = nd_view_count(&work->y), length = count / outputs;
    for (int64_t i = 0; i < count; i++) {
        int64_t rest = i, to = 0, step = 1;
        for (int axis = x->rank - 1; axis >= 0; axis--) {
            if (!work->axes[axis]) {
                to += rest % x->dims[axis] * step;
                step *= x->dims[axis];
            }
            rest /= x->dims[axis];
        }
        problem->expected[to] += (double)problem->x[i] / (double)length;
        problem->slack[to] += fabs((double)problem->x[i]) / (double)length;
    }
    problem->rounding.product = 0;
    nd_problem_finish(problem, (double)length);
    return nd_status_ok;
}

const nd_check_operation nd_check_mean = {
    "mean", sizeof nd_mean_cases / sizeof *nd_mean_cases, mean_title, mean_make, mean_expect, false};
