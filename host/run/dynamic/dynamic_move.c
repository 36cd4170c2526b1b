#include "run/dynamic/dynamic_parts.h"

#include "model/dims.h"
#include "model/infer/infer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void move_strides(const nd_tensor *x, int64_t *strides) {
    int64_t stride = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= x->dims[i];
    }
}

/* 0 is the size of the same axis before, -1 what is left. */
static nd_status reshape_dims(const nd_call *call, const nd_tensor *x, int *rank, int64_t *dims) {
    const nd_attr *attr = &call->node->attr;
    int64_t fixed = 1;
    int rest = -1;
    ND_TRY(nd_call_list(call, 1, attr->n, attr->list, dims, nd_rank_max, rank));
    if (*rank < 0) *rank = 0;
    for (int i = 0; i < *rank; i++) {
        if (dims[i] == 0 && i < x->rank) dims[i] = x->dims[i];
        ND_REQUIRE(dims[i] >= -1 && (dims[i] >= 0 || rest < 0), nd_status_format, "a shape of sizes below 0");
        if (dims[i] < 0)
            rest = i;
        else
            ND_REQUIRE(!__builtin_mul_overflow(fixed, dims[i], &fixed), nd_status_format,
                       "an impossible shape");
    }
    if (rest >= 0) dims[rest] = fixed ? nd_tensor_count(x) / fixed : 0;
    return nd_status_ok;
}

static nd_status marked_axes(const nd_call *call, int rank, bool *marked, int *n) {
    int64_t axes[nd_rank_max];
    ND_TRY(nd_call_list(call, 1, call->node->attr.n, call->node->attr.list, axes, nd_rank_max, n));
    const int over = rank + (call->node->op == nd_op_unsqueeze && *n > 0 ? *n : 0);
    ND_REQUIRE(nd_dims_mark(over, axes, *n, marked), nd_status_format, "axes that are not among %d, or twice",
               over);
    return nd_status_ok;
}

static nd_status squeeze_dims(const nd_call *call, const nd_tensor *x, int *rank, int64_t *dims) {
    bool marked[2 * nd_rank_max] = {false};
    int n;
    *rank = 0;
    ND_TRY(marked_axes(call, x->rank, marked, &n));
    for (int i = 0; i < x->rank; i++) {
        ND_REQUIRE(!marked[i] || x->dims[i] == 1, nd_status_format, "axis %d has %lld elements", i,
                   (long long)x->dims[i]);
        if (n < 0 ? x->dims[i] != 1 : !marked[i]) dims[(*rank)++] = x->dims[i];
    }
    return nd_status_ok;
}

static nd_status unsqueeze_dims(const nd_call *call, const nd_tensor *x, int *rank, int64_t *dims) {
    bool marked[2 * nd_rank_max] = {false};
    int n, from = 0;
    ND_TRY(marked_axes(call, x->rank, marked, &n));
    *rank = x->rank + (n > 0 ? n : 0);
    ND_REQUIRE(*rank <= nd_rank_max, nd_status_unsupported, "%d axes, at most %d", *rank, nd_rank_max);
    for (int i = 0; i < *rank; i++) dims[i] = marked[i] ? 1 : x->dims[from++];
    return nd_status_ok;
}

static nd_status flatten_dims(const nd_call *call, const nd_tensor *x, int *rank, int64_t *dims) {
    const int64_t given = call->node->attr.axis, axis = given < 0 ? given + x->rank : given;
    ND_REQUIRE(axis >= 0 && axis <= x->rank, nd_status_format, "axis %lld of a value of rank %d",
               (long long)given, x->rank);
    *rank = 2;
    dims[0] = nd_dims_count((int)axis, x->dims);
    dims[1] = nd_dims_count(x->rank - (int)axis, x->dims + axis);
    return nd_status_ok;
}

/* A view of the first operand, in the shape that `shape` gives. */
static nd_status view_as(nd_call *call,
                         nd_status (*shape)(const nd_call *, const nd_tensor *, int *, int64_t *)) {
    const nd_tensor *x;
    int64_t dims[nd_rank_max] = {0};
    int rank;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(shape(call, x, &rank, dims));
    return nd_call_view(x, rank, dims, &call->out[0]);
}

nd_status nd_call_reshape(nd_call *call) {
    return view_as(call, reshape_dims);
}

nd_status nd_call_squeeze(nd_call *call) {
    return view_as(call, squeeze_dims);
}

nd_status nd_call_unsqueeze(nd_call *call) {
    return view_as(call, unsqueeze_dims);
}

nd_status nd_call_flatten(nd_call *call) {
    return view_as(call, flatten_dims);
}

nd_status nd_call_identity(nd_call *call) {
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    call->out[0] = nd_tensor_share(x);
    return nd_status_ok;
}

nd_status nd_call_transpose(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const nd_tensor *x;
    int64_t dims[nd_rank_max], strides[nd_rank_max];
    bool seen[nd_rank_max];
    ND_TRY(nd_call_input(call, 0, &x));
    ND_REQUIRE(!attr->n || (attr->n == x->rank && nd_dims_mark(x->rank, attr->list, attr->n, seen)),
               nd_status_format, "no permutation of %d axes", x->rank);
    ND_REQUIRE(nd_dims_permute(x->rank, x->dims, attr->n ? attr->list : NULL, dims, strides),
               nd_status_format, "no permutation");
    ND_TRY(nd_call_new(x->dtype, x->rank, dims, &call->out[0]));
    nd_call_copy(x, 0, strides, &call->out[0]);
    return nd_status_ok;
}

nd_status nd_call_slice(nd_call *call) {
    const nd_tensor *x;
    nd_attr attr = call->node->attr;
    int64_t *const lists[] = {attr.list, attr.ends, attr.axes, attr.steps};
    int64_t dims[nd_rank_max], strides[nd_rank_max], offset = 0;
    int counts[4];
    ND_TRY(nd_call_input(call, 0, &x));
    for (int k = 0; k < 4; k++) {
        const bool given = call->node->n_in > 1; /* as attributes before opset 10 */
        ND_TRY(nd_call_list(call, k + 1, given ? 0 : attr.n, lists[k], lists[k], nd_rank_max, &counts[k]));
    }
    const int n = counts[0] < 0 ? 0 : counts[0];
    for (int i = 0; i < n && counts[2] < 0; i++) attr.axes[i] = i;
    for (int i = 0; i < n && counts[3] < 0; i++) attr.steps[i] = 1;
    for (int k = 1; k < 4; k++)
        ND_REQUIRE(counts[k] == n || (counts[k] < 0 && (k > 1 || !n)), nd_status_format,
                   "%d starts and lists of other lengths", n);
    memcpy(dims, x->dims, sizeof dims);
    move_strides(x, strides);
    for (int i = 0; i < n; i++) {
        int axis;
        int64_t first;
        ND_TRY(nd_call_axis(attr.axes[i], x->rank, &axis));
        ND_REQUIRE(attr.steps[i], nd_status_format, "a step of 0");
        dims[axis] = nd_slice_count(&attr, i, x->dims[axis], &first);
        offset += first * strides[axis];
        if (dims[axis] > 1) strides[axis] *= attr.steps[i];
    }
    ND_TRY(nd_call_new(x->dtype, x->rank, dims, &call->out[0]));
    nd_call_copy(x, offset, strides, &call->out[0]);
    return nd_status_ok;
}

/* Sizes as they are given, else as equal as may be, the last one smaller. */
nd_status nd_call_split(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const int parts = call->node->n_out;
    const nd_tensor *x;
    int64_t sizes[2 * nd_rank_max], strides[nd_rank_max], start = 0;
    int axis, n;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_axis(attr->axis, x->rank, &axis));
    ND_TRY(nd_call_list(call, 1, attr->n, attr->list, sizes, 2 * nd_rank_max, &n));
    ND_REQUIRE(n < 0 || n == parts, nd_status_format, "%d sizes for %d outputs", n, parts);
    move_strides(x, strides);
    const int64_t equal = (x->dims[axis] + parts - 1) / parts;
    for (int k = 0; k < parts; k++) {
        const int64_t left = x->dims[axis] - start, size = n >= 0 ? sizes[k] : equal < left ? equal : left;
        int64_t dims[nd_rank_max];
        ND_REQUIRE(size >= 0 && size <= left, nd_status_format, "a part of %lld of %lld elements",
                   (long long)size, (long long)x->dims[axis]);
        memcpy(dims, x->dims, sizeof dims);
        dims[axis] = size;
        ND_TRY(nd_call_new(x->dtype, x->rank, dims, &call->out[k]));
        nd_call_copy(x, start * strides[axis], strides, &call->out[k]);
        start += size;
    }
    ND_REQUIRE(start == x->dims[axis], nd_status_format, "parts of %lld of %lld elements", (long long)start,
               (long long)x->dims[axis]);
    return nd_status_ok;
}

nd_status nd_call_concat(nd_call *call) {
    const nd_tensor *first, *x;
    int64_t dims[nd_rank_max];
    int axis;
    ND_TRY(nd_call_input(call, 0, &first));
    ND_TRY(nd_call_axis(call->node->attr.axis, first->rank, &axis));
    memcpy(dims, first->dims, sizeof dims);
    for (int k = 1; k < call->node->n_in; k++) {
        ND_TRY(nd_call_input(call, k, &x));
        ND_REQUIRE(x->rank == first->rank && x->dtype == first->dtype, nd_status_format,
                   "input %d is of another rank or type than the first", k);
        for (int i = 0; i < x->rank; i++)
            ND_REQUIRE(i == axis || x->dims[i] == dims[i], nd_status_format,
                       "input %d has %lld elements along axis %d, not %lld", k, (long long)x->dims[i], i,
                       (long long)dims[i]);
        dims[axis] += x->dims[axis];
    }
    ND_TRY(nd_call_new(first->dtype, first->rank, dims, &call->out[0]));
    const size_t bytes = nd_dtype_bytes(first->dtype);
    const int64_t outer = nd_call_outer(first, axis), inner = nd_call_inner(first, axis);
    size_t start = 0;
    const size_t whole = (size_t)(dims[axis] * inner) * bytes;
    for (int k = 0; k < call->node->n_in; k++) {
        const size_t part = (size_t)(call->in[k]->dims[axis] * inner) * bytes;
        for (int64_t i = 0; part && i < outer; i++)
            memcpy((char *)call->out[0].data + (size_t)i * whole + start,
                   (const char *)call->in[k]->data + (size_t)i * part, part);
        start += part;
    }
    return nd_status_ok;
}

nd_status nd_call_expand(nd_call *call) {
    const nd_tensor *x;
    int64_t shape[nd_rank_max], dims[nd_rank_max], strides[nd_rank_max];
    int n, rank;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_list(call, 1, call->node->attr.n, call->node->attr.list, shape, nd_rank_max, &n));
    ND_REQUIRE(nd_dims_broadcast(x->rank, x->dims, n < 0 ? 0 : n, shape, &rank, dims), nd_status_format,
               "the input does not broadcast");
    ND_TRY(nd_call_new(x->dtype, rank, dims, &call->out[0]));
    nd_call_strides(x, &call->out[0], strides);
    nd_call_copy(x, 0, strides, &call->out[0]);
    return nd_status_ok;
}

nd_status nd_call_tile(nd_call *call) {
    const nd_tensor *x;
    nd_tensor *y = &call->out[0];
    int64_t repeats[nd_rank_max], dims[nd_rank_max], strides[nd_rank_max], index[nd_rank_max] = {0};
    int n;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_list(call, 1, call->node->attr.n, call->node->attr.list, repeats, nd_rank_max, &n));
    ND_REQUIRE(n == x->rank || (n < 0 && !x->rank), nd_status_format, "%d repeats of %d axes", n, x->rank);
    for (int i = 0; i < x->rank; i++)
        ND_REQUIRE(repeats[i] >= 0 && !__builtin_mul_overflow(x->dims[i], repeats[i], &dims[i]),
                   nd_status_format, "%lld repeats", (long long)repeats[i]);
    ND_TRY(nd_call_new(x->dtype, x->rank, dims, y));
    if (nd_tensor_count(y) <= 0) return nd_status_ok;
    move_strides(x, strides);
    const size_t bytes = nd_dtype_bytes(x->dtype);
    char *to = y->data;
    do {
        int64_t at = 0;
        for (int i = 0; i < x->rank; i++) at += index[i] % x->dims[i] * strides[i];
        memcpy(to, (const char *)x->data + (size_t)at * bytes, bytes);
        to += bytes;
    } while (nd_call_next(y->rank, y->dims, index));
    return nd_status_ok;
}

static void fill(nd_tensor *y, double real, int64_t whole) {
    const int64_t count = nd_tensor_count(y);
    for (int64_t i = 0; i < count; i++) {
        if (y->dtype == nd_dtype_f32)
            ((float *)y->data)[i] = (float)real;
        else if (y->dtype == nd_dtype_i64)
            ((int64_t *)y->data)[i] = whole;
        else
            ((uint8_t *)y->data)[i] = whole != 0;
    }
}

/* Begins, then ends, of the axes that are named, or of all; negative ones cut. */
static nd_status pad_lists(const nd_call *call, int rank, int64_t *begins, int64_t *ends) {
    const nd_attr *attr = &call->node->attr;
    int64_t pads[2 * nd_rank_max], axes[nd_rank_max];
    int n, n_axes;
    ND_TRY(nd_call_list(call, 1, attr->n, attr->list, pads, 2 * nd_rank_max, &n));
    ND_TRY(nd_call_list(call, 3, 0, NULL, axes, nd_rank_max, &n_axes));
    const int count = n_axes < 0 ? rank : n_axes;
    ND_REQUIRE(n == 2 * count, nd_status_format, "%d pads for %d axes", n, count);
    for (int i = 0; i < rank; i++) begins[i] = ends[i] = 0;
    for (int i = 0; i < count; i++) {
        int axis = i;
        if (n_axes >= 0) ND_TRY(nd_call_axis(axes[i], rank, &axis));
        begins[axis] = pads[i];
        ends[axis] = pads[count + i];
    }
    return nd_status_ok;
}

nd_status nd_call_pad(nd_call *call) {
    const nd_tensor *x;
    nd_tensor *y = &call->out[0];
    int64_t begins[nd_rank_max], ends[nd_rank_max], dims[nd_rank_max], strides[nd_rank_max];
    int64_t index[nd_rank_max] = {0};
    double value;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(pad_lists(call, x->rank, begins, ends));
    ND_TRY(nd_call_number(call, 2, (double)call->node->attr.value, &value));
    for (int i = 0; i < x->rank; i++) {
        const bool sane = llabs(begins[i]) < INT64_MAX / 4 && llabs(ends[i]) < INT64_MAX / 4;
        dims[i] = sane ? x->dims[i] + begins[i] + ends[i] : -1;
        ND_REQUIRE(dims[i] >= 0, nd_status_format, "a result of impossible size");
    }
    ND_TRY(nd_call_new(x->dtype, x->rank, dims, y));
    fill(y, value, (int64_t)value);
    if (nd_tensor_count(y) <= 0) return nd_status_ok;
    move_strides(x, strides);
    const size_t bytes = nd_dtype_bytes(x->dtype);
    char *to = y->data;
    do {
        int64_t at = 0;
        bool inside = true;
        for (int i = 0; i < x->rank; i++) {
            const int64_t from = nd_pad_index(call->node->attr.pad_mode, index[i] - begins[i], x->dims[i]);
            inside = inside && from >= 0;
            at += from * strides[i];
        }
        if (inside) memcpy(to, (const char *)x->data + (size_t)at * bytes, bytes);
        to += bytes;
    } while (nd_call_next(y->rank, y->dims, index));
    return nd_status_ok;
}

nd_status nd_call_shape(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    int64_t ends[2] = {attr->n ? attr->list[0] : 0, attr->n ? attr->list[1] : x->rank};
    for (int i = 0; i < 2; i++) {
        if (ends[i] < 0) ends[i] += x->rank;
        ends[i] = ends[i] < 0 ? 0 : ends[i] > x->rank ? x->rank : ends[i];
    }
    const int64_t count = ends[1] > ends[0] ? ends[1] - ends[0] : 0;
    ND_TRY(nd_call_new(nd_dtype_i64, 1, &count, &call->out[0]));
    if (count) memcpy(call->out[0].data, x->dims + ends[0], (size_t)count * sizeof *x->dims);
    return nd_status_ok;
}

nd_status nd_call_size(nd_call *call) {
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_new(nd_dtype_i64, 0, NULL, &call->out[0]));
    *(int64_t *)call->out[0].data = nd_tensor_count(x);
    return nd_status_ok;
}

nd_status nd_call_constant_of_shape(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const bool real = attr->dtype <= nd_dtype_bf16;
    int64_t dims[nd_rank_max];
    int rank;
    ND_TRY(nd_call_list(call, 0, 0, NULL, dims, nd_rank_max, &rank));
    ND_REQUIRE(rank >= 0, nd_status_format, "no shape");
    ND_TRY(nd_call_new(real                           ? nd_dtype_f32
                       : attr->dtype == nd_dtype_bool ? nd_dtype_bool
                                                      : nd_dtype_i64,
                       rank, dims, &call->out[0]));
    fill(&call->out[0], (double)attr->value, attr->size);
    return nd_status_ok;
}

nd_status nd_call_range(nd_call *call) {
    const nd_tensor *ends[3];
    double real[3], count;
    for (int k = 0; k < 3; k++) {
        ND_TRY(nd_call_input(call, k, &ends[k]));
        ND_TRY(nd_call_number(call, k, 0, &real[k]));
        ND_REQUIRE(ends[k]->dtype == ends[0]->dtype && ends[k]->dtype != nd_dtype_bool, nd_status_format,
                   "bounds of other types");
    }
    count = ceil((real[1] - real[0]) / real[2]);
    ND_REQUIRE(real[2] != 0 && count < 0x1p40, nd_status_format, "from %g to %g by %g", real[0], real[1],
               real[2]);
    const int64_t length = count > 0 ? (int64_t)count : 0;
    ND_TRY(nd_call_new(ends[0]->dtype, 1, &length, &call->out[0]));
    const bool whole = ends[0]->dtype == nd_dtype_i64;
    const int64_t start = whole ? *(const int64_t *)ends[0]->data : 0;
    const int64_t step = whole ? *(const int64_t *)ends[2]->data : 0;
    for (int64_t i = 0; i < length; i++) {
        if (whole)
            ((int64_t *)call->out[0].data)[i] = start + i * step;
        else
            ((float *)call->out[0].data)[i] = (float)(real[0] + (double)i * real[2]);
    }
    return nd_status_ok;
}
