#include "decouple/fit/features.h"

#include "base/parallel.h"
#include "decouple/fit/combine_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_features_of_stage(const nd_chain *chain, const nd_conv *conv, int index,
                               const nd_functionals *in, int64_t q, int64_t count, nd_functionals *out) {
    const nd_stage *stage = &chain->stages[index];
    const int64_t taps = stage->window.kernel[0] * stage->window.kernel[1], kw = stage->window.kernel[1];
    const int64_t cols = stage->ni / stage->groups, per_group = conv->ni / conv->groups * nd_conv_taps(conv);
    const int64_t base = q * conv->groups / stage->groups * per_group;
    int64_t entries = 0, used = 0;
    for (int64_t c = q * cols; c < (q + count) * cols; c++) {
        int64_t row = stage->channel ? stage->channel[c] : c;
        entries += (in->start[row + 1] - in->start[row]) * taps;
    }
    *out = (nd_functionals){.rows = count * cols * taps};
    out->start = nd_alloc_array((size_t)out->rows + 1, sizeof *out->start);
    out->index = nd_alloc_array((size_t)entries, sizeof *out->index);
    out->value = nd_alloc_array((size_t)entries, sizeof *out->value);
    if (!out->start || !out->index || !out->value) {
        nd_functionals_free(out);
        return nd_fail(nd_status_memory, "conv %s: no memory for its features", conv->name);
    }
    for (int64_t f = 0; f < out->rows; f++) {
        int64_t c = q * cols + f / taps, t = f % taps;
        int64_t row = stage->channel ? stage->channel[c] : c;
        int64_t shift = t / kw * conv->window.kernel[1] + t % kw - base;
        for (int64_t e = in->start[row]; e < in->start[row + 1]; e++, used++) {
            out->index[used] = (int32_t)(in->index[e] + shift);
            out->value[used] = in->value[e];
        }
        out->start[f + 1] = used;
    }
    return nd_status_ok;
}

typedef struct gram_job {
    int64_t k;
    const double *g;
    const nd_functionals *features;
    double *gram;    /* [rows][rows] */
    double *scratch; /* [workers][k] */
    int64_t *least;  /* [rows]: least index of rows from this one on */
} gram_job;

static double dot_sparse(const nd_functionals *f, int64_t row, const double *dense) {
    double sum = 0;
    for (int64_t e = f->start[row]; e < f->start[row + 1]; e++) sum += f->value[e] * dense[f->index[e]];
    return sum;
}

typedef struct dot_job {
    const nd_functionals *features;
    int64_t k;
    const double *dense;
    double *out;
} dot_job;

static void dot_body(void *context, int64_t begin, int64_t end, int worker) {
    const dot_job *job = context;
    const int64_t n = job->features->rows;
    (void)worker;
    for (int64_t r = begin; r < end; r++)
        for (int64_t f = 0; f < n; f++)
            job->out[r * n + f] = dot_sparse(job->features, f, job->dense + r * job->k);
}

/* What a product with a sparse row costs, by multiply-adds of a dense product: it waits for memory. */
enum { sparse_cost = 4 };

static bool is_sparse(const nd_functionals *f, int64_t k) {
    return sparse_cost * (double)(f->start[f->rows] - f->start[0]) < (double)f->rows * (double)k;
}

/* e[rows][k] of zeros takes the functionals. */
static void expand(const nd_functionals *f, int64_t k, double *e) {
    for (int64_t r = 0; r < f->rows; r++)
        for (int64_t i = f->start[r]; i < f->start[r + 1]; i++) e[r * k + f->index[i]] += f->value[i];
}

nd_status nd_features_dot(nd_backend *backend, const nd_functionals *features, int64_t rows, int64_t k,
                          const double *dense, double *out) {
    const int64_t n = features->rows;
    if (rows == 1 || is_sparse(features, k)) {
        dot_job job = {features, k, dense, out};
        nd_parallel_for(rows, features->start[n], dot_body, &job);
        return nd_status_ok;
    }
    double *e = nd_alloc_array((size_t)n, (size_t)k * sizeof *e);
    ND_REQUIRE(e, nd_status_memory, "no memory for the moments of %lld features", (long long)n);
    expand(features, k, e);
    const nd_status status =
        backend->table->linalg.gemm(backend, false, true, rows, n, k, 1, dense, k, e, k, 0, out, n);
    free(e);
    return status;
}

nd_status nd_features_norms(nd_backend *backend, const nd_functionals *features, int64_t k, double *out) {
    const int64_t n = features->rows;
    double *e = nd_alloc_array((size_t)n, (size_t)k * sizeof *e);
    ND_REQUIRE(e, nd_status_memory, "no memory for the moments of %lld features", (long long)n);
    expand(features, k, e);
    const nd_status status = nd_features_dot(backend, features, n, k, e, out);
    free(e);
    return status;
}

/* Row r and its mirror, of columns r on. A row of e g is made in parts that stay in the nearest cache. */
static void gram_row(const gram_job *job, int64_t r, double *eg) {
    enum { part = 1024 };
    const nd_functionals *f = job->features;
    for (int64_t first = job->least[r]; first < job->k; first += part) {
        const int64_t end = first + part < job->k ? first + part : job->k;
        const int64_t begin = f->start[r];
        nd_combine_rows(job->g + first, job->k, f->index + begin, f->value + begin, f->start[r + 1] - begin,
                        end - first, eg + first);
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

static nd_status sparse_gram(const nd_functionals *features, int64_t k, const double *g, double *gram) {
    gram_job job = {.k = k, .g = g, .features = features, .gram = gram};
    job.scratch = nd_alloc_array((size_t)nd_threads(), (size_t)k * sizeof *job.scratch);
    job.least = nd_alloc_array((size_t)features->rows, sizeof *job.least);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(job.scratch && job.least, nd_status_memory, "no memory for the moments of %lld features",
                    (long long)features->rows);
    int64_t least = k;
    for (int64_t r = features->rows - 1; r >= 0; r--) {
        for (int64_t e = features->start[r]; e < features->start[r + 1]; e++)
            if (features->index[e] < least) least = features->index[e];
        job.least[r] = least;
    }
    nd_parallel_for((features->rows + 1) / 2, 2 * (features->rows + k), gram_body, &job);
done:
    free(job.scratch);
    free(job.least);
    return status;
}

/* As a product of dense matrices. */
static nd_status dense_gram(nd_backend *backend, const nd_functionals *f, int64_t k, const double *g,
                            double *gram) {
    const nd_linalg *linalg = &backend->table->linalg;
    const int64_t n = f->rows;
    double *e = nd_alloc_array((size_t)(2 * n), (size_t)k * sizeof *e), *eg = e + n * k;
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(e, nd_status_memory, "no memory for the moments of %lld features", (long long)n);
    expand(f, k, e);
    ND_TRY_DONE(linalg->gemm(backend, false, false, n, k, k, 1, e, k, g, k, 0, eg, k));
    ND_TRY_DONE(linalg->gemm(backend, false, true, n, n, k, 1, eg, k, e, k, 0, gram, n));
    for (int64_t r = 0; r < n; r++)
        for (int64_t s = 0; s < r; s++) gram[r * n + s] = gram[s * n + r];
done:
    free(e);
    return status;
}

/* Of `groups` times so many rows, with so many entries in all, times g: the cheaper way. */
static double product_cost(double groups, double rows, double entries, double k) {
    return fmin(sparse_cost * entries, groups * rows * k) * (k + rows / 2);
}

nd_status nd_features_gram(nd_backend *backend, const nd_functionals *features, int64_t k, const double *g,
                           double *gram) {
    return is_sparse(features, k) ? sparse_gram(features, k, g, gram)
                                  : dense_gram(backend, features, k, g, gram);
}

/* --- of many groups --- */

typedef struct product_job {
    int64_t k, taps;
    const double *g;
    const nd_functionals *features;
    double *product; /* [rows][k] */
} product_job;

enum { product_part = 128 };

/* Parts of columns, tap after tap: the rows of g that features of a tap share stay in a cache. */
static void product_body(void *context, int64_t begin, int64_t end, int worker) {
    const product_job *job = context;
    const nd_functionals *f = job->features;
    (void)worker;
    for (int64_t p = begin; p < end; p++) {
        const int64_t first = p * product_part, left = job->k - first;
        const int64_t count = left < product_part ? left : product_part;
        for (int64_t t = 0; t < job->taps; t++)
            for (int64_t r = t; r < f->rows; r += job->taps)
                nd_combine_rows(job->g + first, job->k, f->index + f->start[r], f->value + f->start[r],
                                f->start[r + 1] - f->start[r], count, job->product + r * job->k + first);
    }
}

nd_status nd_features_grams(const nd_functionals *features, int64_t group, int64_t taps, int64_t k,
                            const double *g, double *grams) {
    product_job job = {.k = k, .taps = taps, .g = g, .features = features};
    job.product = nd_alloc_array((size_t)features->rows, (size_t)k * sizeof *job.product);
    ND_REQUIRE(job.product, nd_status_memory, "no memory for the moments of %lld features",
               (long long)features->rows);
    nd_parallel_for((k + product_part - 1) / product_part, features->start[features->rows] * product_part,
                    product_body, &job);
    for (int64_t r = 0; r < features->rows; r++)
        for (int64_t s = 0; s < group; s++)
            grams[r * group + s] = dot_sparse(features, r / group * group + s, job.product + r * k);
    free(job.product);
    return nd_status_ok;
}

/* *sum += <x E g E^T, x> of x[rows][features] in fp32. */
static nd_status quadratic(nd_backend *backend, int64_t k, const double *g, const nd_functionals *features,
                           int64_t rows, const float *weights, double *sum) {
    const int64_t n = features->rows;
    double *gram = nd_alloc_array((size_t)n, (size_t)n * sizeof *gram);
    double *x = nd_alloc_array((size_t)(2 * rows), (size_t)n * sizeof *x), *xg = x + rows * n;
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(gram && x, nd_status_memory, "no memory for the error of %lld features", (long long)n);
    for (int64_t e = 0; e < rows * n; e++) x[e] = weights[e];
    ND_TRY_DONE(nd_features_gram(backend, features, k, g, gram));
    ND_TRY_DONE(backend->table->linalg.gemm(backend, false, false, rows, n, n, 1, x, n, gram, n, 0, xg, n));
    for (int64_t e = 0; e < rows * n; e++) *sum += x[e] * xg[e];
done:
    free(gram);
    free(x);
    return status;
}

static bool fewer_operations(const nd_chain *chain, const nd_moments *m, const nd_functionals *in) {
    const nd_stage *last = &chain->stages[chain->n - 1];
    const double taps = (double)(last->window.kernel[0] * last->window.kernel[1]);
    const int64_t per_group = last->ni / last->groups;
    const double n = (double)per_group * taps, k = (double)m->k, no = (double)m->no;
    double entries = 0;
    for (int64_t c = 0; c < last->ni; c++) {
        int64_t row = last->channel ? last->channel[c] : c;
        entries += (double)(in->start[row + 1] - in->start[row]) * taps;
    }
    return product_cost((double)last->groups, n, entries, k) + no * n * n < no * k * k;
}

nd_status nd_features_error(const nd_moments *m, nd_backend *backend, const nd_conv *conv,
                            const nd_chain *chain, double *error) {
    const nd_stage *last = &chain->stages[chain->n - 1];
    const int64_t rows = last->no / last->groups;
    nd_functionals in = {0}, features = {0};
    double *w = nd_alloc_array((size_t)m->no, (size_t)m->k * sizeof *w), sum = 0;
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(w, nd_status_memory, "conv %s: no memory for its error", conv->name);
    ND_TRY_DONE(nd_chain_functionals(chain, conv, chain->n - 1, &in));
    ND_TRY_DONE(nd_chain_compose(chain, conv, w));
    if (!fewer_operations(chain, m, &in)) {
        ND_TRY_DONE(nd_moments_error(m, backend, conv, w, last->bias, error));
        goto done;
    }
    for (int64_t q = 0; q < last->groups; q++) {
        const int64_t group = q * conv->groups / last->groups;
        ND_TRY_DONE(nd_features_of_stage(chain, conv, chain->n - 1, &in, q, 1, &features));
        ND_TRY_DONE(quadratic(backend, m->k, m->g + group * m->k * m->k, &features, rows,
                              last->weights + q * rows * features.rows, &sum));
        nd_functionals_free(&features);
    }
    *error = nd_moments_error_of(m, conv, w, last->bias, sum);
done:
    nd_functionals_free(&features);
    nd_functionals_free(&in);
    free(w);
    return status;
}
