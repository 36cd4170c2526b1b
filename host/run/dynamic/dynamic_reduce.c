#include "run/dynamic/dynamic_parts.h"

#include "model/dims.h"
#include "run/executor/executor_functions.h"
#include "run/ref/reduction.h"

#include <stdlib.h>
#include <string.h>

/* Every element of x goes to the one of the result that has its index but for the axes reduced. */
typedef struct nd_reduced {
    nd_reduction reduction;
    const nd_tensor *x;
    int64_t strides[nd_rank_max]; /* in the result, 0 along the axes reduced */
    int64_t count, terms;         /* results, and elements of x for each */
} nd_reduced;

static int64_t reduced_at(const nd_reduced *r, const int64_t *index) {
    int64_t at = 0;
    for (int i = 0; i < r->x->rank; i++) at += index[i] * r->strides[i];
    return at;
}

static void real_pass(const nd_reduced *r, nd_reduction reduction, const double *largest, double *sums) {
    const double start = nd_reduction_start(reduction);
    const float *x = r->x->data;
    int64_t index[nd_rank_max] = {0}, done = 0;
    for (int64_t i = 0; i < r->count; i++) sums[i] = start;
    if (nd_tensor_count(r->x) <= 0) return;
    do {
        const int64_t at = reduced_at(r, index);
        sums[at] = nd_reduction_step(reduction, sums[at], x[done++], largest ? largest[at] : 0);
    } while (nd_call_next(r->x->rank, r->x->dims, index));
}

static nd_status reduce_real(const nd_reduced *r, float *y) {
    double *sums = nd_alloc_array(2 * (size_t)r->count + 1, sizeof *sums), *largest = sums + r->count;
    ND_REQUIRE(sums, nd_status_memory, "no memory");
    const bool shifted = r->reduction == nd_reduction_log_sum_exp;
    if (shifted) real_pass(r, nd_reduction_max, NULL, largest);
    for (int64_t i = 0; shifted && i < r->count; i++)
        if (isinf(largest[i])) largest[i] = 0;
    real_pass(r, r->reduction, largest, sums);
    for (int64_t i = 0; i < r->count; i++)
        y[i] = (float)nd_reduction_finish(r->reduction, sums[i], (double)r->terms, largest[i]);
    free(sums);
    return nd_status_ok;
}

/* Overflow wraps around. */
static uint64_t whole_step(nd_reduction reduction, uint64_t sum, int64_t x) {
    switch (reduction) {
    case nd_reduction_max:
        return x > (int64_t)sum ? (uint64_t)x : sum;
    case nd_reduction_min:
        return x < (int64_t)sum ? (uint64_t)x : sum;
    case nd_reduction_prod:
        return sum * (uint64_t)x;
    case nd_reduction_l1:
        return sum + (x < 0 ? -(uint64_t)x : (uint64_t)x);
    case nd_reduction_sum_square:
        return sum + (uint64_t)x * (uint64_t)x;
    default:
        return sum + (uint64_t)x;
    }
}

static nd_status reduce_whole(const nd_reduced *r, int64_t *y) {
    const nd_reduction kind = r->reduction;
    ND_REQUIRE(kind <= nd_reduction_l1 || kind == nd_reduction_sum_square, nd_status_unsupported,
               "a reduction of integers");
    const int64_t start = kind == nd_reduction_max   ? INT64_MIN
                          : kind == nd_reduction_min ? INT64_MAX
                                                     : kind == nd_reduction_prod;
    const int64_t *x = r->x->data;
    int64_t index[nd_rank_max] = {0}, done = 0;
    for (int64_t i = 0; i < r->count; i++) y[i] = start;
    if (nd_tensor_count(r->x) <= 0) return nd_status_ok;
    do {
        int64_t *sum = &y[reduced_at(r, index)];
        *sum = (int64_t)whole_step(kind, (uint64_t)*sum, x[done++]);
    } while (nd_call_next(r->x->rank, r->x->dims, index));
    for (int64_t i = 0; kind == nd_reduction_mean && i < r->count; i++) y[i] /= r->terms;
    return nd_status_ok;
}

nd_status nd_call_reduce(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    nd_reduced r = {0};
    int64_t axes[nd_rank_max], dims[nd_rank_max];
    bool marked[nd_rank_max];
    int n, rank = 0;
    ND_TRY(nd_call_input(call, 0, &r.x));
    ND_REQUIRE(nd_exec_reduction(call->node, &r.reduction), nd_status_unsupported, "no such reduction");
    ND_REQUIRE(r.x->dtype != nd_dtype_bool, nd_status_unsupported, "a reduction of truth values");
    ND_TRY(nd_call_list(call, 1, attr->n, attr->list, axes, nd_rank_max, &n));
    ND_REQUIRE(nd_dims_mark(r.x->rank, axes, n, marked), nd_status_format,
               "axes that are not among %d, or twice", r.x->rank);
    for (int i = 0; i < r.x->rank && n <= 0; i++) marked[i] = true;
    r.count = r.terms = 1;
    for (int i = r.x->rank - 1; i >= 0; i--) {
        r.strides[i] = marked[i] ? 0 : r.count;
        *(marked[i] ? &r.terms : &r.count) *= r.x->dims[i];
    }
    for (int i = 0; i < r.x->rank; i++)
        if (!marked[i] || attr->keep_dims) dims[rank++] = marked[i] ? 1 : r.x->dims[i];
    ND_TRY(nd_call_new(r.x->dtype, rank, dims, &call->out[0]));
    return r.x->dtype == nd_dtype_f32 ? reduce_real(&r, call->out[0].data)
                                      : reduce_whole(&r, call->out[0].data);
}

nd_status nd_call_cumulative(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const nd_tensor *x;
    double wanted;
    int axis;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_number(call, 1, 0, &wanted));
    ND_TRY(nd_call_axis((int64_t)wanted, x->rank, &axis));
    ND_REQUIRE(x->dtype != nd_dtype_bool, nd_status_format, "truth values");
    ND_TRY(nd_call_new(x->dtype, x->rank, x->dims, &call->out[0]));
    const int64_t outer = nd_call_outer(x, axis), inner = nd_call_inner(x, axis), size = x->dims[axis];
    for (int64_t row = 0; row < outer * inner; row++) {
        const int64_t first = row / inner * size * inner + row % inner;
        double real = 0;
        uint64_t whole = 0;
        for (int64_t i = 0; i < size; i++) {
            const int64_t at = first + (attr->reverse ? size - 1 - i : i) * inner;
            const double term = x->dtype == nd_dtype_f32 ? (double)((const float *)x->data)[at] : 0;
            const uint64_t item = x->dtype == nd_dtype_i64 ? ((const uint64_t *)x->data)[at] : 0;
            if (x->dtype == nd_dtype_f32)
                ((float *)call->out[0].data)[at] = (float)(attr->exclusive ? real : real + term);
            else
                ((uint64_t *)call->out[0].data)[at] = attr->exclusive ? whole : whole + item;
            real += term;
            whole += item;
        }
    }
    return nd_status_ok;
}
