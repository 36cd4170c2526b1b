/* PW+DW on data (method.md, "PW+DW on data"): each output is a problem of its own, y_o ~ sum over its terms
 * of v^T X u. Started from the least-squares kernel under Kronecker whitening, then least squares for rows u
 * and filters v in turn. */
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

/* The patches' covariance as about a Kronecker product, of every group. */
typedef struct whitening {
    int64_t s, cols;
    double *space, *space_inverse; /* [groups][s][s]: mean covariance of the taps, inverse of its root */
    double *channel_inverse, *precision; /* [groups][cols][cols]: the same of channels, inverse covariance */
    double *root, *channel_root, *scratch; /* of the group at hand */
} whitening;

static nd_status whitening_open(const nd_conv *conv, whitening *out) {
    const int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, wide = cols > s ? cols : s;
    const size_t groups = (size_t)conv->groups;
    *out = (whitening){.s = s, .cols = cols};
    out->space = nd_alloc_array(groups, (size_t)(s * s) * sizeof *out->space);
    out->space_inverse = nd_alloc_array(groups, (size_t)(s * s) * sizeof *out->space_inverse);
    out->channel_inverse = nd_alloc_array(groups, (size_t)(cols * cols) * sizeof *out->channel_inverse);
    out->precision = nd_alloc_array(groups, (size_t)(cols * cols) * sizeof *out->precision);
    out->root = nd_alloc_array((size_t)s, (size_t)s * sizeof *out->root);
    out->channel_root = nd_alloc_array((size_t)cols, (size_t)cols * sizeof *out->channel_root);
    out->scratch = nd_alloc_array((size_t)wide, (size_t)wide * sizeof *out->scratch);
    ND_REQUIRE(out->space && out->space_inverse && out->channel_inverse && out->precision && out->root &&
                   out->channel_root && out->scratch,
               nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    return nd_status_ok;
}

static void whitening_close(whitening *w) {
    free(w->space);
    free(w->space_inverse);
    free(w->channel_inverse);
    free(w->precision);
    free(w->root);
    free(w->channel_root);
    free(w->scratch);
}

static nd_status whiten(nd_backend *backend, const nd_moments *m, int64_t group, whitening *w) {
    const int64_t s = w->s, cols = w->cols, k = m->k;
    const double *g = m->g + group * k * k;
    double *a = w->scratch, *space = w->space + group * s * s;
    double *inverse = w->channel_inverse + group * cols * cols;
    for (int64_t i = 0; i < cols; i++)
        for (int64_t t = 0; t < s; t++)
            for (int64_t u = 0; u < s; u++) space[t * s + u] += g[(i * s + t) * k + i * s + u] / (double)cols;
    memcpy(a, space, (size_t)(s * s) * sizeof *a);
    ND_TRY(root_of(backend, s, a, w->root, w->space_inverse + group * s * s));
    memset(a, 0, (size_t)(cols * cols) * sizeof *a);
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j < cols; j++)
            for (int64_t t = 0; t < s; t++) a[i * cols + j] += g[(i * s + t) * k + j * s + t] / (double)s;
    ND_TRY(root_of(backend, cols, a, w->channel_root, inverse));
    return backend->table->linalg.gemm(backend, true, false, cols, cols, cols, 1, inverse, cols, inverse,
                                       cols, 0, w->precision + group * cols * cols, cols);
}

/* slice[cols][s] = channel_root^T kernel root */
static void whiten_output(const whitening *w, const double *kernel, float *slice) {
    const int64_t s = w->s, cols = w->cols;
    double *half = w->scratch;
    for (int64_t i = 0; i < cols; i++)
        for (int64_t u = 0; u < s; u++) {
            double sum = 0;
            for (int64_t t = 0; t < s; t++) sum += kernel[i * s + t] * w->root[t * s + u];
            half[i * s + u] = sum;
        }
    for (int64_t j = 0; j < cols; j++)
        for (int64_t u = 0; u < s; u++) {
            double sum = 0;
            for (int64_t i = 0; i < cols; i++) sum += w->channel_root[i * cols + j] * half[i * s + u];
            slice[j * s + u] = (float)sum;
        }
}

/* slices[no][cols][s] of the least-squares kernel. */
static nd_status whiten_kernel(nd_backend *backend, const nd_conv *conv, const nd_moments *m, whitening *w,
                               float *slices) {
    const int64_t rows = conv->no / conv->groups;
    nd_status status = nd_status_ok;
    double *kernel = nd_alloc_array((size_t)(conv->no * m->k), sizeof *kernel);
    ND_REQUIRE_DONE(kernel, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(nd_refit_kernel(backend, conv, m, kernel));
    for (int64_t g = 0; g < conv->groups; g++) {
        ND_TRY_DONE(whiten(backend, m, g, w));
        for (int64_t o = g * rows; o < (g + 1) * rows; o++)
            whiten_output(w, kernel + o * m->k, slices + o * m->k);
    }
done:
    free(kernel);
    return status;
}

/* An error of output o counts as much as the metric's diagonal says: the outputs are problems of their own,
 * so this only decides how many terms each gets. */
static void weigh_outputs(const nd_moments *m, nd_slices *slices) {
    int64_t rows = m->no / m->groups;
    for (int64_t o = 0; m->metric && o < m->no; o++) {
        const double *root = m->metric + o / rows * rows * rows + o % rows * rows;
        double square = 0;
        for (int64_t r = 0; r < rows; r++) square += root[r] * root[r];
        for (int64_t k = 0; k < slices->n; k++) slices->sigma[o * slices->n + k] *= sqrt(square);
    }
}

/* The term of a slice and its singular vector, where patches are not white: u = channel_root^-T slice v, and
 * root^-T v. */
static void first_term(const whitening *w, int64_t group, const float *slice, const double *vector, double *u,
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

/* kept[no], and rows u[rank][cols] and filters v[rank][s] to start from, term by term through the outputs. */
static nd_status first_terms(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                             const nd_moments *m, whitening *w, int32_t *kept, double *u, double *v) {
    nd_status status = nd_status_ok;
    nd_slices slices = {0};
    const int64_t s = w->s, cols = w->cols, rows = conv->no / conv->groups;
    float *whitened = nd_alloc_array((size_t)(conv->no * m->k), sizeof *whitened);
    ND_REQUIRE_DONE(whitened, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(whiten_kernel(backend, conv, m, w, whitened));
    ND_TRY_DONE(nd_slices_svd(backend, conv->no, cols, s, whitened, &slices));
    weigh_outputs(m, &slices);
    ND_TRY_DONE(nd_slices_select(conv->no, s, slices.sigma, conv->groups, ranks, rank,
                                 nd_pwdw_cap(conv, ranks, rank), kept));
    for (int64_t o = 0; o < conv->no; o++)
        for (int32_t k = 0; k < kept[o]; k++, u += cols, v += s)
            first_term(w, o / rows, whitened + o * m->k, slices.v + (o * s + k) * s, u, v);
done:
    nd_slices_free(&slices);
    free(whitened);
    return status;
}

nd_status nd_pwdw_fit(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                      const nd_moments *m, nd_chain *out) {
    nd_status status = nd_status_ok;
    whitening w = {0};
    const int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    int32_t *kept = nd_alloc_array((size_t)conv->no, sizeof *kept);
    double *u = nd_alloc_array((size_t)(rank * cols), sizeof *u);
    double *v = nd_alloc_array((size_t)(rank * s), sizeof *v);
    ND_REQUIRE_DONE(kept && u && v, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(whitening_open(conv, &w));
    ND_TRY_DONE(first_terms(backend, conv, ranks, rank, m, &w, kept, u, v));
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
    whitening_close(&w);
    free(kept);
    free(u);
    free(v);
    return status;
}
