#include "run/dynamic/dynamic_parts.h"

#include <stdlib.h>
#include <string.h>

/* A row of numbers, `step` apart, and in which order they come: the larger or the smaller first, of equals
 * the one with the lower index. */
typedef struct nd_row {
    const nd_tensor *x;
    int64_t first, step;
    bool largest;
} nd_row;

static bool row_before(const nd_row *row, int64_t a, int64_t b) {
    const int64_t p = row->first + a * row->step, q = row->first + b * row->step;
    int order;
    if (row->x->dtype == nd_dtype_f32) {
        const float u = ((const float *)row->x->data)[p], v = ((const float *)row->x->data)[q];
        order = (u > v) - (u < v);
    } else {
        const int64_t u = ((const int64_t *)row->x->data)[p], v = ((const int64_t *)row->x->data)[q];
        order = (u > v) - (u < v);
    }
    return order ? (order > 0) == row->largest : a < b;
}

/* A heap of indices whose first comes last of all. */
static void heap_sink(const nd_row *row, int64_t *heap, int64_t n, int64_t at) {
    for (;;) {
        int64_t last = at;
        for (int64_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
            if (row_before(row, heap[last], heap[child])) last = child;
        if (last == at) return;
        const int64_t index = heap[at];
        heap[at] = heap[last];
        heap[last] = index;
        at = last;
    }
}

/* The first k of n, in order. */
static void row_top(const nd_row *row, int64_t n, int64_t k, int64_t *heap) {
    for (int64_t i = 0; i < k; i++) heap[i] = i;
    for (int64_t i = k / 2; i-- > 0;) heap_sink(row, heap, k, i);
    for (int64_t i = k; k && i < n; i++) {
        if (!row_before(row, i, heap[0])) continue;
        heap[0] = i;
        heap_sink(row, heap, k, 0);
    }
    for (int64_t i = k; i-- > 1;) {
        const int64_t last = heap[0];
        heap[0] = heap[i];
        heap[i] = last;
        heap_sink(row, heap, i, 0);
    }
}

static nd_status top_outputs(nd_call *call, const nd_tensor *x, int axis, int64_t k) {
    int64_t dims[nd_rank_max];
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = k;
    for (int o = 0; o < call->node->n_out && o < 2; o++)
        ND_TRY(nd_call_new(o ? nd_dtype_i64 : x->dtype, x->rank, dims, &call->out[o]));
    return nd_status_ok;
}

nd_status nd_call_top(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const nd_tensor *x;
    double wanted;
    int axis;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_number(call, 1, (double)attr->size, &wanted));
    ND_TRY(nd_call_axis(attr->axis, x->rank, &axis));
    const int64_t size = x->dims[axis], k = wanted >= 0 && wanted <= (double)size ? (int64_t)wanted : -1;
    ND_REQUIRE(k >= 0, nd_status_format, "the first %.0f of %lld elements", wanted, (long long)size);
    ND_REQUIRE(x->dtype != nd_dtype_bool, nd_status_format, "truth values");
    ND_TRY(top_outputs(call, x, axis, k));
    int64_t *heap = nd_alloc_array((size_t)k + 1, sizeof *heap);
    ND_REQUIRE(heap, nd_status_memory, "no memory");
    const int64_t rows = nd_call_outer(x, axis) * nd_call_inner(x, axis), step = nd_call_inner(x, axis);
    const size_t bytes = nd_dtype_bytes(x->dtype);
    for (int64_t r = 0; k && r < rows; r++) {
        const nd_row row = {x, r / step * size * step + r % step, step, attr->largest};
        row_top(&row, size, k, heap);
        for (int64_t i = 0; i < k; i++) {
            const size_t to = (size_t)(r / step * k * step + i * step + r % step);
            const size_t from = (size_t)(row.first + heap[i] * step);
            memcpy((char *)call->out[0].data + to * bytes, (const char *)x->data + from * bytes, bytes);
            if (call->node->n_out > 1) ((int64_t *)call->out[1].data)[to] = heap[i];
        }
    }
    free(heap);
    return nd_status_ok;
}

nd_status nd_call_arg(nd_call *call) {
    const nd_attr *attr = &call->node->attr;
    const bool largest = !strcmp(call->node->op_type, "ArgMax");
    const nd_tensor *x;
    int64_t dims[nd_rank_max];
    int axis, rank = 0;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_axis(attr->axis, x->rank, &axis));
    ND_REQUIRE(x->dtype != nd_dtype_bool && x->dims[axis] > 0, nd_status_format, "no numbers to choose from");
    for (int i = 0; i < x->rank; i++)
        if (i != axis || attr->keep_dims) dims[rank++] = i == axis ? 1 : x->dims[i];
    ND_TRY(nd_call_new(nd_dtype_i64, rank, dims, &call->out[0]));
    const int64_t step = nd_call_inner(x, axis), rows = nd_tensor_count(&call->out[0]), size = x->dims[axis];
    for (int64_t r = 0; r < rows; r++) {
        const nd_row row = {x, r / step * size * step + r % step, step, largest};
        int64_t best = 0;
        for (int64_t i = 1; i < size; i++) {
            const bool before = row_before(&row, i, best), after = row_before(&row, best, i);
            /* Of equals the lower index comes first: the last is the one that all others are not before. */
            const nd_row turned = {x, row.first, step, !largest};
            const bool equal = after && row_before(&turned, best, i);
            if (before || (attr->last && equal)) best = i;
        }
        ((int64_t *)call->out[0].data)[r] = best;
    }
    return nd_status_ok;
}

static bool is_zero(const nd_tensor *x, int64_t i) {
    if (x->dtype == nd_dtype_f32) return ((const float *)x->data)[i] == 0;
    return x->dtype == nd_dtype_i64 ? !((const int64_t *)x->data)[i] : !((const uint8_t *)x->data)[i];
}

/* Indices of what is not zero, a column for each; a scalar counts as a list of one. */
nd_status nd_call_nonzero(nd_call *call) {
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    const int64_t count = nd_tensor_count(x);
    int64_t dims[2] = {x->rank ? x->rank : 1, 0};
    for (int64_t i = 0; i < count; i++) dims[1] += !is_zero(x, i);
    ND_TRY(nd_call_new(nd_dtype_i64, 2, dims, &call->out[0]));
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        if (is_zero(x, i)) continue;
        int64_t rest = i;
        for (int axis = (int)dims[0] - 1; axis >= 0; axis--) {
            const int64_t size = x->rank ? x->dims[axis] : 1;
            ((int64_t *)call->out[0].data)[axis * dims[1] + found] = rest % size;
            rest /= size;
        }
        found++;
    }
    return nd_status_ok;
}
