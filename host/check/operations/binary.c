#include "check/cases.h"

#include <math.h>

typedef struct nd_binary_case {
    const char *title;
    int rank;
    int64_t dims[4];
    bool repeat[4]; /* axes on which x2 has one element */
    nd_pairing pairing;
    nd_activation act;
} nd_binary_case;

static const nd_binary_case nd_binary_cases[] = {
    {"add", 4, {1, 64, 9, 9}, {0}, nd_pairing_add, {0}},
    {"add_relu", 4, {3, 17, 5, 7}, {0}, nd_pairing_add, {.act = nd_act_relu}},
    {"add_clip", 4, {1, 20, 1, 1}, {0}, nd_pairing_add, {nd_act_clip, -1, 1}},
    {"add_matrix", 2, {3, 37}, {0}, nd_pairing_add, {0}},
    {"add_cube", 3, {2, 5, 11}, {0}, nd_pairing_add, {0}},
    {"mul", 4, {2, 24, 6, 6}, {0}, nd_pairing_mul, {0}},
    {"mul_by_channel", 4, {2, 33, 7, 7}, {false, false, true, true}, nd_pairing_mul, {0}},
    {"mul_by_pixel", 4, {1, 16, 6, 5}, {false, true, false, false}, nd_pairing_mul, {0}},
    {"add_one_for_all_images", 4, {3, 8, 4, 4}, {true, false, false, false}, nd_pairing_add, {0}},
    {"add_scalar",
     4,
     {2, 12, 3, 3},
     {true, true, true, true},
     nd_pairing_add,
     {.act = nd_act_leaky_relu, .a = 0.1f}},
    {"mul_row", 2, {4, 19}, {true, false}, nd_pairing_mul, {0}},
    {"sub", 4, {2, 24, 6, 6}, {0}, nd_pairing_sub, {0}},
    {"sub_row", 3, {2, 5, 11}, {true, false, true}, nd_pairing_sub, {.act = nd_act_relu}},
    {"div", 4, {2, 19, 6, 6}, {0}, nd_pairing_div, {0}},
    {"div_by_row", 3, {2, 9, 21}, {false, false, true}, nd_pairing_div, {0}},
    {"pow", 3, {2, 5, 13}, {0}, nd_pairing_pow, {0}},
    {"pow_2", 4, {1, 20, 3, 3}, {true, true, true, true}, nd_pairing_pow, {0}},
    {"min", 4, {2, 17, 5, 5}, {0}, nd_pairing_min, {0}},
    {"max_by_channel", 4, {2, 17, 5, 5}, {true, false, true, true}, nd_pairing_max, {0}},
    {"prelu", 4, {2, 17, 5, 5}, {true, false, true, true}, nd_pairing_prelu, {0}},
    {"keep", 4, {2, 17, 5, 5}, {0}, nd_pairing_keep, {0}},
    {"drop", 3, {3, 8, 8}, {true, false, false}, nd_pairing_drop, {0}},
    {"equal", 3, {2, 7, 9}, {0}, nd_pairing_equal, {0}},
    {"less", 4, {2, 9, 4, 4}, {true, false, true, true}, nd_pairing_less, {0}},
    {"less_equal", 2, {5, 33}, {true, true}, nd_pairing_less_equal, {0}},
};

static const char *binary_title(int index) {
    return nd_binary_cases[index].title;
}

static bool compares(nd_pairing pairing) {
    return pairing == nd_pairing_equal || pairing == nd_pairing_less || pairing == nd_pairing_less_equal;
}

/* Divisors away from zero; powers of positive numbers that fit the narrowest type; comparisons of few
 * numbers, of which many are equal in any type. */
static void binary_domain(nd_problem *problem) {
    const nd_pairing pairing = problem->work.pairing;
    int64_t others = 1;
    for (int i = 0; i < problem->work.y.rank; i++) others *= problem->repeat[i] ? 1 : problem->work.y.dims[i];
    for (int64_t i = 0; i < others; i++) {
        float *b = &problem->x2[i];
        if (pairing == nd_pairing_div && fabsf(*b) < 0.25f) *b = 1;
        if (compares(pairing)) *b = rintf(*b);
        if (pairing == nd_pairing_pow) *b = others == 1 ? 2 : fmodf(rintf(*b), 3);
    }
    for (int64_t i = 0; compares(pairing) && i < nd_view_count(&problem->work.x); i++)
        problem->x[i] = rintf(problem->x[i]);
    for (int64_t i = 0; pairing == nd_pairing_pow && i < nd_view_count(&problem->work.x); i++)
        if (others > 1 && fabsf(problem->x[i]) < 0.125f) problem->x[i] = 1;
}

static nd_status binary_make(nd_problem *problem, int index) {
    const nd_binary_case *c = &nd_binary_cases[index];
    const nd_view view = nd_view_row_major(c->rank, c->dims);
    problem->work = (nd_work){
        .operation = nd_operation_binary, .x = view, .y = view, .pairing = c->pairing, .activation = c->act};
    for (int i = 0; i < c->rank; i++) problem->repeat[i] = c->repeat[i];
    ND_TRY(nd_problem_operands(problem));
    binary_domain(problem);
    return nd_status_ok;
}

/* In double; the powers are whole and small. */
static double binary_value(nd_pairing pairing, double a, double b) {
    double power = 1;
    switch (pairing) {
    case nd_pairing_mul:
        return a * b;
    case nd_pairing_sub:
        return a - b;
    case nd_pairing_div:
        return a / b;
    case nd_pairing_pow:
        for (int i = 0; i < (int)fabs(b); i++) power *= a;
        return b < 0 ? 1 / power : power;
    case nd_pairing_min:
        return fmin(a, b);
    case nd_pairing_max:
        return fmax(a, b);
    case nd_pairing_prelu:
        return fmax(a, 0) + b * fmin(a, 0);
    case nd_pairing_keep:
        return b == 0 ? 0 : a;
    case nd_pairing_drop:
        return b == 0 ? a : 0;
    case nd_pairing_equal:
        return fabs(a - b) < 0.5;
    case nd_pairing_less:
        return b - a > 0.5;
    case nd_pairing_less_equal:
        return a - b < 0.5;
    case nd_pairing_add:
    case nd_pairing_count:
        break;
    }
    return a + b;
}

static nd_status binary_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const nd_view *y = &work->y;
    const bool sum = work->pairing == nd_pairing_add || work->pairing == nd_pairing_sub;
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < nd_view_count(y); i++) {
        int64_t rest = i, other = 0, step = 1;
        for (int axis = y->rank - 1; axis >= 0; axis--) {
            if (!problem->repeat[axis]) {
                other += rest % y->dims[axis] * step;
                step *= y->dims[axis];
            }
            rest /= y->dims[axis];
        }
        const double a = problem->x[i], b = problem->x2[other];
        problem->expected[i] = binary_value(work->pairing, a, b);
        problem->slack[i] = sum ? fabs(a) + fabs(b) : fabs(problem->expected[i]);
    }
    problem->rounding.product = 0; /* nothing here runs on tensor cores */
    nd_problem_finish(problem, 1);
    return nd_status_ok;
}

const nd_check_operation nd_check_binary = {"binary",      sizeof nd_binary_cases / sizeof *nd_binary_cases,
                                            binary_title,  binary_make,
                                            binary_expect, false};
