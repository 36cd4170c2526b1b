#include "check/cases.h"

#include <math.h>

typedef struct nd_reduce_case {
    const char *title;
    int rank;
    int64_t dims[4];
    bool axes[4];
    nd_reduction reduction;
} nd_reduce_case;

static const nd_reduce_case nd_reduce_cases[] = {
    {"planes", 4, {2, 35, 7, 7}, {false, false, true, true}, nd_reduction_mean},
    {"planes_1x1", 4, {1, 20, 1, 1}, {false, false, true, true}, nd_reduction_mean},
    {"rows", 4, {1, 6, 5, 9}, {false, false, false, true}, nd_reduction_mean},
    {"channels", 4, {3, 17, 4, 4}, {false, true, false, false}, nd_reduction_mean},
    {"all_but_images", 4, {2, 8, 6, 5}, {false, true, true, true}, nd_reduction_mean},
    {"matrix", 2, {4, 50}, {false, true}, nd_reduction_mean},
    {"middle", 3, {2, 33, 6}, {false, true, false}, nd_reduction_mean},
    {"sum", 4, {2, 19, 5, 7}, {false, false, true, true}, nd_reduction_sum},
    {"sum_channels", 4, {2, 19, 5, 7}, {false, true, false, false}, nd_reduction_sum},
    {"sum_all", 3, {2, 9, 7}, {true, true, true}, nd_reduction_sum},
    {"sum_none", 2, {3, 5}, {false, false}, nd_reduction_sum},
    {"max", 4, {2, 19, 5, 7}, {false, false, true, true}, nd_reduction_max},
    {"max_rows", 3, {3, 4, 50}, {false, false, true}, nd_reduction_max},
    {"min", 4, {2, 8, 6, 5}, {false, true, true, true}, nd_reduction_min},
    {"prod", 2, {4, 5}, {false, true}, nd_reduction_prod},
    {"l1", 3, {2, 33, 6}, {false, true, false}, nd_reduction_l1},
    {"l2", 4, {2, 35, 3, 3}, {false, true, false, false}, nd_reduction_l2},
    {"sum_square", 2, {4, 50}, {false, true}, nd_reduction_sum_square},
    {"log_sum", 2, {4, 30}, {false, true}, nd_reduction_log_sum},
    {"log_sum_exp", 4, {2, 17, 3, 4}, {false, true, false, false}, nd_reduction_log_sum_exp},
};

static const char *reduce_title(int index) {
    return nd_reduce_cases[index].title;
}

static nd_status reduce_make(nd_problem *problem, int index) {
    const nd_reduce_case *c = &nd_reduce_cases[index];
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_reduce,
                      .reduction = c->reduction,
                      .x = nd_view_row_major(c->rank, c->dims)};
    int64_t kept[4];
    for (int i = 0; i < c->rank; i++) {
        work->axes[i] = c->axes[i];
        kept[i] = c->axes[i] ? 1 : c->dims[i];
    }
    work->y = nd_view_row_major(c->rank, kept);
    ND_TRY(nd_problem_operands(problem));
    const int64_t count = nd_view_count(&work->x);
    for (int64_t i = 0; i < count; i++) {
        float *x = &problem->x[i];
        if (c->reduction == nd_reduction_log_sum) *x = *x == 0 ? 1 : fabsf(*x);
        if (c->reduction == nd_reduction_prod || c->reduction == nd_reduction_sum_square)
            *x = fmodf(*x, 2); /* what the narrowest type can hold */
    }
    return nd_status_ok;
}

/* Where the i-th input goes. */
static int64_t reduce_output(const nd_work *work, int64_t i) {
    const nd_view *x = &work->x;
    int64_t to = 0, step = 1;
    for (int axis = x->rank - 1; axis >= 0; axis--) {
        if (!work->axes[axis]) {
            to += i % x->dims[axis] * step;
            step *= x->dims[axis];
        }
        i /= x->dims[axis];
    }
    return to;
}

/* y so far and one more input; *slack gathers magnitudes. The first input finds `first` set. */
static double reduce_one(nd_reduction reduction, bool first, double y, double x, double *slack) {
    switch (reduction) {
    case nd_reduction_max:
        return first ? x : fmax(y, x);
    case nd_reduction_min:
        return first ? x : fmin(y, x);
    case nd_reduction_prod:
        y = first ? x : y * x;
        *slack = fabs(y);
        return y;
    case nd_reduction_l1:
        x = fabs(x);
        break;
    case nd_reduction_l2:
    case nd_reduction_sum_square:
        x *= x;
        break;
    case nd_reduction_log_sum_exp:
        *slack = fmax(*slack, fabs(x));
        return first ? x : fmax(x, y) + log1p(exp(-fabs(x - y)));
    case nd_reduction_mean:
    case nd_reduction_sum:
    case nd_reduction_log_sum:
    case nd_reduction_count:
        break;
    }
    *slack += fabs(x);
    return y + x;
}

static void reduce_last(nd_reduction reduction, double length, double *y, double *slack) {
    if (reduction == nd_reduction_mean) *y /= length, *slack /= length;
    if (reduction == nd_reduction_l2) *y = sqrt(*y), *slack = *y;
    if (reduction == nd_reduction_log_sum) *y = log(*y), *slack = 1 + fabs(*y); /* of a relative error */
    if (reduction == nd_reduction_log_sum_exp) *slack += 1;
}

/* Every input goes to the output it belongs to. */
static nd_status reduce_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    ND_TRY(nd_problem_results(problem));
    const int64_t count = nd_view_count(&work->x), outputs = nd_view_count(&work->y),
                  length = count / outputs;
    bool *started = nd_arena_alloc(&problem->arena, (size_t)outputs * sizeof *started);
    ND_REQUIRE(started, nd_status_memory, "no memory for the result of a check");
    for (int64_t i = 0; i < count; i++) {
        const int64_t to = reduce_output(work, i);
        problem->expected[to] = reduce_one(work->reduction, !started[to], problem->expected[to],
                                           (double)problem->x[i], &problem->slack[to]);
        started[to] = true;
    }
    for (int64_t i = 0; i < outputs; i++)
        reduce_last(work->reduction, (double)length, &problem->expected[i], &problem->slack[i]);
    problem->rounding.product = 0;
    nd_problem_finish(problem, (double)length);
    return nd_status_ok;
}

const nd_check_operation nd_check_reduce = {"reduce",      sizeof nd_reduce_cases / sizeof *nd_reduce_cases,
                                            reduce_title,  reduce_make,
                                            reduce_expect, false};
