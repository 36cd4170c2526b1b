#include "check/cases.h"

#include <math.h>

typedef struct nd_resample_case {
    const char *title;
    int rank;
    int64_t dims[4], axis, out, terms;
} nd_resample_case;

static const nd_resample_case nd_resample_cases[] = {
    {"rows_twice", 4, {2, 17, 5, 6}, 2, 10, 2}, {"columns_twice", 4, {2, 17, 5, 6}, 3, 12, 2},
    {"cubic", 4, {1, 20, 7, 7}, 3, 9, 4},       {"nearest", 4, {2, 33, 4, 4}, 2, 8, 1},
    {"smaller", 3, {2, 5, 19}, 2, 7, 2},        {"from_one", 4, {3, 8, 1, 1}, 2, 4, 2},
    {"channels", 4, {2, 6, 3, 3}, 1, 9, 2},
};

static const char *resample_title(int index) {
    return nd_resample_cases[index].title;
}

/* Any indices and weights are legal. */
static nd_status resample_make(nd_problem *problem, int index) {
    const nd_resample_case *c = &nd_resample_cases[index];
    const int64_t count = c->out * c->terms;
    int64_t dims[4];
    for (int i = 0; i < c->rank; i++) dims[i] = i == c->axis ? c->out : c->dims[i];
    int32_t *channel = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *channel);
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_resample,
                      .x = nd_view_row_major(c->rank, c->dims),
                      .y = nd_view_row_major(c->rank, dims),
                      .axis = c->axis,
                      .terms = c->terms,
                      .channel = channel};
    work->weights = nd_problem_numbers(problem, count, 0.5);
    ND_REQUIRE(channel && work->weights, nd_status_memory, "no memory for the weights of a check");
    for (int64_t i = 0; i < count; i++)
        channel[i] = (int32_t)(nd_rng_uniform(&problem->rng) * (double)c->dims[c->axis]);
    return nd_problem_operands(problem);
}

/* Every input gives its share to the outputs that read it. */
static nd_status resample_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t in = work->x.dims[work->axis], out = work->y.dims[work->axis], count = out * work->terms;
    int64_t inner = 1;
    ND_TRY(nd_problem_results(problem));
    for (int i = (int)work->axis + 1; i < work->x.rank; i++) inner *= work->x.dims[i];
    for (int64_t i = 0; i < nd_view_count(&work->x); i++)
        for (int64_t k = 0; k < count; k++) {
            if (work->channel[k] != i / inner % in) continue;
            const int64_t to = (i / inner / in * out + k / work->terms) * inner + i % inner;
            const double share = (double)work->weights[k] * problem->x[i];
            problem->expected[to] += share;
            problem->slack[to] += fabs(share);
        }
    problem->rounding.product = 0;
    nd_problem_finish(problem, (double)work->terms);
    return nd_status_ok;
}

const nd_check_operation nd_check_resample = {
    "resample",      sizeof nd_resample_cases / sizeof *nd_resample_cases,
    resample_title,  resample_make,
    resample_expect, false};
