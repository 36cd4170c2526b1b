#include "decouple/fit/refit.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_refit_kernel(nd_backend *backend, const nd_conv *conv, const nd_moments *m, double *w) {
    int64_t k = m->k, rows = m->no / m->groups;
    if (m->best) {
        memcpy(w, m->best, (size_t)(m->no * k) * sizeof *w);
        return nd_status_ok;
    }
    double *factor = nd_alloc_array((size_t)k, (size_t)k * sizeof *factor);
    ND_REQUIRE(factor, nd_status_memory, "conv %s: no memory for its least squares", conv->name);
    memcpy(w, m->h, (size_t)(m->no * k) * sizeof *w);
    nd_status status = nd_status_ok;
    for (int64_t g = 0; !status && g < m->groups; g++) {
        memcpy(factor, m->g + g * k * k, (size_t)(k * k) * sizeof *factor);
        status = backend->table->linalg.solve(backend, k, factor, false, rows, w + g * rows * k);
    }
    free(factor);
    return status ? nd_fail_in(status, "conv %s: least squares", conv->name) : nd_status_ok;
}

nd_status nd_refit_keep_kernel(nd_backend *backend, const nd_conv *conv, nd_moments *m) {
    double *best = nd_alloc_array((size_t)m->no, (size_t)m->k * sizeof *best);
    ND_REQUIRE(best, nd_status_memory, "conv %s: no memory for its least squares", conv->name);
    nd_status status = nd_refit_kernel(backend, conv, m, best);
    if (status)
        free(best);
    else
        m->best = best;
    return status;
}

typedef struct gram_job {
    int64_t k;
    const double *g;
    const nd_functionals *features;
    double *gram;    /* [rows][rows] */
    double *scratch; /* [workers][k] */
} gram_job;

static double dot_sparse(const nd_functionals *f, int64_t row, const double *dense) {
    double sum = 0;
    for (int64_t e = f->start[row]; e < f->start[row + 1]; e++) sum += f->value[e] * dense[f->index[e]];
    return sum;
}

/* Row r and its mirror, of columns r on. */
static void gram_row(const gram_job *job, int64_t r, double *eg) {
    const nd_functionals *f = job->features;
    memset(eg, 0, (size_t)job->k * sizeof *eg);
    for (int64_t e = f->start[r]; e < f->start[r + 1]; e++) {
        const double *row = job->g + f->index[e] * job->k;
        double value = f->value[e];
        for (int64_t i = 0; i < job->k; i++) eg[i] += value * row[i];
    }
    for (int64_t s = r; s < f->rows; s++)
        job->gram[r * f->rows + s] = job->gram[s * f->rows + r] = dot_sparse(f, s, eg);
}

/* A short row goes with a long one, so that the workers have the same to do. */
static void gram_body(void *context, int64_t begin, int64_t end, int worker) {
    const gram_job *job = context;
    double *eg = job->scratch + worker * job->k;
    for (int64_t r = begin; r < end; r++) {
        int64_t mirror = job->features->rows - 1 - r;
        gram_row(job, r, eg);
        if (mirror > r) gram_row(job, mirror, eg);
    }
}

/* Scaled to unit diagonal, factored with a jitter that grows until the factorisation goes through. */
static nd_status solve_scaled(nd_backend *backend, int64_t n, const double *gram, const double *scale,
                              int64_t n_out, double *x) {
    double *a = nd_alloc_array((size_t)n, (size_t)n * sizeof *a);
    double *b = nd_alloc_array((size_t)n_out, (size_t)n * sizeof *b);
    nd_status status = a && b ? nd_status_failed : nd_fail(nd_status_memory, "no memory for a refit");
    for (double jitter = 1e-10; status == nd_status_failed && jitter < 1e-2; jitter *= 100) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] = i == j ? 1 + jitter : scale[i] * gram[i * n + j] * scale[j];
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
    gram_job job = {.k = k, .g = g, .features = features};
    job.gram = nd_alloc_array((size_t)n, (size_t)n * sizeof *job.gram);
    job.scratch = nd_alloc_array((size_t)nd_threads(), (size_t)k * sizeof *job.scratch);
    double *scale = nd_alloc_array((size_t)n, sizeof *scale), largest = 0;
    ND_REQUIRE_DONE(job.gram && job.scratch && scale, nd_status_memory,
                    "no memory for refitting %lld features", (long long)n);
    nd_parallel_for((n + 1) / 2, 2 * (n + k), gram_body, &job);
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, job.gram[i * n + i]);
    for (int64_t i = 0; i < n; i++) {
        double variance = job.gram[i * n + i];
        scale[i] = variance > 1e-14 * largest && variance > 0 ? 1 / sqrt(variance) : 0;
    }
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t i = 0; i < n; i++) x[o * n + i] = dot_sparse(features, i, h + o * k);
    ND_TRY_DONE(solve_scaled(backend, n, job.gram, scale, n_out, x));
done:
    free(job.gram);
    free(job.scratch);
    free(scale);
    return status;
}

/* The inputs of one group of the last stage, tap by tap, as functionals of the patch of one group. */
static nd_status last_features(const nd_stage *last, const nd_conv *conv, const nd_functionals *in,
                               int64_t group, int64_t base, nd_functionals *out) {
    int64_t taps = last->window.kernel[0] * last->window.kernel[1], kw = last->window.kernel[1];
    int64_t cols = last->ni / last->groups, entries = 0;
    for (int64_t c = 0; c < cols; c++) {
        int64_t row = last->channel ? last->channel[group * cols + c] : group * cols + c;
        entries += (in->start[row + 1] - in->start[row]) * taps;
    }
    *out = (nd_functionals){.rows = cols * taps};
    out->start = nd_alloc_array((size_t)out->rows + 1, sizeof *out->start);
    out->index = nd_alloc_array((size_t)entries, sizeof *out->index);
    out->value = nd_alloc_array((size_t)entries, sizeof *out->value);
    if (!out->start || !out->index || !out->value) {
        nd_functionals_free(out);
        return nd_fail(nd_status_memory, "conv %s: no memory for its features", conv->name);
    }
    int64_t used = 0;
    for (int64_t f = 0; f < out->rows; f++) {
        int64_t c = group * cols + f / taps, t = f % taps;
        int64_t row = last->channel ? last->channel[c] : c;
        int64_t shift = t / kw * conv->window.kernel[1] + t % kw - base;
        for (int64_t e = in->start[row]; e < in->start[row + 1]; e++, used++) {
            out->index[used] = (int32_t)(in->index[e] + shift);
            out->value[used] = in->value[e];
        }
        out->start[f + 1] = used;
    }
    return nd_status_ok;
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
        ND_TRY_DONE(last_features(last, conv, &in, q, group * m->k, &features));
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
