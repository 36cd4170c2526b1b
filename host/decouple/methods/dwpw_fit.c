/* DW+PW on data: the filters of the least-squares kernel in the metric of each channel's centred patches,
 * then rounds of block coordinate descent, each followed by the joint refit of the pointwise part
 * (method.md, "Choosing filters" and "Refit"), all but the refit in the output metric where there is one. */
#include "decouple/fit/refit.h"
#include "decouple/methods/dwpw.h"
#include "decouple/methods/slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    descent_rounds = 2,
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

/* filter[t] = sum over b of v[b] inverse[b][t] */
static void unwhiten(const double *v, const double *inverse, int64_t s, double *filter) {
    memset(filter, 0, (size_t)s * sizeof *filter);
    for (int64_t b = 0; b < s; b++)
        for (int64_t t = 0; t < s; t++) filter[t] += v[b] * inverse[b * s + t];
}

/* The most telling filters of the kernel w[no][k]: decides kept[] and fills the depthwise stage. */
static nd_status select_filters(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                const double *w, const roots *c, int32_t *kept, nd_chain *out) {
    nd_status status = nd_status_ok;
    int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    int64_t full = rows < s ? rows : s, r = 0;
    double *gram = nd_alloc_array((size_t)(conv->ni * s * s), sizeof *gram);
    double *scores = nd_alloc_array((size_t)(conv->ni * s), sizeof *scores);
    double *scratch = nd_alloc_array((size_t)s, sizeof *scratch);
    ND_REQUIRE_DONE(gram && scores && scratch, nd_status_memory, "conv %s: no memory for its filters",
                    conv->name);
    for (int64_t i = 0; i < conv->ni; i++)
        whitened_gram(w + i / cols * rows * cols * s + i % cols * s, rows, cols * s, s, c->root + i * s * s,
                      scratch, gram + i * s * s);
    ND_TRY_DONE(backend->table->linalg.eigen(backend, conv->ni, s, gram, scores));
    for (int64_t i = 0; i < conv->ni; i++) /* ascending to descending */
        for (int64_t a = 0; a < s / 2; a++) {
            double swap = scores[i * s + a];
            scores[i * s + a] = scores[i * s + s - 1 - a];
            scores[i * s + s - 1 - a] = swap;
        }
    ND_TRY_DONE(nd_slices_select(conv->ni, s, scores, conv->groups, ranks, rank, full, kept));
    ND_TRY_DONE(nd_dwpw_layout(conv, kept, rank, out));
    for (int64_t i = 0; i < conv->ni; i++)
        for (int32_t k = 0; k < kept[i]; k++, r++) {
            unwhiten(gram + (i * s + s - 1 - k) * s, c->inverse + i * s * s, s, scratch);
            for (int64_t t = 0; t < s; t++) out->stages[0].weights[r * s + t] = (float)scratch[t];
        }
done:
    free(gram);
    free(scores);
    free(scratch);
    return status;
}

typedef struct descent {
    nd_backend *backend;
    int64_t s, k, rows;
    double *w;        /* the kernel of one group: [rows][k] */
    double *residual; /* [rows][width]: of the channels of one panel */
    int64_t width;
    double *e, *gram, *values, *filters, *delta;
} descent;

/* (h - w g) of the panel's columns, from `first` on. */
static nd_status open_panel(descent *d, const double *g, const double *h, int64_t first) {
    for (int64_t o = 0; o < d->rows; o++)
        memcpy(d->residual + o * d->width, h + o * d->k + first, (size_t)d->width * sizeof *d->residual);
    return d->backend->table->linalg.gemm(d->backend, false, false, d->rows, d->width, d->k, -1, d->w, d->k,
                                          g + first, d->k, 1, d->residual, d->width);
}

/* Exact optimum of channel i (of its group) given all others, keeping `terms` filters. Its columns begin at
 * `at` in the panel, whose later channels see the change. */
static nd_status descend_channel(descent *d, const double *g, int64_t i, int64_t at, const double *inverse,
                                 int32_t terms, float *dw) {
    int64_t s = d->s, k = d->k, next = at + s;
    const double *block = g + i * s * (k + 1);
    for (int64_t o = 0; o < d->rows; o++) {
        const double *w = d->w + o * k + i * s;
        double x[64] = {0}, *e = d->e + o * s;
        for (int64_t a = 0; a < s; a++) {
            double sum = d->residual[o * d->width + at + a];
            for (int64_t t = 0; t < s; t++) sum += w[t] * block[t * k + a];
            x[a] = sum;
        }
        for (int64_t b = 0; b < s; b++) {
            e[b] = 0;
            for (int64_t a = 0; a < s; a++) e[b] += x[a] * inverse[b * s + a];
        }
    }
    memset(d->gram, 0, (size_t)(s * s) * sizeof *d->gram);
    for (int64_t o = 0; o < d->rows; o++)
        for (int64_t a = 0; a < s; a++)
            for (int64_t b = 0; b < s; b++) d->gram[a * s + b] += d->e[o * s + a] * d->e[o * s + b];
    ND_TRY(d->backend->table->linalg.eigen(d->backend, 1, s, d->gram, d->values));
    for (int32_t j = 0; j < terms; j++) {
        unwhiten(d->gram + (s - 1 - j) * s, inverse, s, d->filters + j * s);
        for (int64_t t = 0; t < s; t++) dw[j * s + t] = (float)d->filters[j * s + t];
    }
    for (int64_t o = 0; o < d->rows; o++) {
        double *w = d->w + o * k + i * s, *delta = d->delta + o * s;
        for (int64_t t = 0; t < s; t++) delta[t] = -w[t];
        for (int32_t j = 0; j < terms; j++) {
            double share = 0;
            for (int64_t b = 0; b < s; b++) share += d->e[o * s + b] * d->gram[(s - 1 - j) * s + b];
            for (int64_t t = 0; t < s; t++) delta[t] += share * d->filters[j * s + t];
        }
        for (int64_t t = 0; t < s; t++) w[t] += delta[t];
    }
    if (next == d->width) return nd_status_ok;
    return d->backend->table->linalg.gemm(d->backend, false, false, d->rows, d->width - next, s, -1, d->delta,
                                          s, block + s, k, 1, d->residual + next, d->width);
}

/* All channels of group q, a panel at a time: what earlier panels changed reaches a later one in one product
 * when it is opened. `r`: terms so far. */
static nd_status descend_group(descent *d, int64_t q, int64_t cols, const double *g, const double *h,
                               const roots *c, const int32_t *kept, int64_t *r, float *filters) {
    int64_t s = d->s;
    for (int64_t first = 0; first < cols; first += panel_channels) {
        int64_t last = first + panel_channels < cols ? first + panel_channels : cols;
        d->width = (last - first) * s;
        ND_TRY(open_panel(d, g, h, first * s));
        for (int64_t i = first; i < last; i++) {
            int64_t channel = q * cols + i;
            if (!kept[channel]) continue;
            ND_TRY(descend_channel(d, g, i, (i - first) * s, c->inverse + channel * s * s, kept[channel],
                                   filters + *r * s));
            *r += kept[channel];
        }
    }
    return nd_status_ok;
}

/* One round over all channels that have terms; the depthwise stage gets the new filters. */
static nd_status descend(nd_backend *backend, const nd_conv *conv, const nd_moments *m, const roots *c,
                         const int32_t *kept, nd_chain *chain) {
    nd_status status = nd_status_ok;
    int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups, r = 0;
    descent d = {.backend = backend, .s = s, .k = m->k, .rows = rows};
    double *w = nd_alloc_array((size_t)(3 * conv->no * m->k), sizeof *w);
    double *weighed = w + conv->no * m->k, *h = weighed + conv->no * m->k; /* in the output metric */
    d.residual = nd_alloc_array((size_t)(rows * s), panel_channels * sizeof *d.residual);
    double *scratch = nd_alloc_array((size_t)(2 * rows * s + 2 * s * s + s), sizeof *scratch);
    ND_REQUIRE_DONE(w && d.residual && scratch, nd_status_memory, "conv %s: no memory for its descent",
                    conv->name);
    d.e = scratch;
    d.delta = d.e + rows * s;
    d.gram = d.delta + rows * s;
    d.filters = d.gram + s * s;
    d.values = d.filters + s * s;
    ND_TRY_DONE(nd_chain_compose(chain, conv, w));
    ND_TRY_DONE(nd_moments_weigh(m, backend, w, weighed));
    ND_TRY_DONE(nd_moments_weigh(m, backend, m->h, h));
    for (int64_t q = 0; q < conv->groups; q++) {
        d.w = weighed + q * rows * m->k;
        ND_TRY_DONE(descend_group(&d, q, cols, m->g + q * m->k * m->k, h + q * rows * m->k, c, kept, &r,
                                  chain->stages[0].weights));
    }
done:
    free(w);
    free(d.residual);
    free(scratch);
    return status;
}

nd_status nd_dwpw_fit(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                      const nd_moments *moments, nd_chain *out) {
    nd_status status = nd_status_ok;
    roots c = {0};
    double *w = nd_alloc_array((size_t)(2 * conv->no * moments->k), sizeof *w);
    double *weighed = w + conv->no * moments->k;
    int32_t *kept = nd_alloc_array((size_t)conv->ni, sizeof *kept);
    ND_REQUIRE_DONE(w && kept, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_REQUIRE_DONE(nd_conv_taps(conv) <= 64, nd_status_unsupported,
                    "conv %s: kernels above 64 taps are not fitted on data", conv->name);
    ND_TRY_DONE(roots_of(backend, conv, moments, &c));
    ND_TRY_DONE(nd_refit_kernel(backend, conv, moments, w));
    ND_TRY_DONE(nd_moments_weigh(moments, backend, w, weighed));
    ND_TRY_DONE(select_filters(backend, conv, ranks, rank, weighed, &c, kept, out));
    ND_TRY_DONE(nd_refit_last(backend, conv, moments, out));
    for (int round = 0; round < descent_rounds; round++) {
        ND_TRY_DONE(descend(backend, conv, moments, &c, kept, out));
        ND_TRY_DONE(nd_refit_last(backend, conv, moments, out));
    }
    nd_dwpw_balance(out);
    ND_TRY_DONE(nd_refit_chain_bias(conv, moments, out));
done:
    roots_free(&c);
    free(w);
    free(kept);
    return status;
}
