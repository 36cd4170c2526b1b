/* The rows of nd_linalg (run/backend.h) on the CPU. */
#ifndef ND_RUN_CPU_LINALG_H
#define ND_RUN_CPU_LINALG_H

#include "run/backend.h"

nd_status nd_cpu_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a, double *sigma,
                     double *v);
nd_status nd_cpu_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                            const float *b, double *c);
nd_status nd_cpu_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs, double *b);
nd_status nd_cpu_eigen(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values);
nd_status nd_cpu_gemm_f64(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                          double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                          double beta, double *c, int64_t ldc);

#endif
