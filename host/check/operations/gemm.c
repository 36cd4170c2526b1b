#include "check/cases.h"

#include <math.h>

typedef struct nd_gemm_case {
    const char *title;
    int64_t m, n, k;
    bool bias, residual;
    nd_activation act;
} nd_gemm_case;

static const nd_gemm_case nd_gemm_cases[] = {
    {"m1_n10_k64", 1, 10, 64, true, false, {0}},
    {"m3_n17_k33", 3, 17, 33, true, false, {.act = nd_act_relu}},
    {"m32_n100_k512", 32, 100, 512, true, false, {0}},
    {"m1_n1000_k1280", 1, 1000, 1280, true, false, {0}},
    {"no_bias", 5, 31, 65, false, false, {0}},
    {"residual", 4, 24, 40, true, true, {.act = nd_act_relu}},
    {"one_of_each", 1, 1, 1, true, false, {0}},
    {"hard_swish", 2, 16, 16, true, false, {.act = nd_act_hard_swish}},
    {"silu", 2, 16, 16, true, false, {.act = nd_act_swish, .a = 1}},
    {"long_sum", 2, 8, 9216, true, false, {.act = nd_act_relu}},
};

static const char *gemm_title(int index) {
    return nd_gemm_cases[index].title;
}

static nd_status gemm_make(nd_problem *problem, int index) {
    const nd_gemm_case *c = &nd_gemm_cases[index];
    const int64_t x[] = {c->m, c->k}, y[] = {c->m, c->n};
    nd_work *work = &problem->work;
    *work = (nd_work){.operation = nd_operation_gemm,
                      .x = nd_view_row_major(2, x),
                      .y = nd_view_row_major(2, y),
                      .residual = c->residual,
                      .activation = c->act};
    work->weights = nd_problem_numbers(problem, c->n * c->k, 1 / sqrt((double)c->k));
    if (c->bias) work->bias = nd_problem_numbers(problem, c->n, 1);
    ND_REQUIRE(work->weights && (work->bias || !c->bias), nd_status_memory, "no memory for weights");
    return nd_problem_operands(problem);
}

/* By outer products. */
static nd_status gemm_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t m = work->y.dims[0], n = work->y.dims[1], k = work->x.dims[1];
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < k; i++)
        for (int64_t row = 0; row < m; row++)
            for (int64_t column = 0; column < n; column++) {
                const double product = (double)problem->x[row * k + i] * work->weights[column * k + i];
                problem->expected[row * n + column] += product;
                problem->slack[row * n + column] += fabs(product);
            }
    nd_problem_finish(problem, (double)k);
    return nd_status_ok;
}

const nd_check_operation nd_check_gemm = {
    "gemm", sizeof nd_gemm_cases / sizeof *nd_gemm_cases, gemm_title, gemm_make, gemm_expect, false};
