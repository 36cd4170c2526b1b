/* Linear algebra on OpenBLAS and LAPACK. A row-major matrix is the transpose of a column-major one: every
 * call is made in column-major order with the triangle or the operands swapped, so that nothing is copied. */
#include "run/cpu/linalg.h"
#include "run/cpu/cpu.h"
#include "run/plugins.h"

#include <cblas.h>
#include <lapacke.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    accumulate_rows = 4096,
    accumulate_tile = 32, /* the mirrored triangle is read by columns: a tile of it stays in cache */
    eigen_small = 32,     /* up to this order Jacobi beats LAPACK, which wakes its threads even for 9 x 9 */
};

/* OpenBLAS splits problems that are not worth waking a thread for: a Cholesky factor of order 64, each
 * column of a small eigenproblem. `operations`: multiply-adds. */
static void linalg_enter(nd_backend *backend, double operations) {
    enum { worth = 1 << 18 };
    nd_cpu_enter((nd_cpu *)backend);
    if (operations < worth) nd_cpu_team_resize(1);
}

nd_status nd_cpu_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a, double *sigma,
                     double *v) {
    nd_cpu_enter((nd_cpu *)backend);
    return nd_ref_linalg.svd(backend, batch, m, n, a, sigma, v);
}

typedef struct accumulate_sum {
    int64_t k, m;
    bool symmetric; /* only the triangle at and right of the diagonal of `part` is set */
    const float *part;
    double *c;
} accumulate_sum;

static void accumulate_add_tile(const accumulate_sum *s, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    for (int64_t i = i0; i < i1; i++) {
        for (int64_t j = j0; j < j1; j++) {
            s->c[i * s->m + j] += s->symmetric && j < i ? s->part[j * s->m + i] : s->part[i * s->m + j];
        }
    }
}

static void accumulate_add(void *context, int64_t begin, int64_t end, int worker) {
    const accumulate_sum *s = context;
    const int64_t tile = accumulate_tile;
    (void)worker;
    for (int64_t i = begin; i < end; i += tile) {
        for (int64_t j = 0; j < s->m; j += tile) {
            accumulate_add_tile(s, i, i + tile < end ? i + tile : end, j, j + tile < s->m ? j + tile : s->m);
        }
    }
}

nd_status nd_cpu_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                            const float *b, double *c) {
    linalg_enter(backend, (double)k * (double)m * (double)(n < accumulate_rows ? n : accumulate_rows));
    ND_REQUIRE(k <= INT_MAX && m <= INT_MAX, nd_status_usage, "accumulate: %lld x %lld is too large",
               (long long)k, (long long)m);
    float *part = nd_alloc_array((size_t)k, (size_t)m * sizeof *part);
    ND_REQUIRE(part, nd_status_memory, "accumulate: no memory for %lld x %lld sums", (long long)k,
               (long long)m);
    accumulate_sum sum = {k, m, a == b && k == m, part, c};
    for (int64_t row = 0; row < n; row += accumulate_rows) {
        const int rows = (int)(n - row < accumulate_rows ? n - row : accumulate_rows);
        if (sum.symmetric) {
            cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, (int)k, rows, 1, a + row * k, (int)k, 0, part,
                        (int)k);
        } else {
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)k, (int)m, rows, 1, a + row * k, (int)k,
                        b + row * m, (int)m, 0, part, (int)m);
        }
        nd_parallel_for(k, m, accumulate_add, &sum);
    }
    free(part);
    return nd_status_ok;
}

nd_status nd_cpu_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs, double *b) {
    linalg_enter(backend, (double)n * (double)n * ((factored ? 0 : (double)n / 6) + (double)n_rhs));
    ND_REQUIRE(n <= INT_MAX && n_rhs <= INT_MAX, nd_status_usage, "solve: %lld x %lld is too large",
               (long long)n, (long long)n_rhs);
    const lapack_int order = (lapack_int)n, columns = (lapack_int)n_rhs;
    if (!factored && n) {
        const lapack_int failed = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', order, a, order);
        ND_REQUIRE(!failed, nd_status_failed,
                   "solve: the %lldx%lld matrix is not positive definite (pivot %d)", (long long)n,
                   (long long)n, (int)failed - 1);
    }
    if (n && n_rhs) LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', order, columns, a, order, b, order);
    return nd_status_ok;
}

nd_status nd_cpu_eigen(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values) {
    linalg_enter(backend, (double)n * (double)n * (double)n / 8); /* half of it in products by a vector */
    ND_REQUIRE(n <= INT_MAX, nd_status_usage, "eigen: order %lld is too large", (long long)n);
    if (n <= eigen_small) return nd_ref_linalg.eigen(backend, batch, n, a, values);
    const lapack_int order = (lapack_int)n;
    for (int64_t i = 0; i < batch && n; i++) {
        const lapack_int failed =
            LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', order, a + i * n * n, order, values + i * n);
        ND_REQUIRE(failed != LAPACK_WORK_MEMORY_ERROR, nd_status_memory, "eigen: no memory for order %lld",
                   (long long)n);
        ND_REQUIRE(!failed, nd_status_failed, "eigen: matrix %lld of order %lld: status %d", (long long)i,
                   (long long)n, (int)failed);
    }
    return nd_status_ok;
}

nd_status nd_cpu_gemm_f64(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                          double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                          double beta, double *c, int64_t ldc) {
    linalg_enter(backend, (double)m * (double)n * (double)k);
    ND_REQUIRE(
        m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX,
        nd_status_usage, "gemm: %lld x %lld x %lld is too large", (long long)m, (long long)n, (long long)k);
    cblas_dgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans,
                (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
    return nd_status_ok;
}
