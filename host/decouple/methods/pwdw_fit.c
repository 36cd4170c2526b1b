/* PW+DW on data (method.md, "PW+DW on data"): each output is a problem of its own, y_o ~ sum over its terms
 * of v^T X u. Started from the least-squares kernel under Kronecker whitening, then exact alternation between
 * rows u and filters v. */
#include "decouple/fit/refit.h"
#include "decouple/methods/pwdw.h"
#include "decouple/methods/slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { alternations = 3 };
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

typedef struct start {
    int64_t s, cols;
    double *space, *space_inverse; /* [s][s], of the group at hand */
    double *channel;               /* [cols][cols] */
    double *scratch;
} start;

static nd_status whiten(nd_backend *backend, const nd_moments *m, int64_t group, start *st) {
    int64_t s = st->s, cols = st->cols, k = m->k;
    const double *g = m->g + group * k * k;
    double *a = st->scratch;
    memset(a, 0, (size_t)(s * s) * sizeof *a);
    for (int64_t i = 0; i < cols; i++)
        for (int64_t t = 0; t < s; t++)
            for (int64_t u = 0; u < s; u++) a[t * s + u] += g[(i * s + t) * k + i * s + u] / (double)cols;
    ND_TRY(root_of(backend, s, a, st->space, st->space_inverse));
    double *inverse = a + cols * cols; /* of the channel root: not needed */
    memset(a, 0, (size_t)(cols * cols) * sizeof *a);
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j < cols; j++)
            for (int64_t t = 0; t < s; t++) a[i * cols + j] += g[(i * s + t) * k + j * s + t] / (double)s;
    return root_of(backend, cols, a, st->channel, inverse);
}

/* slice[cols][s] = channel^T w_o space */
static void whiten_output(const start *st, const double *w, float *slice) {
    int64_t s = st->s, cols = st->cols;
    double *half = st->scratch;
    for (int64_t i = 0; i < cols; i++)
        for (int64_t u = 0; u < s; u++) {
            double sum = 0;
            for (int64_t t = 0; t < s; t++) sum += w[i * s + t] * st->space[t * s + u];
            half[i * s + u] = sum;
        }
    for (int64_t j = 0; j < cols; j++)
        for (int64_t u = 0; u < s; u++) {
            double sum = 0;
            for (int64_t i = 0; i < cols; i++) sum += st->channel[i * cols + j] * half[i * s + u];
            slice[j * s + u] = (float)sum;
        }
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

/* kept[no] and the first filters v[rank][s], term by term through the outputs. */
static nd_status first_filters(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                               const nd_moments *m, int32_t *kept, double *v) {
    nd_status status = nd_status_ok;
    nd_slices slices = {0};
    int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    start st = {.s = s, .cols = cols};
    int64_t wide = cols > s ? cols : s;
    double *w = nd_alloc_array((size_t)(conv->no * m->k), sizeof *w);
    float *whitened = nd_alloc_array((size_t)(conv->no * m->k), sizeof *whitened);
    double *inverses = nd_alloc_array((size_t)conv->groups, (size_t)(s * s) * sizeof *inverses);
    st.space = nd_alloc_array((size_t)(s * s), sizeof *st.space);
    st.channel = nd_alloc_array((size_t)cols, (size_t)cols * sizeof *st.channel);
    st.scratch = nd_alloc_array((size_t)(2 * wide), (size_t)wide * sizeof *st.scratch);
    ND_REQUIRE_DONE(w && whitened && inverses && st.space && st.channel && st.scratch, nd_status_memory,
                    "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(nd_refit_kernel(backend, conv, m, w));
    for (int64_t g = 0; g < conv->groups; g++) {
        st.space_inverse = inverses + g * s * s;
        ND_TRY_DONE(whiten(backend, m, g, &st));
        for (int64_t o = g * rows; o < (g + 1) * rows; o++)
            whiten_output(&st, w + o * m->k, whitened + o * m->k);
    }
    ND_TRY_DONE(nd_slices_svd(backend, conv->no, cols, s, whitened, &slices));
    weigh_outputs(m, &slices);
    ND_TRY_DONE(nd_slices_select(conv->no, s, slices.sigma, conv->groups, ranks, rank,
                                 nd_pwdw_cap(conv, ranks, rank), kept));
    for (int64_t o = 0; o < conv->no; o++)
        for (int32_t k = 0; k < kept[o]; k++, v += s) {
            const double *from = slices.v + (o * s + k) * s, *inverse = inverses + o / rows * s * s;
            for (int64_t b = 0; b < s; b++)
                for (int64_t t = 0; t < s; t++) v[t] += from[b] * inverse[b * s + t];
        }
done:
    nd_slices_free(&slices);
    free(w);
    free(whitened);
    free(inverses);
    free(st.space);
    free(st.channel);
    free(st.scratch);
    return status;
}

/* Features of one output with `terms` terms: with filters fixed, z[k][i] = sum over t of v_k[t] p[i][t]; with
 * rows fixed, z[k][t] = sum over i of u_k[i] p[i][t]. `f` has room for both. */
static void features_of_rows(int64_t terms, int64_t cols, int64_t s, const double *v, nd_functionals *f) {
    int64_t e = 0;
    f->rows = terms * cols;
    for (int64_t r = 0; r < f->rows; r++) {
        for (int64_t t = 0; t < s; t++, e++) {
            f->index[e] = (int32_t)(r % cols * s + t);
            f->value[e] = v[r / cols * s + t];
        }
        f->start[r + 1] = e;
    }
}

static void features_of_filters(int64_t terms, int64_t cols, int64_t s, const double *u, nd_functionals *f) {
    int64_t e = 0;
    f->rows = terms * s;
    for (int64_t r = 0; r < f->rows; r++) {
        for (int64_t i = 0; i < cols; i++, e++) {
            f->index[e] = (int32_t)(i * s + r % s);
            f->value[e] = u[r / s * cols + i];
        }
        f->start[r + 1] = e;
    }
}

static nd_status alternate(nd_backend *backend, int64_t terms, int64_t cols, int64_t s, const double *g,
                           const double *h, double *u, double *v, nd_functionals *f) {
    for (int round = 0; round < alternations; round++) {
        features_of_rows(terms, cols, s, v, f);
        ND_TRY(nd_refit_features(backend, cols * s, g, f, 1, h, u));
        features_of_filters(terms, cols, s, u, f);
        ND_TRY(nd_refit_features(backend, cols * s, g, f, 1, h, v));
    }
    return nd_status_ok;
}

nd_status nd_pwdw_fit(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                      const nd_moments *m, nd_chain *out) {
    nd_status status = nd_status_ok;
    nd_functionals f = {0};
    int64_t s = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    int64_t cap = nd_pwdw_cap(conv, ranks, rank), wide = cols > s ? cols : s, t = 0;
    int32_t *kept = nd_alloc_array((size_t)conv->no, sizeof *kept);
    double *v = nd_alloc_array((size_t)(rank * s), sizeof *v);
    double *u = nd_alloc_array((size_t)(cap * cols), sizeof *u);
    f.start = nd_alloc_array((size_t)(cap * wide + 1), sizeof *f.start);
    f.index = nd_alloc_array((size_t)(cap * cols * s), sizeof *f.index);
    f.value = nd_alloc_array((size_t)(cap * cols * s), sizeof *f.value);
    ND_REQUIRE_DONE(kept && v && u && f.start && f.index && f.value, nd_status_memory,
                    "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(first_filters(backend, conv, ranks, rank, m, kept, v));
    ND_TRY_DONE(nd_pwdw_layout(conv, kept, rank, out));
    for (int64_t o = 0; o < conv->no; o++) {
        if (!kept[o]) continue;
        ND_TRY_DONE(alternate(backend, kept[o], cols, s, m->g + o / rows * m->k * m->k, m->h + o * m->k, u,
                              v + t * s, &f));
        for (int32_t k = 0; k < kept[o]; k++, t++) nd_pwdw_set(out, o, k, t, u + k * cols, v + t * s);
    }
    ND_TRY_DONE(nd_refit_chain_bias(conv, m, out));
done:
    nd_functionals_free(&f);
    free(kept);
    free(v);
    free(u);
    return status;
}
