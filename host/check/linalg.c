#include "check/cases.h"

#include <math.h>
#include <string.h>

static double *linalg_reals(nd_identity *identity, int64_t count) {
    double *values = nd_arena_alloc(&identity->arena, (size_t)count * sizeof *values);
    for (int64_t i = 0; values && i < count; i++) values[i] = nd_rng_normal(&identity->rng);
    return values;
}

/* eigen: A v = lambda v, V orthonormal, ascending */

static const struct {
    const char *title;
    int64_t batch, n;
} nd_eigen_cases[] = {{"1", 2, 1}, {"2", 3, 2}, {"9", 20, 9}, {"33", 3, 33}, {"130", 1, 130}};

static const char *eigen_title(int index) {
    return nd_eigen_cases[index].title;
}

static nd_status eigen_run(nd_identity *identity, int index) {
    const int64_t batch = nd_eigen_cases[index].batch, n = nd_eigen_cases[index].n;
    nd_backend *backend = identity->backend;
    double *a = linalg_reals(identity, batch * n * n);
    double *v = linalg_reals(identity, batch * n * n), *values = linalg_reals(identity, batch * n);
    ND_REQUIRE(a && v && values, nd_status_memory, "no memory for a check");
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < i; j++) a[(b * n + i) * n + j] = a[(b * n + j) * n + i];
    memcpy(v, a, (size_t)(batch * n * n) * sizeof *a);
    ND_TRY(backend->table->linalg.eigen(backend, batch, n, v, values));
    const double bound = 1e-13 * (double)(n + 3) * sqrt((double)n);
    for (int64_t k = 0; k < batch * n; k++) {
        const double *matrix = a + k / n * n * n, *vector = v + k * n;
        for (int64_t i = 0; i < n; i++) {
            double product = 0, dot = 0;
            for (int64_t j = 0; j < n; j++) product += matrix[i * n + j] * vector[j];
            for (int64_t j = 0; j < n; j++) dot += v[(k / n * n + i) * n + j] * vector[j];
            nd_identity_note(identity, fabs(product - values[k] * vector[i]), bound,
                             "A v - lambda v of vector %d is %g", (int)k, product - values[k] * vector[i]);
            nd_identity_note(identity, fabs(dot - (i == k % n)), 1e-12, "v%d . v%d = %.17g", (int)i, (int)k,
                             dot);
        }
        const bool ordered = k % n == 0 || values[k] >= values[k - 1];
        nd_identity_note(identity, !ordered, 0.5, "value %d is out of order", (int)k);
    }
    return nd_status_ok;
}

const nd_check_identities nd_check_eigen = {"eigen", sizeof nd_eigen_cases / sizeof *nd_eigen_cases,
                                            eigen_title, eigen_run};

/* solve: the solution of a well-conditioned system, twice; a refusal of an indefinite one */

static const struct {
    const char *title;
    int64_t n, rhs;
} nd_solve_cases[] = {{"1", 1, 1}, {"9", 9, 4}, {"65", 65, 7}, {"200", 200, 33}, {"300", 300, 70}};

static const char *solve_title(int index) {
    return nd_solve_cases[index].title;
}

static nd_status solve_run(nd_identity *identity, int index) {
    const int64_t n = nd_solve_cases[index].n, rhs = nd_solve_cases[index].rhs;
    nd_backend *backend = identity->backend;
    double *root = linalg_reals(identity, n * n), *a = linalg_reals(identity, n * n);
    double *x = linalg_reals(identity, rhs * n), *b = linalg_reals(identity, rhs * n);
    double *again = linalg_reals(identity, rhs * n);
    ND_REQUIRE(root && a && x && b && again, nd_status_memory, "no memory for a check");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double dot = i == j ? (double)n : 0; /* condition number below 6 */
            for (int64_t k = 0; k < n; k++) dot += root[i * n + k] * root[j * n + k];
            a[i * n + j] = dot;
        }
    for (int64_t r = 0; r < rhs; r++)
        for (int64_t i = 0; i < n; i++) {
            b[r * n + i] = 0;
            for (int64_t j = 0; j < n; j++) b[r * n + i] += a[i * n + j] * x[r * n + j];
        }
    memcpy(again, b, (size_t)(rhs * n) * sizeof *b);
    ND_TRY(backend->table->linalg.solve(backend, n, a, false, rhs, b));
    ND_TRY(backend->table->linalg.solve(backend, n, a, true, rhs, again));
    for (int64_t i = 0; i < rhs * n; i++) {
        nd_identity_note(identity, fabs(b[i] - x[i]), 1e-12 * (double)(n + 8), "x[%d] = %.17g, not %.17g",
                         (int)i, b[i], x[i]);
        nd_identity_note(identity, fabs(again[i] - x[i]), 1e-12 * (double)(n + 8),
                         "factored: x[%d] = %.17g, not %.17g", (int)i, again[i], x[i]);
    }
    memset(root, 0, (size_t)(n * n) * sizeof *root);
    for (int64_t i = 0; i < n; i++) root[i * n + i] = i == n - 1 ? -1 : 1;
    const nd_status refused = backend->table->linalg.solve(backend, n, root, false, rhs, b);
    nd_identity_note(identity, refused != nd_status_failed, 0.5, "an indefinite matrix was solved");
    return nd_status_ok;
}

const nd_check_identities nd_check_solve = {"solve", sizeof nd_solve_cases / sizeof *nd_solve_cases,
                                            solve_title, solve_run};

/* accumulate: against a sum in double of exact products */

static const struct {
    const char *title;
    int64_t n, k, m;
    bool same; /* b is a: the symmetric matrix */
} nd_accumulate_cases[] = {
    {"1x1x1", 1, 1, 1, false},
    {"100x7x5", 100, 7, 5, false},
    {"5000x20x9", 5000, 20, 9, false},
    {"4097x33", 4097, 33, 33, true},
    {"300x65", 300, 65, 65, true},
    {"2100x300", 2100, 300, 300, true},
    {"1500x280x270", 1500, 280, 270, false},
};

static const char *accumulate_title(int index) {
    return nd_accumulate_cases[index].title;
}

static nd_status accumulate_run(nd_identity *identity, int index) {
    const int64_t n = nd_accumulate_cases[index].n, k = nd_accumulate_cases[index].k;
    const int64_t m = nd_accumulate_cases[index].m;
    nd_backend *backend = identity->backend;
    float *a = nd_arena_alloc(&identity->arena, (size_t)(n * k) * sizeof *a), *b = a;
    if (!nd_accumulate_cases[index].same) b = nd_arena_alloc(&identity->arena, (size_t)(n * m) * sizeof *b);
    double *c = linalg_reals(identity, k * m), *before = linalg_reals(identity, k * m);
    ND_REQUIRE(a && b && c && before, nd_status_memory, "no memory for a check");
    for (int64_t i = 0; i < n * k; i++) a[i] = (float)nd_rng_normal(&identity->rng);
    for (int64_t i = 0; i < n * m && b != a; i++) b[i] = (float)nd_rng_normal(&identity->rng);
    for (int64_t i = 0; i < k && b == a; i++)
        for (int64_t j = 0; j < i; j++) c[i * m + j] = c[j * m + i];
    memcpy(before, c, (size_t)(k * m) * sizeof *c);
    ND_TRY(backend->table->linalg.accumulate(backend, n, k, a, m, b, c));
    const double length = (double)(n < 4096 ? n : 4096);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < m; j++) {
            double sum = before[i * m + j], magnitude = fabs(sum);
            for (int64_t r = 0; r < n; r++) {
                const double product = (double)a[r * k + i] * b[r * m + j];
                sum += product;
                magnitude += fabs(product);
            }
            nd_identity_note(identity, fabs(c[i * m + j] - sum), (length + 4) * 0x1p-24 * magnitude,
                             "c[%d][%d] = %.17g, not %.17g", (int)i, (int)j, c[i * m + j], sum);
        }
    return nd_status_ok;
}

const nd_check_identities nd_check_accumulate = {
    "accumulate", sizeof nd_accumulate_cases / sizeof *nd_accumulate_cases, accumulate_title, accumulate_run};

/* matmul: linalg.gemm in every transposition, inside wider matrices */

static const struct {
    const char *title;
    bool trans_a, trans_b;
    int64_t m, n, k, margin;
    double alpha, beta;
} nd_matmul_cases[] = {
    {"plain", false, false, 17, 23, 31, 0, 1, 0},
    {"a_transposed", true, false, 40, 9, 12, 0, 1, 1},
    {"b_transposed", false, true, 8, 33, 20, 0, -0.5, 1},
    {"both_transposed", true, true, 5, 6, 7, 0, 2, 0.25},
    {"wide", false, false, 19, 21, 64, 5, 1, 0},
    {"wide_transposed", true, true, 19, 21, 64, 5, 1, 1},
    {"one", false, false, 1, 1, 1, 0, 1, 0},
};

static const char *matmul_title(int index) {
    return nd_matmul_cases[index].title;
}

static nd_status matmul_run(nd_identity *identity, int index) {
    const bool trans_a = nd_matmul_cases[index].trans_a, trans_b = nd_matmul_cases[index].trans_b;
    const int64_t m = nd_matmul_cases[index].m, n = nd_matmul_cases[index].n, k = nd_matmul_cases[index].k;
    const int64_t margin = nd_matmul_cases[index].margin;
    const double alpha = nd_matmul_cases[index].alpha, beta = nd_matmul_cases[index].beta;
    const int64_t lda = (trans_a ? m : k) + margin, ldb = (trans_b ? k : n) + margin, ldc = n + margin;
    nd_backend *backend = identity->backend;
    double *a = linalg_reals(identity, (trans_a ? k : m) * lda);
    double *b = linalg_reals(identity, (trans_b ? n : k) * ldb);
    double *c = linalg_reals(identity, m * ldc), *before = linalg_reals(identity, m * ldc);
    ND_REQUIRE(a && b && c && before, nd_status_memory, "no memory for a check");
    /* beta == 0 must not read c. */
    for (int64_t i = 0; i < m * ldc; i++)
        if (beta == 0 && i % ldc < n) c[i] = NAN;
    memcpy(before, c, (size_t)(m * ldc) * sizeof *c);
    ND_TRY(
        backend->table->linalg.gemm(backend, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc));
    for (int64_t i = 0; i < m * ldc; i++) {
        const int64_t row = i / ldc, column = i % ldc;
        if (column >= n) {
            nd_identity_note(identity, c[i] != before[i], 0.5, "wrote beside c, at [%d][%d]", (int)row,
                             (int)column);
            continue;
        }
        double sum = beta == 0 ? 0 : beta * before[i], magnitude = fabs(sum);
        for (int64_t p = 0; p < k; p++) {
            const double product = alpha * (trans_a ? a[p * lda + row] : a[row * lda + p]) *
                                   (trans_b ? b[column * ldb + p] : b[p * ldb + column]);
            sum += product;
            magnitude += fabs(product);
        }
        nd_identity_note(identity, fabs(c[i] - sum), (double)(k + 4) * 0x1p-52 * magnitude,
                         "c[%d][%d] = %.17g, not %.17g", (int)row, (int)column, c[i], sum);
    }
    return nd_status_ok;
}

const nd_check_identities nd_check_matmul = {"matmul", sizeof nd_matmul_cases / sizeof *nd_matmul_cases,
                                             matmul_title, matmul_run};
