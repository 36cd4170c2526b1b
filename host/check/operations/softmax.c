#include "check/cases.h"

#include <math.h>

typedef struct nd_softmax_case {
    const char *title;
    int rank;
    int64_t dims[4], axis;
    int together; /* axes normalised as one */
} nd_softmax_case;

static const nd_softmax_case nd_softmax_cases[] = {
    {"classes_10", 2, {3, 10}, 1, 1},       {"classes_1000", 2, {1, 1000}, 1, 1},
    {"channels", 4, {2, 21, 5, 6}, 1, 1},   {"channels_1x1", 4, {3, 33, 1, 1}, 1, 1},
    {"columns", 4, {1, 4, 5, 17}, 3, 1},    {"flat", 4, {2, 20, 1, 1}, 1, 3},
    {"flat_planes", 4, {2, 5, 3, 4}, 1, 3}, {"middle", 3, {2, 9, 7}, 1, 1},
    {"one_class", 2, {4, 1}, 1, 1},
};

static const char *softmax_title(int index) {
    return nd_softmax_cases[index].title;
}

static nd_status softmax_make(nd_problem *problem, int index) {
    const nd_softmax_case *c = &nd_softmax_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_softmax, .x = view, .y = view, .axis = c->axis};
    if (c->together > 1) work->inner = nd_dims_count(c->together, c->dims + c->axis);
    return nd_problem_operands(problem);
}

/* As [outer][length][inner], by the logarithm of the sum. */
static nd_status softmax_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const nd_view *x = &work->x;
    ND_TRY(nd_problem_results(problem));
    int64_t outer = 1, length = work->inner ? work->inner : x->dims[work->axis], inner = 1;
    for (int i = 0; i < work->axis; i++) outer *= x->dims[i];
    inner = nd_view_count(x) / outer / length;
    for (int64_t group = 0; group < outer * inner; group++) {
        const int64_t start = group / inner * length * inner + group % inner;
        double largest = -INFINITY, sum = 0;
        for (int64_t i = 0; i < length; i++) largest = fmax(largest, problem->x[start + i * inner]);
        for (int64_t i = 0; i < length; i++) sum += exp(problem->x[start + i * inner] - largest);
        for (int64_t i = 0; i < length; i++) {
            const int64_t at = start + i * inner;
            const double distance = largest - problem->x[at];
            problem->expected[at] = exp(-distance - log(sum));
            /* The rounding of the exponent is an error of the exponential's argument. */
            problem->slack[at] = problem->expected[at] *
                                 ((double)length * problem->rounding.sum + distance * 0x1p-22 + 0x1p-19);
        }
    }
    return nd_status_ok;
}

const nd_check_operation nd_check_softmax = {
    "softmax",      sizeof nd_softmax_cases / sizeof *nd_softmax_cases,
    softmax_title,  softmax_make,
    softmax_expect, false};
