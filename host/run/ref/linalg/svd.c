#include "base/parallel.h"
#include "run/ref/linalg/linalg.h"

#include <math.h>
#include <string.h>

/* Right singular vectors through the eigenvectors of the Gram matrix. Products of two fp32 numbers are exact
 * in fp64, so squaring the condition number affects only what lies below 1e-8 of the largest singular value,
 * under the rounding of the weights themselves. No division by sigma, so zero slices need no care. */
enum { nd_ref_svd_max = 64 };

typedef struct nd_ref_svd_call {
    int64_t m, n;
    const float *a;
    double *sigma, *v;
    bool broken; /* a slice holds a NaN or an infinity: written by any worker, always true */
} nd_ref_svd_call;

/* gram[n][n] = a^T a for a[m][n]. Four rows at a time, so that gram is loaded and stored once for four
 * products; the inner loop runs over columns and vectorises. */
static void ref_gram(int64_t m, int64_t n, const float *a, double *gram) {
    double rows[4][nd_ref_svd_max];
    memset(gram, 0, (size_t)(n * n) * sizeof *gram);
    for (int64_t r = 0; r < m; r += 4) {
        for (int64_t q = 0; q < 4; q++)
            for (int64_t j = 0; j < n; j++) rows[q][j] = r + q < m ? a[(r + q) * n + j] : 0;
        for (int64_t i = 0; i < n; i++) {
            const double a0 = rows[0][i], a1 = rows[1][i], a2 = rows[2][i], a3 = rows[3][i];
            double *restrict out = gram + i * n;
            for (int64_t j = 0; j < n; j++)
                out[j] += a0 * rows[0][j] + a1 * rows[1][j] + a2 * rows[2][j] + a3 * rows[3][j];
        }
    }
}

/* The first of the largest |entries| becomes positive. */
static void ref_fix_sign(int64_t n, double *vector) {
    int64_t largest = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[largest])) largest = i;
    if (vector[largest] >= 0) return;
    for (int64_t i = 0; i < n; i++) vector[i] = -vector[i];
}

static void ref_svd_slices(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    nd_ref_svd_call *call = context;
    const int64_t m = call->m, n = call->n;
    double gram[nd_ref_svd_max * nd_ref_svd_max];
    for (int64_t slice = begin; slice < end; slice++) {
        double *sigma = call->sigma + slice * n, *v = call->v + slice * n * n, trace = 0;
        ref_gram(m, n, call->a + slice * m * n, gram);
        for (int64_t i = 0; i < n; i++) trace += gram[i * n + i];
        if (!isfinite(trace)) {
            call->broken = true;
            continue;
        }
        nd_ref_jacobi(n, gram, sigma, v);
        for (int64_t k = 0; k < n; k++) {
            sigma[k] = k < m && sigma[k] > 0 ? sqrt(sigma[k]) : 0;
            ref_fix_sign(n, v + k * n);
        }
    }
}

nd_status nd_ref_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a, double *sigma,
                     double *v) {
    (void)backend;
    ND_REQUIRE(batch >= 0 && m >= 1 && n >= 1 && n <= nd_ref_svd_max, nd_status_usage,
               "svd of %lld slices of %lldx%lld: at most %d columns", (long long)batch, (long long)m,
               (long long)n, nd_ref_svd_max);
    nd_ref_svd_call call = {m, n, a, sigma, v, false};
    nd_parallel_for(batch, (m + 16 * n) * n * n, ref_svd_slices, &call);
    ND_REQUIRE(!call.broken, nd_status_format, "svd: the weights hold a NaN or an infinity");
    return nd_status_ok;
}
