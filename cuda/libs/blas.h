/* cuBLAS and cuBLASLt: the dense linear algebra of the contract, and the GEMM of a network's layers. */
#ifndef ND_CUDA_BLAS_H
#define ND_CUDA_BLAS_H

#include "cuda/device.h"

nd_status nd_blas_open(nd_cuda *cuda, nd_blas **out);
void nd_blas_close(nd_blas *blas); /* NULL is legal */
const char *nd_blas_version(char *text, size_t size);

/* nd_linalg's, host memory in and out. */
nd_status nd_blas_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                             const float *b, double *c);
nd_status nd_blas_gemm(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                       double alpha, const double *a, int64_t lda, const double *b, int64_t ldb, double beta,
                       double *c, int64_t ldc);

/* gram[batch][n][n] = a^T a of column-major a[batch][n][m], all on the device. */
nd_status nd_blas_gram(nd_cuda *cuda, int64_t batch, int64_t m, int64_t n, const double *a, double *gram);

/* y[m][n] = act(x[m][k] w[n][k]^T + bias[n] + x2[m][n]) with row strides ldx, ldw, ldx2, ldy. Only ReLU is an
 * epilogue of the library. The bias has the storage type; w and the workspace are whole blocks of device
 * memory. */
typedef struct nd_gemm_problem {
    int64_t m, n, k, ldx, ldw, ldx2, ldy;
    uint32_t align_x, align_x2, align_y; /* bytes: nd_gemm_alignment of where they may begin */
    nd_precision precision;
    bool bias, residual, relu;
} nd_gemm_problem;

/* The largest power of two, at most 256, that divides both: of a start `offset` bytes into a buffer, and
 * `step` bytes from one start to the next. What the library's algorithms may rely on. */
uint32_t nd_gemm_alignment(int64_t offset, int64_t step);

typedef struct nd_gemm_plan nd_gemm_plan;
nd_status nd_gemm_plan_make(nd_cuda *cuda, const nd_gemm_problem *problem, nd_gemm_plan **out);
void nd_gemm_plan_free(nd_gemm_plan *plan); /* NULL is legal */
size_t nd_gemm_plan_workspace(const nd_gemm_plan *plan);
const char *nd_gemm_plan_name(const nd_gemm_plan *plan); /* "cublasLt:algo7_tile20_stages24" */
nd_status nd_gemm_plan_run(nd_gemm_plan *plan, const void *x, const void *w, const void *bias, const void *x2,
                           void *y, void *workspace, cudaStream_t stream);

#endif
