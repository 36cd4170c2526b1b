#include "check/cases.h"

#include <math.h>

typedef struct nd_normalize_case {
    const char *title;
    int rank;
    int64_t dims[5];
    bool axes[5];
} nd_normalize_case;

static const nd_normalize_case nd_normalize_cases[] = {
    {"rows", 3, {2, 7, 96}, {false, false, true}},
    {"rows_of_images", 4, {2, 5, 6, 33}, {false, false, false, true}},
    {"channels", 4, {2, 33, 4, 5}, {false, true, false, false}},
    {"planes", 4, {2, 17, 6, 5}, {false, false, true, true}},
    {"groups", 5, {2, 4, 5, 6, 3}, {false, false, true, true, true}},
    {"whole", 3, {1, 9, 8}, {true, true, true}},
    {"pairs", 2, {5, 2}, {false, true}},
};

static const char *normalize_title(int index) {
    return nd_normalize_cases[index].title;
}

static nd_status normalize_make(nd_problem *problem, int index) {
    const nd_normalize_case *c = &nd_normalize_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_normalize, .x = view, .y = view, .epsilon = 1e-3f};
    for (int i = 0; i < c->rank; i++) work->axes[i] = c->axes[i];
    return nd_problem_operands(problem);
}

/* The group of the i-th input. */
static int64_t normalize_group(const nd_work *work, int64_t i) {
    const nd_view *x = &work->x;
    int64_t group = 0, step = 1;
    for (int axis = x->rank - 1; axis >= 0; axis--) {
        if (!work->axes[axis]) {
            group += i % x->dims[axis] * step;
            step *= x->dims[axis];
        }
        i /= x->dims[axis];
    }
    return group;
}

/* The variance as the mean of the squares less the square of the mean. */
static nd_status normalize_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t count = nd_view_count(&work->x);
    ND_TRY(nd_problem_results(problem));
    double *sum = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *sum);
    double *squares = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *squares);
    double *length = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *length);
    ND_REQUIRE(sum && squares && length, nd_status_memory, "no memory for the result of a check");
    for (int64_t i = 0; i < count; i++) {
        const int64_t group = normalize_group(work, i);
        const double x = problem->x[i];
        sum[group] += x;
        squares[group] += x * x;
        length[group]++;
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t group = normalize_group(work, i);
        const double n = length[group], mean = sum[group] / n, power = squares[group] / n;
        const double deviation = sqrt(power - mean * mean + (double)work->epsilon);
        problem->expected[i] = (problem->x[i] - mean) / deviation;
        /* Errors of the mean shift the value, those of the variance scale it. */
        problem->slack[i] = (n + 8) * problem->rounding.sum *
                            ((fabs((double)problem->x[i]) + sqrt(power)) / deviation +
                             fabs(problem->expected[i]) * power / (deviation * deviation));
    }
    return nd_status_ok;
}

const nd_check_operation nd_check_normalize = {
    "normalize",      sizeof nd_normalize_cases / sizeof *nd_normalize_cases,
    normalize_title,  normalize_make,
    normalize_expect, false};
