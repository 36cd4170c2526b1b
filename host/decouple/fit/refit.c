#include "decouple/fit/refit.h"

#include "base/parallel.h"
#include "decouple/fit/features.h"
#include "decouple/fit/found.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct scaling {
    int64_t n;
    const double *scale;
    double jitter, *a;
    bool again; /* scaled before: what a factorisation left of the lower triangle comes from the upper */
} scaling;

static void scale_rows(void *context, int64_t begin, int64_t end, int worker) {
    const scaling *s = context;
    const int64_t n = s->n;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        double *row = s->a + i * n;
        for (int64_t j = 0; !s->again && j < n; j++) row[j] = s->scale[i] * row[j] * s->scale[j];
        for (int64_t j = 0; s->again && j < i; j++) row[j] = s->a[j * n + i];
        row[i] = 1 + s->jitter;
    }
}

/* Scaled to unit diagonal, factored with a jitter that grows until the factorisation goes through: of images
 * that are all alike rounding is most of what a gram has, and negative eigenvalues with it. Leaves the
 * factor in the lower triangle of a[n][n], which was the gram, the scales in scale[n] and the solutions
 * divided by them in b[n_out][n]. */
static nd_status solve_scaled(nd_backend *backend, int64_t n, double *a, int64_t n_out, const double *x,
                              double *scale, double *b) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, a[i * n + i]);
    for (int64_t i = 0; i < n; i++) {
        double variance = a[i * n + i];
        scale[i] = variance > 1e-14 * largest && variance > 0 ? 1 / sqrt(variance) : 0;
    }
    nd_status status = nd_status_failed;
    scaling s = {.n = n, .scale = scale, .a = a};
    for (s.jitter = 1e-10; status == nd_status_failed && s.jitter < 1e3; s.jitter *= 100, s.again = true) {
        nd_parallel_for(n, n, scale_rows, &s);
        for (int64_t o = 0; o < n_out; o++)
            for (int64_t i = 0; i < n; i++) b[o * n + i] = x[o * n + i] * scale[i];
        status = backend->table->linalg.solve(backend, n, a, false, n_out, b);
    }
    return status;
}

/* x becomes the solution, or with `whitened` that times the triangular factor of the gram, which it takes the
 * place of. */
static nd_status refit_scaled(nd_backend *backend, int64_t n, double *gram, int64_t n_out, double *x,
                              bool whitened) {
    nd_status status = nd_status_ok;
    double *b = nd_alloc_array((size_t)n_out + 1, (size_t)n * sizeof *b), *scale = b + n_out * n;
    ND_REQUIRE_DONE(b, nd_status_memory, "no memory for refitting %lld features", (long long)n);
    ND_TRY_DONE(solve_scaled(backend, n, gram, n_out, x, scale, b));
    if (whitened) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i + 1; j < n; j++) gram[i * n + j] = 0;
        status = backend->table->linalg.gemm(backend, false, false, n_out, n, n, 1, b, n, gram, n, 0, x, n);
        goto done;
    }
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t i = 0; i < n; i++) x[o * n + i] = b[o * n + i] * scale[i];
done:
    free(b);
    return status;
}

nd_status nd_refit_gram(nd_backend *backend, int64_t n, double *gram, int64_t n_out, double *x) {
    return refit_scaled(backend, n, gram, n_out, x, false);
}

nd_status nd_refit_whiten(nd_backend *backend, int64_t n, double *gram, int64_t n_out, double *x) {
    return refit_scaled(backend, n, gram, n_out, x, true);
}

static nd_status find_kernel(nd_backend *backend, const nd_conv *conv, const nd_moments *m, double *w) {
    const int64_t k = m->k, rows = m->no / m->groups;
    if (m->own) { /* the ridge goes towards it */
        for (int64_t e = 0; e < m->no * k; e++) w[e] = conv->weights[e];
        return nd_status_ok;
    }
    double *factor = nd_alloc_array((size_t)k, (size_t)k * sizeof *factor);
    ND_REQUIRE(factor, nd_status_memory, "conv %s: no memory for its least squares", conv->name);
    memcpy(w, m->h, (size_t)(m->no * k) * sizeof *w);
    nd_status status = nd_status_ok;
    for (int64_t g = 0; !status && g < m->groups; g++) {
        memcpy(factor, m->g + g * k * k, (size_t)(k * k) * sizeof *factor);
        status = nd_refit_gram(backend, k, factor, rows, w + g * rows * k);
    }
    free(factor);
    return status ? nd_fail_in(status, "conv %s: least squares", conv->name) : nd_status_ok;
}

nd_status nd_refit_kernel(nd_backend *backend, const nd_conv *conv, const nd_moments *m, const double **w) {
    return nd_moments_find(backend, conv, m, find_kernel, (size_t)(m->no * m->k), w);
}

/* Groups of the last stage at a time: they lie in one group of the convolution, and their features times g
 * take no more than this. */
enum { refit_bytes = 64 << 20 };

static int64_t groups_at_a_time(const nd_conv *conv, const nd_stage *last, int64_t n, int64_t k) {
    const int64_t all = last->groups / conv->groups, room = refit_bytes / (n * k * (int64_t)sizeof(double));
    return all <= 1 || room <= 1 ? 1 : all < room ? all : room;
}

typedef struct kernel {
    const nd_moments *m;
    const double *w; /* [no][k]: the original weights; NULL where they are not asked for */
} kernel;

/* Of `count` groups from q on. */
static nd_status equations_of(nd_backend *backend, kernel of, const double *g, const nd_functionals *features,
                              int64_t q, int64_t count, const nd_stage *last, nd_refit *out) {
    const int64_t n = out->n, k = of.m->k, rows = last->no / last->groups;
    const int64_t taps = last->window.kernel[0] * last->window.kernel[1];
    if (count > 1)
        ND_TRY(nd_features_grams(features, n, taps, k, g, out->gram + q * n * n));
    else
        ND_TRY(nd_features_gram(backend, features, k, g, out->gram + q * n * n));
    for (int64_t i = 0; i < count; i++) {
        const int64_t first = (q + i) * rows;
        const nd_functionals own = {
            .rows = n, .start = features->start + i * n, .index = features->index, .value = features->value};
        ND_TRY(nd_features_dot(backend, &own, rows, k, of.m->h + first * k, out->h + first * n));
        if (!of.w) continue;
        ND_TRY(nd_features_dot(backend, &own, rows, k, of.w + first * k, out->w + first * n));
        ND_TRY(nd_features_norms(backend, &own, k, out->norms + (q + i) * n * n));
    }
    return nd_status_ok;
}

static nd_status refit_room(const nd_conv *conv, const nd_stage *last, bool ridges, nd_refit *out) {
    const size_t groups = (size_t)last->groups, square = (size_t)(out->n * out->n);
    out->gram = nd_alloc_array(groups, square * sizeof *out->gram);
    out->h = nd_alloc_array((size_t)last->no, (size_t)out->n * sizeof *out->h);
    out->ridge = nd_alloc_array((size_t)conv->groups, sizeof *out->ridge);
    if (ridges) out->norms = nd_alloc_array(groups, square * sizeof *out->norms);
    if (ridges) out->w = nd_alloc_array((size_t)last->no, (size_t)out->n * sizeof *out->w);
    ND_REQUIRE(out->gram && out->h && out->ridge && (!ridges || (out->norms && out->w)), nd_status_memory,
               "conv %s: no memory for a refit", conv->name);
    return nd_status_ok;
}

nd_status nd_refit_open(nd_backend *backend, const nd_conv *conv, const nd_moments *m, const nd_chain *chain,
                        bool ridges, nd_refit *out) {
    const nd_stage *last = &chain->stages[chain->n - 1];
    const int64_t n = last->ni / last->groups * last->window.kernel[0] * last->window.kernel[1];
    const int64_t most = groups_at_a_time(conv, last, n, m->k);
    nd_functionals in = {0}, features = {0};
    nd_status status = nd_status_ok;
    double *w = ridges ? nd_alloc_array((size_t)m->no, (size_t)m->k * sizeof *w) : NULL;
    *out = (nd_refit){.n = n};
    ND_REQUIRE_DONE(w || !ridges, nd_status_memory, "no memory for the kernel");
    for (int64_t e = 0; w && e < m->no * m->k; e++) w[e] = conv->weights[e];
    ND_TRY_DONE(refit_room(conv, last, ridges, out));
    memcpy(out->ridge, m->ridge, (size_t)conv->groups * sizeof *out->ridge);
    ND_TRY_DONE(nd_chain_functionals(chain, conv, chain->n - 1, &in));
    for (int64_t q = 0, count; q < last->groups; q += count) {
        const int64_t group = q * conv->groups / last->groups;
        const int64_t left = (group + 1) * last->groups / conv->groups - q;
        count = most < left ? most : left > 0 ? left : 1;
        ND_TRY_DONE(nd_features_of_stage(chain, conv, chain->n - 1, &in, q, count, &features));
        ND_TRY_DONE(equations_of(backend, (kernel){m, w}, m->g + group * m->k * m->k, &features, q, count,
                                 last, out));
        nd_functionals_free(&features);
    }
done:
    nd_functionals_free(&features);
    nd_functionals_free(&in);
    free(w);
    if (status) nd_refit_close(out);
    return status ? nd_fail_in(status, "conv %s: refit", conv->name) : nd_status_ok;
}

void nd_refit_close(nd_refit *refit) {
    free(refit->gram);
    free(refit->norms);
    free(refit->h);
    free(refit->w);
    free(refit->ridge);
    *refit = (nd_refit){0};
}

/* The equations of group q with the ridge that the moments have now. */
static void with_ridge(const nd_refit *refit, int64_t q, int64_t rows, double more, double *gram, double *x) {
    const int64_t n = refit->n, square = n * n;
    const double *g = refit->gram + q * square, *norms = refit->norms + q * square;
    const double *h = refit->h + q * rows * n, *w = refit->w + q * rows * n;
    for (int64_t e = 0; e < square; e++) gram[e] = g[e] + more * norms[e];
    for (int64_t e = 0; e < rows * n; e++) x[e] = h[e] + more * w[e];
}

nd_status nd_refit_solve(nd_refit *refit, nd_backend *backend, const nd_conv *conv, const nd_moments *m,
                         nd_chain *chain) {
    nd_stage *last = &chain->stages[chain->n - 1];
    const int64_t n = refit->n, rows = last->no / last->groups;
    const bool ridges = refit->norms != NULL;
    nd_status status = nd_status_ok;
    double *copy = ridges ? nd_alloc_array((size_t)(n + rows), (size_t)n * sizeof *copy) : NULL;
    ND_REQUIRE_DONE(copy || !ridges, nd_status_memory, "conv %s: no memory for a refit", conv->name);
    for (int64_t q = 0; q < last->groups; q++) {
        const int64_t group = q * conv->groups / last->groups, first = q * rows * n;
        double *gram = ridges ? copy : refit->gram + q * n * n;
        double *x = ridges ? copy + n * n : refit->h + first;
        if (ridges) with_ridge(refit, q, rows, m->ridge[group] - refit->ridge[group], gram, x);
        ND_TRY_DONE(nd_refit_gram(backend, n, gram, rows, x));
        for (int64_t e = 0; e < rows * n; e++) last->weights[first + e] = (float)x[e];
    }
done:
    free(copy);
    return status ? nd_fail_in(status, "conv %s: refit", conv->name) : nd_status_ok;
}

nd_status nd_refit_last(nd_backend *backend, const nd_conv *conv, const nd_moments *m, nd_chain *chain) {
    nd_refit refit = {0};
    ND_TRY(nd_refit_open(backend, conv, m, chain, false, &refit));
    const nd_status status = nd_refit_solve(&refit, backend, conv, m, chain);
    nd_refit_close(&refit);
    return status;
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
