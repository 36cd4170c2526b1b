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

nd_status nd_refit_features(nd_backend *backend, int64_t k, const double *g, const nd_functionals *features,
                            int64_t n_out, const double *h, double *x) {
    nd_status status = nd_status_ok;
    int64_t n = features->rows;
    double *gram = nd_alloc_array((size_t)n, (size_t)n * sizeof *gram);
    double *scale = nd_alloc_array((size_t)n, sizeof *scale), largest = 0;
    ND_REQUIRE_DONE(gram && scale, nd_status_memory, "no memory for refitting %lld features", (long long)n);
    ND_TRY_DONE(nd_features_gram(backend, features, k, g, gram));
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, gram[i * n + i]);
    for (int64_t i = 0; i < n; i++) {
        double variance = gram[i * n + i];
        scale[i] = variance > 1e-14 * largest && variance > 0 ? 1 / sqrt(variance) : 0;
    }
    nd_features_dot(features, n_out, k, h, x);
    ND_TRY_DONE(solve_scaled(backend, n, gram, scale, n_out, x));
done:
    free(gram);
    free(scale);
    return status;
}

nd_status nd_refit_last(nd_backend *backend, const nd_conv *conv, const nd_moments *m, nd_chain *chain) {
    nd_stage *last = &chain->stages[chain->n - 1];
    int64_t rows = last->no / last->groups;
    int64_t n = last->ni / last->groups * last->window.kernel[0] * last->window.kernel[1];
    nd_functionals in = {0}, features = {0};
    nd_status status = nd_status_ok;
    double *x = nd_alloc_array((size_t)(rows * n), sizeof *x);
    ND_REQUIRE_DONE(x, nd_status_memory, "conv %s: no memory for a refit", conv->name);
    ND_TRY_DONE(nd_chain_functionals(chain, conv, chain->n - 1, &in));
    for (int64_t q = 0; q < last->groups; q++) {
        int64_t group = q * conv->groups / last->groups;
        ND_TRY_DONE(nd_features_of_stage(chain, conv, chain->n - 1, &in, q, &features));
        ND_TRY_DONE(nd_refit_features(backend, m->k, m->g + group * m->k * m->k, &features, rows,
                                      m->h + q * rows * m->k, x));
        for (int64_t e = 0; e < rows * n; e++) last->weights[q * rows * n + e] = (float)x[e];
        nd_functionals_free(&features);
    }
done:
    nd_functionals_free(&features);
    nd_functionals_free(&in);
    free(x);
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
