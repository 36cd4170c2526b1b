/* The host's half of the SVD: whatever algorithm made them, the vectors are checked against the matrix and
 * brought into the contract's order and signs. */
#ifndef ND_CUDA_SVD_CHECK_H
#define ND_CUDA_SVD_CHECK_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { nd_svd_columns_max = 64 };

/* For one slice a[m][n] and candidate right singular vectors in the rows of v, in any order and sign:
 * sigma[k] = |a v_k|, sorted to descend, signs fixed. Returns false, with how far off in *residual, unless V
 * V^T = I and the a v_k are orthogonal and hold all of |a|^2, each to 1e-9 of its scale. A zero slice gives
 * the identity whatever v holds. */
bool nd_svd_finish(int64_t m, int64_t n, const float *a, double *sigma, double *v, double *residual);

#endif
