#include "check/cases.h"

typedef struct nd_copy_case {
    const char *title;
    int rank;
    int64_t dims[5];
} nd_copy_case;

static const nd_copy_case nd_copy_cases[] = {
    {"image", 4, {2, 33, 5, 7}}, {"one_pixel", 4, {1, 40, 1, 1}},   {"matrix", 2, {5, 37}},
    {"cube", 3, {3, 4, 9}},      {"five_axes", 5, {2, 3, 4, 2, 5}}, {"vector", 1, {100}},
};

static const char *copy_title(int index) {
    return nd_copy_cases[index].title;
}

static nd_status copy_make(nd_problem *problem, int index) {
    const nd_view view = nd_view_row_major(nd_copy_cases[index].rank, nd_copy_cases[index].dims);
    problem->work = (nd_work){.operation = nd_operation_copy, .x = view, .y = view};
    return nd_problem_operands(problem);
}

static nd_status copy_expect(nd_problem *problem) {
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < nd_view_count(&problem->work.y); i++) problem->expected[i] = problem->x[i];
    return nd_status_ok;
}

const nd_check_operation nd_check_copy = {
    "copy", sizeof nd_copy_cases / sizeof *nd_copy_cases, copy_title, copy_make, copy_expect, false};
