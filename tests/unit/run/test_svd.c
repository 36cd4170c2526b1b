#include "base/rng.h"
#include "run/plugins.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double *reals(int64_t count) {
    double *values = nd_alloc_array((size_t)count, sizeof *values);
    cr_assert(values);
    return values;
}

/* The identities that make v the right singular vectors of a, whatever computed them: V orthonormal, |A v_k|
 * = sigma_k, energy kept, signs as agreed. */
static void check_slice(int64_t m, int64_t n, const float *a, const double *sigma, const double *v) {
    double total = 0, kept = 0;
    for (int64_t i = 0; i < m * n; i++) total += (double)a[i] * a[i];
    for (int64_t k = 0; k < n; k++) {
        for (int64_t l = 0; l < n; l++) {
            double dot = 0;
            for (int64_t i = 0; i < n; i++) dot += v[k * n + i] * v[l * n + i];
            cr_assert(fabs(dot - (k == l)) < 1e-12, "v%d . v%d = %g", (int)k, (int)l, dot);
        }
        double norm = 0;
        for (int64_t r = 0; r < m; r++) {
            double dot = 0;
            for (int64_t i = 0; i < n; i++) dot += a[r * n + i] * v[k * n + i];
            norm += dot * dot;
        }
        cr_assert(fabs(norm - sigma[k] * sigma[k]) <= 1e-12 * total, "|A v_%d|^2 = %g, sigma^2 = %g", (int)k,
                  norm, sigma[k] * sigma[k]);
        cr_assert(k == 0 || sigma[k] <= sigma[k - 1]);
        cr_assert(k < m || sigma[k] == 0);
        kept += sigma[k] * sigma[k];
        int64_t largest = 0;
        for (int64_t i = 1; i < n; i++)
            if (fabs(v[k * n + i]) > fabs(v[k * n + largest])) largest = i;
        cr_assert(v[k * n + largest] > 0);
    }
    cr_assert(fabs(kept - total) <= 1e-12 * total);
}

Test(svd, identities_hold_for_every_shape) {
    static const int64_t shapes[][2] = {{512, 9}, {64, 9}, {3, 9},   {1, 9},   {1, 1},  {7, 1},
                                        {16, 3},  {2, 3},  {40, 25}, {20, 49}, {90, 64}};
    nd_rng rng = nd_rng_seed(11);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        enum { batch = 3 };
        const int64_t m = shapes[s][0], n = shapes[s][1];
        float *a = nd_alloc_array((size_t)(batch * m * n), sizeof *a);
        double *sigma = reals(batch * n), *v = reals(batch * n * n);
        for (int64_t i = 0; i < batch * m * n; i++) a[i] = (float)nd_rng_normal(&rng);
        for (int64_t r = 0; r < m; r++) /* a graded middle slice */
            for (int64_t j = 0; j < n; j++) a[(m + r) * n + j] *= powf(0.1f, (float)j * 0.5f);
        cr_assert_eq(nd_ref_linalg.svd(NULL, batch, m, n, a, sigma, v), nd_status_ok);
        for (int64_t i = 0; i < batch; i++) check_slice(m, n, a + i * m * n, sigma + i * n, v + i * n * n);
        free(a);
        free(sigma);
        free(v);
    }
}

Test(svd, truncation_error_is_the_tail_energy) {
    enum { m = 48, n = 9, terms = 4 };
    nd_rng rng = nd_rng_seed(5);
    float a[m * n];
    double sigma[n], v[n * n], error = 0, tail = 0;
    for (int i = 0; i < m * n; i++) a[i] = (float)nd_rng_normal(&rng);
    cr_assert_eq(nd_ref_linalg.svd(NULL, 1, m, n, a, sigma, v), nd_status_ok);
    for (int r = 0; r < m; r++) {
        double rest[n];
        for (int j = 0; j < n; j++) rest[j] = a[r * n + j];
        for (int k = 0; k < terms; k++) {
            double p = 0;
            for (int j = 0; j < n; j++) p += a[r * n + j] * v[k * n + j];
            for (int j = 0; j < n; j++) rest[j] -= p * v[k * n + j];
        }
        for (int j = 0; j < n; j++) error += rest[j] * rest[j];
    }
    for (int k = terms; k < n; k++) tail += sigma[k] * sigma[k];
    cr_assert(fabs(error - tail) < 1e-11 * tail, "error %.17g, tail %.17g", error, tail);
}

Test(svd, zero_slices_give_the_identity) {
    enum { m = 5, n = 4 };
    float a[m * n] = {0};
    double sigma[n], v[n * n];
    cr_assert_eq(nd_ref_linalg.svd(NULL, 1, m, n, a, sigma, v), nd_status_ok);
    for (int i = 0; i < n; i++) cr_assert_eq(sigma[i], 0);
    for (int i = 0; i < n * n; i++) cr_assert_eq(v[i], i % (n + 1) == 0);
}

Test(svd, a_slice_of_rank_one_has_one_value) {
    enum { m = 6, n = 9 };
    float a[m * n];
    double sigma[n], v[n * n];
    for (int r = 0; r < m; r++)
        for (int j = 0; j < n; j++) a[r * n + j] = (float)(r + 1) * (float)(j - 4);
    cr_assert_eq(nd_ref_linalg.svd(NULL, 1, m, n, a, sigma, v), nd_status_ok);
    check_slice(m, n, a, sigma, v);
    cr_assert(fabs(sigma[0] - sqrt(91.0 * 60.0)) < 1e-12 * sigma[0]);
    cr_assert(sigma[1] < 1e-7 * sigma[0]);
}

Test(svd, weights_that_are_no_numbers_are_refused) {
    float a[12] = {0, 1, NAN, 2};
    double sigma[3], v[9];
    cr_assert_eq(nd_ref_linalg.svd(NULL, 1, 4, 3, a, sigma, v), nd_status_format);
    cr_assert_eq(nd_ref_linalg.svd(NULL, 1, 1, 65, a, sigma, v), nd_status_usage);
}

Test(linalg, solve_inverts_and_names_what_it_cannot) {
    enum { n = 37, rhs = 5 };
    nd_rng rng = nd_rng_seed(3);
    double *a = reals(n * n), *l = reals(n * n), *x = reals(rhs * n), *b = reals(rhs * n),
           *root = reals(n * n);
    for (int i = 0; i < n * n; i++) root[i] = nd_rng_normal(&rng);
    for (int i = 0; i < rhs * n; i++) x[i] = nd_rng_normal(&rng);
    for (int i = 0; i < n; i++) a[i * n + i] = 0.1;
    cr_assert_eq(nd_ref_linalg.gemm(NULL, true, false, n, n, n, 1, root, n, root, n, 1, a, n), nd_status_ok);
    cr_assert_eq(nd_ref_linalg.gemm(NULL, false, true, rhs, n, n, 1, x, n, a, n, 0, b, n), nd_status_ok);
    memcpy(l, a, n * n * sizeof *a);
    double *again = reals(rhs * n);
    memcpy(again, b, rhs * n * sizeof *b);
    cr_assert_eq(nd_ref_linalg.solve(NULL, n, l, false, rhs, b), nd_status_ok);
    cr_assert_eq(nd_ref_linalg.solve(NULL, n, l, true, rhs, again), nd_status_ok);
    for (int i = 0; i < rhs * n; i++) {
        cr_assert(fabs(b[i] - x[i]) < 1e-8);
        cr_assert_eq(b[i], again[i]);
    }
    a[0] = -1;
    cr_assert_eq(nd_ref_linalg.solve(NULL, n, a, false, rhs, b), nd_status_failed);
    cr_assert(strstr(nd_error(), "positive definite"));
    free(a), free(l), free(x), free(b), free(root), free(again);
}

Test(linalg, eigen_is_ascending_and_diagonalises) {
    enum { n = 24 };
    nd_rng rng = nd_rng_seed(8);
    double *a = reals(n * n), *v = reals(n * n), values[n];
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = nd_rng_normal(&rng);
    memcpy(v, a, n * n * sizeof *a);
    cr_assert_eq(nd_ref_linalg.eigen(NULL, 1, n, v, values), nd_status_ok);
    for (int k = 0; k < n; k++) {
        cr_assert(k == 0 || values[k] >= values[k - 1]);
        for (int i = 0; i < n; i++) {
            double product = 0;
            for (int j = 0; j < n; j++) product += a[i * n + j] * v[k * n + j];
            cr_assert(fabs(product - values[k] * v[k * n + i]) < 1e-12 * n);
        }
    }
    free(a), free(v);
}

Test(linalg, accumulate_adds_moments) {
    enum { n = 100, k = 7, m = 5 };
    nd_rng rng = nd_rng_seed(2);
    float a[n * k], b[n * m];
    double c[k * m];
    for (int i = 0; i < n * k; i++) a[i] = (float)nd_rng_normal(&rng);
    for (int i = 0; i < n * m; i++) b[i] = (float)nd_rng_normal(&rng);
    for (int i = 0; i < k * m; i++) c[i] = i;
    cr_assert_eq(nd_ref_linalg.accumulate(NULL, n, k, a, m, b, c), nd_status_ok);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < m; j++) {
            double expected = i * m + j;
            for (int r = 0; r < n; r++) expected += (double)a[r * k + i] * b[r * m + j];
            cr_assert(fabs(c[i * m + j] - expected) < 1e-5);
        }
}
