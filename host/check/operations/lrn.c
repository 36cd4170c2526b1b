#include "check/cases.h"

#include <math.h>

typedef struct nd_lrn_case {
    const char *title;
    int64_t dims[4], size;
    float alpha, beta, k;
} nd_lrn_case;

static const nd_lrn_case nd_lrn_cases[] = {
    {"alexnet", {1, 64, 9, 9}, 5, 1e-4f, 0.75f, 1},
    {"strong", {2, 19, 4, 5}, 5, 0.5f, 0.75f, 2},
    {"size_3", {1, 7, 3, 3}, 3, 1, 0.5f, 1},
    {"even_size", {1, 16, 4, 4}, 4, 1, 0.75f, 1},
    {"wider_than_channels", {3, 4, 2, 2}, 9, 0.25f, 1, 1},
};

static const char *lrn_title(int index) {
    return nd_lrn_cases[index].title;
}

static nd_status lrn_make(nd_problem *problem, int index) {
    const nd_lrn_case *c = &nd_lrn_cases[index];
    const nd_view view = nd_view_row_major(4, c->dims);
    problem->work = (nd_work){.operation = nd_operation_lrn,
                              .x = view,
                              .y = view,
                              .size = c->size,
                              .alpha = c->alpha,
                              .beta = c->beta,
                              .k = c->k};
    return nd_problem_operands(problem);
}

/* Squares scattered to the channels whose window holds them: c - size/2 .. c + (size-1)/2. */
static nd_status lrn_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t channels = work->x.dims[1], plane = work->x.dims[2] * work->x.dims[3];
    const int64_t count = nd_view_count(&work->x);
    double *sums = nd_arena_alloc(&problem->arena, (size_t)count * sizeof *sums);
    ND_REQUIRE(sums, nd_status_memory, "no memory for a normalisation");
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < channels; c++) {
            const int64_t own = i / plane % channels;
            if (c >= own - work->size / 2 && c <= own + (work->size - 1) / 2)
                sums[i + (c - own) * plane] += (double)problem->x[i] * problem->x[i];
        }
    for (int64_t i = 0; i < count; i++) {
        const double base = work->k + work->alpha * sums[i] / (double)work->size;
        problem->expected[i] = problem->x[i] / exp(work->beta * log(base));
        problem->slack[i] =
            fabs(problem->expected[i]) * ((double)(work->size + 8) * problem->rounding.sum + 0x1p-19);
    }
    return nd_status_ok;
}

const nd_check_operation nd_check_lrn = {
    "lrn", sizeof nd_lrn_cases / sizeof *nd_lrn_cases, lrn_title, lrn_make, lrn_expect, false};
