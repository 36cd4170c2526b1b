#include "run/dynamic/dynamic_parts.h"

#include "model/dims.h"

#include <math.h>
#include <string.h>

nd_status nd_call_new(nd_dtype dtype, int rank, const int64_t *dims, nd_tensor *out) {
    enum { always = 64 << 20 };
    const int64_t count = nd_dims_count(rank, dims);
    ND_REQUIRE(count >= 0, nd_status_format, "a result of impossible size");
    const double bytes = (double)count * (double)nd_dtype_bytes(dtype);
    ND_REQUIRE(bytes <= always || bytes <= (double)nd_memory_find().left, nd_status_memory,
               "no memory for a result of %lld elements", (long long)count);
    return nd_tensor_new(dtype, rank, dims, out);
}

nd_status nd_call_view(const nd_tensor *x, int rank, const int64_t *dims, nd_tensor *out) {
    char from[128], to[128];
    ND_REQUIRE(nd_dims_count(rank, dims) == nd_tensor_count(x), nd_status_format, "%s cannot become %s",
               nd_dims_format(x->rank, x->dims, from, sizeof from),
               nd_dims_format(rank, dims, to, sizeof to));
    int64_t copied[nd_rank_max];
    memcpy(copied, dims, (size_t)rank * sizeof *copied);
    *out = nd_tensor_share(x);
    out->rank = rank;
    memcpy(out->dims, copied, (size_t)rank * sizeof *copied);
    return nd_status_ok;
}

nd_status nd_call_input(const nd_call *call, int k, const nd_tensor **out) {
    *out = k < call->node->n_in ? call->in[k] : NULL;
    ND_REQUIRE(*out, nd_status_format, "input %d is missing", k);
    return nd_status_ok;
}

nd_status nd_call_list(const nd_call *call, int k, int n, const int64_t *attribute, int64_t *list, int max,
                       int *count) {
    const nd_tensor *x = k < call->node->n_in ? call->in[k] : NULL;
    const int64_t found = x ? nd_tensor_count(x) : n;
    *count = -1;
    if (!x && n <= 0) return nd_status_ok;
    ND_REQUIRE(!x || (x->dtype == nd_dtype_i64 && x->rank <= 1), nd_status_format,
               "input %d is no list of integers", k);
    ND_REQUIRE(found <= max, nd_status_unsupported, "%lld entries in a list of at most %d", (long long)found,
               max);
    *count = (int)found;
    memcpy(list, x ? x->data : attribute, (size_t)found * sizeof *list);
    return nd_status_ok;
}

nd_status nd_call_number(const nd_call *call, int k, double absent, double *out) {
    const nd_tensor *x = k < call->node->n_in ? call->in[k] : NULL;
    *out = absent;
    if (!x) return nd_status_ok;
    ND_REQUIRE(nd_tensor_count(x) == 1, nd_status_format, "input %d is no single number", k);
    *out = x->dtype == nd_dtype_f32   ? (double)*(const float *)x->data
           : x->dtype == nd_dtype_i64 ? (double)*(const int64_t *)x->data
                                      : *(const uint8_t *)x->data;
    return nd_status_ok;
}

nd_status nd_call_axis(int64_t axis, int rank, int *out) {
    const int64_t at = axis < 0 ? axis + rank : axis;
    ND_REQUIRE(at >= 0 && at < rank, nd_status_format, "axis %lld of a value of rank %d", (long long)axis,
               rank);
    *out = (int)at;
    return nd_status_ok;
}

int64_t nd_call_outer(const nd_tensor *x, int axis) {
    return nd_dims_count(axis, x->dims);
}

int64_t nd_call_inner(const nd_tensor *x, int axis) {
    return nd_dims_count(x->rank - axis - 1, x->dims + axis + 1);
}

void nd_call_strides(const nd_tensor *x, const nd_tensor *as, int64_t *strides) {
    const int lead = as->rank - x->rank;
    int64_t stride = 1;
    for (int i = as->rank - 1; i >= 0; i--) {
        const int64_t dim = i < lead ? 1 : x->dims[i - lead];
        strides[i] = dim == 1 ? 0 : stride;
        stride *= dim;
    }
}

bool nd_call_next(int rank, const int64_t *dims, int64_t *index) {
    for (int i = rank - 1; i >= 0; i--) {
        if (++index[i] < dims[i]) return true;
        index[i] = 0;
    }
    return false;
}

void nd_call_copy(const nd_tensor *x, int64_t offset, const int64_t *strides, nd_tensor *y) {
    const size_t bytes = nd_dtype_bytes(x->dtype);
    const int rows = y->rank ? y->rank - 1 : 0;
    const int64_t length = y->rank ? y->dims[rows] : 1, step = y->rank ? strides[rows] : 0;
    int64_t index[nd_rank_max] = {0};
    char *to = y->data;
    if (nd_tensor_count(y) <= 0) return;
    do {
        int64_t at = offset;
        for (int i = 0; i < rows; i++) at += index[i] * strides[i];
        const char *from = (const char *)x->data + at * (int64_t)bytes;
        if (step == 1) {
            memcpy(to, from, (size_t)length * bytes);
        } else if (bytes == 4) {
            for (int64_t i = 0; i < length; i++) ((float *)to)[i] = ((const float *)from)[i * step];
        } else if (bytes == 8) {
            for (int64_t i = 0; i < length; i++) ((int64_t *)to)[i] = ((const int64_t *)from)[i * step];
        } else {
            for (int64_t i = 0; i < length; i++) to[i] = from[i * step];
        }
        to += (size_t)length * bytes;
    } while (nd_call_next(rows, y->dims, index));
}

/* Towards zero; what no integer is becomes the smallest, as processors have it. */
static int64_t convert_whole(float x) {
    return fabsf(x) < 0x1p63f ? (int64_t)x : INT64_MIN;
}

nd_status nd_call_convert(const nd_tensor *x, nd_dtype dtype, nd_tensor *out) {
    if (x->dtype == dtype) {
        *out = nd_tensor_share(x);
        return nd_status_ok;
    }
    ND_TRY(nd_call_new(dtype, x->rank, x->dims, out));
    const int64_t count = nd_tensor_count(x);
    const float *real = x->data;
    const int64_t *whole = x->data;
    const uint8_t *truth = x->data;
    for (int64_t i = 0; i < count; i++) {
        if (dtype == nd_dtype_f32)
            ((float *)out->data)[i] = x->dtype == nd_dtype_i64 ? (float)whole[i] : (float)truth[i];
        else if (dtype == nd_dtype_i64)
            ((int64_t *)out->data)[i] = x->dtype == nd_dtype_f32 ? convert_whole(real[i]) : truth[i];
        else
            ((uint8_t *)out->data)[i] = x->dtype == nd_dtype_f32 ? real[i] != 0 : whole[i] != 0;
    }
    return nd_status_ok;
}
