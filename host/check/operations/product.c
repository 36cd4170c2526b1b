#include "check/cases.h"

#include <math.h>

typedef struct nd_product_case {
    const char *title;
    int rank;
    int64_t dims[4]; /* of y */
    int64_t k;
    bool repeat[4]; /* leading axes along which x2 is one matrix */
    float alpha;
} nd_product_case;

static const nd_product_case nd_product_cases[] = {
    {"m3_n17_k33", 2, {3, 17}, 33, {0}, 1},
    {"m64_n64_k64", 2, {64, 64}, 64, {0}, 0.125f},
    {"row", 2, {1, 40}, 19, {0}, 1},
    {"column", 2, {40, 1}, 19, {0}, 1},
    {"outer", 2, {13, 7}, 1, {0}, 1},
    {"one_of_each", 2, {1, 1}, 1, {0}, 1},
    {"batch", 3, {3, 9, 12}, 21, {0}, 1},
    {"heads", 4, {2, 3, 17, 17}, 8, {0}, 0.35355339f},
    {"one_for_all", 4, {2, 3, 5, 6}, 7, {true, true}, 1},
    {"one_for_all_images", 3, {3, 5, 6}, 7, {true}, 1},
};

static const char *product_title(int index) {
    return nd_product_cases[index].title;
}

static nd_status product_make(nd_problem *problem, int index) {
    const nd_product_case *c = &nd_product_cases[index];
    int64_t left[4], right[4], count = 1;
    for (int i = 0; i < c->rank; i++) {
        left[i] = right[i] = c->dims[i];
        problem->repeat[i] = c->repeat[i];
    }
    left[c->rank - 1] = right[c->rank - 2] = c->k;
    problem->work = (nd_work){.operation = nd_operation_product,
                              .x = nd_view_row_major(c->rank, left),
                              .x2 = nd_view_row_major(c->rank, right),
                              .y = nd_view_row_major(c->rank, c->dims),
                              .alpha = c->alpha};
    ND_TRY(nd_problem_operands(problem));
    for (int i = 0; i < c->rank; i++) count *= c->repeat[i] ? 1 : right[i];
    problem->x2 = nd_problem_numbers(problem, count, 1);
    ND_REQUIRE(problem->x2, nd_status_memory, "no memory for the inputs of a check");
    return nd_status_ok;
}

/* By outer products, matrix by matrix. */
static nd_status product_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const nd_view *y = &work->y;
    const int64_t m = y->dims[y->rank - 2], n = y->dims[y->rank - 1], k = work->x.dims[y->rank - 1];
    ND_TRY(nd_problem_results(problem));
    for (int64_t batch = 0; batch < nd_view_count(y) / (m * n); batch++) {
        int64_t rest = batch, other = 0, step = 1;
        for (int axis = y->rank - 3; axis >= 0; axis--) {
            if (!problem->repeat[axis]) {
                other += rest % y->dims[axis] * step;
                step *= y->dims[axis];
            }
            rest /= y->dims[axis];
        }
        const float *a = problem->x + batch * m * k, *b = problem->x2 + other * k * n;
        for (int64_t i = 0; i < k; i++)
            for (int64_t at = 0; at < m * n; at++) {
                const double product = (double)work->alpha * a[at / n * k + i] * b[i * n + at % n];
                problem->expected[batch * m * n + at] += product;
                problem->slack[batch * m * n + at] += fabs(product);
            }
    }
    nd_problem_finish(problem, (double)k);
    return nd_status_ok;
}

const nd_check_operation nd_check_product = {
    "product",      sizeof nd_product_cases / sizeof *nd_product_cases,
    product_title,  product_make,
    product_expect, false};
