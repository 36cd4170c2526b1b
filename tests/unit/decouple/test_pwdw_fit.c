/* PW+DW on data: what is solved for all outputs at once against each by itself. */
#include "decouple/fit/features.h"
#include "decouple/fit/refit.h"
#include "decouple/methods/method.h"
#include "decouple/methods/pwdw_alternate.h"
#include "tests/unit/help/decouple_help.h"

enum { cols = 7, s = 9, k = cols * s, n_out = 5, most = 3, most_rows = cols > s ? cols : s };

/* g of patches whose entries are alike in space and over channels, and h of random kernels and some noise. */
static void moments(double *g, double *h) {
    enum { patches = 400 };
    float *noise = help_normals(patches * k, 3), *kernels = help_normals(n_out * k, 4);
    float *rest = help_normals(patches * n_out, 5);
    memset(g, 0, (size_t)(k * k) * sizeof *g);
    memset(h, 0, (size_t)(n_out * k) * sizeof *h);
    for (int64_t p = 0; p < patches; p++) {
        double x[k];
        for (int64_t e = 0; e < k; e++)
            x[e] = noise[p * k + e] + (e % s ? 0.7 * x[e - 1] : 0) + (e >= s ? 0.5 * x[e - s] : 0);
        for (int64_t a = 0; a < k; a++)
            for (int64_t b = 0; b < k; b++) g[a * k + b] += x[a] * x[b] / patches;
        for (int64_t o = 0; o < n_out; o++) {
            double y = 3 * rest[p * n_out + o];
            for (int64_t e = 0; e < k; e++) y += kernels[o * k + e] * x[e];
            for (int64_t e = 0; e < k; e++) h[o * k + e] += y * x[e] / patches;
        }
    }
    free(noise);
    free(kernels);
    free(rest);
}

static void compose(const double *u, const double *v, int64_t terms, double *w) {
    memset(w, 0, k * sizeof *w);
    for (int64_t t = 0; t < terms; t++)
        for (int64_t e = 0; e < k; e++) w[e] += u[t * cols + e / s] * v[t * s + e % s];
}

/* w g w - 2 h w */
static double objective(const double *g, const double *h, const double *u, const double *v, int64_t terms) {
    double w[k], sum = 0;
    compose(u, v, terms, w);
    for (int64_t a = 0; a < k; a++) {
        sum -= 2 * h[a] * w[a];
        for (int64_t b = 0; b < k; b++) sum += w[a] * g[a * k + b] * w[b];
    }
    return sum;
}

/* The best x[terms n] where w = sum over x of columns e[terms n][k]. */
static void solve(nd_backend *backend, const double *g, const double *h, int64_t n, const double *e,
                  double *x) {
    double *a = nd_alloc_array((size_t)(n * n), sizeof *a);
    for (int64_t i = 0; i < n; i++) {
        x[i] = 0;
        for (int64_t p = 0; p < k; p++) x[i] += e[i * k + p] * h[p];
        for (int64_t j = 0; j < n; j++)
            for (int64_t p = 0; p < k; p++)
                for (int64_t q = 0; q < k; q++) a[i * n + j] += e[i * k + p] * g[p * k + q] * e[j * k + q];
    }
    OK(backend->table->linalg.solve(backend, n, a, false, 1, x));
    free(a);
}

static void alternate_exactly(nd_backend *backend, const double *g, const double *h, int64_t terms, double *u,
                              double *v) {
    double *e = nd_alloc_array((size_t)(terms * most_rows * k), sizeof *e);
    for (int round = 0; round < 3; round++) {
        memset(e, 0, (size_t)(terms * most_rows * k) * sizeof *e);
        for (int64_t r = 0; r < terms * cols; r++)
            for (int64_t t = 0; t < s; t++) e[r * k + r % cols * s + t] = v[r / cols * s + t];
        solve(backend, g, h, terms * cols, e, u);
        memset(e, 0, (size_t)(terms * most_rows * k) * sizeof *e);
        for (int64_t r = 0; r < terms * s; r++)
            for (int64_t i = 0; i < cols; i++) e[r * k + i * s + r % s] = u[r / s * cols + i];
        solve(backend, g, h, terms * s, e, v);
    }
    free(e);
}

/* Rows by a few steps of conjugate gradients are worth as much as rows solved for exactly. */
Test(pwdw_fit, alternation_is_as_good_as_exact_solutions) {
    static const int32_t kept[n_out] = {2, 0, 1, most, 2};
    nd_backend *backend = help_backend();
    double g[k * k], h[n_out * k], precision[cols * cols], space[s * s] = {0};
    double channel[cols * cols] = {0};
    moments(g, h);
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j < cols; j++) {
            precision[i * cols + j] = i == j;
            for (int64_t t = 0; t < s; t++) channel[i * cols + j] += g[(i * s + t) * k + j * s + t] / s;
        }
    for (int64_t i = 0; i < cols; i++)
        for (int64_t t = 0; t < s * s; t++) space[t] += g[(i * s + t / s) * k + i * s + t % s] / cols;
    OK(backend->table->linalg.solve(backend, cols, channel, false, cols, precision));

    int64_t rank = 0;
    for (int64_t o = 0; o < n_out; o++) rank += kept[o];
    float *first = help_normals(rank * (cols + s), 8);
    double *u = help_widen(first, rank * cols), *v = help_widen(first + rank * cols, rank * s);
    double *exact_u = help_widen(first, rank * cols), *exact_v = help_widen(first + rank * cols, rank * s);
    const nd_pwdw_problem problem = {.n_out = n_out,
                                     .cols = cols,
                                     .s = s,
                                     .g = g,
                                     .h = h,
                                     .precision = precision,
                                     .space = space,
                                     .kept = kept,
                                     .rank = rank,
                                     .u = u,
                                     .v = v};
    OK(nd_pwdw_alternate(backend, &problem));
    for (int64_t o = 0, t = 0; o < n_out; t += kept[o], o++) {
        if (!kept[o]) continue;
        alternate_exactly(backend, g, h + o * k, kept[o], exact_u + t * cols, exact_v + t * s);
        const double found = objective(g, h + o * k, u + t * cols, v + t * s, kept[o]);
        const double wanted = objective(g, h + o * k, exact_u + t * cols, exact_v + t * s, kept[o]);
        cr_expect_lt(found, 0.99 * wanted, "output %d: %g, exactly %g", (int)o, found, wanted);
    }
    free(first);
    free(u);
    free(v);
    free(exact_u);
    free(exact_v);
    nd_backend_close(backend);
}

/* Of a stage with many groups; and a fit whose filters were solved for last is at rest under the refit. */
Test(pwdw_fit, grams_of_groups_at_once_are_those_of_each) {
    for (int shape = 0; shape < help_n_shapes; shape++) {
        nd_backend *backend = help_backend();
        nd_conv conv = help_conv(shape, 60 + (uint64_t)shape);
        const nd_method *method = nd_method_find("pwdw");
        nd_chain chain = {0};
        nd_functionals in = {0}, all = {0}, one = {0};
        const int64_t step = method->step(&conv, nd_ranks_uniform);
        if (!method->applies(&conv)) goto next;
        OK(method->decompose(backend, &conv, nd_ranks_uniform, 2 * step, NULL, &chain));
        const nd_stage *last = &chain.stages[chain.n - 1];
        const int64_t count = last->groups / conv.groups;
        const int64_t size = conv.ni / conv.groups * nd_conv_taps(&conv);
        float *noise = help_normals(2 * size * size, 9);
        double *g = nd_alloc_array((size_t)(size * size), sizeof *g);
        for (int64_t a = 0; a < size * size; a++)
            for (int64_t p = 0; p < 2 * size; p++)
                g[a] += (double)noise[p * size + a / size] * noise[p * size + a % size];
        OK(nd_chain_functionals(&chain, &conv, chain.n - 1, &in));
        for (int64_t group = 0; group < conv.groups; group++) {
            OK(nd_features_of_stage(&chain, &conv, chain.n - 1, &in, group * count, count, &all));
            const int64_t n = all.rows / count;
            double *grams = nd_alloc_array((size_t)(count * n * n), sizeof *grams);
            double *gram = nd_alloc_array((size_t)(n * n), sizeof *gram);
            OK(nd_features_grams(&all, n, nd_conv_taps(&conv), size, g, grams));
            for (int64_t q = 0; q < count; q++) {
                OK(nd_features_of_stage(&chain, &conv, chain.n - 1, &in, group * count + q, 1, &one));
                OK(nd_features_gram(backend, &one, size, g, gram));
                for (int64_t e = 0; e < n * n; e++)
                    cr_expect_float_eq(grams[q * n * n + e], gram[e], 1e-9 * (fabs(gram[e]) + gram[0]),
                                       "%s, group %d, entry %d", conv.name, (int)q, (int)e);
                nd_functionals_free(&one);
            }
            free(grams);
            free(gram);
            nd_functionals_free(&all);
        }
        free(noise);
        free(g);
        nd_functionals_free(&in);
        nd_chain_free(&chain);
    next:
        help_conv_free(&conv);
        nd_backend_close(backend);
    }
}
