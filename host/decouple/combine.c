/* The combinations. The rank is that of the outer method; the inner one's follows from it by a rule below, so
 * that a combination has one knob like any other method. Stages are replaced through the chain algebra, then the
 * last stage is refitted on what really reaches it: the reference code leaves that error standing. */
#include "decouple/combine.h"

#include "decouple/refit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One stage that is decomposed again, and with how many terms a channel. */
typedef struct inner {
    const nd_method *method;
    int stage;
    int64_t (*terms)(const nd_conv *conv, int64_t rank); /* of the whole conv at the outer rank */
} inner;

enum { inners_max = 2 };

typedef struct combination {
    const nd_method *outer;
    inner inners[inners_max]; /* from the last stage to the first, so that stage numbers stay good */
    int n;
} combination;

static int64_t one_term(const nd_conv *conv, int64_t rank) {
    (void)conv;
    (void)rank;
    return 1;
}

/* Narrow bottlenecks go with few terms: both are shares of what the kernel needs in full. */
static int64_t growing_terms(const nd_conv *conv, int64_t rank) {
    int64_t taps = nd_conv_taps(conv), rows = conv->no / conv->groups;
    double share = (double)(rank / conv->groups) / (double)rows;
    int64_t terms = (int64_t)lround((double)taps * sqrt(share));
    int64_t most = rank / conv->groups < taps ? rank / conv->groups : taps;
    return terms < 1 ? 1 : terms > most ? most : terms;
}

static const combination spatial_dwpw = {
    &nd_method_spatial, {{&nd_method_dwpw, 1, one_term}, {&nd_method_dwpw, 0, one_term}}, 2};
static const combination channel_dwpw = {&nd_method_channel, {{&nd_method_dwpw, 0, growing_terms}}, 1};
static const combination channel_pwdw = {&nd_method_channel, {{&nd_method_pwdw, 0, growing_terms}}, 1};

/* The outer chain's shape at a rank, without its weights. */
static nd_conv stage_shape(const combination *c, const nd_conv *conv, int64_t rank, int index) {
    nd_conv stage = *conv;
    bool spatial = c->outer == &nd_method_spatial;
    stage.bias = index ? conv->bias : NULL;
    stage.weights = NULL;
    stage.no = index ? conv->no : rank;
    stage.ni = index ? rank : conv->ni;
    if (index) {
        stage.in_h = nd_conv_out_h(conv);
        stage.in_w = spatial ? conv->in_w : nd_conv_out_w(conv);
    }
    for (int axis = 0; axis < 2; axis++) {
        bool carries = spatial ? axis == index : index == 0;
        if (carries) continue;
        stage.window.kernel[axis] = stage.window.stride[axis] = stage.window.dilation[axis] = 1;
        stage.window.pad[axis] = stage.window.pad[axis + 2] = 0;
    }
    return stage;
}

static const inner *inner_of(const combination *c, int index) {
    for (int i = 0; i < c->n; i++)
        if (c->inners[i].stage == index) return &c->inners[i];
    return NULL;
}

static int64_t inner_rank(const inner *in, const nd_conv *conv, int64_t rank, const nd_conv *stage) {
    int64_t wanted = in->terms(conv, rank) * in->method->channels(stage), most = in->method->max_rank(stage);
    return wanted < most ? wanted : most;
}

static int64_t sum_over_stages(const combination *c, const nd_conv *conv, int64_t rank, bool macs) {
    int64_t sum = 0;
    for (int s = 0; s < 2; s++) {
        nd_conv stage = stage_shape(c, conv, rank, s);
        const inner *in = inner_of(c, s);
        int64_t weights = stage.no * (stage.ni / stage.groups) * nd_conv_taps(&stage);
        if (!in || !in->method->applies(&stage)) {
            sum += macs ? nd_conv_macs(&stage) : weights + (stage.bias ? stage.no : 0);
            continue;
        }
        int64_t r = inner_rank(in, conv, rank, &stage);
        sum += macs ? in->method->macs(&stage, nd_ranks_uniform, r)
                    : in->method->params(&stage, nd_ranks_uniform, r);
    }
    return sum;
}

static bool combination_applies(const combination *c, const nd_conv *conv) {
    if (!c->outer->applies(conv)) return false;
    int64_t step = c->outer->step(conv, nd_ranks_uniform);
    for (int i = 0; i < c->n; i++) {
        nd_conv stage = stage_shape(c, conv, c->outer->max_rank(conv) / step * step, c->inners[i].stage);
        if (!c->inners[i].method->applies(&stage)) return false;
    }
    return true;
}

/* Least rank at which every inner method applies: a bottleneck of one channel a group has nothing to spread. */
static int64_t combination_step(const nd_conv *conv) {
    return conv->groups;
}

static nd_status replace_stage(nd_backend *backend, const inner *in, const nd_conv *conv, int64_t rank,
                               const nd_moments *moments, nd_chain *chain) {
    nd_status status = nd_status_ok;
    nd_moments *own = NULL;
    nd_chain replacement = {0};
    nd_conv stage = nd_chain_stage_conv(chain, conv, in->stage);
    if (!in->method->applies(&stage)) return nd_status_ok;
    if (moments) ND_TRY_DONE(nd_moments_of_stage(moments, conv, chain, in->stage, &own));
    ND_TRY_DONE(in->method->decompose(backend, &stage, nd_ranks_uniform, inner_rank(in, conv, rank, &stage),
                                      own, &replacement));
    if (in->stage + 1 < chain->n) ND_TRY_DONE(nd_chain_set_bias(&replacement, NULL));
    ND_TRY_DONE(nd_chain_splice(chain, in->stage, &replacement));
done:
    nd_chain_free(&replacement);
    nd_moments_free(own);
    return status;
}

static nd_status combination_decompose(const combination *c, nd_backend *backend, const nd_conv *conv,
                                       int64_t rank, const nd_moments *moments, nd_chain *out) {
    ND_TRY(c->outer->decompose(backend, conv, nd_ranks_uniform, rank, moments, out));
    for (int i = 0; i < c->n; i++) ND_TRY(replace_stage(backend, &c->inners[i], conv, rank, moments, out));
    if (!moments) return nd_status_ok;
    ND_TRY(nd_refit_last(backend, conv, moments, out));
    return nd_refit_chain_bias(conv, moments, out);
}

/* From the weights alone by decomposing at every rank: the inner error has no closed form. */
static nd_status combination_spectrum(const combination *c, nd_backend *backend, const nd_conv *conv,
                                      double **error2, double **energy, size_t *count) {
    nd_status status = nd_status_ok;
    int64_t step = combination_step(conv), steps = c->outer->max_rank(conv) / step;
    int64_t size = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    double *error = nd_alloc_array((size_t)steps + 1, sizeof *error), *w = NULL;
    double *share = nd_alloc_array((size_t)steps + 1, sizeof *share);
    nd_chain chain = {0};
    w = nd_alloc_array((size_t)size, sizeof *w);
    ND_REQUIRE_DONE(error && share && w, nd_status_memory, "conv %s: no memory for its spectrum", conv->name);
    for (int64_t e = 0; e < size; e++) error[0] += (double)conv->weights[e] * conv->weights[e];
    for (int64_t r = 1; r <= steps; r++) {
        ND_TRY_DONE(combination_decompose(c, backend, conv, r * step, NULL, &chain));
        ND_TRY_DONE(nd_chain_compose(&chain, conv, w));
        nd_chain_free(&chain);
        for (int64_t e = 0; e < size; e++) error[r] += (w[e] - conv->weights[e]) * (w[e] - conv->weights[e]);
    }
    for (int64_t r = 0; r <= steps; r++) share[r] = error[0] > 0 ? fmax(0, 1 - error[r] / error[0]) : 1;
    *error2 = error;
    *energy = share;
    *count = (size_t)steps + 1;
    error = share = NULL;
done:
    nd_chain_free(&chain);
    free(error);
    free(share);
    free(w);
    return status;
}

/* nd_method has no room for a context, so each combination gets its own set of one-line functions. */
#define COMBINATION(id, title, explanation)                                                                  \
    static bool id##_applies(const nd_conv *conv) {                                                          \
        return combination_applies(&id, conv);                                                               \
    }                                                                                                        \
    static int64_t id##_max_rank(const nd_conv *conv) {                                                      \
        return id.outer->max_rank(conv);                                                                     \
    }                                                                                                        \
    static int64_t id##_step(const nd_conv *conv, nd_ranks ranks) {                                          \
        (void)ranks;                                                                                         \
        return combination_step(conv);                                                                       \
    }                                                                                                        \
    static int64_t id##_channels(const nd_conv *conv) {                                                      \
        (void)conv;                                                                                          \
        return 1;                                                                                            \
    }                                                                                                        \
    static int64_t id##_macs(const nd_conv *conv, nd_ranks ranks, int64_t rank) {                            \
        (void)ranks;                                                                                         \
        return sum_over_stages(&id, conv, rank, true);                                                       \
    }                                                                                                        \
    static int64_t id##_params(const nd_conv *conv, nd_ranks ranks, int64_t rank) {                          \
        (void)ranks;                                                                                         \
        return sum_over_stages(&id, conv, rank, false);                                                      \
    }                                                                                                        \
    static nd_status id##_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks,                 \
                                   double **error2, double **energy, size_t *count) {                        \
        (void)ranks;                                                                                         \
        return combination_spectrum(&id, backend, conv, error2, energy, count);                              \
    }                                                                                                        \
    static nd_status id##_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,  \
                                    const nd_moments *moments, nd_chain *out) {                              \
        (void)ranks;                                                                                         \
        return combination_decompose(&id, backend, conv, rank, moments, out);                                \
    }                                                                                                        \
    const nd_method nd_method_##id = {                                                                       \
        .name = title,                                                                                       \
        .text = explanation,                                                                                 \
        .applies = id##_applies,                                                                             \
        .max_rank = id##_max_rank,                                                                           \
        .step = id##_step,                                                                                   \
        .channels = id##_channels,                                                                           \
        .macs = id##_macs,                                                                                   \
        .params = id##_params,                                                                               \
        .spectrum = id##_spectrum,                                                                           \
        .decompose = id##_decompose,                                                                         \
    }

COMBINATION(spatial_dwpw, "spatial+dwpw", "spatial, then each of its two convs as one DW+PW term a channel");
COMBINATION(channel_dwpw, "channel+dwpw",
            "channel, then its wide conv as DW+PW, terms growing with the width");
COMBINATION(channel_pwdw, "channel+pwdw",
            "channel, then its wide conv as PW+DW, terms growing with the width");
