/* Shapes that meet: broadcasting and permuting, as numpy and ONNX have them. Dims are row-major; arrays hold
 * nd_rank_max. */
#ifndef ND_MODEL_DIMS_H
#define ND_MODEL_DIMS_H

#include "base/tensor.h"

/* The dims that a and b broadcast to; `out` may be one of them. False where they do not. */
bool nd_dims_broadcast(int rank_a, const int64_t *a, int rank_b, const int64_t *b, int *rank, int64_t *out);

/* Where element `i` of the broadcast shape `to` lies in a tensor of these dims. */
int64_t nd_dims_broadcast_at(int rank, const int64_t *dims, int rank_to, const int64_t *to, int64_t i);

/* Dims after a Transpose, and how far one step along each of them goes in the tensor before it. `order` NULL:
 * the axes in reverse. False where it names no axis. */
bool nd_dims_permute(int rank, const int64_t *dims, const int64_t *order, int64_t *out, int64_t *strides);

/* Where element `i` lies in a tensor that has these strides. */
int64_t nd_dims_at(int rank, const int64_t *dims, const int64_t *strides, int64_t i);

/* Marks the axes that a list names, each in -rank..rank-1, over `rank` of them; false where one is none of
 * them or is named twice. */
bool nd_dims_mark(int rank, const int64_t *axes, int64_t n, bool *marked);

#endif
