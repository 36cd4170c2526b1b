/* Arithmetic on shapes: what exporters write as Shape, Gather, Concat and so on before a Reshape. */
#include "model/infer/infer_state.h"

#include <string.h>

static bool known_load(const nd_tensor *tensor, nd_known_int *items) {
    const int64_t count = nd_tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) {
        if (tensor->dtype == nd_dtype_i64)
            items[i].value = ((const int64_t *)tensor->data)[i];
        else if (tensor->dtype == nd_dtype_i32)
            items[i].value = ((const int32_t *)tensor->data)[i];
        else
            return false;
        items[i].origin = nd_origin_fixed;
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
    nd_known_int *items = nd_arena_alloc(&infer->arena, ((size_t)count + 1) * sizeof *items);
    if (!items || !known_load(init, items)) return false;
    *out = (nd_known){.items = items, .rank = init->rank, .count = count};
    memcpy(out->dims, init->dims, sizeof out->dims);
    if (value < infer->n_known) infer->known[value] = *out;
    return true;
}

/* Inputs of an evaluation, all known. */
typedef struct nd_operands {
    const nd_node *node;
    const nd_known *in;
    int n_in;
} nd_operands;

/* Fills out->rank, dims and items (room for nd_known_max); false when it does not follow this case. */
typedef bool nd_evaluator(const nd_operands *operands, nd_known *out);

static bool known_count(nd_known *known) {
    const int64_t count = nd_dims_count(known->rank, known->dims);
    if (count < 0 || count > nd_known_max) return false;
    known->count = (int)count;
    return true;
}

/* Fills `out`, whose dims are set, with x->items[offset + sum of index * stride]. */
static bool known_view(const nd_known *x, int64_t offset, const int64_t *strides, nd_known *out) {
    if (!known_count(out)) return false;
    for (int i = 0; i < out->count; i++) {
        int64_t at = offset;
        for (int axis = out->rank - 1, rest = i; axis >= 0; rest /= (int)out->dims[axis--])
            at += rest % out->dims[axis] * strides[axis];
        out->items[i] = x->items[at];
    }
    return true;
}

static void known_strides(const nd_known *x, int64_t strides[nd_rank_max]) {
    int64_t stride = 1;
    for (int axis = x->rank - 1; axis >= 0; stride *= x->dims[axis--]) strides[axis] = stride;
}

static bool known_pass(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    memcpy(out->items, x->items, (size_t)x->count * sizeof *x->items);
    memcpy(out->dims, x->dims, sizeof out->dims);
    out->rank = x->rank;
    out->count = x->count;
    return true;
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
    if (operands->n_in != 2 || operands->in[0].rank != 1) return false;
    const nd_known *x = &operands->in[0], *index = &operands->in[1];
    for (int i = 0; i < index->count; i++) {
        int64_t at = index->items[i].value;
        if (at < 0) at += x->count;
        if (at < 0 || at >= x->count) return false;
        out->items[i] = x->items[at];
    }
    out->rank = index->rank;
    out->count = index->count;
    memcpy(out->dims, index->dims, sizeof out->dims);
    return true;
}

/* Between scalars and vectors only. */
static bool known_unsqueeze(const nd_operands *operands, nd_known *out) {
    if (operands->in[0].rank) return false;
    known_pass(operands, out);
    out->rank = 1;
    out->dims[0] = 1;
    return true;
}

static bool known_squeeze(const nd_operands *operands, nd_known *out) {
    if (operands->in[0].count != 1) return false;
    known_pass(operands, out);
    out->rank = 0;
    return true;
}

static bool known_reshape(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0], *shape = &operands->in[1];
    if (operands->n_in != 2 || shape->count > nd_rank_max) return false;
    known_pass(operands, out);
    int64_t fixed = 1;
    for (int i = 0; i < shape->count; i++) {
        if (shape->items[i].value < -1 || shape->items[i].value == 0) return false;
        if (shape->items[i].value > nd_known_max) return false;
        if (shape->items[i].value > 0) fixed *= shape->items[i].value;
        if (fixed > nd_known_max) return false;
    }
    out->rank = shape->count;
    for (int i = 0; i < shape->count; i++)
        out->dims[i] = shape->items[i].value < 0 ? x->count / fixed : shape->items[i].value;
    return known_count(out) && out->count == x->count;
}

static bool known_slice(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    nd_attr attr = operands->node->attr;
    int64_t *const lists[] = {attr.list, attr.ends, attr.axes, attr.steps};
    if (!x->rank || operands->n_in > 5 || (operands->n_in < 2 && attr.n != 1)) return false;
    if (operands->n_in > 1) attr.axes[0] = 0, attr.steps[0] = 1;
    for (int k = 1; k < operands->n_in; k++) {
        if (operands->in[k].count != 1) return false;
        lists[k - 1][0] = operands->in[k].items[0].value;
    }
    int64_t axis = attr.axes[0] < 0 ? attr.axes[0] + x->rank : attr.axes[0];
    if (axis < 0 || axis >= x->rank || !attr.steps[0]) return false;
    int64_t strides[nd_rank_max], first;
    known_strides(x, strides);
    out->rank = x->rank;
    memcpy(out->dims, x->dims, sizeof out->dims);
    out->dims[axis] = nd_slice_count(&attr, 0, x->dims[axis], &first);
    const int64_t offset = first * strides[axis];
    if (out->dims[axis] > 1) strides[axis] *= attr.steps[0];
    return known_view(x, offset, strides, out);
}

static bool known_transpose(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    const nd_attr *attr = &operands->node->attr;
    if (attr->n && attr->n != x->rank) return false;
    int64_t from[nd_rank_max], strides[nd_rank_max];
    known_strides(x, from);
    out->rank = x->rank;
    for (int i = 0; i < x->rank; i++) {
        const int64_t axis = attr->n ? attr->list[i] : x->rank - 1 - i;
        if (axis < 0 || axis >= x->rank) return false;
        strides[i] = from[axis];
        out->dims[i] = x->dims[axis];
    }
    return known_view(x, 0, strides, out) && out->count == x->count;
}

static bool known_fill(const nd_operands *operands, nd_known *out) {
    const nd_known *shape = &operands->in[0];
    if (shape->rank != 1 || shape->count > nd_rank_max) return false;
    if (operands->node->attr.dtype != nd_dtype_i64 && operands->node->attr.dtype != nd_dtype_i32)
        return false;
    out->rank = shape->count;
    for (int i = 0; i < shape->count; i++) {
        if (shape->items[i].origin != nd_origin_fixed) return false;
        out->dims[i] = shape->items[i].value;
    }
    if (!known_count(out)) return false;
    for (int i = 0; i < out->count; i++)
        out->items[i] = (nd_known_int){operands->node->attr.size, nd_origin_fixed};
    return true;
}

static bool known_apply(nd_op op, int64_t a, int64_t b, int64_t *out) {
    switch (op) {
    case nd_op_add:
        return !__builtin_add_overflow(a, b, out);
    case nd_op_sub:
        return !__builtin_sub_overflow(a, b, out);
    case nd_op_mul:
        return !__builtin_mul_overflow(a, b, out);
    default: /* truncating division, as ONNX has it for integers */
        if (b == 0 || (a == INT64_MIN && b == -1)) return false;
        *out = a / b;
        return true;
    }
}

static nd_origin known_mix(nd_op op, nd_known_int a, nd_known_int b) {
    if (a.origin == nd_origin_fixed && b.origin == nd_origin_fixed) return nd_origin_fixed;
    const bool product = op == nd_op_mul || op == nd_op_div;
    if (b.origin == nd_origin_fixed && b.value == (product ? 1 : 0)) return a.origin;
    return nd_origin_derived;
}

static bool known_arithmetic(const nd_operands *operands, nd_known *out) {
    if (operands->n_in != 2) return false;
    const nd_known *a = &operands->in[0], *b = &operands->in[1];
    const nd_op op = operands->node->op;
    if (a->count != b->count && a->count != 1 && b->count != 1) return false;
    const nd_known *shape = a->count == 1 && b->rank >= a->rank ? b : a;
    if (a->rank > 1 || b->rank > 1) return false;
    out->rank = shape->rank;
    out->count = shape->count;
    out->dims[0] = shape->dims[0];
    for (int i = 0; i < out->count; i++) {
        const nd_known_int x = a->items[a->count == 1 ? 0 : i], y = b->items[b->count == 1 ? 0 : i];
        if (!known_apply(op, x.value, y.value, &out->items[i].value)) return false;
        out->items[i].origin = known_mix(op, x, y);
    }
    return true;
}

static bool known_product(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    nd_known_int product = {1, nd_origin_fixed};
    for (int i = 0; i < x->count; i++) {
        if (__builtin_mul_overflow(product.value, x->items[i].value, &product.value)) return false;
        if (x->items[i].origin != nd_origin_fixed) product.origin = nd_origin_derived;
    }
    if (x->rank > 1) return false;
    out->rank = operands->node->attr.keep_dims ? x->rank : 0;
    out->count = 1;
    out->dims[0] = 1;
    out->items[0] = product;
    return true;
}

static nd_evaluator *const nd_evaluators[nd_op_count] = {
    [nd_op_identity] = known_pass,       [nd_op_cast] = known_pass,
    [nd_op_constant] = known_pass,       [nd_op_concat] = known_concat,
    [nd_op_gather] = known_gather,       [nd_op_unsqueeze] = known_unsqueeze,
    [nd_op_squeeze] = known_squeeze,     [nd_op_reshape] = known_reshape,
    [nd_op_slice] = known_slice,         [nd_op_add] = known_arithmetic,
    [nd_op_sub] = known_arithmetic,      [nd_op_mul] = known_arithmetic,
    [nd_op_transpose] = known_transpose, [nd_op_constant_of_shape] = known_fill,
    [nd_op_div] = known_arithmetic,      [nd_op_reduce_prod] = known_product,
};

static int64_t known_clamp(int64_t at, int rank) {
    if (at < 0) at += rank;
    return at < 0 ? 0 : at > rank ? rank : at;
}

/* The only one whose input need not be known itself. The batch is dimension 0 of activations. */
static bool known_shape(const nd_infer *infer, const nd_node *node, nd_known *out) {
    const nd_value *x = nd_infer_input(infer, node, 0);
    if (!x || x->rank < 0) return false;
    const nd_attr *attr = &node->attr;
    const int64_t start = known_clamp(attr->n ? attr->list[0] : 0, x->rank);
    const int64_t end = known_clamp(attr->n ? attr->list[1] : x->rank, x->rank);
    out->rank = 1;
    for (int64_t i = start; i < end; i++) {
        const bool batch = i == 0 && !x->init && x->dims[0] == infer->settings->batch;
        out->items[out->count++] = (nd_known_int){x->dims[i], batch ? nd_origin_batch : nd_origin_fixed};
    }
    return true;
}

nd_status nd_infer_evaluate(nd_infer *infer, nd_node *node, bool *done) {
    *done = false;
    if (node->n_out != 1 || node->out[0] < 0 || node->out[0] >= infer->n_known) return nd_status_ok;
    nd_known_int items[nd_known_max] = {{0}};
    nd_known out = {.items = items}, in[8];
    if (node->op == nd_op_shape) {
        if (!known_shape(infer, node, &out)) return nd_status_ok;
    } else {
        nd_evaluator *evaluate = nd_evaluators[node->op];
        if (!evaluate || node->n_in < 1 || node->n_in > (int)(sizeof in / sizeof *in)) return nd_status_ok;
        for (int i = 0; i < node->n_in; i++)
            if (!nd_infer_known(infer, node->in[i], &in[i])) return nd_status_ok;
        if (!evaluate(&(nd_operands){node, in, node->n_in}, &out)) return nd_status_ok;
    }
    nd_known_int *kept = nd_arena_alloc(&infer->arena, ((size_t)out.count + 1) * sizeof *kept);
    ND_REQUIRE(kept, nd_status_memory, "no memory");
    memcpy(kept, items, (size_t)out.count * sizeof *kept);
    out.items = kept;
    infer->known[node->out[0]] = out;
    nd_value *y = &infer->graph->values[node->out[0]];
    y->dtype = nd_dtype_i64;
    y->rank = out.rank;
    memcpy(y->dims, out.dims, sizeof y->dims);
    *done = true;
    return nd_status_ok;
}
