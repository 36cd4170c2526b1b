#include "run/dynamic/dynamic_parts.h"

#include "model/dims.h"
#include "run/executor/executor_functions.h"

#include <math.h>
#include <string.h>

/* One function of two for each type of operand; NULL where there is none. */
typedef struct nd_two {
    nd_pairing pairing; /* of f32, where `real` is NULL */
    bool turned, compares;
    float (*real)(float a, float b);
    int64_t (*whole)(int64_t a, int64_t b);
} nd_two;

/* Overflow wraps around. */
static int64_t whole_add(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static int64_t whole_sub(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

static int64_t whole_mul(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* Truncating; a division by zero, which no integer answers, gives 0. */
static int64_t whole_div(int64_t a, int64_t b) {
    return b == 0 ? 0 : b == -1 ? whole_sub(0, a) : a / b;
}

static int64_t whole_remainder(int64_t a, int64_t b) {
    return b == 0 || b == -1 ? 0 : a % b;
}

/* The sign of the divisor, as Python has it. */
static int64_t whole_mod(int64_t a, int64_t b) {
    const int64_t rest = whole_remainder(a, b);
    return rest && (rest < 0) != (b < 0) ? rest + b : rest;
}

static int64_t whole_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t whole_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t whole_pow(int64_t a, int64_t b) {
    int64_t power = 1;
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
    for (; b; b /= 2, a = whole_mul(a, a))
        if (b % 2) power = whole_mul(power, a);
    return power;
}

static int64_t whole_equal(int64_t a, int64_t b) {
    return a == b;
}

static int64_t whole_less(int64_t a, int64_t b) {
    return a < b;
}

static int64_t whole_less_equal(int64_t a, int64_t b) {
    return a <= b;
}

static int64_t whole_and(int64_t a, int64_t b) {
    return a && b;
}

static int64_t whole_or(int64_t a, int64_t b) {
    return a || b;
}

static int64_t whole_xor(int64_t a, int64_t b) {
    return !a != !b;
}

static float real_mod(float a, float b) {
    const float rest = fmodf(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static const struct {
    const char *op;
    int64_t (*whole)(int64_t a, int64_t b);
    bool compares;
} nd_wholes[] = {
    {"Add", whole_add, false},     {"And", whole_and, true},
    {"Div", whole_div, false},     {"Equal", whole_equal, true},
    {"Greater", whole_less, true}, {"GreaterOrEqual", whole_less_equal, true},
    {"Less", whole_less, true},    {"LessOrEqual", whole_less_equal, true},
    {"Max", whole_max, false},     {"Min", whole_min, false},
    {"Mod", whole_mod, false},     {"Mul", whole_mul, false},
    {"Or", whole_or, true},        {"Pow", whole_pow, false},
    {"Sub", whole_sub, false},     {"Sum", whole_add, false},
    {"Xor", whole_xor, true},
};

static nd_status binary_find(const nd_node *node, nd_two *out) {
    const char *op = node->op_type;
    *out = (nd_two){.pairing = nd_pairing_count};
    for (size_t i = 0; i < sizeof nd_wholes / sizeof *nd_wholes; i++) {
        if (strcmp(nd_wholes[i].op, op)) continue;
        out->whole = nd_wholes[i].whole;
        out->compares = nd_wholes[i].compares;
    }
    if (!strcmp(op, "Mod")) {
        out->real = node->attr.remainder ? fmodf : real_mod;
        if (node->attr.remainder) out->whole = whole_remainder;
        return nd_status_ok;
    }
    const bool found = nd_exec_pairing(node, &out->pairing, &out->turned);
    ND_REQUIRE(found || out->whole, nd_status_unsupported, "no such function of two");
    return nd_status_ok;
}

/* A row of the result: the last axis, along which each operand takes its own steps. */
static void binary_row(const nd_two *two, const nd_tensor *a, int64_t at_a, int64_t step_a,
                       const nd_tensor *b, int64_t at_b, int64_t step_b, nd_tensor *y, int64_t at,
                       int64_t length) {
    const bool truth = y->dtype == nd_dtype_bool;
    for (int64_t i = 0; i < length; i++) {
        const int64_t p = at_a + i * step_a, q = at_b + i * step_b;
        if (a->dtype == nd_dtype_f32) {
            const float u = ((const float *)a->data)[p], v = ((const float *)b->data)[q];
            const float z = two->real ? two->real(u, v) : nd_pairing_apply(two->pairing, u, v);
            if (truth)
                ((uint8_t *)y->data)[at + i] = z != 0;
            else
                ((float *)y->data)[at + i] = z;
            continue;
        }
        const bool whole = a->dtype == nd_dtype_i64;
        const int64_t u = whole ? ((const int64_t *)a->data)[p] : ((const uint8_t *)a->data)[p];
        const int64_t v = whole ? ((const int64_t *)b->data)[q] : ((const uint8_t *)b->data)[q];
        const int64_t z = two->whole(u, v);
        if (truth)
            ((uint8_t *)y->data)[at + i] = z != 0;
        else
            ((int64_t *)y->data)[at + i] = z;
    }
}

static nd_status binary_run(const nd_two *two, const nd_tensor *a, const nd_tensor *b, nd_tensor *out) {
    const nd_tensor *const left = two->turned ? b : a, *const right = two->turned ? a : b;
    int64_t dims[nd_rank_max], left_strides[nd_rank_max], right_strides[nd_rank_max],
        index[nd_rank_max] = {0};
    int rank;
    ND_REQUIRE(nd_dims_broadcast(a->rank, a->dims, b->rank, b->dims, &rank, dims), nd_status_format,
               "operands that do not broadcast");
    const nd_dtype dtype = two->compares ? nd_dtype_bool : a->dtype;
    ND_REQUIRE(a->dtype == nd_dtype_f32 ? two->real || two->pairing < nd_pairing_count : two->whole != NULL,
               nd_status_unsupported, "operands in %s", nd_dtype_name(a->dtype));
    ND_REQUIRE(dtype != nd_dtype_bool || two->compares, nd_status_unsupported,
               "operands that are truth values");
    ND_TRY(nd_call_new(dtype, rank, dims, out));
    if (nd_tensor_count(out) <= 0) return nd_status_ok;
    nd_call_strides(left, out, left_strides);
    nd_call_strides(right, out, right_strides);
    const int rows = rank ? rank - 1 : 0;
    const int64_t length = rank ? dims[rows] : 1;
    int64_t at = 0;
    do {
        int64_t p = 0, q = 0;
        for (int i = 0; i < rows; i++) {
            p += index[i] * left_strides[i];
            q += index[i] * right_strides[i];
        }
        binary_row(two, left, p, rank ? left_strides[rows] : 0, right, q, rank ? right_strides[rows] : 0, out,
                   at, length);
        at += length;
    } while (nd_call_next(rows, dims, index));
    return nd_status_ok;
}

/* Operands of one type, which those of Pow alone need not be: then as the first is. */
nd_status nd_call_binary(nd_call *call) {
    const nd_tensor *first;
    nd_two two;
    nd_tensor so_far, other = {0}, sum = {0};
    nd_status status = nd_status_ok;
    ND_TRY(binary_find(call->node, &two));
    ND_TRY(nd_call_input(call, 0, &first));
    so_far = nd_tensor_share(first);
    for (int k = 1; k < call->node->n_in; k++) {
        const nd_tensor *next;
        ND_TRY_DONE(nd_call_input(call, k, &next));
        ND_TRY_DONE(nd_call_convert(next, so_far.dtype, &other));
        ND_TRY_DONE(binary_run(&two, &so_far, &other, &sum));
        nd_tensor_free(&so_far);
        nd_tensor_free(&other);
        so_far = sum;
        sum = (nd_tensor){0};
    }
    call->out[0] = so_far;
    so_far = (nd_tensor){0};
done:
    nd_tensor_free(&so_far);
    nd_tensor_free(&other);
    nd_tensor_free(&sum);
    return status;
}

static nd_status unary_whole(const char *op, const nd_tensor *x, nd_tensor *y) {
    static const char *const functions[] = {"Abs", "Neg", "Sign", "Relu"};
    int function = 0;
    while (function < 4 && strcmp(functions[function], op)) function++;
    ND_REQUIRE(function < 4 && x->dtype == nd_dtype_i64, nd_status_unsupported, "an operand in %s",
               nd_dtype_name(x->dtype));
    const int64_t *from = x->data, count = nd_tensor_count(x);
    int64_t *to = y->data;
    for (int64_t i = 0; i < count; i++) {
        const int64_t v = from[i], sign = (v > 0) - (v < 0);
        to[i] = function == 2 ? sign : function == 3 ? whole_max(v, 0) : whole_mul(v, function ? -1 : sign);
    }
    return nd_status_ok;
}

nd_status nd_call_unary(nd_call *call) {
    const char *op = call->node->op_type;
    const bool truth = !strcmp(op, "IsNaN"), negates = !strcmp(op, "Not");
    nd_activation activation;
    const nd_tensor *x;
    nd_tensor *y = &call->out[0];
    ND_TRY(nd_call_input(call, 0, &x));
    ND_REQUIRE(!negates || x->dtype == nd_dtype_bool, nd_status_format, "an operand in %s",
               nd_dtype_name(x->dtype));
    ND_REQUIRE(!truth || x->dtype == nd_dtype_f32, nd_status_unsupported, "an operand in %s",
               nd_dtype_name(x->dtype));
    ND_TRY(nd_call_new(truth ? nd_dtype_bool : x->dtype, x->rank, x->dims, y));
    const int64_t count = nd_tensor_count(x);
    const float *from = x->data;
    if (!negates && x->dtype != nd_dtype_f32) return unary_whole(op, x, y);
    ND_REQUIRE(truth || negates || nd_exec_activation(call->node, &activation), nd_status_unsupported,
               "no such function of one");
    for (int64_t i = 0; i < count; i++) {
        if (negates)
            ((uint8_t *)y->data)[i] = !((const uint8_t *)x->data)[i];
        else if (truth)
            ((uint8_t *)y->data)[i] = isnan(from[i]);
        else
            ((float *)y->data)[i] = nd_activation_apply(activation, from[i]);
    }
    return nd_status_ok;
}

/* Bounds as inputs, or as attributes before opset 11, which constant inputs have become too. */
nd_status nd_call_clip(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const nd_tensor *x;
    nd_tensor *y = &call->out[0];
    double low, high;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_number(call, 1, (double)attr->lo, &low));
    ND_TRY(nd_call_number(call, 2, (double)attr->hi, &high));
    ND_REQUIRE(x->dtype != nd_dtype_bool, nd_status_format, "truth values");
    ND_TRY(nd_call_new(x->dtype, x->rank, x->dims, y));
    const int64_t count = nd_tensor_count(x);
    for (int64_t i = 0; i < count; i++) {
        if (x->dtype == nd_dtype_f32) {
            const nd_activation clip = {.act = nd_act_clip, .a = (float)low, .b = (float)high};
            ((float *)y->data)[i] = nd_activation_apply(clip, ((const float *)x->data)[i]);
            continue;
        }
        const int64_t v = ((const int64_t *)x->data)[i];
        ((int64_t *)y->data)[i] = (double)v < low ? (int64_t)low : (double)v > high ? (int64_t)high : v;
    }
    return nd_status_ok;
}

/* An integer in fewer bits keeps its lowest ones. */
static void cast_narrow(nd_dtype dtype, int64_t count, int64_t *items) {
    const int unused = 64 - 8 * (int)nd_dtype_bytes(dtype);
    const bool negative = dtype == nd_dtype_i8 || dtype == nd_dtype_i16 || dtype == nd_dtype_i32;
    for (int64_t i = 0; unused && i < count; i++) {
        const uint64_t high = (uint64_t)items[i] << unused;
        items[i] = negative ? (int64_t)high >> unused : (int64_t)(high >> unused);
    }
}

nd_status nd_call_cast(nd_call *call) {
    const nd_dtype to = call->node->attr.dtype;
    const bool whole = to > nd_dtype_bf16 && to != nd_dtype_bool;
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_convert(x, whole ? nd_dtype_i64 : to == nd_dtype_bool ? to : nd_dtype_f32, call->out));
    if (!whole || x->dtype == nd_dtype_bool || nd_dtype_bytes(to) == 8) return nd_status_ok;
    if (call->out->buffer == x->buffer) { /* shared, and not to be written */
        const nd_tensor shared = *call->out;
        const nd_status status = nd_call_new(nd_dtype_i64, x->rank, x->dims, call->out);
        if (!status && nd_tensor_count(x)) memcpy(call->out->data, x->data, nd_tensor_bytes(x));
        nd_tensor_free(&(nd_tensor){.buffer = shared.buffer});
        ND_TRY(status);
    }
    cast_narrow(to, nd_tensor_count(x), call->out->data);
    return nd_status_ok;
}

nd_status nd_call_where(nd_call *call) {
    const nd_tensor *condition, *a, *b;
    nd_tensor both = {0}, *y = &call->out[0];
    int64_t at_condition[nd_rank_max], at[2][nd_rank_max], index[nd_rank_max] = {0};
    ND_TRY(nd_call_input(call, 0, &condition));
    ND_TRY(nd_call_input(call, 1, &a));
    ND_TRY(nd_call_input(call, 2, &b));
    const bool fits =
        nd_dims_broadcast(a->rank, a->dims, b->rank, b->dims, &both.rank, both.dims) &&
        nd_dims_broadcast(condition->rank, condition->dims, both.rank, both.dims, &both.rank, both.dims);
    ND_REQUIRE(fits, nd_status_format, "operands that do not broadcast");
    ND_REQUIRE(a->dtype == b->dtype && condition->dtype == nd_dtype_bool, nd_status_format,
               "operands in %s, %s and %s", nd_dtype_name(condition->dtype), nd_dtype_name(a->dtype),
               nd_dtype_name(b->dtype));
    ND_TRY(nd_call_new(a->dtype, both.rank, both.dims, y));
    if (nd_tensor_count(y) <= 0) return nd_status_ok;
    nd_call_strides(condition, y, at_condition);
    nd_call_strides(a, y, at[0]);
    nd_call_strides(b, y, at[1]);
    const size_t bytes = nd_dtype_bytes(y->dtype);
    char *to = y->data;
    do {
        int64_t asked = 0, from = 0;
        for (int i = 0; i < y->rank; i++) asked += index[i] * at_condition[i];
        const bool first = ((const uint8_t *)condition->data)[asked];
        for (int i = 0; i < y->rank; i++) from += index[i] * at[!first][i];
        memcpy(to, (const char *)(first ? a : b)->data + (size_t)from * bytes, bytes);
        to += bytes;
    } while (nd_call_next(y->rank, y->dims, index));
    return nd_status_ok;
}
