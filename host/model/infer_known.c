/* Arithmetic on shapes: what exporters write as Shape, Gather, Concat and so on before a Reshape. */
#include "model/infer_state.h"

#include <string.h>

static bool nd_known_load(const nd_tensor *tensor, nd_known_int *items) {
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
    if (!init || init->rank > 1 || nd_tensor_count(init) > nd_known_max) return false;
    const int count = (int)nd_tensor_count(init);
    nd_known_int *items = nd_arena_alloc(&infer->arena, ((size_t)count + 1) * sizeof *items);
    if (!items || !nd_known_load(init, items)) return false;
    *out = (nd_known){items, init->rank, count};
    if (value < infer->n_known) infer->known[value] = *out;
    return true;
}

/* Operands of an evaluation: at most nd_known_max of them, all known but for Shape's. */
typedef struct nd_operands {
    const nd_node *node;
    const nd_known *in;
    int n_in;
} nd_operands;

/* Fills out->items (room for nd_known_max), rank and count; false when it does not follow this case. */
typedef bool nd_evaluator(const nd_operands *operands, nd_known *out);

static bool nd_known_pass(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    memcpy(out->items, x->items, (size_t)x->count * sizeof *x->items);
    out->rank = x->rank;
    out->count = x->count;
    return true;
}

static bool nd_known_concat(const nd_operands *operands, nd_known *out) {
    out->rank = 1;
    for (int i = 0; i < operands->n_in; i++) {
        const nd_known *x = &operands->in[i];
        if (x->rank != 1 || out->count + x->count > nd_known_max) return false;
        for (int k = 0; k < x->count; k++) out->items[out->count++] = x->items[k];
    }
    return true;
}

static bool nd_known_gather(const nd_operands *operands, nd_known *out) {
    if (operands->n_in != 2) return false;
    const nd_known *x = &operands->in[0], *index = &operands->in[1];
    if (x->rank != 1) return false;
    for (int i = 0; i < index->count; i++) {
        int64_t at = index->items[i].value;
        if (at < 0) at += x->count;
        if (at < 0 || at >= x->count) return false;
        out->items[i] = x->items[at];
    }
    out->rank = index->rank;
    out->count = index->count;
    return true;
}

/* Between scalars and vectors only. */
static bool nd_known_unsqueeze(const nd_operands *operands, nd_known *out) {
    if (operands->in[0].rank) return false;
    nd_known_pass(operands, out);
    out->rank = 1;
    return true;
}

static bool nd_known_squeeze(const nd_operands *operands, nd_known *out) {
    if (operands->in[0].count != 1) return false;
    nd_known_pass(operands, out);
    out->rank = 0;
    return true;
}

static bool nd_known_reshape(const nd_operands *operands, nd_known *out) {
    if (operands->n_in != 2 || operands->in[1].count > 1) return false;
    nd_known_pass(operands, out);
    out->rank = operands->in[1].count;
    return out->rank == 1 || out->count == 1;
}

static bool nd_known_slice(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    nd_attr attr = operands->node->attr;
    int64_t *const lists[] = {attr.list, attr.ends, attr.axes, attr.steps};
    if (x->rank != 1 || operands->n_in > 5) return false;
    if (operands->n_in > 1) attr.steps[0] = 1;
    for (int k = 1; k < operands->n_in; k++) {
        if (operands->in[k].count != 1) return false;
        lists[k - 1][0] = operands->in[k].items[0].value;
    }
    if (!attr.steps[0]) return false;
    int64_t first;
    out->rank = 1;
    out->count = (int)nd_slice_count(&attr, 0, x->count, &first);
    for (int i = 0; i < out->count; i++) out->items[i] = x->items[first + i * attr.steps[0]];
    return true;
}

static bool nd_known_apply(nd_op op, int64_t a, int64_t b, int64_t *out) {
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

static nd_origin nd_known_mix(nd_op op, nd_known_int a, nd_known_int b) {
    if (a.origin == nd_origin_fixed && b.origin == nd_origin_fixed) return nd_origin_fixed;
    const bool product = op == nd_op_mul || op == nd_op_div;
    if (b.origin == nd_origin_fixed && b.value == (product ? 1 : 0)) return a.origin;
    return nd_origin_derived;
}

static bool nd_known_arithmetic(const nd_operands *operands, nd_known *out) {
    if (operands->n_in != 2) return false;
    const nd_known *a = &operands->in[0], *b = &operands->in[1];
    const nd_op op = operands->node->op;
    if (a->count != b->count && a->count != 1 && b->count != 1) return false;
    out->rank = a->rank > b->rank ? a->rank : b->rank;
    out->count = a->count == 1 ? b->count : a->count;
    for (int i = 0; i < out->count; i++) {
        const nd_known_int x = a->items[a->count == 1 ? 0 : i], y = b->items[b->count == 1 ? 0 : i];
        if (!nd_known_apply(op, x.value, y.value, &out->items[i].value)) return false;
        out->items[i].origin = nd_known_mix(op, x, y);
    }
    return true;
}

static bool nd_known_product(const nd_operands *operands, nd_known *out) {
    const nd_known *x = &operands->in[0];
    nd_known_int product = {1, nd_origin_fixed};
    for (int i = 0; i < x->count; i++) {
        if (__builtin_mul_overflow(product.value, x->items[i].value, &product.value)) return false;
        if (x->items[i].origin != nd_origin_fixed) product.origin = nd_origin_derived;
    }
    out->rank = operands->node->attr.keep_dims ? x->rank : 0;
    out->count = 1;
    out->items[0] = product;
    return true;
}

static nd_evaluator *const nd_evaluators[nd_op_count] = {
    [nd_op_identity] = nd_known_pass,   [nd_op_cast] = nd_known_pass,
    [nd_op_constant] = nd_known_pass,   [nd_op_concat] = nd_known_concat,
    [nd_op_gather] = nd_known_gather,   [nd_op_unsqueeze] = nd_known_unsqueeze,
    [nd_op_squeeze] = nd_known_squeeze, [nd_op_reshape] = nd_known_reshape,
    [nd_op_slice] = nd_known_slice,     [nd_op_add] = nd_known_arithmetic,
    [nd_op_sub] = nd_known_arithmetic,  [nd_op_mul] = nd_known_arithmetic,
    [nd_op_div] = nd_known_arithmetic,  [nd_op_reduce_prod] = nd_known_product,
};

static int64_t nd_known_clamp(int64_t at, int rank) {
    if (at < 0) at += rank;
    return at < 0 ? 0 : at > rank ? rank : at;
}

/* The only one whose input need not be known itself. The batch is dimension 0 of activations. */
static bool nd_known_shape(const nd_infer *infer, const nd_node *node, nd_known *out) {
    const nd_value *x = nd_infer_input(infer, node, 0);
    if (!x || x->rank < 0) return false;
    const nd_attr *attr = &node->attr;
    const int64_t start = nd_known_clamp(attr->n ? attr->list[0] : 0, x->rank);
    const int64_t end = nd_known_clamp(attr->n ? attr->list[1] : x->rank, x->rank);
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
    nd_known out = {items, 0, 0}, in[nd_known_max];
    if (node->op == nd_op_shape) {
        if (!nd_known_shape(infer, node, &out)) return nd_status_ok;
    } else {
        nd_evaluator *evaluate = nd_evaluators[node->op];
        if (!evaluate || node->n_in < 1 || node->n_in > nd_known_max) return nd_status_ok;
        for (int i = 0; i < node->n_in; i++)
            if (!nd_infer_known(infer, node->in[i], &in[i])) return nd_status_ok;
        if (!evaluate(&(nd_operands){node, in, node->n_in}, &out)) return nd_status_ok;
    }
    nd_known_int *kept = nd_arena_alloc(&infer->arena, ((size_t)out.count + 1) * sizeof *kept);
    ND_REQUIRE(kept, nd_status_memory, "no memory");
    memcpy(kept, items, (size_t)out.count * sizeof *kept);
    infer->known[node->out[0]] = (nd_known){kept, out.rank, out.count};
    nd_value *y = &infer->graph->values[node->out[0]];
    y->dtype = nd_dtype_i64;
    y->rank = out.rank;
    y->dims[0] = out.count;
    *done = true;
    return nd_status_ok;
}
