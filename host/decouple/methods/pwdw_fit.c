/* PW+DW on data (method.md, "PW+DW on data"): each output is a problem of its own, y_o ~ sum over its terms
 * of v^T X u. Started from the least-squares kernel under Kronecker whitening, then least squares for rows u
 * and filters v in turn. */
#include "decouple/fit/found.h"
#include "decouple/fit/refit.h"
#include "decouple/methods/pwdw.h"
#include "decouple/methods/pwdw_alternate.h"
#include "decouple/methods/slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double eigenvalue_floor = 1e-10;

/* root[n][n] with root root^T = a, and its inverse; a is destroyed. */
static nd_status root_of(nd_backend *backend, int64_t n, double *a, double *root, double *inverse) {
    double *values = nd_alloc_array((size_t)n, sizeof *values);
    ND_REQUIRE(values, nd_status_memory, "no memory for a root");
    nd_status status = backend->table->linalg.eigen(backend, 1, n, a, values);
    for (int64_t b = 0; !status && b < n; b++) {
        double value = sqrt(fmax(values[b], fmax(eigenvalue_floor * values[n - 1], 1e-300)));
        for (int64_t i = 0; i < n; i++) {
            root[i * n + b] = a[b * n + i] * value;
            inverse[b * n + i] = a[b * n + i] / value;
        }
    }
    free(values);
    return status;
}

/* What fits of all ranks start from: the patches' covariance as about a Kronecker product, and the
 * least-squares kernel seen through its roots. */
typedef struct start {
    int64_t s, cols;
    double *space, *space_inverse; /* [groups][s][s]: mean covariance of the taps, inverse of its root */
    double *channel_inverse, *precision; /* [groups][cols][cols]: the same of channels, inverse covariance */
    double *whitened;                    /* [no][cols][s]: channel_root^T kernel root */
    double *sigma, *v;                   /* of its slices, as nd_slices has them */
} start;

/* Of one block of numbers; returns how many. */
static int64_t start_parts(const nd_conv *conv, double *all, start *out) {
    const int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, groups = conv->groups;
    *out = (start){.s = s, .cols = cols};
    double **const parts[] = {&out->space,     &out->space_inverse, &out->channel_inverse,
                              &out->precision, &out->whitened,      &out->sigma,
                              &out->v};
    const int64_t sizes[] = {groups * s * s,      groups * s * s, groups * cols * cols, groups * cols * cols,
                             conv->no * cols * s, conv->no * s,   conv->no * s * s};
    int64_t used = 0;
    for (size_t p = 0; p < sizeof sizes / sizeof *sizes; used += sizes[p], p++)
        if (all) *parts[p] = all + used;
    return used;
}

/* The covariances of a group; root[s][s] and channel_root[cols][cols] have root root^T = their mean. */
static nd_status whiten(nd_backend *backend, const nd_moments *m, int64_t group, const start *w, double *root,
                        double *channel_root, double *scratch) {
    const int64_t s = w->s, cols = w->cols, k = m->k;
    const double *g = m->g + group * k * k;
    double *a = scratch, *space = w->space + group * s * s;
    double *inverse = w->channel_inverse + group * cols * cols;
    for (int64_t i = 0; i < cols; i++)
        for (int64_t t = 0; t < s; t++)
            for (int64_t u = 0; u < s; u++) space[t * s + u] += g[(i * s + t) * k + i * s + u] / (double)cols;
    memcpy(a, space, (size_t)(s * s) * sizeof *a);
    ND_TRY(root_of(backend, s, a, root, w->space_inverse + group * s * s));
    memset(a, 0, (size_t)(cols * cols) * sizeof *a);
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j < cols; j++)
            for (int64_t t = 0; t < s; t++) a[i * cols + j] += g[(i * s + t) * k + j * s + t] / (double)s;
    ND_TRY(root_of(backend, cols, a, channel_root, inverse));
    return backend->table->linalg.gemm(backend, true, false, cols, cols, cols, 1, inverse, cols, inverse,
                                       cols, 0, w->precision + group * cols * cols, cols);
}

/* out[cols][s] = channel_root^T kernel root */
static nd_status whiten_output(nd_backend *backend, const start *w, const double *root,
                               const double *channel_root, const double *kernel, double *half, double *out) {
    const nd_linalg *linalg = &backend->table->linalg;
    const int64_t s = w->s, cols = w->cols;
    ND_TRY(linalg->gemm(backend, false, false, cols, s, s, 1, kernel, s, root, s, 0, half, s));
    return linalg->gemm(backend, true, false, cols, s, cols, 1, channel_root, cols, half, s, 0, out, s);
}

/* An error of output o counts as much as the metric's diagonal says: the outputs are problems of their own,
 * so this only decides how many terms each gets. */
static void weigh_outputs(const nd_moments *m, int64_t s, double *sigma) {
    int64_t rows = m->no / m->groups;
    for (int64_t o = 0; m->metric && o < m->no; o++) {
        const double *root = m->metric + o / rows * rows * rows + o % rows * rows;
        double square = 0;
        for (int64_t r = 0; r < rows; r++) square += root[r] * root[r];
        for (int64_t k = 0; k < s; k++) sigma[o * s + k] *= sqrt(square);
    }
}

static nd_status find_start(nd_backend *backend, const nd_conv *conv, const nd_moments *m, double *out) {
    nd_status status = nd_status_ok;
    start w;
    start_parts(conv, out, &w);
    const int64_t s = w.s, cols = w.cols, rows = conv->no / conv->groups, wide = cols > s ? cols : s;
    const double *kernel = NULL;
    nd_slices slices = {0};
    float *whitened = nd_alloc_array((size_t)(conv->no * m->k), sizeof *whitened);
    double *root = nd_alloc_array((size_t)(s * s + cols * (cols + s) + wide * wide), sizeof *root);
    double *channel_root = root + s * s, *half = channel_root + cols * cols, *scratch = half + cols * s;
    ND_REQUIRE_DONE(whitened && root, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(nd_refit_kernel(backend, conv, m, &kernel));
    for (int64_t g = 0; g < conv->groups; g++) {
        ND_TRY_DONE(whiten(backend, m, g, &w, root, channel_root, scratch));
        for (int64_t o = g * rows; o < (g + 1) * rows; o++)
            ND_TRY_DONE(whiten_output(backend, &w, root, channel_root, kernel + o * m->k, half,
                                      w.whitened + o * m->k));
    }
    for (int64_t e = 0; e < conv->no * m->k; e++) whitened[e] = (float)w.whitened[e];
    ND_TRY_DONE(nd_slices_svd(backend, conv->no, cols, s, whitened, &slices));
    memcpy(w.sigma, slices.sigma, (size_t)(conv->no * s) * sizeof *w.sigma);
    memcpy(w.v, slices.v, (size_t)(conv->no * s * s) * sizeof *w.v);
    weigh_outputs(m, s, w.sigma);
done:
    nd_slices_free(&slices);
    free(whitened);
    free(root);
    return status;
}

/* The term of a slice and its singular vector, where patches are not white: u = channel_root^-T slice v, and
 * root^-T v. */
static void first_term(const start *w, int64_t group, const double *slice, const double *vector, double *u,
                       double *v) {
    const int64_t s = w->s, cols = w->cols;
    const double *space = w->space_inverse + group * s * s;
    const double *channel = w->channel_inverse + group * cols * cols;
    for (int64_t b = 0; b < s; b++)
        for (int64_t t = 0; t < s; t++) v[t] += vector[b] * space[b * s + t];
    for (int64_t b = 0; b < cols; b++) {
        double y = 0;
        for (int64_t t = 0; t < s; t++) y += slice[b * s + t] * vector[t];
        for (int64_t i = 0; i < cols; i++) u[i] += y * channel[b * cols + i];
    }
}

nd_status nd_pwdw_fit(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                      const nd_moments *m, nd_chain *out) {
    nd_status status = nd_status_ok;
    const int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    const double *found = NULL;
    start w;
    int32_t *kept = nd_alloc_array((size_t)conv->no, sizeof *kept);
    double *u = nd_alloc_array((size_t)(rank * cols), sizeof *u);
    double *v = nd_alloc_array((size_t)(rank * s), sizeof *v);
    ND_REQUIRE_DONE(kept && u && v, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(nd_moments_find(backend, conv, m, find_start, (size_t)start_parts(conv, NULL, &w), &found));
    start_parts(conv, (double *)found, &w); /* which is only read from here on */
    ND_TRY_DONE(nd_slices_select(conv->no, s, w.sigma, conv->groups, ranks, rank,
                                 nd_pwdw_cap(conv, ranks, rank), kept));
    for (int64_t o = 0, t = 0; o < conv->no; o++)
        for (int32_t k = 0; k < kept[o]; k++, t++)
            first_term(&w, o / rows, w.whitened + o * m->k, w.v + (o * s + k) * s, u + t * cols, v + t * s);
    ND_TRY_DONE(nd_pwdw_layout(conv, kept, rank, out));
    for (int64_t g = 0, t = 0; g < conv->groups; g++) {
        nd_pwdw_problem problem = {.n_out = rows,
                                   .cols = cols,
                                   .s = s,
                                   .g = m->g + g * m->k * m->k,
                                   .h = m->h + g * rows * m->k,
                                   .precision = w.precision + g * cols * cols,
                                   .space = w.space + g * s * s,
                                   .kept = kept + g * rows,
                                   .u = u + t * cols,
                                   .v = v + t * s};
        for (int64_t o = 0; o < rows; o++) problem.rank += problem.kept[o];
        ND_TRY_DONE(nd_pwdw_alternate(backend, &problem));
        t += problem.rank;
    }
    for (int64_t o = 0, t = 0; o < conv->no; o++)
        for (int32_t k = 0; k < kept[o]; k++, t++) nd_pwdw_set(out, o, k, t, u + t * cols, v + t * s);
    ND_TRY_DONE(nd_refit_chain_bias(conv, m, out));
done:
    free(kept);
    free(u);
    free(v);
    return status;
}
