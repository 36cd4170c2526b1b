/* Right singular vectors of the slices of a layer by our own kernel: Gram matrix and Jacobi in one launch. */
#ifndef ND_CUDA_SVD_H
#define ND_CUDA_SVD_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory. a: [batch][m][n] fp32 row-major, m >= 1, 1 <= n <= nd_svd_columns_max; v: [batch][n][n],
 * orthonormal rows that diagonalise A^T A, in any order and sign: svd_check.h checks and orders them. A zero
 * slice gives the identity exactly. A slice with a NaN or an infinity gives vectors that do not pass the
 * check. */
nd_status nd_cuda_svd_launch(int64_t batch, int64_t m, int64_t n, const float *a, double *v,
                             cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
