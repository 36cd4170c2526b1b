/* The linear algebra of ref, in nd_ref_linalg. See nd_linalg in run/backend.h. */
#ifndef ND_RUN_REF_LINALG_H
#define ND_RUN_REF_LINALG_H

#include "run/backend.h"

nd_status nd_ref_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a, double *sigma,
                     double *v);
nd_status nd_ref_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                            const float *b, double *c);
nd_status nd_ref_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs, double *b);
nd_status nd_ref_eigen(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values);
nd_status nd_ref_matmul(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                        double alpha, const double *a, int64_t lda, const double *b, int64_t ldb, double beta,
                        double *c, int64_t ldc);

#define ND_REF_LINALG                                                                                        \
    {                                                                                                        \
        .svd = nd_ref_svd, .accumulate = nd_ref_accumulate, .solve = nd_ref_solve, .eigen = nd_ref_eigen,    \
        .gemm = nd_ref_matmul, .concurrent = true                                                            \
    }

/* Eigenvalues (descending) and unit eigenvectors (rows of v) of the symmetric a[n][n], which is destroyed, by
 * cyclic Jacobi rotations. Equal values keep their order, so a zero matrix gives the identity. */
void nd_ref_jacobi(int64_t n, double *a, double *values, double *v);

#endif
