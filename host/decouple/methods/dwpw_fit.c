/* DW+PW on data: the filters of the least-squares kernel in the metric of each channel's centred patches,
 * then rounds of block coordinate descent, each followed by the joint refit of the pointwise part
 * (method.md, "Choosing filters" and "Refit"), all but the refit in the output metric where there is one. */
#include "base/parallel.h"
#include "decouple/fit/combine_rows.h"
#include "decouple/fit/refit.h"
#include "decouple/methods/dwpw.h"
#include "decouple/methods/slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    panel_channels = 6, /* of a descent: the products within a panel stay too small to be worth threads */
};
static const double eigenvalue_floor = 1e-10; /* of the largest of a channel */

/* root C with C C^T = g_ii, stored as its inverse [ni][taps][taps] and itself. */
typedef struct roots {
    double *root, *inverse;
} roots;

static void roots_free(roots *r) {
    free(r->root);
    free(r->inverse);
}

static nd_status roots_of(nd_backend *backend, const nd_conv *conv, const nd_moments *m, roots *out) {
    nd_status status = nd_status_ok;
    int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, size = s * s;
    double *blocks = nd_alloc_array((size_t)(conv->ni * size), sizeof *blocks);
    double *values = nd_alloc_array((size_t)(conv->ni * s), sizeof *values);
    out->root = nd_alloc_array((size_t)(conv->ni * size), sizeof *out->root);
    out->inverse = nd_alloc_array((size_t)(conv->ni * size), sizeof *out->inverse);
    ND_REQUIRE_DONE(blocks && values && out->root && out->inverse, nd_status_memory,
                    "conv %s: no memory for its channels' roots", conv->name);
    for (int64_t i = 0; i < conv->ni; i++) {
        const double *g = m->g + i / cols * m->k * m->k + (i % cols * s) * (m->k + 1);
        for (int64_t a = 0; a < s; a++)
            memcpy(blocks + i * size + a * s, g + a * m->k, (size_t)s * sizeof *blocks);
    }
    ND_TRY_DONE(backend->table->linalg.eigen(backend, conv->ni, s, blocks, values));
    for (int64_t i = 0; i < conv->ni; i++) {
        double largest = fmax(values[i * s + s - 1], 0);
        for (int64_t b = 0; b < s; b++) {
            double value = sqrt(fmax(values[i * s + b], fmax(eigenvalue_floor * largest, 1e-300)));
            for (int64_t a = 0; a < s; a++) {
                double u = blocks[i * size + b * s + a];
                out->root[i * size + a * s + b] = u * value;
                out->inverse[i * size + b * s + a] = u / value;
            }
        }
    }
done:
    free(blocks);
    free(values);
    return status;
}

/* gram[taps][taps] of the columns of block i of w[rows][k], seen through `c`: (w_i c)^T (w_i c). */
static void whitened_gram(const double *w, int64_t rows, int64_t k, int64_t s, const double *c, double *row,
                          double *gram) {
    memset(gram, 0, (size_t)(s * s) * sizeof *gram);
    for (int64_t o = 0; o < rows; o++) {
        memset(row, 0, (size_t)s * sizeof *row);
        for (int64_t a = 0; a < s; a++)
            for (int64_t b = 0; b < s; b++) row[b] += w[o * k + a] * c[a * s + b];
        for (int64_t a = 0; a < s; a++)
            for (int64_t b = 0; b < s; b++) gram[a * s + b] += row[a] * row[b];
    }
}

typedef struct gram_job {
    int64_t cols, rows, s; /* of a group: channels and outputs; taps */
    const double *w;       /* [groups * rows][cols * s] */
    const roots *c;
    double *gram; /* [channels][s][s] */
} gram_job;

static void gram_channels(void *context, int64_t begin, int64_t end, int worker) {
    const gram_job *job = context;
    const int64_t s = job->s, k = job->cols * s;
    double row[64];
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        whitened_gram(job->w + i / job->cols * job->rows * k + i % job->cols * s, job->rows, k, s,
                      job->c->root + i * s * s, row, job->gram + i * s * s);
}

/* filter[t] = sum over b of v[b] inverse[b][t] */
static void unwhiten(const double *v, const double *inverse, int64_t s, double *filter) {
    memset(filter, 0, (size_t)s * sizeof *filter);
    for (int64_t b = 0; b < s; b++)
        for (int64_t t = 0; t < s; t++) filter[t] += v[b] * inverse[b * s + t];
}

/* The most telling filters of the kernel w[no][k]: decides kept[n][ni] for n ranks, and fills the depthwise
 * stage for the last of them, the largest. */
static nd_status select_filters(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int n,
                                const int64_t *rank, const double *w, const roots *c, int32_t *kept,
                                nd_chain *out) {
    nd_status status = nd_status_ok;
    int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    int64_t full = rows < s ? rows : s, r = 0;
    double *gram = nd_alloc_array((size_t)(conv->ni * s * s), sizeof *gram);
    double *scores = nd_alloc_array((size_t)(conv->ni * s), sizeof *scores);
    double *scratch = nd_alloc_array((size_t)s, sizeof *scratch);
    ND_REQUIRE_DONE(gram && scores && scratch, nd_status_memory, "conv %s: no memory for its filters",
                    conv->name);
    gram_job job = {.cols = cols, .rows = rows, .s = s, .w = w, .c = c, .gram = gram};
    nd_parallel_for(conv->ni, 2 * rows * s * s, gram_channels, &job);
    ND_TRY_DONE(backend->table->linalg.eigen(backend, conv->ni, s, gram, scores));
    for (int64_t i = 0; i < conv->ni; i++) /* ascending to descending */
        for (int64_t a = 0; a < s / 2; a++) {
            double swap = scores[i * s + a];
            scores[i * s + a] = scores[i * s + s - 1 - a];
            scores[i * s + s - 1 - a] = swap;
        }
    for (int f = 0; f < n; f++)
        ND_TRY_DONE(
            nd_slices_select(conv->ni, s, scores, conv->groups, ranks, rank[f], full, kept + f * conv->ni));
    const int32_t *most = kept + (n - 1) * conv->ni;
    ND_TRY_DONE(nd_dwpw_layout(conv, most, rank[n - 1], out));
    for (int64_t i = 0; i < conv->ni; i++)
        for (int32_t k = 0; k < most[i]; k++, r++) {
            unwhiten(gram + (i * s + s - 1 - k) * s, c->inverse + i * s * s, s, scratch);
            for (int64_t t = 0; t < s; t++) out->stages[0].weights[r * s + t] = (float)scratch[t];
        }
done:
    free(gram);
    free(scores);
    free(scratch);
    return status;
}

/* One group in descent. Its kernel is x[rows][terms] times the filters, so that what a panel needs of w g is
 * a product of length `terms`, not k. Everything of one channel lies tap by tap, a row of outputs each. */
typedef struct descent {
    nd_backend *backend;
    int64_t s, k, rows, cols, terms;
    const double *g, *h, *inverse;          /* [k][k], [rows][k], [cols][s][s] */
    double *x, *filters;                    /* [rows][terms], [terms][s] */
    int64_t *begin;                         /* [cols + 1]: first term of a channel */
    int64_t first, width;                   /* columns of the panel */
    double *fg, *residual;                  /* filters g [terms][width], h - w g [rows][width] */
    double *w, *target, *e, *gram, *values; /* [s][rows] thrice, [s][s], [s] */
} descent;

static void panel_body(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const descent *d = context;
    for (int64_t i = begin; i < end; i++)
        for (int64_t r = d->begin[i]; r < d->begin[i + 1]; r++) {
            double *row = d->fg + r * d->width;
            memset(row, 0, (size_t)d->width * sizeof *row);
            for (int64_t t = 0; t < d->s; t++)
                nd_add_scaled(row, d->g + (i * d->s + t) * d->k + d->first, d->filters[r * d->s + t],
                              d->width);
        }
}

/* (h - w g) of the panel's columns. */
static nd_status open_panel(descent *d) {
    nd_parallel_for(d->cols, d->terms * d->s * d->width / d->cols, panel_body, d);
    for (int64_t o = 0; o < d->rows; o++)
        memcpy(d->residual + o * d->width, d->h + o * d->k + d->first,
               (size_t)d->width * sizeof *d->residual);
    return d->backend->table->linalg.gemm(d->backend, false, false, d->rows, d->width, d->terms, -1, d->x,
                                          d->terms, d->fg, d->width, 1, d->residual, d->width);
}

/* Exact optimum of channel i given all others, keeping its number of terms. Later channels of the panel see
 * the change. */
static nd_status descend_channel(descent *d, int64_t i) {
    const nd_linalg *linalg = &d->backend->table->linalg;
    const int64_t s = d->s, rows = d->rows, r = d->begin[i], terms = d->begin[i + 1] - r;
    const int64_t at = i * s - d->first, next = at + s;
    const double *block = d->g + i * s * (d->k + 1), *inverse = d->inverse + i * s * s;
    double *filters = d->filters + r * s;
    memset(d->w, 0, (size_t)(s * rows) * sizeof *d->w);
    memset(d->e, 0, (size_t)(s * rows) * sizeof *d->e);
    for (int64_t t = 0; t < s; t++)
        for (int64_t j = 0; j < terms; j++)
            for (int64_t o = 0; o < rows; o++)
                d->w[t * rows + o] += d->x[o * d->terms + r + j] * filters[j * s + t];
    for (int64_t a = 0; a < s; a++) {
        double *target = d->target + a * rows;
        for (int64_t o = 0; o < rows; o++) target[o] = d->residual[o * d->width + at + a];
        for (int64_t t = 0; t < s; t++) nd_add_scaled(target, d->w + t * rows, block[t * d->k + a], rows);
        for (int64_t b = 0; b < s; b++) nd_add_scaled(d->e + b * rows, target, inverse[b * s + a], rows);
    }
    ND_TRY(linalg->gemm(d->backend, false, true, s, s, rows, 1, d->e, rows, d->e, rows, 0, d->gram, s));
    ND_TRY(linalg->eigen(d->backend, 1, s, d->gram, d->values));
    for (int64_t e = 0; e < s * rows; e++) d->w[e] = -d->w[e];
    for (int64_t j = 0; j < terms; j++) {
        const double *v = d->gram + (s - 1 - j) * s;
        double *share = d->target;
        unwhiten(v, inverse, s, filters + j * s);
        memset(share, 0, (size_t)rows * sizeof *share);
        for (int64_t b = 0; b < s; b++) nd_add_scaled(share, d->e + b * rows, v[b], rows);
        for (int64_t t = 0; t < s; t++) nd_add_scaled(d->w + t * rows, share, filters[j * s + t], rows);
        for (int64_t o = 0; o < rows; o++) d->x[o * d->terms + r + j] = share[o];
    }
    if (next == d->width) return nd_status_ok;
    return linalg->gemm(d->backend, true, false, rows, d->width - next, s, -1, d->w, rows, block + s, d->k, 1,
                        d->residual + next, d->width);
}

/* All channels, a panel at a time: what earlier panels changed reaches a later one in one product when it is
 * opened. */
static nd_status descend_group(descent *d) {
    for (int64_t first = 0; first < d->cols; first += panel_channels) {
        int64_t last = first + panel_channels < d->cols ? first + panel_channels : d->cols;
        d->first = first * d->s;
        d->width = (last - first) * d->s;
        ND_TRY(open_panel(d));
        for (int64_t i = first; i < last; i++)
            if (d->begin[i + 1] > d->begin[i]) ND_TRY(descend_channel(d, i));
    }
    return nd_status_ok;
}

/* One round over all channels that have terms; the depthwise stage gets the new filters. */
static nd_status descend(nd_backend *backend, const nd_conv *conv, const nd_moments *m, const roots *c,
                         const int32_t *kept, nd_chain *chain) {
    nd_status status = nd_status_ok;
    nd_stage *dw = &chain->stages[0], *pw = &chain->stages[1];
    const int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    const int64_t terms = pw->ni / pw->groups, width = panel_channels * s;
    descent d = {.backend = backend, .s = s, .k = m->k, .rows = rows, .cols = cols, .terms = terms};
    double *x = nd_alloc_array((size_t)(2 * conv->no), (size_t)terms * sizeof *x);
    double *weighed = x + conv->no * terms, *h = NULL; /* in the output metric */
    double *scratch = nd_alloc_array((size_t)((terms + rows) * width + terms * s + 3 * s * rows + s * s + s),
                                     sizeof *scratch);
    d.begin = nd_alloc_array((size_t)cols + 1, sizeof *d.begin);
    if (m->metric) h = nd_alloc_array((size_t)(conv->no * m->k), sizeof *h);
    ND_REQUIRE_DONE(x && scratch && d.begin && (h || !m->metric), nd_status_memory,
                    "conv %s: no memory for its descent", conv->name);
    d.fg = scratch;
    d.residual = d.fg + terms * width;
    d.filters = d.residual + rows * width;
    d.w = d.filters + terms * s;
    d.target = d.w + s * rows;
    d.e = d.target + s * rows;
    d.gram = d.e + s * rows;
    d.values = d.gram + s * s;
    for (int64_t e = 0; e < conv->no * terms; e++) x[e] = pw->weights[e];
    ND_TRY_DONE(nd_moments_weigh(m, backend, terms, x, weighed));
    if (h) ND_TRY_DONE(nd_moments_weigh(m, backend, m->k, m->h, h));
    for (int64_t q = 0; q < conv->groups; q++) {
        float *filters = dw->weights + q * terms * s;
        for (int64_t i = 0; i < cols; i++) d.begin[i + 1] = d.begin[i] + kept[q * cols + i];
        for (int64_t e = 0; e < terms * s; e++) d.filters[e] = filters[e];
        d.g = m->g + q * m->k * m->k;
        d.h = (h ? h : m->h) + q * rows * m->k;
        d.inverse = c->inverse + q * cols * s * s;
        d.x = weighed + q * rows * terms;
        ND_TRY_DONE(descend_group(&d));
        for (int64_t e = 0; e < terms * s; e++) filters[e] = (float)d.filters[e];
    }
done:
    free(x);
    free(h);
    free(d.begin);
    free(scratch);
    return status;
}

static nd_status choose_filters(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int n,
                                const int64_t *rank, const nd_moments *moments, roots *c, int32_t *kept,
                                nd_chain *out) {
    nd_status status = nd_status_ok;
    const double *w = NULL;
    double *weighed = nd_alloc_array((size_t)(conv->no * moments->k), sizeof *weighed);
    ND_REQUIRE_DONE(weighed, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_REQUIRE_DONE(nd_conv_taps(conv) <= 64, nd_status_unsupported,
                    "conv %s: kernels above 64 taps are not fitted on data", conv->name);
    ND_TRY_DONE(roots_of(backend, conv, moments, c));
    ND_TRY_DONE(nd_refit_kernel(backend, conv, moments, &w));
    ND_TRY_DONE(nd_moments_weigh(moments, backend, moments->k, w, weighed));
    ND_TRY_DONE(select_filters(backend, conv, ranks, n, rank, weighed, c, kept, out));
done:
    free(weighed);
    return status;
}

nd_status nd_dwpw_choose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int n, const int64_t *rank,
                         const nd_moments *moments, int32_t *kept, nd_chain *out) {
    roots c = {0};
    const nd_status status = choose_filters(backend, conv, ranks, n, rank, moments, &c, kept, out);
    roots_free(&c);
    return status;
}

/* Rounds of descent, each followed by the refit. */
static nd_status descend_rounds(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                                const roots *c, const int32_t *kept, int rounds, nd_chain *chain) {
    for (int round = 0; round < rounds; round++) {
        ND_TRY(descend(backend, conv, moments, c, kept, chain));
        ND_TRY(nd_refit_last(backend, conv, moments, chain));
    }
    nd_dwpw_balance(chain);
    return nd_refit_chain_bias(conv, moments, chain);
}

nd_status nd_dwpw_fit(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank, int rounds,
                      const nd_moments *moments, nd_chain *out) {
    nd_status status = nd_status_ok;
    roots c = {0};
    int32_t *kept = nd_alloc_array((size_t)conv->ni, sizeof *kept);
    ND_REQUIRE_DONE(kept, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(choose_filters(backend, conv, ranks, 1, &rank, moments, &c, kept, out));
    ND_TRY_DONE(nd_refit_last(backend, conv, moments, out));
    ND_TRY_DONE(descend_rounds(backend, conv, moments, &c, kept, rounds, out));
done:
    roots_free(&c);
    free(kept);
    return status;
}

nd_status nd_dwpw_refine(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                         nd_chain *chain) {
    nd_status status = nd_status_ok;
    const nd_stage *dw = &chain->stages[0];
    roots c = {0};
    int32_t *kept = nd_alloc_array((size_t)conv->ni, sizeof *kept);
    ND_REQUIRE_DONE(kept, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    for (int64_t r = 0; r < dw->no; r++) kept[dw->channel ? dw->channel[r] : r * conv->ni / dw->no]++;
    ND_TRY_DONE(roots_of(backend, conv, moments, &c));
    ND_TRY_DONE(descend_rounds(backend, conv, moments, &c, kept, 1, chain));
done:
    roots_free(&c);
    free(kept);
    return status;
}
