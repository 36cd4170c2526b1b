#include "decouple/methods/dwpw.h"

#include "decouple/methods/slices.h"

#include <stdlib.h>
#include <string.h>

static bool dwpw_applies(const nd_conv *conv) {
    return nd_conv_taps(conv) > 1 && conv->ni > conv->groups;
}

static int64_t full_terms(const nd_conv *conv) {
    int64_t rows = conv->no / conv->groups, taps = nd_conv_taps(conv);
    return rows < taps ? rows : taps;
}

static int64_t dwpw_max_rank(const nd_conv *conv) {
    return conv->ni * full_terms(conv);
}

static int64_t dwpw_step(const nd_conv *conv, nd_ranks ranks) {
    return ranks == nd_ranks_uniform ? conv->ni : conv->groups;
}

static int64_t dwpw_channels(const nd_conv *conv) {
    return conv->ni;
}

/* Merged where all channels keep as many terms, else gathered. */
static void dwpw_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {
    int64_t inputs = ranks == nd_ranks_uniform ? conv->ni : rank;
    nd_window pointwise = nd_window_pointwise();
    nd_shape_add(out, ".dw", &conv->window, rank, inputs, inputs);
    nd_shape_add(out, ".pw", &pointwise, conv->no, rank, conv->groups);
}

/* W[:, i] of every input channel: [ni][no/groups][taps]. */
static nd_status slices_of(nd_backend *backend, const nd_conv *conv, float **copy, nd_slices *out) {
    int64_t taps = nd_conv_taps(conv), rows = conv->no / conv->groups, cols = conv->ni / conv->groups;
    float *a = nd_alloc_array((size_t)(conv->ni * rows * taps), sizeof *a);
    ND_REQUIRE(a, nd_status_memory, "conv %s: no memory for its slices", conv->name);
    for (int64_t o = 0; o < conv->no; o++)
        for (int64_t i = 0; i < cols; i++) {
            int64_t channel = o / rows * cols + i;
            memcpy(a + (channel * rows + o % rows) * taps, conv->weights + (o * cols + i) * taps,
                   (size_t)taps * sizeof *a);
        }
    nd_status status = nd_slices_svd(backend, conv->ni, rows, taps, a, out);
    if (!status && copy)
        *copy = a;
    else
        free(a);
    return status;
}

static nd_status dwpw_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                               double **energy, size_t *count) {
    nd_slices slices = {0};
    ND_TRY(slices_of(backend, conv, NULL, &slices));
    nd_status status = nd_slices_spectrum(&slices, conv->groups, ranks, error2, energy, count);
    nd_slices_free(&slices);
    return status;
}

/* Filter v_k of every kept term and its column W[:, i] v_k = sigma_k u_k. */
static void fill(const nd_conv *conv, const int32_t *kept, const nd_slices *slices, const float *a,
                 nd_chain *chain) {
    nd_stage *dw = &chain->stages[0], *pw = &chain->stages[1];
    int64_t taps = slices->n, rows = conv->no / conv->groups, per_group = pw->ni / conv->groups, r = 0;
    for (int64_t i = 0; i < conv->ni; i++)
        for (int32_t k = 0; k < kept[i]; k++, r++) {
            const double *v = slices->v + (i * taps + k) * taps;
            float *column = pw->weights + r / per_group * rows * per_group + r % per_group;
            for (int64_t t = 0; t < taps; t++) dw->weights[r * taps + t] = (float)v[t];
            for (int64_t o = 0; o < rows; o++) {
                double sum = 0;
                for (int64_t t = 0; t < taps; t++) sum += a[(i * rows + o) * taps + t] * v[t];
                column[o * per_group] = (float)sum;
            }
        }
}

static nd_status dwpw_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                const nd_moments *moments, nd_chain *out) {
    if (moments) return nd_dwpw_fit(backend, conv, ranks, rank, nd_dwpw_rounds, moments, out);
    nd_status status = nd_status_ok;
    nd_slices slices = {0};
    float *a = NULL;
    int32_t *kept = nd_alloc_array((size_t)conv->ni, sizeof *kept);
    ND_REQUIRE_DONE(kept, nd_status_memory, "conv %s: no memory for its ranks", conv->name);
    ND_TRY_DONE(slices_of(backend, conv, &a, &slices));
    ND_TRY_DONE(
        nd_slices_select(conv->ni, slices.n, slices.sigma, conv->groups, ranks, rank, slices.full, kept));
    ND_TRY_DONE(nd_dwpw_layout(conv, kept, rank, out));
    fill(conv, kept, &slices, a, out);
    nd_dwpw_balance(out);
done:
    free(a);
    free(kept);
    nd_slices_free(&slices);
    return status;
}

const nd_method nd_method_dwpw = {
    .name = "dwpw",
    .text = "depthwise, then pointwise: SVD of each W[:, i]",
    .applies = dwpw_applies,
    .max_rank = dwpw_max_rank,
    .step = dwpw_step,
    .channels = dwpw_channels,
    .shape = dwpw_shape,
    .spectrum = dwpw_spectrum,
    .decompose = dwpw_decompose,
    .refine = nd_dwpw_refine,
};
