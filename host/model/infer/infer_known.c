/* Arithmetic on shapes: what exporters write as Shape, Gather, Concat and so on before a Reshape. Exact for
 * the batch and the size at hand, with ONNX's own rules; what does not follow them is left unknown. */
#include "model/infer/infer_state.h"

#include <math.h>
#include <string.h>

static bool is_floating(nd_dtype dtype) {
    return dtype <= nd_dtype_bf16;
}

static bool known_load(const nd_tensor *tensor, nd_number *items) {
    const int64_t count = nd_tensor_count(tensor);
    float value;
    for (int64_t i = 0; i < count; i++) {
        switch (tensor->dtype) {
        case nd_dtype_i64:
            items[i].i = ((const int64_t *)tensor->data)[i];
            break;
        case nd_dtype_i32:
            items[i].i = ((const int32_t *)tensor->data)[i];
            break;
        case nd_dtype_bool:
            items[i].i = ((const uint8_t *)tensor->data)[i] != 0;
            break;
        case nd_dtype_f32:
            memcpy(&value, (const float *)tensor->data + i, sizeof value);
            items[i].f = (double)value;
            break;
        case nd_dtype_f64:
            items[i].f = ((const double *)tensor->data)[i];
            break;
        default:
            return false;
        }
    }
    return true;
}

bool nd_infer_known(nd_infer *infer, int value, nd_known *out) {
    if (value < 0) return false;
    if (value < infer->n_known && infer->known[value].items) {
        *out = infer->known[value];
        return true;
    }
    const nd_tensor *init = infer->graph->values[value].init;
    if (!init || nd_tensor_count(init) > nd_known_max) return false;
    const int count = (int)nd_tensor_count(init);
    nd_number *items = nd_arena_alloc(&infer->arena, ((size_t)count + 1) * sizeof *items);
    if (!items || !known_load(init, items)) return false;
    *out = (nd_known){.items = items, .dtype = init->dtype, .rank = init->rank, .count = count};
    memcpy(out->dims, init->dims, sizeof out->dims);
    if (value < infer->n_known) infer->known[value] = *out;
    return true;
}

/* Inputs of an evaluation; one that is left out has no items. */
typedef struct nd_operands {
    const nd_node *node;
    const nd_known *in;
    int n_in;
} nd_operands;

/* Fills out->rank, dims, count and items (room for nd_known_max); dtype is that of the first input unless it
 * says otherwise. False when it does not follow this case. */
typedef bool nd_evaluator(const nd_operands *operands, nd_known *out);

static const nd_known *known_input(const nd_operands *operands, int k) {
    return k < operands->n_in && operands->in[k].items ? &operands->in[k] : NULL;
}

static bool known_count(nd_known *known) {
    const int64_t count = nd_dims_count(known->rank, known->dims);
    if (count < 0 || count > nd_known_max) return false;
    known->count = (int)count;
    return true;
}

/* Fills `out`, whose dims are set, with x->items[offset + sum of index * stride]. */
static bool known_view(const nd_known *x, int64_t offset, const int64_t *strides, nd_known *out) {
    if (!known_count(out)) return false;
    for (int i = 0; i < out->count; i++)
        out->items[i] = x->items[offset + nd_dims_at(out->rank, out->dims, strides, i)];
    return true;
}

static bool known_pass(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    memcpy(out->items, x->items, (size_t)x->count * sizeof *x->items);
    memcpy(out->dims, x->dims, sizeof out->dims);
    out->rank = x->rank;
    out->count = x->count;
    return true;
}

static bool known_cast(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    const nd_dtype dtype = operands->node->attr.dtype;
    known_pass(operands, out);
    out->dtype = dtype;
    for (int i = 0; i < out->count; i++) {
        nd_number *item = &out->items[i];
        if (dtype == nd_dtype_bool) {
            item->i = is_floating(x->dtype) ? item->f != 0 : item->i != 0;
        } else if (is_floating(dtype)) {
            if (!is_floating(x->dtype)) item->f = (double)item->i;
            if (dtype != nd_dtype_f64) item->f = (double)(float)item->f;
        } else if (is_floating(x->dtype)) {
            if (!(fabs(item->f) < 0x1p62)) return false;
            item->i = (int64_t)item->f;
        }
        if (dtype == nd_dtype_i32) item->i = (int32_t)item->i;
    }
    return dtype == nd_dtype_f32 || dtype == nd_dtype_f64 || dtype == nd_dtype_i64 || dtype == nd_dtype_i32 ||
           dtype == nd_dtype_bool;
}

static bool known_concat(const nd_operands *operands, nd_known *out) {
    out->rank = 1;
    for (int i = 0; i < operands->n_in; i++) {
        const nd_known *x = &operands->in[i];
        if (x->rank != 1 || out->count + x->count > nd_known_max) return false;
        for (int k = 0; k < x->count; k++) out->items[out->count++] = x->items[k];
    }
    out->dims[0] = out->count;
    return true;
}

static bool known_gather(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0], *index = known_input(operands, 1);
    if (!index || x->rank != 1) return false;
    for (int i = 0; i < index->count; i++) {
        int64_t at = index->items[i].i;
        if (at < 0) at += x->count;
        if (at < 0 || at >= x->count) return false;
        out->items[i] = x->items[at];
    }
    out->rank = index->rank;
    out->count = index->count;
    memcpy(out->dims, index->dims, sizeof out->dims);
    return true;
}

/* The axes of Squeeze and Unsqueeze, an attribute or an input, as marks over `rank` axes. */
static bool known_axes(const nd_operands *operands, int rank, bool *marked, int *n) {
    const nd_known *axes = known_input(operands, 1);
    int64_t list[nd_rank_max];
    *n = axes ? axes->count : operands->node->attr.n;
    if (*n > nd_rank_max) return false;
    for (int i = 0; i < *n; i++) list[i] = axes ? axes->items[i].i : operands->node->attr.list[i];
    return nd_dims_mark(rank, list, *n, marked);
}

static bool known_unsqueeze(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0], *axes = known_input(operands, 1);
    bool added[nd_rank_max] = {false};
    int n, rank = x->rank + (axes ? axes->count : operands->node->attr.n);
    known_pass(operands, out);
    if (rank > nd_rank_max || !known_axes(operands, rank, added, &n)) return false;
    out->rank = rank;
    for (int i = 0, from = 0; i < rank; i++) out->dims[i] = added[i] ? 1 : x->dims[from++];
    return true;
}

static bool known_squeeze(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    bool dropped[nd_rank_max] = {false};
    int n;
    known_pass(operands, out);
    if (!known_axes(operands, x->rank, dropped, &n)) return false;
    out->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if (dropped[i] && x->dims[i] != 1) return false;
        if (!dropped[i] && (n || x->dims[i] != 1)) out->dims[out->rank++] = x->dims[i];
    }
    return true;
}

static bool known_reshape(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0], *shape = known_input(operands, 1);
    if (!shape || shape->count > nd_rank_max) return false;
    known_pass(operands, out);
    int64_t fixed = 1;
    for (int i = 0; i < shape->count; i++) {
        if (shape->items[i].i < -1 || shape->items[i].i == 0) return false;
        if (shape->items[i].i > nd_known_max) return false;
        if (shape->items[i].i > 0) fixed *= shape->items[i].i;
        if (fixed > nd_known_max) return false;
    }
    out->rank = shape->count;
    for (int i = 0; i < shape->count; i++)
        out->dims[i] = shape->items[i].i < 0 ? x->count / fixed : shape->items[i].i;
    return known_count(out) && out->count == x->count;
}

static bool known_slice(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    nd_attr attr = operands->node->attr;
    int64_t *const lists[] = {attr.list, attr.ends, attr.axes, attr.steps};
    if (!x->rank || operands->n_in > 5 || (operands->n_in < 2 && attr.n != 1)) return false;
    if (operands->n_in > 1) attr.axes[0] = 0, attr.steps[0] = 1;
    for (int k = 1; k < operands->n_in; k++) {
        const nd_known *list = known_input(operands, k);
        if (list && list->count != 1) return false;
        if (list) lists[k - 1][0] = list->items[0].i;
    }
    int64_t axis = attr.axes[0] < 0 ? attr.axes[0] + x->rank : attr.axes[0];
    if (axis < 0 || axis >= x->rank || !attr.steps[0]) return false;
    static const int64_t in_order[nd_rank_max] = {0, 1, 2, 3, 4, 5, 6, 7};
    int64_t strides[nd_rank_max], first;
    out->rank = x->rank;
    nd_dims_permute(x->rank, x->dims, in_order, out->dims, strides);
    out->dims[axis] = nd_slice_count(&attr, 0, x->dims[axis], &first);
    const int64_t offset = first * strides[axis];
    if (out->dims[axis] > 1) strides[axis] *= attr.steps[0];
    return known_view(x, offset, strides, out);
}

static bool known_transpose(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    const nd_attr *attr = &operands->node->attr;
    int64_t strides[nd_rank_max];
    out->rank = x->rank;
    if (attr->n && attr->n != x->rank) return false;
    if (!nd_dims_permute(x->rank, x->dims, attr->n ? attr->list : NULL, out->dims, strides)) return false;
    return known_view(x, 0, strides, out) && out->count == x->count;
}

/* The dims that a and b broadcast to, as in numpy. */
static bool known_broadcast(const nd_known *a, const nd_known *b, nd_known *out) {
    return nd_dims_broadcast(a->rank, a->dims, b->rank, b->dims, &out->rank, out->dims) && known_count(out);
}

/* Element `i` of what x is when broadcast to the dims of `shape`. */
static nd_number known_at(const nd_known *x, const nd_known *shape, int i) {
    return x->items[nd_dims_broadcast_at(x->rank, x->dims, shape->rank, shape->dims, i)];
}

typedef bool nd_whole_function(int64_t a, int64_t b, int64_t *out);
typedef double nd_real_function(double a, double b);

static bool whole_add(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

static bool whole_sub(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_sub_overflow(a, b, out);
}

static bool whole_mul(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

/* Truncating, as ONNX has it for integers. */
static bool whole_div(int64_t a, int64_t b, int64_t *out) {
    if (b == 0 || (a == INT64_MIN && b == -1)) return false;
    *out = a / b;
    return true;
}

/* The sign of the divisor, as Python has it. */
static bool whole_mod(int64_t a, int64_t b, int64_t *out) {
    if (b == 0 || b == -1) return false;
    *out = a % b;
    if (*out && (*out < 0) != (b < 0)) *out += b;
    return true;
}

static bool whole_least(int64_t a, int64_t b, int64_t *out) {
    *out = a < b ? a : b;
    return true;
}

static bool whole_most(int64_t a, int64_t b, int64_t *out) {
    *out = a > b ? a : b;
    return true;
}

static double real_add(double a, double b) {
    return a + b;
}

static double real_sub(double a, double b) {
    return a - b;
}

static double real_mul(double a, double b) {
    return a * b;
}

static double real_div(double a, double b) {
    return a / b;
}

static const struct {
    const char *op;
    nd_whole_function *whole;
    nd_real_function *real;
} nd_functions[] = {
    {"Add", whole_add, real_add}, {"Sub", whole_sub, real_sub}, {"Mul", whole_mul, real_mul},
    {"Div", whole_div, real_div}, {"Mod", whole_mod, NULL},     {"Min", whole_least, fmin},
    {"Max", whole_most, fmax},    {"Pow", NULL, pow},
};

static bool known_arithmetic(const nd_operands *operands, nd_known *out) {
    const nd_known *a = &operands->in[0], *b = known_input(operands, 1);
    size_t f = 0;
    while (strcmp(nd_functions[f].op, operands->node->op_type)) f++; /* the table of evaluators names it */
    if (!b || operands->n_in != 2 || a->dtype != b->dtype || !known_broadcast(a, b, out)) return false;
    if (operands->node->attr.remainder) return false; /* with the sign of the dividend */
    const bool real = is_floating(a->dtype);
    if (real ? !nd_functions[f].real : !nd_functions[f].whole) return false;
    for (int i = 0; i < out->count; i++) {
        const nd_number x = known_at(a, out, i), y = known_at(b, out, i);
        if (real)
            out->items[i].f = a->dtype == nd_dtype_f32 ? (double)(float)nd_functions[f].real(x.f, y.f)
                                                       : nd_functions[f].real(x.f, y.f);
        else if (!nd_functions[f].whole(x.i, y.i, &out->items[i].i))
            return false;
    }
    return true;
}

static bool known_compare(const nd_operands *operands, nd_known *out) {
    const nd_known *a = &operands->in[0], *b = known_input(operands, 1);
    const char *op = operands->node->op_type;
    if (!b || operands->n_in != 2 || a->dtype != b->dtype || !known_broadcast(a, b, out)) return false;
    out->dtype = nd_dtype_bool;
    for (int i = 0; i < out->count; i++) {
        const nd_number x = known_at(a, out, i), y = known_at(b, out, i);
        const bool real = is_floating(a->dtype);
        const int order = real ? (x.f > y.f) - (x.f < y.f) : (x.i > y.i) - (x.i < y.i);
        out->items[i].i = *op == 'E' ? order == 0 : *op == 'G' ? order > 0 : order < 0;
    }
    return true;
}

static bool known_where(const nd_operands *operands, nd_known *out) {
    const nd_known *condition = &operands->in[0], *a = known_input(operands, 1),
                   *b = known_input(operands, 2);
    nd_number none[nd_known_max];
    nd_known both = {.items = none};
    if (!a || !b || a->dtype != b->dtype || condition->dtype != nd_dtype_bool) return false;
    if (!known_broadcast(a, b, &both) || !known_broadcast(condition, &both, out)) return false;
    out->dtype = a->dtype;
    for (int i = 0; i < out->count; i++)
        out->items[i] = known_at(known_at(condition, out, i).i ? a : b, out, i);
    return true;
}

static bool known_expand(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0], *shape = known_input(operands, 1);
    if (!shape || shape->count > nd_rank_max) return false;
    nd_known to = {.rank = shape->count};
    for (int i = 0; i < shape->count; i++) to.dims[i] = shape->items[i].i;
    if (!known_broadcast(x, &to, out)) return false;
    for (int i = 0; i < out->count; i++) out->items[i] = known_at(x, out, i);
    return true;
}

static double real_negate(double x) {
    return -x;
}

static double real_invert(double x) {
    return 1 / x;
}

static const struct {
    const char *op;
    double (*real)(double);
} nd_real_functions[] = {
    {"Floor", floor},
    {"Ceil", ceil},
    {"Sqrt", sqrt},
    {"Round", nearbyint},
    {"Neg", real_negate},
    {"Abs", fabs},
    {"Reciprocal", real_invert},
};

static bool known_unary(const nd_operands *operands, nd_known *out) {
    const char *op = operands->node->op_type;
    size_t f = 0;
    while (strcmp(nd_real_functions[f].op, op)) f++;
    known_pass(operands, out);
    for (int i = 0; i < out->count; i++) {
        nd_number *item = &out->items[i];
        if (is_floating(out->dtype))
            item->f = out->dtype == nd_dtype_f32 ? (double)(float)nd_real_functions[f].real(item->f)
                                                 : nd_real_functions[f].real(item->f);
        else if (item->i == INT64_MIN || (*op != 'N' && *op != 'A'))
            return false;
        else if (*op == 'N' || item->i < 0)
            item->i = -item->i;
    }
    return true;
}

static bool known_not(const nd_operands *operands, nd_known *out) {
    known_pass(operands, out);
    for (int i = 0; i < out->count; i++) out->items[i].i = !out->items[i].i;
    return out->dtype == nd_dtype_bool;
}

/* Of a list, to one number: its product, sum, least or largest. One that was told to leave it alone where no
 * axes are named is an Identity. */
static bool known_reduce(const nd_operands *operands, nd_known *out) {
    static const char *const ops[] = {"ReduceProd", "ReduceSum", "ReduceMin", "ReduceMax"};
    static const char *const steps[] = {"Mul", "Add", "Min", "Max"};
    const nd_known *x = &operands->in[0];
    const bool real = is_floating(x->dtype);
    size_t k = 0, f = 0;
    if (operands->node->op == nd_op_identity) return known_pass(operands, out);
    while (strcmp(ops[k], operands->node->op_type)) k++;
    while (strcmp(nd_functions[f].op, steps[k])) f++;
    if (x->rank > 1 || x->dtype == nd_dtype_bool || (!x->count && (real || k > 1))) return false;
    out->items[0] = x->count ? x->items[0] : (nd_number){.i = k == 0}; /* of nothing: 1, or 0 */
    for (int i = 1; i < x->count; i++) {
        nd_number *so_far = &out->items[0];
        if (real)
            so_far->f = nd_functions[f].real(so_far->f, x->items[i].f);
        else if (!nd_functions[f].whole(so_far->i, x->items[i].i, &so_far->i))
            return false;
        if (x->dtype == nd_dtype_f32) so_far->f = (double)(float)so_far->f;
    }
    out->rank = operands->node->attr.keep_dims ? x->rank : 0;
    out->count = 1;
    out->dims[0] = 1;
    return true;
}

static bool known_size(const nd_operands *operands, nd_known *out) {
    out->dtype = nd_dtype_i64;
    out->count = 1;
    out->items[0].i = operands->in[0].count;
    return true;
}

/* By the operator's name, so that operators nd does not run are followed as well. `attributes`: it has some,
 * which only the interpretation of the node tells. */
static const struct {
    const char *op;
    nd_evaluator *evaluate;
    bool attributes;
} nd_evaluators[] = {
    {"Identity", known_pass, false},    {"Cast", known_cast, true},
    {"Constant", known_pass, true},     {"Concat", known_concat, true},
    {"Gather", known_gather, true},     {"Unsqueeze", known_unsqueeze, true},
    {"Squeeze", known_squeeze, true},   {"Reshape", known_reshape, true},
    {"Slice", known_slice, true},       {"Transpose", known_transpose, true},
    {"ReduceProd", known_reduce, true}, {"ReduceSum", known_reduce, true},
    {"ReduceMin", known_reduce, true},  {"ReduceMax", known_reduce, true},
    {"Reciprocal", known_unary, false}, {"Add", known_arithmetic, false},
    {"Sub", known_arithmetic, false},   {"Mul", known_arithmetic, false},
    {"Div", known_arithmetic, false},   {"Mod", known_arithmetic, false},
    {"Min", known_arithmetic, false},   {"Max", known_arithmetic, false},
    {"Pow", known_arithmetic, false},   {"Equal", known_compare, false},
    {"Greater", known_compare, false},  {"Less", known_compare, false},
    {"Where", known_where, false},      {"Expand", known_expand, false},
    {"Floor", known_unary, false},      {"Ceil", known_unary, false},
    {"Sqrt", known_unary, false},       {"Round", known_unary, false},
    {"Neg", known_unary, false},        {"Abs", known_unary, false},
    {"Not", known_not, false},          {"Size", known_size, false},
};

static nd_evaluator *find_evaluator(const nd_node *node) {
    for (size_t i = 0; i < sizeof nd_evaluators / sizeof *nd_evaluators; i++)
        if (!strcmp(nd_evaluators[i].op, node->op_type))
            return nd_evaluators[i].attributes && node->op == nd_op_opaque ? NULL : nd_evaluators[i].evaluate;
    return NULL;
}

static int64_t known_clamp(int64_t at, int rank) {
    if (at < 0) at += rank;
    return at < 0 ? 0 : at > rank ? rank : at;
}

/* The only one whose input need not be known itself. */
static bool known_shape(const nd_infer *infer, const nd_node *node, nd_known *out) {
    const nd_value *x = nd_infer_input(infer, node, 0);
    if (!x || x->rank < 0) return false;
    const nd_attr *attr = &node->attr;
    const int64_t start = known_clamp(attr->n ? attr->list[0] : 0, x->rank);
    const int64_t end = known_clamp(attr->n ? attr->list[1] : x->rank, x->rank);
    out->dtype = nd_dtype_i64;
    out->rank = 1;
    for (int64_t i = start; i < end; i++) out->items[out->count++].i = x->dims[i];
    out->dims[0] = out->count;
    return true;
}

static bool known_evaluate(nd_infer *infer, const nd_node *node, nd_known *out) {
    nd_known in[8] = {{0}};
    if (node->op == nd_op_shape) return known_shape(infer, node, out);
    nd_evaluator *evaluate = find_evaluator(node);
    if (!evaluate || node->n_in < 1 || node->n_in > (int)(sizeof in / sizeof *in) || node->in[0] < 0)
        return false;
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] >= 0 && !nd_infer_known(infer, node->in[i], &in[i])) return false;
    out->dtype = in[0].dtype;
    return evaluate(&(nd_operands){node, in, node->n_in}, out);
}

static void known_store(const nd_known *known, void *data) {
    for (int i = 0; i < known->count; i++) {
        const nd_number *item = &known->items[i];
        if (known->dtype == nd_dtype_i64)
            ((int64_t *)data)[i] = item->i;
        else if (known->dtype == nd_dtype_i32)
            ((int32_t *)data)[i] = (int32_t)item->i;
        else if (known->dtype == nd_dtype_bool)
            ((uint8_t *)data)[i] = item->i != 0;
        else if (known->dtype == nd_dtype_f64)
            ((double *)data)[i] = item->f;
        else
            ((float *)data)[i] = (float)item->f;
    }
}

nd_status nd_infer_evaluate(nd_infer *infer, const nd_node *node, bool *done) {
    *done = false;
    if (node->n_out != 1 || node->out[0] < 0 || node->out[0] >= infer->n_known) return nd_status_ok;
    nd_number items[nd_known_max] = {{0}};
    nd_known out = {.items = items};
    if (!known_evaluate(infer, node, &out)) return nd_status_ok;
    nd_number *kept = nd_arena_alloc(&infer->arena, ((size_t)out.count + 1) * sizeof *kept);
    ND_REQUIRE(kept, nd_status_memory, "no memory");
    memcpy(kept, items, (size_t)out.count * sizeof *kept);
    out.items = kept;
    infer->known[node->out[0]] = out;
    nd_tensor tensor;
    ND_TRY(nd_tensor_new(out.dtype, out.rank, out.dims, &tensor));
    known_store(&out, tensor.data);
    nd_status status = nd_graph_set_init(infer->graph, node->out[0], &tensor);
    nd_tensor_free(&tensor);
    infer->graph->values[node->out[0]].computed = *done = !status;
    return status;
}
