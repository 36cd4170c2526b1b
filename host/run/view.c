#include "run/backend.h"

static nd_view view_dense(int rank, const int64_t *dims, const int *order) {
    nd_view view = {.rank = rank};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int axis = order ? order[i] : i;
        view.dims[axis] = dims[axis];
        view.strides[axis] = stride;
        stride *= dims[axis];
    }
    return view;
}

nd_view nd_view_row_major(int rank, const int64_t *dims) {
    return view_dense(rank, dims, NULL);
}

nd_view nd_view_channels_last(int rank, const int64_t *dims) {
    static const int nhwc[] = {0, 2, 3, 1};
    return view_dense(rank, dims, rank == 4 ? nhwc : NULL);
}

/* Strides of axes with one element are never used, so any are right. */
static bool view_same_strides(const nd_view *a, const nd_view *b) {
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] > 1 && a->strides[i] != b->strides[i]) return false;
    return true;
}

bool nd_view_is_row_major(const nd_view *view) {
    nd_view dense = nd_view_row_major(view->rank, view->dims);
    return view_same_strides(view, &dense);
}

bool nd_view_is_channels_last(const nd_view *view) {
    if (view->rank != 4) return false;
    nd_view dense = nd_view_channels_last(view->rank, view->dims);
    return view_same_strides(view, &dense);
}

int64_t nd_view_count(const nd_view *view) {
    return nd_dims_count(view->rank, view->dims);
}

bool nd_view_same_dims(const nd_view *a, const nd_view *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

/* Visits old and new axes together in runs of equal products: [n][c][h][w] -> [n][c*h*w] pairs n with n, and
 * c, h, w with the last. Within a run the old axes must step through memory as one; axes of 1
 * never matter. */
bool nd_view_reshape(const nd_view *view, int rank, const int64_t *dims, nd_view *out) {
    int64_t old_dims[nd_rank_max], old_strides[nd_rank_max];
    const int64_t count = nd_view_count(view); /* `out` may be `view` */
    int old_rank = 0;
    if (nd_dims_count(rank, dims) != count) return false;
    for (int i = 0; i < view->rank; i++) {
        if (view->dims[i] == 1) continue;
        old_dims[old_rank] = view->dims[i];
        old_strides[old_rank++] = view->strides[i];
    }
    *out = (nd_view){.rank = rank, .offset = view->offset};
    for (int i = 0; i < rank; i++) {
        out->dims[i] = dims[i];
        out->strides[i] = 1;
    }
    if (count == 0) return true;
    int old = 0, new = 0;
    while (old < old_rank) {
        int old_end = old + 1, new_end = new;
        int64_t old_product = old_dims[old], new_product = 1;
        while (new_product < old_product || (new_end < rank && dims[new_end] == 1))
            new_product *= dims[new_end++];
        while (old_product != new_product) {
            if (old_product < new_product)
                old_product *= old_dims[old_end++];
            else
                new_product *= dims[new_end++];
        }
        for (int i = old; i + 1 < old_end; i++)
            if (old_strides[i] != old_dims[i + 1] * old_strides[i + 1]) return false;
        int64_t stride = old_strides[old_end - 1];
        for (int i = new_end - 1; i >= new; i--) {
            out->strides[i] = stride;
            stride *= dims[i];
        }
        old = old_end;
        new = new_end;
    }
    return true;
}
