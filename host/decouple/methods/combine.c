/* The combinations. The rank is that of the outer method; the inner one's follows from it by a rule below, so
 * that a combination has one knob like any other method. Stages are replaced through the chain algebra, where
 * that makes them cheaper; then the last stage is refitted on what really reaches it: the reference code
 * leaves that error standing. */
#include "decouple/methods/combine.h"

#include "decouple/fit/refit.h"

#include <math.h>
#include <stdlib.h>

/* One stage that is decomposed again, and its rank there when the whole conv has an outer rank. */
typedef struct inner {
    const nd_method *method;
    int stage;
    int64_t (*rank)(const nd_conv *conv, int64_t outer, const nd_method *method, const nd_conv *stage);
} inner;

enum { inners_max = 2, most_steps = 64 };

typedef struct combination {
    const nd_method *outer;
    bool pruned;              /* first of all on fewer input channels */
    inner inners[inners_max]; /* from the last stage to the first, so that stage numbers stay good */
    int n;
} combination;

/* Narrow bottlenecks go with few terms: both are shares of what the kernel needs in full. A stage that comes
 * to all its taps stays as it is. */
static int64_t growing_terms(const nd_conv *conv, int64_t outer, const nd_method *method,
                             const nd_conv *stage) {
    int64_t taps = nd_conv_taps(stage), rows = conv->no / conv->groups, width = outer / conv->groups;
    int64_t terms = (int64_t)lround((double)taps * sqrt((double)width / (double)rows));
    int64_t most = width < taps ? width : taps;
    return (terms < 1 ? 1 : terms > most ? most : terms) * method->channels(stage);
}

static int64_t same_rank(const nd_conv *conv, int64_t outer, const nd_method *method, const nd_conv *stage) {
    (void)conv;
    (void)method;
    (void)stage;
    return outer;
}

static const combination spatial_dwpw = {
    .outer = &nd_method_spatial,
    .inners = {{&nd_method_dwpw, 1, growing_terms}, {&nd_method_dwpw, 0, growing_terms}},
    .n = 2};
static const combination channel_dwpw = {
    .outer = &nd_method_channel, .inners = {{&nd_method_dwpw, 0, growing_terms}}, .n = 1};
static const combination channel_pwdw = {
    .outer = &nd_method_channel, .inners = {{&nd_method_pwdw, 0, growing_terms}}, .n = 1};
static const combination spatial_channel = {
    .outer = &nd_method_spatial, .inners = {{&nd_method_channel, 1, same_rank}}, .n = 1};
static const combination spatial_channel_pwdw = {
    .outer = &nd_method_spatial_channel,
    .inners = {{&nd_method_pwdw, 1, growing_terms}, {&nd_method_pwdw, 0, growing_terms}},
    .n = 2};
static const combination prune_dwpw = {.outer = &nd_method_dwpw, .pruned = true};
static const combination prune_pwdw = {.outer = &nd_method_pwdw, .pruned = true};
static const combination prune_channel = {.outer = &nd_method_channel, .pruned = true};
static const combination prune_channel_pwdw = {.outer = &nd_method_channel_pwdw, .pruned = true};
static const combination prune_spatial_channel = {.outer = &nd_method_spatial_channel, .pruned = true};
static const combination prune_spatial_channel_pwdw = {.outer = &nd_method_spatial_channel_pwdw,
                                                       .pruned = true};

/* The conv on the channels that pruning leaves: 1/1.15 of them, as the authors of the pipeline of three
 * methods had it (method.md, "Channel pruning"). Without the weights. */
static nd_conv slim_conv(const combination *c, const nd_conv *conv) {
    nd_conv slim = *conv;
    if (!c->pruned) return slim;
    slim.ni = (conv->ni / conv->groups * 100 + 114) / 115 * conv->groups;
    slim.weights = NULL;
    return slim;
}

/* The rank of an inner method on a stage, weights or none; 0 where the stage is better left alone. */
static int64_t inner_rank(const inner *in, const nd_conv *conv, int64_t outer, const nd_conv *stage) {
    if (!in->method->applies(stage)) return 0;
    int64_t rank = in->rank(conv, outer, in->method, stage), most = in->method->max_rank(stage);
    if (rank > most) rank = most;
    return nd_method_macs(in->method, stage, nd_ranks_uniform, rank) < nd_conv_macs(stage) ? rank : 0;
}

static void combination_shape(const combination *c, const nd_conv *whole, nd_ranks ranks, int64_t rank,
                              nd_chain *out) {
    nd_chain outer = {0};
    const nd_conv slim = slim_conv(c, whole), *conv = &slim;
    c->outer->shape(conv, ranks, rank, &outer);
    for (int s = 0; s < outer.n; s++) {
        const nd_stage *own = &outer.stages[s];
        nd_conv stage = nd_chain_stage_conv(&outer, conv, s);
        int64_t inside = 0;
        for (int i = 0; i < c->n && !inside; i++) {
            if (c->inners[i].stage != s) continue;
            inside = inner_rank(&c->inners[i], conv, rank, &stage);
            if (inside) c->inners[i].method->shape(&stage, nd_ranks_uniform, inside, out);
        }
        if (!inside) nd_shape_add(out, own->suffix, &own->window, own->no, own->ni, own->groups);
    }
    if (c->pruned) out->reads = slim.ni;
}

static bool combination_applies(const combination *c, const nd_conv *whole) {
    const nd_conv slim = slim_conv(c, whole), *conv = &slim;
    if (!c->outer->applies(conv)) return false;
    int64_t step = c->outer->step(conv, nd_ranks_uniform);
    nd_chain widest = {0};
    c->outer->shape(conv, nd_ranks_uniform, c->outer->max_rank(conv) / step * step, &widest);
    for (int i = 0; i < c->n; i++) {
        nd_conv stage = nd_chain_stage_conv(&widest, conv, c->inners[i].stage);
        if (!c->inners[i].method->applies(&stage)) return false;
    }
    return true;
}

nd_status nd_chain_redo_stage(nd_backend *backend, const nd_method *method, int index, int64_t rank,
                              const nd_conv *conv, const nd_moments *moments, nd_chain *chain) {
    nd_status status = nd_status_ok;
    nd_moments *own = NULL;
    nd_chain replacement = {0};
    nd_conv stage = nd_chain_stage_conv(chain, conv, index);
    if (moments) ND_TRY_DONE(nd_moments_of_stage(moments, backend, conv, chain, index, &own));
    ND_TRY_DONE(method->decompose(backend, &stage, nd_ranks_uniform, rank, own, &replacement));
    if (index + 1 < chain->n) ND_TRY_DONE(nd_chain_set_bias(&replacement, NULL));
    ND_TRY_DONE(nd_chain_splice(chain, index, &replacement));
done:
    nd_chain_free(&replacement);
    nd_moments_free(own);
    return status;
}

/* Wide layers have hundreds of ranks, each of them a decomposition: no more than some are tried. */
static int64_t combination_step(const combination *c, const nd_conv *conv, nd_ranks ranks) {
    nd_conv slim = slim_conv(c, conv);
    int64_t step = c->outer->step(&slim, ranks), steps = c->outer->max_rank(&slim) / step;
    return step * ((steps + most_steps - 1) / most_steps);
}

/* The outer method on what pruning leaves, the gather of its first stage in the conv's channels. */
static nd_status decompose_pruned(const combination *c, nd_backend *backend, const nd_conv *conv,
                                  nd_ranks ranks, int64_t rank, const nd_moments *moments, nd_chain *out) {
    nd_status status = nd_status_ok;
    nd_moments *own = NULL;
    nd_chain inside = {0};
    int64_t kept = slim_conv(c, conv).ni;
    ND_TRY(nd_method_prune.decompose(backend, conv, ranks, kept, moments, out));
    nd_conv slim = nd_chain_stage_conv(out, conv, 0);
    const int32_t *channel = out->stages[0].channel;
    if (moments && channel) ND_TRY(nd_moments_gather(moments, conv, &slim, channel, &own));
    ND_TRY_DONE(c->outer->decompose(backend, &slim, ranks, rank, own ? own : moments, &inside));
    ND_TRY_DONE(nd_chain_splice(out, 0, &inside));
done:
    nd_chain_free(&inside);
    nd_moments_free(own);
    return status;
}

static nd_status combination_decompose(const combination *c, nd_backend *backend, const nd_conv *conv,
                                       nd_ranks ranks, int64_t rank, const nd_moments *moments,
                                       nd_chain *out) {
    if (c->pruned) return decompose_pruned(c, backend, conv, ranks, rank, moments, out);
    ND_TRY(c->outer->decompose(backend, conv, ranks, rank, moments, out));
    for (int i = 0; i < c->n; i++) {
        const inner *in = &c->inners[i];
        nd_conv stage = nd_chain_stage_conv(out, conv, in->stage);
        int64_t inside = inner_rank(in, conv, rank, &stage);
        if (inside) ND_TRY(nd_chain_redo_stage(backend, in->method, in->stage, inside, conv, moments, out));
    }
    if (!moments) return nd_status_ok;
    ND_TRY(nd_refit_last(backend, conv, moments, out));
    return nd_refit_chain_bias(conv, moments, out);
}

nd_status nd_spectrum_by_rank(nd_backend *backend, const nd_method *method, const nd_conv *conv,
                              nd_ranks ranks, double **error2, double **energy, size_t *count) {
    nd_status status = nd_status_ok;
    int64_t step = method->step(conv, ranks), steps = method->max_rank(conv) / step;
    int64_t size = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    double *error = nd_alloc_array((size_t)steps + 1, sizeof *error), *w = NULL;
    double *share = nd_alloc_array((size_t)steps + 1, sizeof *share);
    nd_chain chain = {0};
    w = nd_alloc_array((size_t)size, sizeof *w);
    ND_REQUIRE_DONE(error && share && w, nd_status_memory, "conv %s: no memory for its spectrum", conv->name);
    for (int64_t e = 0; e < size; e++) error[0] += (double)conv->weights[e] * conv->weights[e];
    for (int64_t r = 1; r <= steps; r++) {
        ND_TRY_DONE(method->decompose(backend, conv, ranks, r * step, NULL, &chain));
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
#define COMBINATION(id, again, title, explanation)                                                           \
    static bool id##_applies(const nd_conv *conv) {                                                          \
        return combination_applies(&id, conv);                                                               \
    }                                                                                                        \
    static int64_t id##_max_rank(const nd_conv *conv) {                                                      \
        nd_conv slim = slim_conv(&id, conv);                                                                 \
        return id.outer->max_rank(&slim);                                                                    \
    }                                                                                                        \
    static int64_t id##_step(const nd_conv *conv, nd_ranks ranks) {                                          \
        return combination_step(&id, conv, ranks);                                                           \
    }                                                                                                        \
    static int64_t id##_channels(const nd_conv *conv) {                                                      \
        nd_conv slim = slim_conv(&id, conv);                                                                 \
        return id.outer->channels(&slim);                                                                    \
    }                                                                                                        \
    static void id##_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {               \
        combination_shape(&id, conv, ranks, rank, out);                                                      \
    }                                                                                                        \
    static nd_status id##_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks,                 \
                                   double **error2, double **energy, size_t *count) {                        \
        return nd_spectrum_by_rank(backend, &nd_method_##id, conv, ranks, error2, energy, count);            \
    }                                                                                                        \
    static nd_status id##_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,  \
                                    const nd_moments *moments, nd_chain *out) {                              \
        return combination_decompose(&id, backend, conv, ranks, rank, moments, out);                         \
    }                                                                                                        \
    const nd_method nd_method_##id = {                                                                       \
        .name = title,                                                                                       \
        .text = explanation,                                                                                 \
        .applies = id##_applies,                                                                             \
        .max_rank = id##_max_rank,                                                                           \
        .step = id##_step,                                                                                   \
        .channels = id##_channels,                                                                           \
        .shape = id##_shape,                                                                                 \
        .spectrum = id##_spectrum,                                                                           \
        .decompose = id##_decompose,                                                                         \
        .redone = again,                                                                                     \
    }

COMBINATION(spatial_dwpw, false, "spatial+dwpw",
            "spatial, then each of its two convs as DW+PW, terms growing with the width");
COMBINATION(channel_dwpw, true, "channel+dwpw",
            "channel, then its wide conv as DW+PW, terms growing with the width");
COMBINATION(channel_pwdw, true, "channel+pwdw",
            "channel, then its wide conv as PW+DW, terms growing with the width");
COMBINATION(spatial_channel, false, "spatial+channel",
            "spatial, then its horizontal conv to as many channels and pointwise");
COMBINATION(spatial_channel_pwdw, false, "spatial+channel+pwdw",
            "spatial+channel, then its two spatial convs as PW+DW, terms growing with the width");
COMBINATION(prune_dwpw, false, "prune+dwpw", "on 1/1.15 of its input channels, then dwpw");
COMBINATION(prune_pwdw, false, "prune+pwdw", "on 1/1.15 of its input channels, then pwdw");
COMBINATION(prune_channel, false, "prune+channel", "on 1/1.15 of its input channels, then channel");
COMBINATION(prune_channel_pwdw, false, "prune+channel+pwdw",
            "on 1/1.15 of its input channels, then channel+pwdw");
COMBINATION(prune_spatial_channel, false, "prune+spatial+channel",
            "on 1/1.15 of its input channels, then spatial+channel");
COMBINATION(prune_spatial_channel_pwdw, false, "prune+spatial+channel+pwdw",
            "on 1/1.15 of its input channels, then spatial+channel+pwdw");
