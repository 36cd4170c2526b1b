#include "check/cases.h"

static const struct {
    const char *title;
    int rank;
    int64_t dims[4];
    float value;
} nd_fill_cases[] = {
    {"image_zero", 4, {2, 17, 5, 7}, 0},
    {"image_negative", 4, {1, 64, 3, 3}, -1.5f},
    {"matrix", 2, {3, 41}, 0.25f},
    {"vector", 1, {77}, 1},
};

static const char *fill_title(int index) {
    return nd_fill_cases[index].title;
}

static nd_status fill_make(nd_problem *problem, int index) {
    const nd_view view = nd_view_row_major(nd_fill_cases[index].rank, nd_fill_cases[index].dims);
    problem->work =
        (nd_work){.operation = nd_operation_fill, .x = view, .y = view, .value = nd_fill_cases[index].value};
    return nd_status_ok;
}

static nd_status fill_expect(nd_problem *problem) {
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < nd_view_count(&problem->work.y); i++) problem->expected[i] = problem->work.value;
    return nd_status_ok;
}

const nd_check_operation nd_check_fill = {
    "fill", sizeof nd_fill_cases / sizeof *nd_fill_cases, fill_title, fill_make, fill_expect, false};
