#include "run/backend.h"

static nd_view nd_view_dense(int rank, const int64_t *dims, const int *order) {
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
    return nd_view_dense(rank, dims, NULL);
}

nd_view nd_view_channels_last(int rank, const int64_t *dims) {
    static const int nhwc[] = {0, 2, 3, 1};
    return nd_view_dense(rank, dims, rank == 4 ? nhwc : NULL);
}

/* Strides of axes with one element are never used, so any are right. */
static bool nd_view_same_strides(const nd_view *a, const nd_view *b) {
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] > 1 && a->strides[i] != b->strides[i]) return false;
    return true;
}

bool nd_view_is_row_major(const nd_view *view) {
    nd_view dense = nd_view_row_major(view->rank, view->dims);
    return nd_view_same_strides(view, &dense);
}

bool nd_view_is_channels_last(const nd_view *view) {
    if (view->rank != 4) return false;
    nd_view dense = nd_view_channels_last(view->rank, view->dims);
    return nd_view_same_strides(view, &dense);
}

int64_t nd_view_count(const nd_view *view) {
    return nd_dims_count(view->rank, view->dims);
}
