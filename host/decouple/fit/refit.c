#include "decouple/fit/refit.h"

#include "base/parallel.h"
#include "decouple/fit/features.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_refit_kernel(nd_backend *backend, const nd_conv *conv, const nd_moments *m, double *w) {
    const int64_t k = m->k, rows = m->no / m->groups;
    const size_t bytes = (size_t)(m->no * k) * sizeof *w, ridges = (size_t)m->groups * sizeof *m->ridge;
    double *best = m->best, *ridge = best + m->no * k;
    if (!memcmp(ridge, m->ridge, ridges)) {
        memcpy(w, best, bytes);
        return nd_status_ok;
    }
    double *factor = nd_alloc_array((size_t)k, (size_t)k * sizeof *factor);
    ND_REQUIRE(factor, nd_status_memory, "conv %s: no memory for its least squares", conv->name);
    memcpy(w, m->h, bytes);
    nd_status status = nd_status_ok;
    for (int64_t g = 0; !status && g < m->groups; g++) {
        memcpy(factor, m->g + g * k * k, (size_t)(k * k) * sizeof *factor);
        status = backend->table->linalg.solve(backend, k, factor, false, rows, w + g * rows * k);
    }
    free(factor);
    if (status) return nd_fail_in(status, "conv %s: least squares", conv->name);
    memcpy(best, w, bytes);
    memcpy(ridge, m->ridge, ridges);
    return nd_status_ok;
}

typedef struct scaling {
    int64_t n;
    const double *gram, *scale;
    double jitter, *a;
} scaling;

static void scale_rows(void *context, int64_t begin, int64_t end, int worker) {
    const scaling *s = context;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        double *row = s->a + i * s->n;
        for (int64_t j = 0; j < s->n; j++) row[j] = s->scale[i] * s->gram[i * s->n + j] * s->scale[j];
        row[i] = 1 + s->jitter;
    }
}

/* Scaled to unit diagonal, factored with a jitter that grows until the factorisation goes through. */
static nd_status solve_scaled(nd_backend *backend, int64_t n, const double *gram, const double *scale,
                              int64_t n_out, double *x) {
    double *a = nd_alloc_array((size_t)n, (size_t)n * sizeof *a);
    double *b = nd_alloc_array((size_t)n_out, (size_t)n * sizeof *b);
    nd_status status = a && b ? nd_status_failed : nd_fail(nd_status_memory, "no memory for a refit");
    for (double jitter = 1e-10; status == nd_status_failed && jitter < 1e-2; jitter *= 100) {
        scaling s = {n, gram, scale, jitter, a};
        nd_parallel_for(n, n, scale_rows, &s);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t i = 0; i < n; i++) b[o * n + i] = x[o * n + i] * scale[i];
        status = backend->table->linalg.solve(backend, n, a, false, n_out, b);
    }
    for (int64_t o = 0; !status && o < n_out; o++)
        for (int64_t i = 0; i < n; i++) x[o * n + i] = b[o * n + i] * scale[i];
    free(a);
    free(b);
    return status;
}

nd_status nd_refit_gram(nd_backend *backend, int64_t n, const double *gram, int64_t n_out, double *x) {
    double *scale = nd_alloc_array((size_t)n, sizeof *scale), largest = 0;
    ND_REQUIRE(scale, nd_status_memory, "no memory for refitting %lld features", (long long)n);
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, gram[i * n + i]);
    for (int64_t i = 0; i < n; i++) {
        double variance = gram[i * n + i];
        scale[i] = variance > 1e-14 * largest && variance > 0 ? 1 / sqrt(variance) : 0;
    }
    nd_status status = solve_scaled(backend, n, gram, scale, n_out, x);
    free(scale);
    return status;
}

/* Groups of the last stage that are refitted at a time: they lie in one group of the convolution, and their
 * features times g take no more than this. */
enum { refit_bytes = 64 << 20 };

static int64_t groups_at_a_time(const nd_conv *conv, const nd_stage *last, int64_t n, int64_t k) {
    const int64_t all = last->groups / conv->groups, room = refit_bytes / (n * k * (int64_t)sizeof(double));
    return all <= 1 || room <= 1 ? 1 : all < room ? all : room;
}

/* Of `count` groups from q on: x[rows][n] of each into the stage's weights. */
static nd_status refit_groups(nd_backend *backend, const nd_moments *m, const double *g,
                              const nd_functionals *features, int64_t q, int64_t count, nd_stage *last) {
    nd_status status = nd_status_ok;
    const int64_t n = features->rows / count, rows = last->no / last->groups;
    double *grams = nd_alloc_array((size_t)count, (size_t)(n * n) * sizeof *grams);
    double *x = nd_alloc_array((size_t)(rows * n), sizeof *x);
    ND_REQUIRE_DONE(grams && x, nd_status_memory, "no memory for refitting %lld features", (long long)n);
    if (count > 1)
        ND_TRY_DONE(nd_features_grams(features, n, m->k, g, grams));
    else
        ND_TRY_DONE(nd_features_gram(backend, features, m->k, g, grams));
    for (int64_t i = 0; i < count; i++) {
        const nd_functionals own = {
            .rows = n, .start = features->start + i * n, .index = features->index, .value = features->value};
        ND_TRY_DONE(nd_features_dot(backend, &own, rows, m->k, m->h + (q + i) * rows * m->k, x));
        ND_TRY_DONE(nd_refit_gram(backend, n, grams + i * n * n, rows, x));
        for (int64_t e = 0; e < rows * n; e++) last->weights[(q + i) * rows * n + e] = (float)x[e];
    }
done:
    free(grams);
    free(x);
    return status;
}

nd_status nd_refit_last(nd_backend *backend, const nd_conv *conv, const nd_moments *m, nd_chain *chain) {
    nd_stage *last = &chain->stages[chain->n - 1];
    const int64_t n = last->ni / last->groups * last->window.kernel[0] * last->window.kernel[1];
    const int64_t most = groups_at_a_time(conv, last, n, m->k);
    nd_functionals in = {0}, features = {0};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_chain_functionals(chain, conv, chain->n - 1, &in));
    for (int64_t q = 0, count; q < last->groups; q += count) {
        const int64_t group = q * conv->groups / last->groups;
        const int64_t left = (group + 1) * last->groups / conv->groups - q;
        count = most < left ? most : left > 0 ? left : 1;
        ND_TRY_DONE(nd_features_of_stage(chain, conv, chain->n - 1, &in, q, count, &features));
        ND_TRY_DONE(refit_groups(backend, m, m->g + group * m->k * m->k, &features, q, count, last));
        nd_functionals_free(&features);
    }
done:
    nd_functionals_free(&features);
    nd_functionals_free(&in);
    return status ? nd_fail_in(status, "conv %s: refit", conv->name) : nd_status_ok;
}

void nd_refit_bias(const nd_moments *m, const double *w, float *bias) {
    int64_t rows = m->no / m->groups;
    for (int64_t o = 0; o < m->no; o++) {
        const double *mean = m->mean_p + o / rows * m->k;
        double sum = m->mean_y[o];
        for (int64_t i = 0; i < m->k; i++) sum -= w[o * m->k + i] * mean[i];
        bias[o] = (float)sum;
    }
}

nd_status nd_refit_chain_bias(const nd_conv *conv, const nd_moments *m, nd_chain *chain) {
    nd_status status = nd_status_ok;
    double *w = nd_alloc_array((size_t)(m->no * m->k), sizeof *w);
    float *bias = nd_alloc_array((size_t)m->no, sizeof *bias);
    ND_REQUIRE_DONE(w && bias, nd_status_memory, "conv %s: no memory for its bias", conv->name);
    ND_TRY_DONE(nd_chain_compose(chain, conv, w));
    nd_refit_bias(m, w, bias);
    ND_TRY_DONE(nd_chain_set_bias(chain, bias));
done:
    free(w);
    free(bias);
    return status;
}
