/* The CPU's linear algebra: against the reference, and the same bits with any number of threads. */
#include "base/memory.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "run/plugins.h"

#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Each larger than a tile in one dimension at least, and a multiple of none. */
enum { n = 613, m = 301, k = 260, rows = 5000 };

static double *normals(int64_t count, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    double *out = nd_alloc_array((size_t)count, sizeof *out);
    cr_assert(out);
    for (int64_t i = 0; i < count; i++) out[i] = nd_rng_normal(&rng);
    return out;
}

static float *floats(int64_t count, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    float *out = nd_alloc_array((size_t)count, sizeof *out);
    cr_assert(out);
    for (int64_t i = 0; i < count; i++) out[i] = (float)nd_rng_normal(&rng);
    return out;
}

static void expect_near(const double *a, const double *b, int64_t count, double bound, const char *what) {
    double worst = 0;
    for (int64_t i = 0; i < count; i++) worst = fmax(worst, fabs(a[i] - b[i]));
    cr_expect_leq(worst, bound, "%s: off by %g", what, worst);
}

/* Every operation once, results one after the other. */
enum { results = n * m + 2 * k * k + n * n + m * n + m * m + m };

static double *everything(const nd_linalg *linalg, nd_backend *backend) {
    double *a = normals(n * k, 1), *b = normals(m * k, 2), *out = nd_alloc_array(results, sizeof *out),
           *at = out;
    double *tall = normals(2 * n * n, 5);
    float *patches = floats(rows * k, 3), *others = floats(rows * k, 4);
    cr_assert(out);
    cr_assert_eq(linalg->gemm(backend, false, true, n, m, k, 1, a, k, b, k, 0, at, m), nd_status_ok);
    at += n * m;
    cr_assert_eq(linalg->accumulate(backend, rows, k, patches, k, patches, at), nd_status_ok);
    at += k * k;
    cr_assert_eq(linalg->accumulate(backend, rows, k, patches, k, others, at), nd_status_ok);
    at += k * k;
    cr_assert_eq(linalg->gemm(backend, true, false, n, n, 2 * n, 1, tall, n, tall, n, 0, at, n),
                 nd_status_ok);
    double *factor = at, *solved = at + n * n;
    for (int i = 0; i < m * n; i++) solved[i] = a[i % (n * k)];
    cr_assert_eq(linalg->solve(backend, n, factor, false, m, solved), nd_status_ok);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) factor[i * n + j] = 0; /* nothing is said of them */
    at = solved + m * n;
    cr_assert_eq(linalg->gemm(backend, false, true, m, m, k, 1, b, k, b, k, 0, at, m), nd_status_ok);
    cr_assert_eq(linalg->eigen(backend, 1, m, at, at + m * m), nd_status_ok);
    free(a), free(b), free(tall), free(patches), free(others);
    return out;
}

static double *everything_on(int threads) {
    nd_backend *backend;
    if (nd_backend_open("cpu", &(nd_backend_settings){.threads = threads}, &backend))
        cr_skip_test("no cpu backend");
    double *out = everything(&backend->table->linalg, backend);
    nd_backend_close(backend);
    return out;
}

Test(cpu_linalg, threads_do_not_show_in_a_bit) {
    double *one = everything_on(1);
    for (int threads = 2; threads <= 5; threads++) {
        double *many = everything_on(threads);
        cr_expect(!memcmp(one, many, results * sizeof *one), "%d threads differ from one", threads);
        free(many);
    }
    free(one);
}

Test(cpu_linalg, equals_the_reference) {
    double *cpu = everything_on(2), *ref = everything(&nd_ref_linalg, NULL);
    const int64_t moments = n * m, factor = moments + 2 * k * k, solved = factor + n * n;
    expect_near(cpu, ref, n * m, 1e-11, "gemm");
    expect_near(cpu + moments, ref + moments, 2 * k * k, 1e-2, "accumulate");
    expect_near(cpu + factor, ref + factor, n * n, 1e-9, "factor");
    expect_near(cpu + solved, ref + solved, m * n, 1e-9, "solve");
    expect_near(cpu + results - m, ref + results - m, m, 1e-9, "eigenvalues");
    free(cpu), free(ref);
}

/* The pivot that fails lies in a later block of columns. */
Test(cpu_linalg, the_first_pivot_that_fails_is_named) {
    enum { order = 300, bad = 200 };
    nd_backend *backend;
    if (nd_backend_open("cpu", &(nd_backend_settings){.threads = 2}, &backend))
        cr_skip_test("no cpu backend");
    double *a = nd_alloc_array(order * order, sizeof *a), b[order] = {0};
    for (int i = 0; i < order; i++) a[i * order + i] = i == bad ? -1 : 1;
    cr_assert_eq(backend->table->linalg.solve(backend, order, a, false, 1, b), nd_status_failed);
    cr_expect(strstr(nd_error(), "(pivot 200)"), "%s", nd_error());
    free(a);
    nd_backend_close(backend);
}
