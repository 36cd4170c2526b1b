/* Linear algebra on the device: batched SVD by three algorithms; by cuSOLVER, symmetric eigenproblems,
 * Cholesky. Host memory in and out, fp64. */
#ifndef ND_CUDA_SOLVER_H
#define ND_CUDA_SOLVER_H

#include "cuda/device.h"

nd_status nd_solver_open(nd_cuda *cuda, nd_solver **out);
void nd_solver_close(nd_solver *solver); /* NULL is legal */
const char *nd_solver_version(char *text, size_t size);

/* Three algorithms to the right singular vectors. jacobi: our own kernel (svd.cu). gram: eigenvectors of A^T
 * A, exact products in fp64 (XsyevBatched). Both take any shape. gesvda: the library's tall-and-skinny SVD
 * (gesvdaStridedBatched); only for m >= n, NaN for zero slices. Every slice is checked (svd_check.h); where
 * one is wrong, all are done again by gram. ND_CUDA_SVD=jacobi|gram|gesvda forces a algorithm; with `tune`
 * all that pass are timed on the slices, once per shape and number of slices, and the fastest is kept;
 * otherwise jacobi. */
nd_status nd_solver_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a,
                        double *sigma, double *v);
nd_status nd_solver_svd_info(nd_backend *backend, nd_svd_info *out);
nd_status nd_solver_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs, double *b);
nd_status nd_solver_eigen(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values);

#endif
