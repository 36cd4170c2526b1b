/* Spatial decomposition (Jaderberg et al. 2014, scheme 2): a vertical kh x 1 conv to R channels, then a
 * horizontal 1 x kw one. SVD of the kernel as a (ni kh) x (no kw) matrix (method.md, "Spatial
 * decomposition"); on data the same of the least-squares kernel in the metric of the vertical patches, then
 * the exact refit of the horizontal part, whose target is the full response, bias included. */
#include "decouple/fit/found.h"
#include "decouple/fit/refit.h"
#include "decouple/methods/method.h"
#include "decouple/methods/slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double eigenvalue_floor = 1e-10;

static bool spatial_applies(const nd_conv *conv) {
    return conv->window.kernel[0] > 1 && conv->window.kernel[1] > 1 && conv->ni > conv->groups;
}

/* Rows (input channel, ky) and columns (output channel, kx) of the matrix of one group. */
static int64_t n_rows(const nd_conv *conv) {
    return conv->ni / conv->groups * conv->window.kernel[0];
}

static int64_t n_columns(const nd_conv *conv) {
    return conv->no / conv->groups * conv->window.kernel[1];
}

static int64_t spatial_max_rank(const nd_conv *conv) {
    int64_t rows = n_rows(conv), columns = n_columns(conv);
    return conv->groups * (rows < columns ? rows : columns);
}

static int64_t spatial_step(const nd_conv *conv, nd_ranks ranks) {
    (void)ranks;
    return conv->groups;
}

static int64_t spatial_channels(const nd_conv *conv) {
    (void)conv;
    return 1;
}

static void spatial_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {
    (void)ranks;
    const nd_window *window = &conv->window;
    nd_window vertical = {{window->kernel[0], 1},
                          {window->stride[0], 1},
                          {window->dilation[0], 1},
                          {window->pad[0], 0, window->pad[2], 0}};
    nd_window horizontal = {{1, window->kernel[1]},
                            {1, window->stride[1]},
                            {1, window->dilation[1]},
                            {0, window->pad[1], 0, window->pad[3]}};
    nd_shape_add(out, ".v", &vertical, rank, conv->ni, conv->groups);
    nd_shape_add(out, ".h", &horizontal, conv->no, rank, conv->groups);
}

/* a[groups][(o, kx)][(i, ky)]: its right singular vectors are the vertical filters. */
static void transpose_kernel(const nd_conv *conv, const double *w, float *a) {
    int64_t kh = conv->window.kernel[0], kw = conv->window.kernel[1], cols = conv->ni / conv->groups;
    int64_t rows = n_rows(conv);
    for (int64_t o = 0; o < conv->no; o++)
        for (int64_t i = 0; i < cols; i++)
            for (int64_t y = 0; y < kh; y++)
                for (int64_t x = 0; x < kw; x++)
                    a[(o * kw + x) * rows + i * kh + y] = (float)w[((o * cols + i) * kh + y) * kw + x];
}

static nd_status svd_of(nd_backend *backend, const nd_conv *conv, const double *w, float **copy,
                        nd_slices *out) {
    float *a = nd_alloc_array((size_t)(conv->groups * n_columns(conv)), (size_t)n_rows(conv) * sizeof *a);
    ND_REQUIRE(a, nd_status_memory, "conv %s: no memory for its spatial form", conv->name);
    transpose_kernel(conv, w, a);
    nd_status status = nd_slices_svd(backend, conv->groups, n_columns(conv), n_rows(conv), a, out);
    if (!status && copy)
        *copy = a;
    else
        free(a);
    return status;
}

static double *widened(const nd_conv *conv) {
    int64_t count = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    double *w = nd_alloc_array((size_t)count, sizeof *w);
    for (int64_t e = 0; w && e < count; e++) w[e] = conv->weights[e];
    return w;
}

static nd_status spatial_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                                  double **energy, size_t *count) {
    (void)ranks;
    nd_slices slices = {0};
    double *w = widened(conv);
    ND_REQUIRE(w, nd_status_memory, "conv %s: no memory for its spectrum", conv->name);
    nd_status status = svd_of(backend, conv, w, NULL, &slices);
    if (!status) status = nd_slices_spectrum(&slices, conv->groups, nd_ranks_adaptive, error2, energy, count);
    nd_slices_free(&slices);
    free(w);
    return status;
}

static nd_status layout(const nd_conv *conv, int64_t rank, nd_chain *out) {
    spatial_shape(conv, nd_ranks_uniform, rank, out);
    return nd_chain_allocate(out, conv);
}

/* Vertical filters and the horizontal part that goes with them, sigma split evenly. */
static void fill(const nd_conv *conv, int64_t rank, const nd_slices *slices, const float *a, nd_chain *out) {
    int64_t rows = n_rows(conv), columns = n_columns(conv), kw = conv->window.kernel[1];
    int64_t per_group = rank / conv->groups;
    for (int64_t r = 0; r < rank; r++) {
        int64_t g = r / per_group, k = r % per_group;
        const double *v = slices->v + (g * rows + k) * rows;
        double sigma = slices->sigma[g * rows + k], even = sqrt(sigma);
        for (int64_t i = 0; i < rows; i++) out->stages[0].weights[r * rows + i] = (float)(v[i] * even);
        for (int64_t c = 0; c < columns; c++) {
            const float *row = a + (g * columns + c) * rows;
            double sum = 0;
            for (int64_t i = 0; i < rows; i++) sum += row[i] * v[i];
            int64_t o = g * (conv->no / conv->groups) + c / kw;
            out->stages[1].weights[(o * per_group + k) * kw + c % kw] = even > 0 ? (float)(sum / even) : 0;
        }
    }
}

/* Root of the mean covariance of the vertical patches of a group, g[(i,y,x)][(j,z,x)] over x, and its
 * inverse: rows are u sqrt(l) and u / sqrt(l) of the eigenpairs. */
static nd_status vertical_root(nd_backend *backend, const nd_conv *conv, const double *g, double *root,
                               double *inverse) {
    int64_t n = n_rows(conv), kw = conv->window.kernel[1], k = n * kw;
    double *values = nd_alloc_array((size_t)n, sizeof *values);
    ND_REQUIRE(values, nd_status_memory, "conv %s: no memory for a root", conv->name);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t x = 0; x < kw; x++) sum += g[(i * kw + x) * k + j * kw + x];
            root[i * n + j] = sum / (double)kw;
        }
    nd_status status = backend->table->linalg.eigen(backend, 1, n, root, values);
    for (int64_t e = 0; !status && e < n; e++) {
        double value = sqrt(fmax(values[e], fmax(eigenvalue_floor * values[n - 1], 1e-300)));
        for (int64_t i = 0; i < n; i++) {
            inverse[e * n + i] = root[e * n + i] / value;
            root[e * n + i] *= value;
        }
    }
    free(values);
    return status;
}

/* The vertical filters[groups][n][n], those that matter most for the outputs first: left singular vectors of
 * root^T M, unwhitened, of length 1. */
static nd_status find_vertical(nd_backend *backend, const nd_conv *conv, const nd_moments *m,
                               double *filters) {
    nd_status status = nd_status_ok;
    const nd_linalg *linalg = &backend->table->linalg;
    const int64_t n = n_rows(conv), columns = n_columns(conv);
    const double *w = NULL;
    float *a = nd_alloc_array((size_t)(conv->groups * columns), (size_t)n * sizeof *a);
    double *wide = nd_alloc_array((size_t)(2 * columns), (size_t)n * sizeof *wide),
           *white = wide + columns * n;
    double *root = nd_alloc_array((size_t)(2 * n), (size_t)n * sizeof *root), *inverse = root + n * n;
    nd_slices slices = {0};
    ND_REQUIRE_DONE(a && wide && root, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(nd_refit_kernel(backend, conv, m, &w));
    transpose_kernel(conv, w, a);
    for (int64_t g = 0; g < conv->groups; g++) {
        float *block = a + g * columns * n;
        double *own = filters + g * n * n;
        ND_TRY_DONE(vertical_root(backend, conv, m->g + g * m->k * m->k, root, inverse));
        for (int64_t e = 0; e < columns * n; e++) wide[e] = block[e];
        ND_TRY_DONE(linalg->gemm(backend, false, true, columns, n, n, 1, wide, n, root, n, 0, white, n));
        for (int64_t e = 0; e < columns * n; e++) block[e] = (float)white[e];
        ND_TRY_DONE(nd_slices_svd(backend, 1, columns, n, block, &slices));
        ND_TRY_DONE(linalg->gemm(backend, false, false, n, n, n, 1, slices.v, n, inverse, n, 0, own, n));
        nd_slices_free(&slices);
        for (int64_t k = 0; k < n; k++) {
            double norm = 0;
            for (int64_t i = 0; i < n; i++) norm += own[k * n + i] * own[k * n + i];
            for (int64_t i = 0; i < n; i++) own[k * n + i] = norm > 0 ? own[k * n + i] / sqrt(norm) : 0;
        }
    }
done:
    nd_slices_free(&slices);
    free(a);
    free(wide);
    free(root);
    return status;
}

static nd_status spatial_fit(nd_backend *backend, const nd_conv *conv, int64_t rank, const nd_moments *m,
                             nd_chain *out) {
    const int64_t n = n_rows(conv), per_group = rank / conv->groups;
    const double *filters = NULL;
    ND_TRY(nd_moments_find(backend, conv, m, find_vertical, (size_t)(conv->groups * n * n), &filters));
    ND_TRY(layout(conv, rank, out));
    for (int64_t r = 0; r < rank; r++) {
        const double *from = filters + (r / per_group * n + r % per_group) * n;
        for (int64_t i = 0; i < n; i++) out->stages[0].weights[r * n + i] = (float)from[i];
    }
    ND_TRY(nd_refit_last(backend, conv, m, out));
    return nd_refit_chain_bias(conv, m, out);
}

static nd_status spatial_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                   const nd_moments *moments, nd_chain *out) {
    (void)ranks;
    if (moments) return spatial_fit(backend, conv, rank, moments, out);
    nd_status status = nd_status_ok;
    nd_slices slices = {0};
    float *a = NULL;
    double *w = widened(conv);
    ND_REQUIRE_DONE(w, nd_status_memory, "conv %s: no memory for its spatial form", conv->name);
    ND_TRY_DONE(svd_of(backend, conv, w, &a, &slices));
    ND_TRY_DONE(layout(conv, rank, out));
    fill(conv, rank, &slices, a, out);
done:
    nd_slices_free(&slices);
    free(a);
    free(w);
    return status;
}

const nd_method nd_method_spatial = {
    .name = "spatial",
    .text = "vertical, then horizontal: SVD of the kernel as (ni kh) x (no kw)",
    .applies = spatial_applies,
    .max_rank = spatial_max_rank,
    .step = spatial_step,
    .channels = spatial_channels,
    .shape = spatial_shape,
    .spectrum = spatial_spectrum,
    .decompose = spatial_decompose,
};
