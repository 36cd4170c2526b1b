#include "run/dynamic/dynamic_parts.h"

#include <string.h>

static nd_status gather_indices(const nd_call *call, int k, const nd_tensor **out) {
    ND_TRY(nd_call_input(call, k, out));
    ND_REQUIRE((*out)->dtype == nd_dtype_i64, nd_status_format, "indices in %s",
               nd_dtype_name((*out)->dtype));
    return nd_status_ok;
}

/* Negative ones count from the end. */
static nd_status gather_index(int64_t index, int64_t size, int64_t *out) {
    *out = index < 0 ? index + size : index;
    ND_REQUIRE(*out >= 0 && *out < size, nd_status_format, "index %lld of %lld elements", (long long)index,
               (long long)size);
    return nd_status_ok;
}

nd_status nd_call_gather(nd_call *call) {
    const nd_tensor *x, *indices;
    int64_t dims[2 * nd_rank_max];
    int axis, rank = 0;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(gather_indices(call, 1, &indices));
    ND_TRY(nd_call_axis(call->node->attr.axis, x->rank, &axis));
    for (int i = 0; i < axis; i++) dims[rank++] = x->dims[i];
    for (int i = 0; i < indices->rank; i++) dims[rank++] = indices->dims[i];
    for (int i = axis + 1; i < x->rank; i++) dims[rank++] = x->dims[i];
    ND_REQUIRE(rank <= nd_rank_max, nd_status_unsupported, "%d axes, at most %d", rank, nd_rank_max);
    ND_TRY(nd_call_new(x->dtype, rank, dims, &call->out[0]));
    const size_t bytes = (size_t)nd_call_inner(x, axis) * nd_dtype_bytes(x->dtype);
    const int64_t outer = nd_call_outer(x, axis), count = nd_tensor_count(indices), size = x->dims[axis];
    char *to = call->out[0].data;
    for (int64_t i = 0; i < outer; i++) {
        for (int64_t k = 0; k < count; k++) {
            int64_t at;
            ND_TRY(gather_index(((const int64_t *)indices->data)[k], size, &at));
            if (bytes) memcpy(to, (const char *)x->data + (size_t)(i * size + at) * bytes, bytes);
            to += bytes;
        }
    }
    return nd_status_ok;
}

/* Where the element that `index` names lies when its entry of `axis` is another. */
static int64_t gather_at(const nd_tensor *x, const int64_t *index, int axis, int64_t at) {
    int64_t position = 0;
    for (int i = 0; i < x->rank; i++) position = position * x->dims[i] + (i == axis ? at : index[i]);
    return position;
}

/* Indices of as many axes as x, no longer than x but along `axis`. */
static nd_status elements_fit(const nd_tensor *x, const nd_tensor *indices, int axis) {
    ND_REQUIRE(indices->rank == x->rank, nd_status_format, "indices of rank %d in a value of rank %d",
               indices->rank, x->rank);
    for (int i = 0; i < x->rank; i++)
        ND_REQUIRE(i == axis || indices->dims[i] <= x->dims[i], nd_status_format,
                   "%lld indices along axis %d of %lld elements", (long long)indices->dims[i], i,
                   (long long)x->dims[i]);
    return nd_status_ok;
}

nd_status nd_call_gather_elements(nd_call *call) {
    const nd_tensor *x, *indices;
    int64_t index[nd_rank_max] = {0}, done = 0, at;
    int axis;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(gather_indices(call, 1, &indices));
    ND_TRY(nd_call_axis(call->node->attr.axis, x->rank, &axis));
    ND_TRY(elements_fit(x, indices, axis));
    ND_TRY(nd_call_new(x->dtype, indices->rank, indices->dims, &call->out[0]));
    if (nd_tensor_count(indices) <= 0) return nd_status_ok;
    const size_t bytes = nd_dtype_bytes(x->dtype);
    do {
        ND_TRY(gather_index(((const int64_t *)indices->data)[done], x->dims[axis], &at));
        memcpy((char *)call->out[0].data + (size_t)done * bytes,
               (const char *)x->data + (size_t)gather_at(x, index, axis, at) * bytes, bytes);
        done++;
    } while (nd_call_next(indices->rank, indices->dims, index));
    return nd_status_ok;
}

/* A copy of the first input, to be written into. */
static nd_status scatter_copy(nd_call *call, const nd_tensor *updates) {
    const nd_tensor *x;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_REQUIRE(updates->dtype == x->dtype, nd_status_format, "updates in %s of a value in %s",
               nd_dtype_name(updates->dtype), nd_dtype_name(x->dtype));
    ND_TRY(nd_call_new(x->dtype, x->rank, x->dims, &call->out[0]));
    if (nd_tensor_count(x)) memcpy(call->out[0].data, x->data, nd_tensor_bytes(x));
    return nd_status_ok;
}

nd_status nd_call_scatter_elements(nd_call *call) {
    const nd_tensor *indices, *updates;
    nd_tensor *y = &call->out[0];
    int64_t index[nd_rank_max] = {0}, done = 0, at;
    int axis;
    ND_TRY(gather_indices(call, 1, &indices));
    ND_TRY(nd_call_input(call, 2, &updates));
    ND_TRY(scatter_copy(call, updates));
    ND_TRY(nd_call_axis(call->node->attr.axis, y->rank, &axis));
    ND_TRY(elements_fit(y, indices, axis));
    ND_REQUIRE(nd_tensor_count(updates) == nd_tensor_count(indices), nd_status_format,
               "as many updates as indices are wanted");
    if (nd_tensor_count(indices) <= 0) return nd_status_ok;
    const size_t bytes = nd_dtype_bytes(y->dtype);
    do {
        ND_TRY(gather_index(((const int64_t *)indices->data)[done], y->dims[axis], &at));
        memcpy((char *)y->data + (size_t)gather_at(y, index, axis, at) * bytes,
               (const char *)updates->data + (size_t)done * bytes, bytes);
        done++;
    } while (nd_call_next(indices->rank, indices->dims, index));
    return nd_status_ok;
}

/* The last axis of the indices names an element, or a block of them, of the axes after the batch. */
typedef struct nd_tuples {
    const int64_t *list;
    int64_t count, per_image, images; /* tuples in all, and of an image of the batch */
    int length, batch;                /* of a tuple; axes of the batch */
    int64_t block;                    /* elements that a tuple names */
} nd_tuples;

static nd_status tuples_read(const nd_tensor *x, const nd_tensor *indices, int64_t batch, nd_tuples *out) {
    ND_REQUIRE(indices->rank >= 1 && batch >= 0 && batch < x->rank && batch < indices->rank, nd_status_format,
               "indices of rank %d with a batch of %lld axes", indices->rank, (long long)batch);
    const int64_t length = indices->dims[indices->rank - 1];
    ND_REQUIRE(length >= 1 && length + batch <= x->rank, nd_status_format,
               "%lld indices into a value of rank %d", (long long)length, x->rank);
    for (int i = 0; i < batch; i++)
        ND_REQUIRE(indices->dims[i] == x->dims[i], nd_status_format, "batches of other sizes");
    *out = (nd_tuples){.list = indices->data, .length = (int)length, .batch = (int)batch};
    out->images = nd_dims_count((int)batch, x->dims);
    out->count = nd_dims_count(indices->rank - 1, indices->dims);
    out->per_image = out->images ? out->count / out->images : 0;
    const int rest = (int)(batch + length);
    out->block = nd_dims_count(x->rank - rest, x->dims + rest);
    return nd_status_ok;
}

/* The first element that tuple k names. */
static nd_status tuples_at(const nd_tuples *tuples, const nd_tensor *x, int64_t k, int64_t *out) {
    int64_t position = tuples->per_image ? k / tuples->per_image : 0;
    for (int i = 0; i < tuples->length; i++) {
        const int64_t size = x->dims[tuples->batch + i];
        int64_t at;
        ND_TRY(gather_index(tuples->list[k * tuples->length + i], size, &at));
        position = position * size + at;
    }
    *out = position * tuples->block;
    return nd_status_ok;
}

nd_status nd_call_gather_nd(nd_call *call) {
    const nd_tensor *x, *indices;
    nd_tuples tuples;
    int64_t dims[2 * nd_rank_max];
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(gather_indices(call, 1, &indices));
    ND_TRY(tuples_read(x, indices, call->node->attr.size, &tuples));
    int rank = indices->rank - 1;
    memcpy(dims, indices->dims, (size_t)rank * sizeof *dims);
    for (int i = tuples.batch + tuples.length; i < x->rank; i++) dims[rank++] = x->dims[i];
    ND_REQUIRE(rank <= nd_rank_max, nd_status_unsupported, "%d axes, at most %d", rank, nd_rank_max);
    ND_TRY(nd_call_new(x->dtype, rank, dims, &call->out[0]));
    const size_t element = nd_dtype_bytes(x->dtype), bytes = (size_t)tuples.block * element;
    for (int64_t k = 0; bytes && k < tuples.count; k++) {
        int64_t at;
        ND_TRY(tuples_at(&tuples, x, k, &at));
        memcpy((char *)call->out[0].data + (size_t)k * bytes, (const char *)x->data + (size_t)at * element,
               bytes);
    }
    return nd_status_ok;
}

nd_status nd_call_scatter_nd(nd_call *call) {
    const nd_tensor *indices, *updates;
    nd_tensor *y = &call->out[0];
    nd_tuples tuples;
    ND_TRY(gather_indices(call, 1, &indices));
    ND_TRY(nd_call_input(call, 2, &updates));
    ND_TRY(scatter_copy(call, updates));
    ND_TRY(tuples_read(y, indices, 0, &tuples));
    int64_t wanted;
    ND_REQUIRE(!__builtin_mul_overflow(tuples.count, tuples.block, &wanted) &&
                   nd_tensor_count(updates) == wanted,
               nd_status_format, "%lld updates for %lld blocks of %lld", (long long)nd_tensor_count(updates),
               (long long)tuples.count, (long long)tuples.block);
    const size_t element = nd_dtype_bytes(y->dtype), bytes = (size_t)tuples.block * element;
    for (int64_t k = 0; bytes && k < tuples.count; k++) {
        int64_t at;
        ND_TRY(tuples_at(&tuples, y, k, &at));
        memcpy((char *)y->data + (size_t)at * element, (const char *)updates->data + (size_t)k * bytes,
               bytes);
    }
    return nd_status_ok;
}
