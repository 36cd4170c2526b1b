#include "decouple/fit/features.h"
#include "decouple/methods/combine.h"

#include <stdlib.h>
#include <string.h>

/* The patch entries of the conv that make one patch of stage 0, for one placement of its window. */
static void first_entries(const nd_conv *conv, const nd_conv *stage, int64_t y, int64_t x, int64_t *entries) {
    int64_t cols = conv->ni / conv->groups, e = 0;
    const int64_t *kernel = conv->window.kernel, *own = stage->window.kernel;
    for (int64_t i = 0; i < cols; i++)
        for (int64_t ky = 0; ky < own[0]; ky++)
            for (int64_t kx = 0; kx < own[1]; kx++)
                entries[e++] = (i * kernel[0] + y + ky) * kernel[1] + x + kx;
}

/* g and mean_p over all placements of the stage's window in the conv's. */
static void first_moments(const nd_moments *m, const nd_conv *conv, const nd_conv *stage, int64_t *entries,
                          nd_moments *out) {
    int64_t ys = conv->window.kernel[0] - stage->window.kernel[0] + 1;
    int64_t xs = conv->window.kernel[1] - stage->window.kernel[1] + 1, k = out->k;
    double share = 1.0 / (double)(ys * xs);
    for (int64_t g = 0; g < m->groups; g++) {
        const double *from = m->g + g * m->k * m->k;
        double *to = out->g + g * k * k;
        for (int64_t place = 0; place < ys * xs; place++) {
            first_entries(conv, stage, place / xs, place % xs, entries);
            for (int64_t a = 0; a < k; a++) {
                out->mean_p[g * k + a] += share * m->mean_p[g * m->k + entries[a]];
                for (int64_t b = 0; b < k; b++) to[a * k + b] += share * from[entries[a] * m->k + entries[b]];
            }
        }
    }
}

/* The stage's own output as the target: h = W g, mean_y = W mean_p. */
static nd_status own_target(const nd_conv *stage, nd_backend *backend, nd_moments *out) {
    const nd_linalg *linalg = &backend->table->linalg;
    const int64_t rows = stage->no / stage->groups, k = out->k;
    double *weights = nd_alloc_array((size_t)(stage->no * k), sizeof *weights);
    nd_status status = nd_status_ok;
    ND_REQUIRE(weights, nd_status_memory, "conv %s: no memory for the moments of a stage", stage->name);
    for (int64_t i = 0; i < stage->no * k; i++) weights[i] = (double)stage->weights[i];
    for (int64_t q = 0; q < out->groups; q++)
        ND_TRY_DONE(linalg->gemm(backend, false, false, rows, k, k, 1, weights + q * rows * k, k,
                                 out->g + q * k * k, k, 0, out->h + q * rows * k, k));
    for (int64_t o = 0; o < stage->no; o++)
        for (int64_t a = 0; a < k; a++) {
            out->mean_y[o] += weights[o * k + a] * out->mean_p[o / rows * k + a];
            out->vy += weights[o * k + a] * out->h[o * k + a];
        }
done:
    free(weights);
    return status;
}

/* g = E g E^T and mean_p = E mean_p for the features E that reach the stage; for the last one also h =
 * h E^T. */
static nd_status feature_moments(const nd_moments *m, nd_backend *backend, const nd_conv *conv,
                                 const nd_chain *chain, int index, bool last, nd_moments *out) {
    const int64_t rows = out->no / out->groups, k = out->k;
    nd_functionals in = {0}, features = {0};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_chain_functionals(chain, conv, index, &in));
    for (int64_t q = 0; q < out->groups; q++) {
        ND_TRY_DONE(nd_features_of_stage(chain, conv, index, &in, q, 1, &features));
        ND_TRY_DONE(nd_features_gram(backend, &features, m->k, m->g + q * m->k * m->k, out->g + q * k * k));
        ND_TRY_DONE(nd_features_dot(backend, &features, 1, m->k, m->mean_p + q * m->k, out->mean_p + q * k));
        if (last)
            ND_TRY_DONE(nd_features_dot(backend, &features, rows, m->k, m->h + q * rows * m->k,
                                        out->h + q * rows * k));
        nd_functionals_free(&features);
    }
    if (last) {
        memcpy(out->mean_y, m->mean_y, (size_t)m->no * sizeof *out->mean_y);
        out->vy = m->vy;
        if (out->groups == m->groups) out->metric = m->metric;
    }
done:
    nd_functionals_free(&in);
    nd_functionals_free(&features);
    return status;
}

nd_status nd_moments_of_stage(const nd_moments *moments, nd_backend *backend, const nd_conv *conv,
                              const nd_chain *chain, int index, nd_moments **out) {
    nd_status status = nd_status_ok;
    nd_moments *m = NULL;
    nd_conv stage = nd_chain_stage_conv(chain, conv, index);
    int64_t *entries = nd_alloc_array((size_t)moments->k, sizeof *entries);
    ND_REQUIRE_DONE(entries, nd_status_memory, "conv %s: no memory for the moments of a stage", conv->name);
    bool last = index > 0 && index + 1 == chain->n, one_place = true;
    for (int s = index + 1; s < chain->n; s++) {
        const nd_window *window = &chain->stages[s].window;
        one_place = one_place && window->kernel[0] * window->kernel[1] == 1;
    }
    ND_REQUIRE_DONE(stage.groups == conv->groups && !chain->stages[index].channel &&
                        (index == 0 || one_place),
                    nd_status_internal, "conv %s: stage %d has no moments", conv->name, index);
    ND_TRY_DONE(nd_moments_new(&stage, &m));
    m->pixels = moments->pixels;
    if (index == 0)
        first_moments(moments, conv, &stage, entries, m);
    else
        ND_TRY_DONE(feature_moments(moments, backend, conv, chain, index, last, m));
    if (!last) ND_TRY_DONE(own_target(&stage, backend, m));
    nd_moments_ridge(m, &stage, 1e-6); /* the conv's own ridge is in g already */
done:
    free(entries);
    if (status)
        nd_moments_free(m);
    else
        *out = m;
    return status;
}

nd_status nd_moments_gather(const nd_moments *moments, const nd_conv *conv, const nd_conv *slim,
                            const int32_t *channel, nd_moments **out) {
    nd_moments *m = NULL;
    int64_t taps = nd_conv_taps(conv), cols = conv->ni / conv->groups, rows = conv->no / conv->groups;
    ND_TRY(nd_moments_new(slim, &m));
    int64_t k = m->k, per_group = slim->ni / slim->groups;
    int32_t *entry = nd_alloc_array((size_t)k, sizeof *entry);
    if (!entry) {
        nd_moments_free(m);
        return nd_fail(nd_status_memory, "conv %s: no memory for the moments of some channels", conv->name);
    }
    m->pixels = moments->pixels;
    m->vy = moments->vy;
    m->metric = moments->metric;
    memcpy(m->mean_y, moments->mean_y, (size_t)m->no * sizeof *m->mean_y);
    memcpy(m->ridge, moments->ridge, (size_t)m->groups * sizeof *m->ridge);
    for (int64_t q = 0; q < m->groups; q++) {
        const double *g = moments->g + q * moments->k * moments->k;
        for (int64_t a = 0; a < k; a++)
            entry[a] = (int32_t)(channel[q * per_group + a / taps] % cols * taps + a % taps);
        for (int64_t a = 0; a < k; a++) {
            m->mean_p[q * k + a] = moments->mean_p[q * moments->k + entry[a]];
            for (int64_t b = 0; b < k; b++) m->g[(q * k + a) * k + b] = g[entry[a] * moments->k + entry[b]];
            for (int64_t o = q * rows; o < (q + 1) * rows; o++)
                m->h[o * k + a] = moments->h[o * moments->k + entry[a]];
        }
    }
    free(entry);
    *out = m;
    return nd_status_ok;
}
