/* The reference: what every operation means, in loops a reader can check by eye. Sums are in double, the
 * result is rounded once. Pointers are the starts of buffers; the offset of the view belongs to the index. */
#ifndef ND_RUN_REF_REF_H
#define ND_RUN_REF_REF_H

#include "run/backend.h"

typedef nd_status nd_ref_operation(const nd_work *work, const float *x, const float *x2, float *y);

nd_ref_operation nd_ref_conv, nd_ref_separable, nd_ref_gemm, nd_ref_pool, nd_ref_binary, nd_ref_activation,
    nd_ref_affine, nd_ref_softmax, nd_ref_lrn, nd_ref_reduce, nd_ref_normalize, nd_ref_product,
    nd_ref_resample, nd_ref_gather, nd_ref_copy, nd_ref_fill;

/* Position of an element in its buffer. */
static inline int64_t nd_ref_at(const nd_view *view, const int64_t *index) {
    int64_t position = view->offset;
    for (int i = 0; i < view->rank; i++) position += index[i] * view->strides[i];
    return position;
}

static inline int64_t nd_ref_at4(const nd_view *view, int64_t n, int64_t c, int64_t h, int64_t w) {
    return view->offset + n * view->strides[0] + c * view->strides[1] + h * view->strides[2] +
           w * view->strides[3];
}

/* The index of the i-th element in row-major order. */
static inline void nd_ref_index(const nd_view *view, int64_t i, int64_t *index) {
    for (int axis = view->rank - 1; axis >= 0; axis--) {
        index[axis] = i % view->dims[axis];
        i /= view->dims[axis];
    }
}

/* Steps `index` (which starts as zeros) through a view in row-major order; false after the last. Axes at
 * `fixed` and beyond stay: fixed == rank visits every element, rank - 1 the first of every row. */
static inline bool nd_ref_next(const nd_view *view, int fixed, int64_t *index) {
    for (int i = fixed - 1; i >= 0; i--) {
        if (++index[i] < view->dims[i]) return true;
        index[i] = 0;
    }
    return false;
}

/* Calls body(work, x, x2, y, plane) for every image and output channel, in parallel. */
typedef void nd_ref_plane(const nd_work *work, const float *x, const float *x2, float *y, int64_t n,
                          int64_t channel);
void nd_ref_planes(const nd_work *work, const float *x, const float *x2, float *y, nd_ref_plane *body);

#endif
