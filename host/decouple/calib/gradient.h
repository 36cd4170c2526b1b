/* Gradients inside a network: one backward pass through the ops of a trained classifier, weights constant.
 *
 * The linear ops (conv, gemm, matmul) run on the backend as the convolutions and products they are adjoint
 * to; the rest are loops over host memory. */
#ifndef ND_DECOUPLE_GRADIENT_H
#define ND_DECOUPLE_GRADIENT_H

#include "model/graph.h"
#include "run/backend.h"
#include "run/heads.h"

typedef struct nd_gradient nd_gradient;

/* Prepares both passes for blocks of `batch` images, from the gradients at the values heads[n_heads],
 * at most nd_heads_max, back to the outputs of the first convolutions. After an op that has no
 * derivative here (LRN, matrix products of two computed values, what nd cannot run) values have no
 * gradient; the first such op is named in a warning. The graph must be inferred and must not change
 * until closing. */
nd_status nd_gradient_open(nd_backend *backend, const nd_graph *graph, int64_t batch, const int *heads,
                           int n_heads, nd_gradient **out);
void nd_gradient_close(nd_gradient *gradient); /* NULL is legal */

/* Does the value influence the heads through known derivatives alone, and does it depend on
 * a convolution? */
bool nd_gradient_known(const nd_gradient *gradient, int value);

/* Bytes of activations that a block of `batch` images keeps from the forward for the backward pass; 0 where
 * there is no memory to tell. */
int64_t nd_gradient_kept_bytes(const nd_graph *graph, int64_t batch);

/* Forward pass of 1 <= n <= batch images [n][c][h][w]; then any number of backward passes from
 * gradients at the heads, seeds[n_heads] of n images each. `visit` gets the gradient of every known
 * value that a node puts out, row-major, n images, valid during the call. */
typedef nd_status nd_gradient_visit(void *context, int value, int64_t n, const float *gradient);
nd_status nd_gradient_forward(nd_gradient *gradient, int64_t n, const float *images);
nd_status nd_gradient_backward(nd_gradient *gradient, const float *const *seeds, nd_gradient_visit *visit,
                               void *context);

#endif
