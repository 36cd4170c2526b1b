/* Channel decomposition (Zhang et al. 2015): the kernel to R channels, then a pointwise conv to all. From the
 * weights the SVD of W as no x (ni kh kw); on data reduced-rank regression of the original's responses on the
 * current inputs, which is exact: the leading eigenvectors of the covariance of the least-squares prediction
 * (method.md, "Channel decomposition"). Fitting the full response gives the bias its right value. */
#include "decouple/fit/found.h"
#include "decouple/fit/refit.h"
#include "decouple/methods/method.h"
#include "decouple/methods/slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool channel_applies(const nd_conv *conv) {
    return conv->ni > conv->groups;
}

/* Of kernels of one tap, which have nothing else to decompose. */
static bool lowrank_applies(const nd_conv *conv) {
    return nd_conv_taps(conv) == 1 && conv->ni > conv->groups;
}

static int64_t columns_of(const nd_conv *conv) {
    return conv->ni / conv->groups * nd_conv_taps(conv);
}

static int64_t channel_max_rank(const nd_conv *conv) {
    int64_t rows = conv->no / conv->groups, columns = columns_of(conv);
    return conv->groups * (rows < columns ? rows : columns);
}

static int64_t channel_step(const nd_conv *conv, nd_ranks ranks) {
    (void)ranks;
    return conv->groups;
}

static int64_t channel_channels(const nd_conv *conv) {
    (void)conv;
    return 1;
}

static void channel_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {
    (void)ranks;
    nd_window pointwise = nd_window_pointwise();
    nd_shape_add(out, ".reduce", &conv->window, rank, conv->ni, conv->groups);
    nd_shape_add(out, ".expand", &pointwise, conv->no, rank, conv->groups);
}

/* The kernel transposed, a[groups][k][rows]: its right singular vectors are directions among the outputs. */
static nd_status svd_of(nd_backend *backend, const nd_conv *conv, nd_slices *out) {
    int64_t rows = conv->no / conv->groups, k = columns_of(conv);
    float *a = nd_alloc_array((size_t)(conv->groups * k), (size_t)rows * sizeof *a);
    ND_REQUIRE(a, nd_status_memory, "conv %s: no memory for its channel form", conv->name);
    for (int64_t o = 0; o < conv->no; o++)
        for (int64_t e = 0; e < k; e++) a[(o / rows * k + e) * rows + o % rows] = conv->weights[o * k + e];
    nd_status status = nd_slices_svd(backend, conv->groups, k, rows, a, out);
    free(a);
    return status;
}

static nd_status channel_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                                  double **energy, size_t *count) {
    (void)ranks;
    nd_slices slices = {0};
    ND_TRY(svd_of(backend, conv, &slices));
    nd_status status = nd_slices_spectrum(&slices, conv->groups, nd_ranks_adaptive, error2, energy, count);
    nd_slices_free(&slices);
    return status;
}

static nd_status layout(const nd_conv *conv, int64_t rank, nd_chain *out) {
    channel_shape(conv, nd_ranks_uniform, rank, out);
    return nd_chain_allocate(out, conv);
}

/* Stage r of the first convolution computes direction u[rows] of the kernel, row[k] = u w, and the second
 * brings it back; norms are split evenly. */
static void set_direction(const nd_conv *conv, int64_t r, int64_t per_group, const double *u,
                          const double *row, nd_chain *out) {
    const int64_t rows = conv->no / conv->groups, k = columns_of(conv), g = r / per_group;
    double norm = 0;
    for (int64_t e = 0; e < k; e++) norm += row[e] * row[e];
    const double even = sqrt(sqrt(norm));
    for (int64_t e = 0; e < k; e++) out->stages[0].weights[r * k + e] = even > 0 ? (float)(row[e] / even) : 0;
    for (int64_t o = 0; o < rows; o++)
        out->stages[1].weights[(g * rows + o) * per_group + r % per_group] = (float)(u[o] * even);
}

/* Directions of all groups, the best ones first: u[groups][rows][rows], and u w[groups][rows][k] of the
 * least-squares kernel w. */
static nd_status find_directions(nd_backend *backend, const nd_conv *conv, const nd_moments *m, double *out) {
    nd_status status = nd_status_ok;
    const nd_linalg *linalg = &backend->table->linalg;
    const int64_t rows = conv->no / conv->groups, k = m->k;
    const double *w = NULL;
    double *wg = nd_alloc_array((size_t)(rows * k), sizeof *wg);
    double *cov = nd_alloc_array((size_t)(rows + 1), (size_t)rows * sizeof *cov), *values = cov + rows * rows;
    ND_REQUIRE_DONE(wg && cov, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    ND_TRY_DONE(nd_refit_kernel(backend, conv, m, &w));
    for (int64_t g = 0; g < conv->groups; g++) {
        const double *wq = w + g * rows * k;
        double *u = out + g * rows * rows, *uw = out + conv->no * rows + g * rows * k;
        ND_TRY_DONE(linalg->gemm(backend, false, false, rows, k, k, 1, wq, k, m->g + g * k * k, k, 0, wg, k));
        ND_TRY_DONE(linalg->gemm(backend, false, true, rows, rows, k, 1, wg, k, wq, k, 0, cov, rows));
        ND_TRY_DONE(linalg->eigen(backend, 1, rows, cov, values));
        for (int64_t r = 0; r < rows; r++)
            memcpy(u + r * rows, cov + (rows - 1 - r) * rows, (size_t)rows * sizeof *u);
        ND_TRY_DONE(linalg->gemm(backend, false, false, rows, k, rows, 1, u, rows, wq, k, 0, uw, k));
    }
done:
    free(wg);
    free(cov);
    return status;
}

/* The directions are those of a regression of reduced rank: nothing is left to refit. */
static nd_status channel_fit(nd_backend *backend, const nd_conv *conv, int64_t rank, const nd_moments *m,
                             nd_chain *out) {
    const int64_t rows = conv->no / conv->groups, per_group = rank / conv->groups;
    const double *u = NULL;
    ND_TRY(nd_moments_find(backend, conv, m, find_directions, (size_t)(m->no * (rows + m->k)), &u));
    ND_TRY(layout(conv, rank, out));
    for (int64_t r = 0; r < rank; r++) {
        const int64_t row = r / per_group * rows + r % per_group;
        set_direction(conv, r, per_group, u + row * rows, u + m->no * rows + row * m->k, out);
    }
    return nd_refit_chain_bias(conv, m, out);
}

static nd_status channel_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                   const nd_moments *moments, nd_chain *out) {
    (void)ranks;
    if (moments) return channel_fit(backend, conv, rank, moments, out);
    nd_status status = nd_status_ok;
    nd_slices slices = {0};
    const int64_t rows = conv->no / conv->groups, k = columns_of(conv), per_group = rank / conv->groups;
    double *w = nd_alloc_array((size_t)(rows + per_group), (size_t)k * sizeof *w), *uw = w + rows * k;
    ND_REQUIRE_DONE(w, nd_status_memory, "conv %s: no memory for its channel form", conv->name);
    ND_TRY_DONE(svd_of(backend, conv, &slices));
    ND_TRY_DONE(layout(conv, rank, out));
    for (int64_t g = 0; g < conv->groups; g++) {
        const double *u = slices.v + g * rows * rows;
        for (int64_t e = 0; e < rows * k; e++) w[e] = conv->weights[g * rows * k + e];
        ND_TRY_DONE(backend->table->linalg.gemm(backend, false, false, per_group, k, rows, 1, u, rows, w, k,
                                                0, uw, k));
        for (int64_t r = 0; r < per_group; r++)
            set_direction(conv, g * per_group + r, per_group, u + r * rows, uw + r * k, out);
    }
done:
    nd_slices_free(&slices);
    free(w);
    return status;
}

const nd_method nd_method_channel = {
    .name = "channel",
    .text = "the kernel to fewer channels, then pointwise: SVD of W as no x (ni kh kw)",
    .applies = channel_applies,
    .max_rank = channel_max_rank,
    .step = channel_step,
    .channels = channel_channels,
    .shape = channel_shape,
    .spectrum = channel_spectrum,
    .decompose = channel_decompose,
    .redone = true,
};

const nd_method nd_method_lowrank = {
    .name = "lowrank",
    .text = "pointwise to fewer channels, then pointwise: SVD of W as no x ni; for pointwise layers alone",
    .applies = lowrank_applies,
    .max_rank = channel_max_rank,
    .step = channel_step,
    .channels = channel_channels,
    .shape = channel_shape,
    .spectrum = channel_spectrum,
    .decompose = channel_decompose,
    .redone = true,
    .pointwise = true,
};
