#include "check/cases.h"

typedef struct nd_gather_case {
    const char *title;
    int rank;
    int64_t dims[4], indices;
} nd_gather_case;

static const nd_gather_case nd_gather_cases[] = {
    {"image", 4, {2, 24, 5, 6}, 40},     {"fewer", 4, {1, 33, 7, 7}, 9}, {"one", 4, {3, 5, 3, 3}, 1},
    {"one_pixel", 4, {1, 64, 1, 1}, 70}, {"matrix", 2, {4, 19}, 30},     {"cube", 3, {2, 6, 11}, 8},
};

static const char *gather_title(int index) {
    return nd_gather_cases[index].title;
}

/* In no order, some more than once, some never. */
static nd_status gather_make(nd_problem *problem, int index) {
    const nd_gather_case *c = &nd_gather_cases[index];
    nd_work *work = &problem->work;
    int64_t dims[4];
    for (int i = 0; i < c->rank; i++) dims[i] = i == 1 ? c->indices : c->dims[i];
    *work = (nd_work){.operation = nd_operation_gather,
                      .x = nd_view_row_major(c->rank, c->dims),
                      .y = nd_view_row_major(c->rank, dims),
                      .terms = c->indices};
    int32_t *channel = nd_arena_alloc(&problem->arena, (size_t)c->indices * sizeof *channel);
    ND_REQUIRE(channel, nd_status_memory, "no memory for indices");
    for (int64_t i = 0; i < c->indices; i++) channel[i] = (int32_t)nd_rng_below(&problem->rng, c->dims[1]);
    work->channel = channel;
    return nd_problem_operands(problem);
}

static nd_status gather_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    ND_TRY(nd_problem_results(problem));
    int64_t inner = 1;
    for (int i = 2; i < work->y.rank; i++) inner *= work->y.dims[i];
    for (int64_t n = 0; n < work->y.dims[0]; n++)
        for (int64_t t = 0; t < work->terms; t++)
            for (int64_t i = 0; i < inner; i++)
                problem->expected[(n * work->terms + t) * inner + i] =
                    problem->x[(n * work->x.dims[1] + work->channel[t]) * inner + i];
    return nd_status_ok;
}

const nd_check_operation nd_check_gather = {"gather",      sizeof nd_gather_cases / sizeof *nd_gather_cases,
                                            gather_title,  gather_make,
                                            gather_expect, false};
