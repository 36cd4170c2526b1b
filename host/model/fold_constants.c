/* Weights that a file computes from constants, and weights of another type, as the fp32 tensors that nd works
 * on. */
#include "model/fold_constants.h"

#include "base/parallel.h"
#include "model/dims.h"
#include "model/infer/infer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_real(nd_dtype dtype) {
    return dtype == nd_dtype_f32 || dtype == nd_dtype_f64 || dtype == nd_dtype_f16 || dtype == nd_dtype_bf16;
}

static nd_status to_f32(const nd_tensor *from, nd_tensor *out) {
    ND_TRY(nd_tensor_new(nd_dtype_f32, from->rank, from->dims, out));
    nd_tensor_to_f32(from, out->data);
    return nd_status_ok;
}

/* Reads element `i` of `x`, whose dims meet the last ones of `shape`. */
static float broadcast_at(const nd_tensor *x, const nd_tensor *shape, int64_t i) {
    return ((const float *)x->data)[nd_dims_broadcast_at(x->rank, x->dims, shape->rank, shape->dims, i)];
}

static float apply(nd_op op, float a, float b) {
    switch (op) {
    case nd_op_add:
        return a + b;
    case nd_op_sub:
        return a - b;
    case nd_op_mul:
        return a * b;
    default:
        return a / b;
    }
}

static nd_status constant_binary(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *a = in[0], *b = in[1];
    int rank;
    int64_t dims[nd_rank_max];
    ND_REQUIRE(nd_dims_broadcast(a->rank, a->dims, b->rank, b->dims, &rank, dims), nd_status_unsupported,
               "no broadcast");
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, out));
    const int64_t count = nd_tensor_count(out);
    for (int64_t i = 0; i < count; i++)
        ((float *)out->data)[i] = apply(node->op, broadcast_at(a, out, i), broadcast_at(b, out, i));
    return nd_status_ok;
}

static nd_status constant_transpose(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *x = in[0];
    const nd_attr *attr = &node->attr;
    int64_t dims[nd_rank_max], strides[nd_rank_max];
    ND_REQUIRE((!attr->n || attr->n == x->rank) &&
                   nd_dims_permute(x->rank, x->dims, attr->n ? attr->list : NULL, dims, strides),
               nd_status_unsupported, "another perm");
    ND_TRY(nd_tensor_new(nd_dtype_f32, x->rank, dims, out));
    ND_REQUIRE(nd_tensor_count(out) == nd_tensor_count(x), nd_status_unsupported, "another perm");
    const int64_t count = nd_tensor_count(out);
    for (int64_t i = 0; i < count; i++)
        ((float *)out->data)[i] = ((const float *)x->data)[nd_dims_at(x->rank, dims, strides, i)];
    return nd_status_ok;
}

static nd_status constant_reshape(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *x = in[0], *shape = in[1];
    (void)node;
    int open = -1;
    int64_t dims[nd_rank_max], product = 1;
    ND_REQUIRE(shape->dtype == nd_dtype_i64 && nd_tensor_count(shape) <= nd_rank_max, nd_status_unsupported,
               "another shape");
    const int rank = (int)nd_tensor_count(shape);
    for (int i = 0; i < rank; i++) {
        dims[i] = ((const int64_t *)shape->data)[i];
        if (dims[i] == 0 && i < x->rank) dims[i] = x->dims[i];
        if (dims[i] == -1 && open < 0) open = i;
        const bool good = dims[i] > 0 || i == open;
        ND_REQUIRE(good && (i == open || !__builtin_mul_overflow(product, dims[i], &product)),
                   nd_status_unsupported, "another shape");
    }
    if (open >= 0) dims[open] = nd_tensor_count(x) / product;
    ND_REQUIRE(nd_dims_count(rank, dims) == nd_tensor_count(x), nd_status_unsupported, "another shape");
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, out));
    memcpy(out->data, x->data, nd_tensor_bytes(out));
    return nd_status_ok;
}

/* The integers of an operand, or of the attribute that was one before, `n` of them. -1 where they are no such
 * list. */
static int constant_list(const nd_tensor *operand, int n, const int64_t *attribute, int64_t *list) {
    const int count = operand ? (int)nd_tensor_count(operand) : n;
    if (count > nd_rank_max || (operand && operand->dtype != nd_dtype_i64 && operand->dtype != nd_dtype_i32))
        return -1;
    for (int i = 0; i < count; i++)
        list[i] = !operand                         ? attribute[i]
                  : operand->dtype == nd_dtype_i64 ? ((const int64_t *)operand->data)[i]
                                                   : ((const int32_t *)operand->data)[i];
    return count;
}

/* Squeeze and Unsqueeze: the same numbers under other dims. */
static nd_status constant_axes(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *x = in[0];
    const bool added = node->op == nd_op_unsqueeze;
    bool marked[2 * nd_rank_max] = {false};
    int64_t list[nd_rank_max], dims[2 * nd_rank_max];
    const int n = constant_list(in[1], node->attr.n, node->attr.list, list);
    const int wide = added ? x->rank + n : x->rank;
    ND_REQUIRE(n >= 0 && wide <= nd_rank_max && nd_dims_mark(wide, list, n, marked), nd_status_unsupported,
               "other axes");
    int rank = 0;
    for (int i = 0, from = 0; i < wide; i++) {
        const int64_t dim = added && marked[i] ? 1 : x->dims[from++];
        if (!added && dim == 1 && (marked[i] || !n)) continue;
        ND_REQUIRE(added || !marked[i], nd_status_unsupported, "an axis that is not 1");
        dims[rank++] = dim;
    }
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, out));
    memcpy(out->data, x->data, nd_tensor_bytes(out));
    return nd_status_ok;
}

static nd_status constant_slice(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *x = in[0];
    nd_attr attr = node->attr;
    int64_t *const lists[] = {attr.list, attr.ends, attr.axes, attr.steps};
    int64_t dims[nd_rank_max], strides[nd_rank_max], offset = 0;
    attr.n = constant_list(in[1], node->attr.n, node->attr.list, attr.list);
    for (int k = 0; k < 4; k++) {
        const bool there = node->n_in > 1 && in[k + 1];
        for (int i = 0; k > 1 && node->n_in > 1 && !there && i < attr.n; i++) lists[k][i] = k == 2 ? i : 1;
        ND_REQUIRE(!there || constant_list(in[k + 1], 0, NULL, lists[k]) == attr.n, nd_status_unsupported,
                   "another slice");
    }
    static const int64_t in_order[nd_rank_max] = {0, 1, 2, 3, 4, 5, 6, 7};
    ND_REQUIRE(nd_dims_permute(x->rank, x->dims, in_order, dims, strides), nd_status_unsupported, "no rank");
    for (int i = 0; i < attr.n; i++) {
        int64_t first;
        const int64_t axis = attr.axes[i] < 0 ? attr.axes[i] + x->rank : attr.axes[i];
        ND_REQUIRE(axis >= 0 && axis < x->rank && attr.steps[i], nd_status_unsupported, "another slice");
        dims[axis] = nd_slice_count(&attr, i, x->dims[axis], &first);
        offset += first * strides[axis];
        strides[axis] *= attr.steps[i];
    }
    ND_REQUIRE(nd_dims_count(x->rank, dims) > 0, nd_status_unsupported, "nothing is left");
    ND_TRY(nd_tensor_new(nd_dtype_f32, x->rank, dims, out));
    const int64_t count = nd_tensor_count(out);
    for (int64_t i = 0; i < count; i++)
        ((float *)out->data)[i] = ((const float *)x->data)[offset + nd_dims_at(x->rank, dims, strides, i)];
    return nd_status_ok;
}

static nd_status constant_concat(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const int rank = in[0]->rank;
    const int64_t axis = node->attr.axis < 0 ? node->attr.axis + rank : node->attr.axis;
    int64_t dims[nd_rank_max], outer = 1, at = 0;
    ND_REQUIRE(axis >= 0 && axis < rank, nd_status_unsupported, "another axis");
    memcpy(dims, in[0]->dims, sizeof dims);
    dims[axis] = 0;
    for (int k = 0; k < node->n_in; k++) {
        bool fits = in[k]->rank == rank;
        for (int i = 0; fits && i < rank; i++) fits = i == axis || in[k]->dims[i] == dims[i];
        ND_REQUIRE(fits, nd_status_unsupported, "parts that do not fit each other");
        dims[axis] += in[k]->dims[axis];
    }
    for (int i = 0; i < axis; i++) outer *= dims[i];
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, out));
    for (int64_t o = 0; o < outer; o++)
        for (int k = 0; k < node->n_in; k++) {
            const int64_t count = nd_tensor_count(in[k]) / outer;
            memcpy((float *)out->data + at, (const float *)in[k]->data + o * count,
                   (size_t)count * sizeof(float));
            at += count;
        }
    return nd_status_ok;
}

static nd_status constant_cast(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    ND_REQUIRE(is_real(node->attr.dtype), nd_status_unsupported, "no floating-point type");
    return to_f32(in[0], out);
}

/* The axes of a reduction, of its second input or its attribute; without any all of them. */
static bool reduced_axes(const nd_node *node, const nd_tensor *axes, int rank, bool *reduced) {
    const int64_t n = axes ? nd_tensor_count(axes) : node->attr.n;
    if (axes && axes->dtype != nd_dtype_i64) return false;
    if (!nd_dims_mark(rank, axes ? axes->data : node->attr.list, n, reduced)) return false;
    for (int i = 0; i < rank && !n; i++) reduced[i] = true;
    return true;
}

static nd_status constant_mean(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *x = in[0];
    bool reduced[nd_rank_max];
    int64_t dims[nd_rank_max], wide[nd_rank_max];
    int rank = 0;
    ND_REQUIRE(reduced_axes(node, in[1], x->rank, reduced), nd_status_unsupported, "other axes");
    for (int i = 0; i < x->rank; i++) {
        wide[i] = reduced[i] ? 1 : x->dims[i];
        if (!reduced[i] || node->attr.keep_dims) dims[rank++] = wide[i];
    }
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, out));
    const int64_t count = nd_tensor_count(x), results = nd_tensor_count(out);
    double *sums = nd_alloc_array((size_t)results + 1, sizeof *sums);
    if (!sums) nd_tensor_free(out);
    ND_REQUIRE(sums, nd_status_memory, "no memory");
    for (int64_t i = 0; i < count; i++)
        sums[nd_dims_broadcast_at(x->rank, wide, x->rank, x->dims, i)] += (double)((const float *)x->data)[i];
    for (int64_t i = 0; i < results; i++)
        ((float *)out->data)[i] = (float)(sums[i] * (double)results / (double)count);
    free(sums);
    return nd_status_ok;
}

/* Mean and variance of channel c, whose numbers lie in rows of `inner`. */
static void channel_moments(const nd_tensor *x, int64_t c, int64_t inner, double *mean, double *variance) {
    const int64_t rows = x->dims[0], step = x->dims[1] * inner;
    const float *data = (const float *)x->data + c * inner;
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < inner; i++) sum += (double)data[r * step + i];
    *mean = sum / (double)(rows * inner);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < inner; i++) {
            const double off = (double)data[r * step + i] - *mean;
            squares += off * off;
        }
    *variance = squares / (double)(rows * inner);
}

/* Weights that are standardised before use are normalised by their own statistics: training mode. */
static nd_status constant_batchnorm(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *x = in[0];
    const bool own = node->attr.training;
    ND_REQUIRE(x->rank >= 2 && nd_tensor_count(x) > 0, nd_status_unsupported, "another shape");
    const int64_t channels = x->dims[1], inner = nd_tensor_count(x) / (x->dims[0] * channels);
    for (int k = 1; k < (own ? 3 : 5); k++)
        ND_REQUIRE(in[k] && in[k]->dtype == nd_dtype_f32 && nd_tensor_count(in[k]) == channels,
                   nd_status_unsupported, "another number of channels");
    ND_TRY(nd_tensor_new(nd_dtype_f32, x->rank, x->dims, out));
    for (int64_t c = 0; c < channels; c++) {
        double mean = own ? 0 : (double)((const float *)in[3]->data)[c];
        double variance = own ? 0 : (double)((const float *)in[4]->data)[c];
        if (own) channel_moments(x, c, inner, &mean, &variance);
        const double scale =
            (double)((const float *)in[1]->data)[c] / sqrt(variance + (double)node->attr.epsilon);
        const double bias = (double)((const float *)in[2]->data)[c] - mean * scale;
        for (int64_t r = 0; r < x->dims[0]; r++)
            for (int64_t i = 0; i < inner; i++) {
                const int64_t at = (r * channels + c) * inner + i;
                ((float *)out->data)[at] = (float)((double)((const float *)x->data)[at] * scale + bias);
            }
    }
    return nd_status_ok;
}

/* Numbers that share a scale and lie together, `inner` of them, are a row; scales repeat every n rows. */
typedef struct nd_dequantizing {
    const nd_tensor *x;
    const float *scales, *zeros; /* zeros NULL: 0 */
    int64_t n, inner;
    float *out;
} nd_dequantizing;

static void dequantize_rows(void *context, int64_t begin, int64_t end, int worker) {
    enum { block = 4096 }; /* stays in the first cache between the two passes */
    const nd_dequantizing *d = context;
    const size_t element = nd_dtype_bytes(d->x->dtype);
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        const float scale = d->scales[row % d->n], zero = d->zeros ? d->zeros[row % d->n] : 0;
        for (int64_t at = row * d->inner; at < (row + 1) * d->inner; at += block) {
            const int64_t left = (row + 1) * d->inner - at, n = left < block ? left : block;
            const nd_tensor part = {.dtype = d->x->dtype,
                                    .rank = 1,
                                    .dims = {n},
                                    .data = (char *)d->x->data + (size_t)at * element};
            float *x = d->out + at;
            nd_tensor_to_f32(&part, x);
            for (int64_t i = 0; i < n; i++) x[i] = (x[i] - zero) * scale;
        }
    }
}

/* (x - zero point) * scale, for the whole tensor or along an axis. */
static nd_status constant_dequantize(const nd_node *node, const nd_tensor *const *in, nd_tensor *out) {
    const nd_tensor *x = in[0], *scale = in[1];
    nd_tensor zero = {0};
    const int64_t n = nd_tensor_count(scale);
    const int64_t axis = node->attr.axis < 0 ? node->attr.axis + x->rank : node->attr.axis;
    const bool along = n != 1 || scale->rank;
    ND_REQUIRE(scale->rank <= 1 && (!along || n == 1 || (axis >= 0 && axis < x->rank && x->dims[axis] == n)),
               nd_status_unsupported, "another scale");
    ND_REQUIRE(!in[2] || nd_tensor_count(in[2]) == n, nd_status_unsupported, "another zero point");
    if (in[2]) ND_TRY(to_f32(in[2], &zero));
    const nd_status status = nd_tensor_new(nd_dtype_f32, x->rank, x->dims, out);
    if (status) {
        nd_tensor_free(&zero);
        return status;
    }
    int64_t inner = n > 1 ? 1 : nd_tensor_count(out);
    for (int i = (int)axis + 1; n > 1 && i < x->rank; i++) inner *= x->dims[i];
    const int64_t rows = inner > 0 ? nd_tensor_count(out) / inner : 0;
    nd_dequantizing rest = {x, scale->data, zero.data, n, inner, out->data};
    nd_parallel_for(rows, 4 * inner, dequantize_rows, &rest);
    nd_tensor_free(&zero);
    return nd_status_ok;
}

/* Keeps the bytes of symmetric 8-bit weights beside the numbers, for who computes with them. */
static nd_status keep_integers(nd_graph *graph, const nd_node *node, const nd_tensor *const *in) {
    const nd_tensor *x = in[0], *scale = in[1], *zero = in[2];
    const bool e4m3 = x->dtype == nd_dtype_e4m3;
    if ((!e4m3 && x->dtype != nd_dtype_i8) || (zero && zero->dtype != x->dtype)) return nd_status_ok;
    for (int64_t i = 0; zero && i < nd_tensor_count(zero); i++)
        if (((const int8_t *)zero->data)[i]) return nd_status_ok;
    const int64_t axis = node->attr.axis < 0 ? node->attr.axis + x->rank : node->attr.axis;
    const nd_integers integers = {x->data, scale->data, nd_tensor_count(scale), (int)axis, e4m3};
    return nd_graph_set_integers(graph, node->out[0], &integers);
}

typedef nd_status nd_constant_evaluator(const nd_node *node, const nd_tensor *const *in, nd_tensor *out);

enum { constant_inputs_max = 64, batchnorm_statistics = 3 };

/* `real`: how many of the inputs have to be floating-point numbers. */
static const struct {
    nd_op op;
    int least, most, real;
    nd_constant_evaluator *evaluate;
} nd_constant_evaluators[] = {
    {nd_op_add, 2, 2, 2, constant_binary},
    {nd_op_sub, 2, 2, 2, constant_binary},
    {nd_op_mul, 2, 2, 2, constant_binary},
    {nd_op_div, 2, 2, 2, constant_binary},
    {nd_op_transpose, 1, 1, 1, constant_transpose},
    {nd_op_reshape, 2, 2, 1, constant_reshape},
    {nd_op_cast, 1, 1, 0, constant_cast},
    {nd_op_dequantize, 2, 3, 0, constant_dequantize},
    {nd_op_batchnorm, 5, 5, 3, constant_batchnorm},
    {nd_op_reduce_mean, 1, 2, 1, constant_mean},
    {nd_op_squeeze, 1, 2, 1, constant_axes},
    {nd_op_unsqueeze, 1, 2, 1, constant_axes},
    {nd_op_slice, 1, 5, 1, constant_slice},
    {nd_op_concat, 1, constant_inputs_max, constant_inputs_max, constant_concat},
};

static bool is_promised(const nd_graph *graph, int value) {
    return graph->values[value].pinned || nd_graph_is_output(graph, value);
}

/* Evaluates node `index` where it follows one of the cases above; others stay as they are. */
static nd_status fold_constant(nd_graph *graph, int index, nd_dtype *was) {
    const nd_node *node = &graph->nodes[index];
    const nd_tensor *in[constant_inputs_max] = {NULL};
    nd_tensor out = {0};
    size_t e = 0;
    const size_t n = sizeof nd_constant_evaluators / sizeof *nd_constant_evaluators;
    const bool training = node->attr.training;
    const nd_op op = training ? nd_op_batchnorm : node->op;
    while (e < n && nd_constant_evaluators[e].op != op) e++;
    if (e == n || node->n_in < nd_constant_evaluators[e].least ||
        node->n_in > nd_constant_evaluators[e].most || node->n_out != 1 ||
        nd_graph_is_output(graph, node->out[0]))
        return nd_status_ok; /* what subgraphs read is a constant to them too */
    for (int k = 0; k < node->n_in; k++) {
        in[k] = nd_graph_constant(graph, node, k);
        if (training && k >= batchnorm_statistics) break; /* they are written then, not read */
        if (!in[k] && node->in[k] >= 0) return nd_status_ok;
        if (k < nd_constant_evaluators[e].real && (!in[k] || in[k]->dtype != nd_dtype_f32))
            return nd_status_ok;
    }
    if (!in[0] || (node->op == nd_op_dequantize && (!in[1] || in[1]->dtype != nd_dtype_f32)))
        return nd_status_ok;
    nd_status status = nd_constant_evaluators[e].evaluate(node, in, &out);
    if (!status) status = nd_graph_set_init(graph, node->out[0], &out);
    if (!status && node->op == nd_op_dequantize) status = keep_integers(graph, node, in);
    nd_tensor_free(&out);
    if (status == nd_status_unsupported) return nd_status_ok;
    if (status) return status;
    was[node->out[0]] = node->op == nd_op_cast         ? node->attr.dtype
                        : node->op == nd_op_dequantize ? was[node->in[1]]
                                                       : was[node->in[0]];
    nd_graph_remove_node(graph, index);
    return nd_status_ok;
}

static nd_status widen(nd_graph *graph, nd_dtype *was) {
    for (int v = 0; v < graph->n_values; v++) {
        const nd_tensor *init = graph->values[v].init;
        if (!init || init->dtype == nd_dtype_f32 || !is_real(init->dtype) || is_promised(graph, v)) continue;
        was[v] = init->dtype;
        nd_tensor wide = {0};
        nd_status status = to_f32(init, &wide);
        if (!status) status = nd_graph_set_init(graph, v, &wide);
        nd_tensor_free(&wide);
        if (status) return status;
    }
    return nd_status_ok;
}

nd_status nd_graph_fold_constants(nd_graph *graph) {
    nd_status status = nd_status_ok;
    nd_dtype *was = nd_alloc_array((size_t)graph->n_values, sizeof *was); /* zeros are f32 */
    ND_REQUIRE(was, nd_status_memory, "%s: no memory", graph->name);
    ND_TRY_DONE(widen(graph, was));
    for (int i = 0; i < graph->n_nodes; i++) ND_TRY_DONE(fold_constant(graph, i, was));
    for (int i = 0; i < graph->n_nodes; i++) {
        nd_node *node = &graph->nodes[i];
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] >= 0 && was[node->in[k]] != nd_dtype_f32 && !node->stored)
                node->stored = was[node->in[k]];
    }
done:
    free(was);
    return status;
}
