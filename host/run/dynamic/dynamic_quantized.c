/* 8-bit tensors with a scale and a zero point each: into numbers and back, and the operators of integers that
 * quantisers write in the place of those of numbers ("QOperator format"). Products are summed in integers,
 * exactly; all else is computed in numbers between the two conversions, as its definition has it. */
#include "run/dynamic/dynamic_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the type of a zero point holds; 8 bits without a sign where there is none. */
static void range_of(const nd_call *call, int k, double *low, double *high) {
    const nd_node *node = call->node;
    const int value = k < node->n_in ? node->in[k] : -1;
    const nd_dtype dtype = value < 0 ? nd_dtype_u8 : call->graph->values[value].dtype;
    const bool wide = dtype == nd_dtype_i16 || dtype == nd_dtype_u16;
    const bool negative = dtype == nd_dtype_i8 || dtype == nd_dtype_i16;
    *low = negative ? wide ? -32768 : -128 : 0;
    *high = *low + (wide ? 65535 : 255);
}

/* The operand at `k`, or NULL. */
static const nd_tensor *operand(const nd_call *call, int k) {
    return k < call->node->n_in ? call->in[k] : NULL;
}

/* A scale and its zero points, of the whole tensor or along an axis: entry i / inner % n. Zero points are as
 * many as scales, or one for all of them. */
typedef struct nd_grid {
    const float *scales;
    const int64_t *zeros; /* NULL: none */
    int64_t n, n_zeros, inner;
} nd_grid;

static int64_t zero_of(const nd_grid *grid, int64_t c) {
    return grid->zeros ? grid->zeros[c % grid->n_zeros] : 0;
}

static nd_status grid_of(const nd_call *call, int k, int64_t axis, const nd_tensor *x, nd_grid *out) {
    const nd_tensor *scale, *zero = operand(call, k + 1);
    int at = 0;
    ND_TRY(nd_call_input(call, k, &scale));
    const int64_t n = nd_tensor_count(scale), n_zeros = zero ? nd_tensor_count(zero) : 1;
    ND_REQUIRE(scale->dtype == nd_dtype_f32 && n > 0 && scale->rank <= 1 && (n_zeros == 1 || n_zeros == n) &&
                   (!zero || zero->dtype == nd_dtype_i64),
               nd_status_unsupported, "a scale or zero point that is neither one nor a row of them");
    *out = (nd_grid){scale->data, zero ? zero->data : NULL, n, n_zeros, 1};
    if (n == 1) return nd_status_ok;
    ND_TRY(nd_call_axis(axis, x->rank, &at));
    ND_REQUIRE(x->dims[at] == n, nd_status_format, "%lld scales along an axis of %lld", (long long)n,
               (long long)x->dims[at]);
    out->inner = nd_call_inner(x, at);
    return nd_status_ok;
}

/* The integers x in numbers; their scale is operand `k`. */
static nd_status to_numbers(const nd_call *call, const nd_tensor *x, int k, int64_t axis, nd_tensor *out) {
    nd_grid grid;
    ND_REQUIRE(x->dtype == nd_dtype_i64, nd_status_format, "an operand in %s", nd_dtype_name(x->dtype));
    ND_TRY(grid_of(call, k, axis, x, &grid));
    ND_TRY(nd_call_new(nd_dtype_f32, x->rank, x->dims, out));
    const int64_t count = nd_tensor_count(x), *from = x->data;
    float *to = out->data;
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = i / grid.inner % grid.n;
        to[i] = (float)(from[i] - zero_of(&grid, c)) * grid.scales[c];
    }
    return nd_status_ok;
}

/* The numbers x in integers; their scale is operand `k`. */
static nd_status to_integers(const nd_call *call, const nd_tensor *x, int k, int64_t axis, nd_tensor *out) {
    nd_grid grid;
    double low, high;
    ND_REQUIRE(x->dtype == nd_dtype_f32, nd_status_format, "an operand in %s", nd_dtype_name(x->dtype));
    ND_TRY(grid_of(call, k, axis, x, &grid));
    ND_TRY(nd_call_new(nd_dtype_i64, x->rank, x->dims, out));
    range_of(call, k + 1, &low, &high);
    const int64_t count = nd_tensor_count(x);
    const float *from = x->data;
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = i / grid.inner % grid.n;
        const double zero = (double)zero_of(&grid, c);
        const double at = (double)nearbyintf(from[i] / grid.scales[c]) + zero;
        ((int64_t *)out->data)[i] = (int64_t)fmin(high, fmax(low, at)); /* NaN: the lowest */
    }
    return nd_status_ok;
}

nd_status nd_call_quantize(nd_call *call) {
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    return to_integers(call, x, 1, call->node->attr.axis, &call->out[0]);
}

nd_status nd_call_dequantize(nd_call *call) {
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    return to_numbers(call, x, 1, call->node->attr.axis, &call->out[0]);
}

/* --- products */

/* Where a product has its operands: a, b, their scales (zero points follow those), the bias, the scale of the
 * result. */
typedef struct nd_product_operands {
    int a, b, bias, result;
    nd_call_function *sums;
    int axis; /* of b, in the result: that has a scale for each index */
} nd_product_operands;

/* Sums become numbers by the scales of both operands. */
static nd_status product_numbers(const nd_call *call, const nd_product_operands *at, const nd_tensor *sums,
                                 nd_tensor *out) {
    nd_grid a, b;
    const nd_tensor *bias = operand(call, at->bias);
    const int axis = at->axis < 0 ? sums->rank + at->axis : at->axis;
    ND_TRY(grid_of(call, at->a + 1, 0, sums, &a));
    ND_REQUIRE(a.n == 1, nd_status_unsupported, "a scale for every row");
    ND_TRY(grid_of(call, at->b + 1, axis, sums, &b));
    ND_TRY(nd_call_new(nd_dtype_f32, sums->rank, sums->dims, out));
    const int64_t inner = sums->rank ? nd_call_inner(sums, axis) : 1, n = sums->rank ? sums->dims[axis] : 1;
    ND_REQUIRE(!bias || (bias->dtype == nd_dtype_i64 && n && nd_tensor_count(bias) == n),
               nd_status_unsupported, "a bias that is no row of integers");
    const int64_t count = nd_tensor_count(sums), *from = sums->data;
    const float alpha = call->node->attr.alpha;
    for (int64_t i = 0; i < count; i++) {
        const int64_t sum = from[i] + (bias ? ((const int64_t *)bias->data)[i / inner % n] : 0);
        ((float *)out->data)[i] = (float)sum * (alpha * a.scales[0] * b.scales[i / b.inner % b.n]);
    }
    return nd_status_ok;
}

/* Operands without their scales, in integers. */
static nd_status product_sums(const nd_call *call, const nd_product_operands *at, const nd_tensor *b,
                              nd_tensor *out) {
    const nd_tensor *in[] = {operand(call, at->a), b, operand(call, at->a + 2), operand(call, at->b + 2)};
    nd_node node = *call->node;
    nd_call sub = *call;
    node.n_in = 4;
    sub.node = &node;
    sub.in = in;
    sub.out = out;
    return at->sums(&sub);
}

static nd_status run_product(nd_call *call, const nd_product_operands *at, const nd_tensor *b) {
    nd_tensor sums = {0}, numbers = {0};
    nd_status status = product_sums(call, at, b, &sums);
    if (!status) status = product_numbers(call, at, &sums, &numbers);
    if (!status && operand(call, at->result)) {
        status = to_integers(call, &numbers, at->result, 0, &call->out[0]);
    } else if (!status) { /* QGemm without a scale of its result leaves numbers */
        call->out[0] = numbers;
        numbers = (nd_tensor){0};
    }
    nd_tensor_free(&sums);
    nd_tensor_free(&numbers);
    return status;
}

nd_status nd_call_qlinear_conv(nd_call *call) {
    static const nd_product_operands at = {0, 3, 8, 6, nd_call_conv_integer, 1};
    return run_product(call, &at, operand(call, at.b));
}

nd_status nd_call_qlinear_matmul(nd_call *call) {
    static const nd_product_operands at = {0, 3, INT32_MAX, 6, nd_call_matmul_integer, -1};
    return run_product(call, &at, operand(call, at.b));
}

nd_status nd_call_qgemm(nd_call *call) {
    static const nd_product_operands at = {0, 3, 6, 7, nd_call_matmul_integer, -1};
    const nd_tensor *b;
    ND_TRY(nd_call_input(call, at.b, &b));
    if (!call->node->attr.trans_b) return run_product(call, &at, b);
    ND_REQUIRE(b->rank == 2 && b->dtype == nd_dtype_i64, nd_status_format, "an operand that is no matrix");
    nd_tensor turned = {0};
    ND_TRY(nd_call_new(nd_dtype_i64, 2, (const int64_t[]){b->dims[1], b->dims[0]}, &turned));
    nd_call_copy(b, 0, (const int64_t[]){1, b->dims[1]}, &turned);
    const nd_status status = run_product(call, &at, &turned);
    nd_tensor_free(&turned);
    return status;
}

/* --- all others: in numbers between two conversions */

static const struct {
    const char *op, *of_numbers;
    nd_op kind;
    int operands;
    nd_call_function *function;
} nd_quantised_calls[] = {
    {"com.microsoft.QLinearAdd", "Add", nd_op_add, 2, nd_call_binary},
    {"com.microsoft.QLinearMul", "Mul", nd_op_mul, 2, nd_call_binary},
    {"com.microsoft.QLinearSigmoid", "Sigmoid", nd_op_sigmoid, 1, nd_call_unary},
    {"com.microsoft.QLinearLeakyRelu", "LeakyRelu", nd_op_leaky_relu, 1, nd_call_unary},
    {"com.microsoft.QLinearSoftmax", "Softmax", nd_op_softmax, 1, nd_call_plan},
    {"com.microsoft.QLinearAveragePool", "AveragePool", nd_op_average_pool, 1, nd_call_plan},
    {"com.microsoft.QLinearGlobalAveragePool", "GlobalAveragePool", nd_op_global_average_pool, 1,
     nd_call_plan},
};

nd_status nd_call_in_numbers(nd_call *call) {
    enum { triple = 3, most = 2 }; /* an operand, its scale, its zero point */
    size_t i = 0;
    while (strcmp(nd_quantised_calls[i].op, call->node->op_type)) i++; /* the table of calls names it */
    const int n = nd_quantised_calls[i].operands;
    nd_tensor numbers[most] = {{0}}, result = {0};
    const nd_tensor *in[most] = {&numbers[0], &numbers[1]}, *x;
    nd_node node = *call->node;
    nd_call sub = *call;
    int ends[most] = {-1, -1};
    nd_status status = nd_status_ok;
    for (int k = 0; k < n; k++) {
        ND_TRY_DONE(nd_call_input(call, triple * k, &x));
        ND_TRY_DONE(to_numbers(call, x, triple * k + 1, 0, &numbers[k]));
        ends[k] = call->node->in[triple * k];
    }
    node.op = nd_quantised_calls[i].kind;
    node.op_type = nd_quantised_calls[i].of_numbers;
    node.in = ends;
    node.n_in = n;
    sub.node = &node;
    sub.in = in;
    sub.out = &result;
    status = nd_quantised_calls[i].function(&sub);
    call->kept = sub.kept;
    if (!status) status = to_integers(call, &result, triple * n, 0, &call->out[0]);
done:
    nd_tensor_free(&numbers[0]);
    nd_tensor_free(&numbers[1]);
    nd_tensor_free(&result);
    return status;
}

/* Scale and zero point of the whole come first, then the parts with theirs. */
nd_status nd_call_qlinear_concat(nd_call *call) {
    const int n = (call->node->n_in - 2) / 3;
    nd_tensor *numbers = nd_alloc_array((size_t)n + 1, sizeof *numbers), result = {0};
    const nd_tensor **in = nd_alloc_array((size_t)n + 1, sizeof *in), *x;
    nd_node node = *call->node;
    nd_call sub = *call;
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(numbers && in, nd_status_memory, "no memory");
    ND_REQUIRE_DONE(n > 0 && call->node->n_in == 3 * n + 2, nd_status_format, "%d inputs", call->node->n_in);
    for (int k = 0; k < n; k++) {
        ND_TRY_DONE(nd_call_input(call, 3 * k + 2, &x));
        ND_TRY_DONE(to_numbers(call, x, 3 * k + 3, 0, &numbers[k]));
        in[k] = &numbers[k];
    }
    node.n_in = n;
    sub.node = &node;
    sub.in = in;
    sub.out = &result;
    ND_TRY_DONE(nd_call_concat(&sub));
    status = to_integers(call, &result, 0, 0, &call->out[0]);
done:
    for (int k = 0; numbers && k < n; k++) nd_tensor_free(&numbers[k]);
    free(numbers);
    free(in);
    nd_tensor_free(&result);
    return status;
}
