#include "decouple/methods/pwdw.h"

#include "decouple/methods/slices.h"

#include <stdlib.h>

static bool pwdw_applies(const nd_conv *conv) {
    return nd_conv_taps(conv) > 1 && conv->ni > conv->groups;
}

static int64_t pwdw_max_rank(const nd_conv *conv) {
    return conv->no * nd_pwdw_full(conv);
}

static int64_t pwdw_step(const nd_conv *conv, nd_ranks ranks) {
    return ranks == nd_ranks_uniform ? conv->no : conv->groups;
}

static int64_t pwdw_channels(const nd_conv *conv) {
    return conv->no;
}

static void pwdw_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {
    nd_window pointwise = nd_window_pointwise();
    nd_shape_add(out, ".pw", &pointwise, rank, conv->ni, conv->groups);
    nd_shape_add(out, ".dw", &conv->window, conv->no, conv->no * nd_pwdw_cap(conv, ranks, rank), conv->no);
}

static nd_status slices_of(nd_backend *backend, const nd_conv *conv, nd_slices *out) {
    return nd_slices_svd(backend, conv->no, conv->ni / conv->groups, nd_conv_taps(conv), conv->weights, out);
}

static nd_status pwdw_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                               double **energy, size_t *count) {
    nd_slices slices = {0};
    ND_TRY(slices_of(backend, conv, &slices));
    nd_status status = nd_slices_spectrum(&slices, conv->groups, ranks, error2, energy, count);
    nd_slices_free(&slices);
    return status;
}

static nd_status pwdw_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                const nd_moments *moments, nd_chain *out) {
    if (moments) return nd_pwdw_fit(backend, conv, ranks, rank, moments, out);
    nd_status status = nd_status_ok;
    nd_slices slices = {0};
    int64_t taps = nd_conv_taps(conv), cols = conv->ni / conv->groups;
    int32_t *kept = nd_alloc_array((size_t)conv->no, sizeof *kept);
    double *u = nd_alloc_array((size_t)cols, sizeof *u);
    ND_REQUIRE_DONE(kept && u, nd_status_memory, "conv %s: no memory for its ranks", conv->name);
    ND_TRY_DONE(slices_of(backend, conv, &slices));
    ND_TRY_DONE(nd_slices_select(conv->no, taps, slices.sigma, conv->groups, ranks, rank,
                                 nd_pwdw_cap(conv, ranks, rank), kept));
    ND_TRY_DONE(nd_pwdw_layout(conv, kept, rank, out));
    for (int64_t o = 0, t = 0; o < conv->no; o++)
        for (int32_t k = 0; k < kept[o]; k++, t++) {
            const double *v = slices.v + (o * taps + k) * taps;
            const float *w = conv->weights + o * cols * taps;
            for (int64_t i = 0; i < cols; i++) {
                u[i] = 0;
                for (int64_t s = 0; s < taps; s++) u[i] += w[i * taps + s] * v[s];
            }
            nd_pwdw_set(out, o, k, t, u, v);
        }
done:
    free(u);
    free(kept);
    nd_slices_free(&slices);
    return status;
}

const nd_method nd_method_pwdw = {
    .name = "pwdw",
    .text = "pointwise, then depthwise: SVD of each W[o]",
    .applies = pwdw_applies,
    .max_rank = pwdw_max_rank,
    .step = pwdw_step,
    .channels = pwdw_channels,
    .shape = pwdw_shape,
    .spectrum = pwdw_spectrum,
    .decompose = pwdw_decompose,
};
