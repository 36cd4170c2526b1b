#include "decouple/methods/lowrank_fit.h"

#include "decouple/fit/refit.h"
#include "decouple/methods/dwpw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The error of the kernel 0, with the ridge's penalty. */
static double unexplained(const nd_moments *m, const nd_conv *conv) {
    const int64_t part = m->no / m->groups * m->k;
    double sum = m->vy;
    for (int64_t e = 0; e < m->groups * part; e++)
        sum += m->ridge[e / part] * conv->weights[e] * conv->weights[e];
    return sum;
}

/* What the best predictions in `width` dimensions explain, 0 for all, by the covariance[rows][rows] of those
 * in all of them, which becomes its eigenvectors, the best ones last; values[rows]. */
static nd_status explained(nd_backend *backend, int64_t rows, int64_t width, double *covariance,
                           double *values, double *sum) {
    if (!width) {
        for (int64_t o = 0; o < rows; o++) *sum += covariance[o * (rows + 1)];
        return nd_status_ok;
    }
    ND_TRY(backend->table->linalg.eigen(backend, 1, rows, covariance, values));
    for (int64_t d = rows - width; d < rows; d++) *sum += fmax(values[d], 0);
    return nd_status_ok;
}

/* The forms of a group: its features in the order in which forms come to have them. */
typedef struct screening {
    nd_backend *backend;
    int64_t rows, features, cols; /* of the group: outputs, features of the last form, channels */
    const double *gram, *h;       /* [features][features], [rows][features] */
    int32_t *order;
    double *sorted, *z;           /* of gram and h: [features][features], [rows][features] */
    double *covariance, *vectors; /* [rows][rows] of all features so far, and a copy of it */
    double *values;               /* [rows] */
} screening;

/* kept[n][cols], `stride` from form to form; features[n] of each form. */
static void sort_features(const screening *s, int n, const int32_t *kept, int64_t stride, int64_t *features) {
    const int32_t *most = kept + (n - 1) * stride;
    int64_t used = 0;
    for (int f = 0; f < n; f++) {
        int32_t term = 0;
        for (int64_t i = 0; i < s->cols; i++, term += most[i - 1])
            for (int32_t k = f ? kept[(f - 1) * stride + i] : 0; k < kept[f * stride + i]; k++)
                s->order[used++] = term + k;
        features[f] = used;
    }
    for (int64_t p = 0; p < s->features; p++)
        for (int64_t q = 0; q < s->features; q++)
            s->sorted[p * s->features + q] = s->gram[s->order[p] * s->features + s->order[q]];
    for (int64_t o = 0; o < s->rows; o++)
        for (int64_t p = 0; p < s->features; p++)
            s->z[o * s->features + p] = s->h[o * s->features + s->order[p]];
}

static nd_status screen_group(const screening *s, int n, const int64_t *features, int64_t groups,
                              const nd_form *forms, double *sums) {
    const nd_linalg *linalg = &s->backend->table->linalg;
    const int64_t all = s->features, rows = s->rows;
    ND_TRY(nd_refit_whiten(s->backend, all, s->sorted, rows, s->z));
    for (int f = 0; f < n; f++) {
        const int64_t first = f ? features[f - 1] : 0;
        ND_TRY(linalg->gemm(s->backend, false, true, rows, rows, features[f] - first, 1, s->z + first, all,
                            s->z + first, all, f ? 1 : 0, s->covariance, rows));
        memcpy(s->vectors, s->covariance, (size_t)(rows * rows) * sizeof *s->vectors);
        ND_TRY(explained(s->backend, rows, forms[f].width / groups, s->vectors, s->values, &sums[f]));
    }
    return nd_status_ok;
}

nd_status nd_lowrank_screen(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, const nd_moments *m,
                            int n, nd_form *forms) {
    enum { most_forms = 16 };
    int64_t terms[most_forms], features[most_forms];
    double sums[most_forms] = {0};
    const int64_t rows = conv->no / conv->groups, cols = conv->ni / conv->groups;
    const int64_t size = forms[n - 1].terms / conv->groups;
    nd_status status = nd_status_ok;
    nd_chain chain = {0};
    nd_refit refit = {0};
    double *room = nd_alloc_array((size_t)(size * (size + rows) + rows * (2 * rows + 1)), sizeof *room);
    int32_t *kept = nd_alloc_array((size_t)(n * conv->ni + size), sizeof *kept);
    screening s = {.backend = backend, .rows = rows, .features = size, .cols = cols};
    ND_REQUIRE_DONE(n <= most_forms, nd_status_internal, "conv %s: %d forms", conv->name, n);
    ND_REQUIRE_DONE(room && kept, nd_status_memory, "conv %s: no memory for its forms", conv->name);
    s.sorted = room;
    s.z = s.sorted + size * size;
    s.covariance = s.z + rows * size;
    s.vectors = s.covariance + rows * rows;
    s.values = s.vectors + rows * rows;
    s.order = kept + n * conv->ni;
    for (int f = 0; f < n; f++) terms[f] = forms[f].terms;
    ND_TRY_DONE(nd_dwpw_choose(backend, conv, ranks, n, terms, m, kept, &chain));
    ND_TRY_DONE(nd_refit_open(backend, conv, m, &chain, false, &refit));
    for (int64_t q = 0; q < conv->groups; q++) {
        s.gram = refit.gram + q * size * size;
        s.h = refit.h + q * rows * size;
        sort_features(&s, n, kept + q * cols, conv->ni, features);
        ND_TRY_DONE(screen_group(&s, n, features, conv->groups, forms, sums));
    }
    for (int f = 0; f < n; f++) forms[f].error = m->vy > 0 ? (unexplained(m, conv) - sums[f]) / m->vy : 0;
done:
    nd_refit_close(&refit);
    nd_chain_free(&chain);
    free(room);
    free(kept);
    return status;
}

/* Direction u[rows] of the group's outputs takes place r: u x as a row of the first stage, u as a column of
 * the second, norms split evenly. row[n]. */
static void set_direction(const nd_chain *inner, int64_t q, int64_t r, const double *u, const double *x,
                          double *row) {
    const nd_stage *reduce = &inner->stages[0], *expand = &inner->stages[1];
    const int64_t n = reduce->ni / reduce->groups, width = expand->ni / expand->groups;
    const int64_t rows = expand->no / expand->groups;
    double norm = 0;
    memset(row, 0, (size_t)n * sizeof *row);
    for (int64_t o = 0; o < rows; o++)
        for (int64_t i = 0; i < n; i++) row[i] += u[o] * x[o * n + i];
    for (int64_t i = 0; i < n; i++) norm += row[i] * row[i];
    const double even = sqrt(sqrt(norm));
    for (int64_t i = 0; i < n; i++)
        reduce->weights[(q * width + r) * n + i] = even > 0 ? (float)(row[i] / even) : 0;
    for (int64_t o = 0; o < rows; o++) expand->weights[(q * rows + o) * width + r] = (float)(u[o] * even);
}

nd_status nd_lowrank_narrow(nd_backend *backend, const nd_conv *conv, const nd_moments *m, nd_form *form,
                            nd_chain *chain) {
    const nd_linalg *linalg = &backend->table->linalg;
    const nd_stage *pw = &chain->stages[1];
    const int64_t rows = conv->no / conv->groups, n = pw->ni / pw->groups, width = form->width / conv->groups;
    nd_status status = nd_status_ok;
    nd_refit refit = {0};
    nd_chain inner = {0};
    double sum = 0;
    double *x = nd_alloc_array((size_t)(rows * (2 * n + rows + 1) + n), sizeof *x);
    double *xg = x + rows * n, *covariance = xg + rows * n, *values = covariance + rows * rows;
    ND_REQUIRE_DONE(x, nd_status_memory, "conv %s: no memory for its pointwise part", conv->name);
    ND_TRY_DONE(nd_refit_open(backend, conv, m, chain, false, &refit));
    if (width) {
        const nd_conv part = nd_chain_stage_conv(chain, conv, 1);
        nd_method_channel.shape(&part, nd_ranks_uniform, form->width, &inner);
        ND_TRY_DONE(nd_chain_allocate(&inner, &part));
    }
    for (int64_t q = 0; q < conv->groups; q++) {
        for (int64_t e = 0; e < rows * n; e++) x[e] = pw->weights[q * rows * n + e];
        ND_TRY_DONE(
            linalg->gemm(backend, false, false, rows, n, n, 1, x, n, refit.gram + q * n * n, n, 0, xg, n));
        ND_TRY_DONE(linalg->gemm(backend, false, true, rows, rows, n, 1, xg, n, x, n, 0, covariance, rows));
        ND_TRY_DONE(explained(backend, rows, width, covariance, values, &sum));
        for (int64_t r = 0; r < width; r++)
            set_direction(&inner, q, r, covariance + (rows - 1 - r) * rows, x, values + rows);
    }
    form->error = m->vy > 0 ? (unexplained(m, conv) - sum) / m->vy : 0;
    if (width) {
        ND_TRY_DONE(nd_chain_splice(chain, 1, &inner));
        ND_TRY_DONE(nd_refit_chain_bias(conv, m, chain));
    }
done:
    nd_refit_close(&refit);
    nd_chain_free(&inner);
    free(x);
    return status;
}
