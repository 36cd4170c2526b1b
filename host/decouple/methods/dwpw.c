#include "decouple/methods/dwpw.h"

#include "decouple/methods/slices.h"

#include <math.h>
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

nd_status nd_dwpw_layout(const nd_conv *conv, const int32_t *kept, int64_t rank, nd_chain *out) {
    bool same = true;
    for (int64_t i = 1; i < conv->ni; i++) same = same && kept[i] == kept[0];
    nd_stage *stage = NULL;
    nd_window pointwise = nd_window_pointwise();
    if (same) {
        ND_TRY(nd_chain_add(out, ".dw", &conv->window, rank, conv->ni, conv->ni, false, &stage));
    } else {
        ND_TRY(nd_chain_add(out, ".dw", &conv->window, rank, rank, rank, true, &stage));
        int64_t r = 0;
        for (int64_t i = 0; i < conv->ni; i++)
            for (int32_t t = 0; t < kept[i]; t++) stage->channel[r++] = (int32_t)i;
    }
    ND_TRY(nd_chain_add(out, ".pw", &pointwise, conv->no, rank, conv->groups, false, &stage));
    return nd_chain_set_bias(out, conv->bias);
}

static double norm(const float *x, int64_t n, int64_t stride) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i * stride] * x[i * stride];
    return sqrt(sum);
}

static void scale(float *x, int64_t n, int64_t stride, double factor) {
    for (int64_t i = 0; i < n; i++) x[i * stride] = (float)(x[i * stride] * factor);
}

void nd_dwpw_balance(nd_chain *chain) {
    nd_stage *dw = &chain->stages[0], *pw = &chain->stages[1];
    int64_t taps = dw->window.kernel[0] * dw->window.kernel[1];
    int64_t per_group = pw->ni / pw->groups, rows = pw->no / pw->groups;
    for (int64_t r = 0; r < dw->no; r++) {
        float *filter = dw->weights + r * taps;
        float *column = pw->weights + r / per_group * rows * per_group + r % per_group;
        int64_t largest = 0;
        for (int64_t t = 1; t < taps; t++)
            if (fabsf(filter[t]) > fabsf(filter[largest])) largest = t;
        double a = norm(filter, taps, 1), b = norm(column, rows, per_group);
        double sign = filter[largest] < 0 ? -1 : 1, even = a > 0 && b > 0 ? sqrt(a * b) : 0;
        scale(filter, taps, 1, a > 0 ? sign * even / a : 0);
        scale(column, rows, per_group, b > 0 ? sign * even / b : 0);
    }
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
    if (moments) return nd_dwpw_fit(backend, conv, ranks, rank, moments, out);
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
};
