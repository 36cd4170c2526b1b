#include "check/cases.h"

#include <math.h>

typedef struct nd_svd_case {
    const char *title;
    int64_t batch, m, n;
    char spectrum; /* 'n'ormal, 'g'raded over seven decades, 'z'ero slices between, 'r'ank two */
} nd_svd_case;

static const nd_svd_case nd_svd_cases[] = {
    {"512x9", 8, 512, 9, 'n'},     {"64x9_graded", 5, 64, 9, 'g'},
    {"64x9_zeros", 6, 64, 9, 'z'}, {"3x9", 4, 3, 9, 'n'},
    {"1x9", 3, 1, 9, 'n'},         {"33x9_rank_2", 4, 33, 9, 'r'},
    {"96x25", 3, 96, 25, 'n'},     {"20x25_graded", 3, 20, 25, 'g'},
    {"80x49", 2, 80, 49, 'n'},     {"40x49_zeros", 3, 40, 49, 'z'},
    {"16x1", 4, 16, 1, 'n'},       {"16x3", 5, 16, 3, 'n'},
    {"2x3", 4, 2, 3, 'n'},         {"100x64", 2, 100, 64, 'n'},
    {"1x1", 3, 1, 1, 'n'},
};

static const char *svd_title(int index) {
    return nd_svd_cases[index].title;
}

static void svd_fill(nd_rng *rng, const nd_svd_case *c, float *a) {
    for (int64_t b = 0; b < c->batch; b++) {
        double basis[2][64] = {{0}};
        for (int64_t j = 0; j < 2 * c->n; j++) basis[j % 2][j / 2] = nd_rng_normal(rng);
        for (int64_t r = 0; r < c->m; r++) {
            const double p = nd_rng_normal(rng), q = nd_rng_normal(rng);
            for (int64_t j = 0; j < c->n; j++) {
                double value = nd_rng_normal(rng);
                if (c->spectrum == 'g') value *= pow(10, -7.0 * (double)j / (double)c->n);
                if (c->spectrum == 'z' && b % 2 == 0) value = 0;
                if (c->spectrum == 'r') value = p * basis[0][j] + q * basis[1][j];
                *a++ = (float)value;
            }
        }
    }
}

/* One slice: what V and sigma must satisfy, whatever computed them. Bounds are fp64 rounding times the number
 * of operations, with room for another algorithm; the Gram matrix limits sigma^2 to 1e-16 of the total. */
static void svd_slice(nd_identity *identity, const nd_svd_case *c, int64_t slice, const float *a,
                      const double *sigma, const double *v) {
    const int64_t m = c->m, n = c->n;
    const int s = (int)slice;
    double total = 0, tail = 0, residual = 0;
    for (int64_t i = 0; i < m * n; i++) total += (double)a[i] * a[i];
    for (int64_t k = 0; k < n; k++)
        for (int64_t l = 0; l <= k; l++) {
            double dot = 0;
            for (int64_t i = 0; i < n; i++) dot += v[k * n + i] * v[l * n + i];
            nd_identity_note(identity, fabs(dot - (k == l)), 1e-12, "slice %d: v%d . v%d = %.17g", s, (int)k,
                             (int)l, dot);
        }
    /* From the last vector to the first: what k terms leave is the energy of the tail. */
    for (int64_t k = n - 1; k >= 0; k--) {
        double energy = 0;
        for (int64_t r = 0; r < m; r++) {
            double dot = 0;
            for (int64_t i = 0; i < n; i++) dot += a[r * n + i] * v[k * n + i];
            energy += dot * dot;
        }
        residual += energy;
        tail += sigma[k] * sigma[k];
        nd_identity_note(identity, fabs(residual - tail), 1e-12 * total + 1e-300,
                         "slice %d: %d terms leave %.17g, the tail says %.17g", s, (int)k, residual, tail);
        const bool ordered =
            sigma[k] >= 0 && (k == 0 || sigma[k] <= sigma[k - 1]) && (k < m || sigma[k] == 0);
        nd_identity_note(identity, !ordered, 0.5, "slice %d: sigma %d = %.17g is out of order", s, (int)k,
                         sigma[k]);
        int64_t largest = 0;
        for (int64_t i = 1; i < n; i++)
            if (fabs(v[k * n + i]) > fabs(v[k * n + largest])) largest = i;
        nd_identity_note(identity, !(v[k * n + largest] > 0), 0.5, "slice %d: the sign of v%d", s, (int)k);
        for (int64_t i = 0; i < n && total == 0; i++)
            nd_identity_note(identity, v[k * n + i] != (i == k), 0.5, "slice %d is zero, v%d no unit vector",
                             s, (int)k);
    }
    nd_identity_note(identity, fabs(residual - total), 1e-12 * total + 1e-300,
                     "slice %d: energy %.17g of %.17g", s, residual, total);
}

static nd_status svd_run(nd_identity *identity, int index) {
    const nd_svd_case *c = &nd_svd_cases[index];
    nd_backend *backend = identity->backend;
    float *a = nd_arena_alloc(&identity->arena, (size_t)(c->batch * c->m * c->n) * sizeof *a);
    double *sigma = nd_arena_alloc(&identity->arena, (size_t)(c->batch * c->n) * sizeof *sigma);
    double *v = nd_arena_alloc(&identity->arena, (size_t)(c->batch * c->n * c->n) * sizeof *v);
    ND_REQUIRE(a && sigma && v, nd_status_memory, "no memory for a check");
    svd_fill(&identity->rng, c, a);
    for (int64_t i = 0; i < c->batch * c->n; i++) sigma[i] = NAN;
    ND_TRY(backend->table->linalg.svd(backend, c->batch, c->m, c->n, a, sigma, v));
    for (int64_t b = 0; b < c->batch; b++)
        svd_slice(identity, c, b, a + b * c->m * c->n, sigma + b * c->n, v + b * c->n * c->n);
    return nd_status_ok;
}

const nd_check_identities nd_check_svd = {"svd", sizeof nd_svd_cases / sizeof *nd_svd_cases, svd_title,
                                          svd_run};
