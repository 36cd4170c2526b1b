#include "run/ref/linalg/linalg.h"
#include "base/parallel.h"
#include "run/plugins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const nd_linalg nd_ref_linalg = ND_REF_LINALG;

/* Four partial sums: as accurate as one, and the additions need not wait for each other. */
static double ref_dot(int64_t n, const double *a, const double *b) {
    double sum[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int64_t j = 0; j < 4; j++) sum[j] += a[i + j] * b[i + j];
    for (; i < n; i++) sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

typedef struct nd_ref_accumulate_call {
    int64_t n, k, m;
    const float *a, *b;
    double *c;
} nd_ref_accumulate_call;

/* Rows of c, for one block of b at a time so that the block stays in cache. Every sum is in fp64. */
static void ref_accumulate_rows(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_ref_accumulate_call *call = context;
    const int64_t block = 64;
    for (int64_t first = 0; first < call->n; first += block) {
        const int64_t last = first + block < call->n ? first + block : call->n;
        for (int64_t i = begin; i < end; i++) {
            double *restrict c = call->c + i * call->m;
            for (int64_t r = first; r < last; r++) {
                const double a = call->a[r * call->k + i];
                const float *restrict b = call->b + r * call->m;
                if (a == 0) continue; /* half of what follows a ReLU */
                for (int64_t j = 0; j < call->m; j++) c[j] += a * b[j];
            }
        }
    }
}

nd_status nd_ref_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                            const float *b, double *c) {
    (void)backend;
    nd_ref_accumulate_call call = {n, k, m, a, b, c};
    nd_parallel_for(k, n * m, ref_accumulate_rows, &call);
    return nd_status_ok;
}

typedef struct nd_ref_cholesky_call {
    int64_t n, column;
    double *a;
} nd_ref_cholesky_call;

static void ref_cholesky_rows(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_ref_cholesky_call *call = context;
    const int64_t n = call->n, j = call->column;
    const double *pivot = call->a + j * n;
    for (int64_t i = j + 1 + begin; i < j + 1 + end; i++) {
        double *row = call->a + i * n;
        row[j] = (row[j] - ref_dot(j, row, pivot)) / pivot[j];
    }
}

static nd_status ref_cholesky(int64_t n, double *a) {
    for (int64_t j = 0; j < n; j++) {
        double *row = a + j * n;
        const double pivot = row[j] - ref_dot(j, row, row);
        ND_REQUIRE(pivot > 0 && isfinite(pivot), nd_status_failed,
                   "solve: the %lldx%lld matrix is not positive definite (pivot %lld is %g)", (long long)n,
                   (long long)n, (long long)j, pivot);
        row[j] = sqrt(pivot);
        nd_ref_cholesky_call call = {n, j, a};
        nd_parallel_for(n - j - 1, j + 1, ref_cholesky_rows, &call);
    }
    return nd_status_ok;
}

typedef struct nd_ref_substitute_call {
    int64_t n;
    const double *l;
    double *b;
} nd_ref_substitute_call;

/* L z = b by rows, then L^T x = z by columns of L^T, which are rows of L. */
static void ref_substitute(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_ref_substitute_call *call = context;
    const int64_t n = call->n;
    for (int64_t rhs = begin; rhs < end; rhs++) {
        double *restrict x = call->b + rhs * n;
        for (int64_t i = 0; i < n; i++) {
            const double *l = call->l + i * n;
            x[i] = (x[i] - ref_dot(i, l, x)) / l[i];
        }
        for (int64_t i = n - 1; i >= 0; i--) {
            const double *restrict l = call->l + i * n;
            x[i] /= l[i];
            for (int64_t j = 0; j < i; j++) x[j] -= l[j] * x[i];
        }
    }
}

nd_status nd_ref_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs, double *b) {
    (void)backend;
    if (!factored) ND_TRY(ref_cholesky(n, a));
    nd_ref_substitute_call call = {n, a, b};
    nd_parallel_for(n_rhs, n * n, ref_substitute, &call);
    return nd_status_ok;
}

nd_status nd_ref_eigen(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values) {
    (void)backend;
    double *v = nd_alloc_array((size_t)(n * n), sizeof *v),
           *descending = nd_alloc_array((size_t)n, sizeof *v);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(v && descending, nd_status_memory, "no memory for %lld eigenvectors", (long long)n);
    for (int64_t slice = 0; slice < batch; slice++) {
        nd_ref_jacobi(n, a + slice * n * n, descending, v);
        for (int64_t i = 0; i < n; i++) {
            values[slice * n + i] = descending[n - 1 - i];
            memcpy(a + (slice * n + i) * n, v + (n - 1 - i) * n, (size_t)n * sizeof *v);
        }
    }
done:
    free(v);
    free(descending);
    return status;
}

typedef struct nd_ref_matmul_call {
    bool trans_a, trans_b;
    int64_t n, k, lda, ldb, ldc;
    double alpha, beta;
    const double *a, *b;
    double *c;
} nd_ref_matmul_call;

static void ref_matmul_rows(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_ref_matmul_call *call = context;
    for (int64_t i = begin; i < end; i++) {
        double *restrict c = call->c + i * call->ldc;
        for (int64_t j = 0; j < call->n; j++) c[j] = call->beta == 0 ? 0 : call->beta * c[j];
        for (int64_t p = 0; p < call->k; p++) {
            const double a =
                call->alpha * (call->trans_a ? call->a[p * call->lda + i] : call->a[i * call->lda + p]);
            if (call->trans_b) {
                for (int64_t j = 0; j < call->n; j++) c[j] += a * call->b[j * call->ldb + p];
            } else {
                const double *restrict b = call->b + p * call->ldb;
                for (int64_t j = 0; j < call->n; j++) c[j] += a * b[j];
            }
        }
    }
}

nd_status nd_ref_matmul(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                        double alpha, const double *a, int64_t lda, const double *b, int64_t ldb, double beta,
                        double *c, int64_t ldc) {
    (void)backend;
    nd_ref_matmul_call call = {trans_a, trans_b, n, k, lda, ldb, ldc, alpha, beta, a, b, c};
    nd_parallel_for(m, n * k, ref_matmul_rows, &call);
    return nd_status_ok;
}
