/* Channel pruning (He et al. 2017): the kernel on fewer of its input channels. On data these are chosen by
 * LASSO on how much each channel contributes to the response, all outputs together, and the kernel is fitted
 * to them by least squares (method.md, "Channel pruning"); from the weights alone those with the largest
 * kernels stay as they are. What a pruned conv no longer reads, nd_graph_shrink takes out of the layers
 * before. */
#include "decouple/fit/refit.h"
#include "decouple/methods/method.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { lasso_cycles = 200, lasso_bisections = 40 };
static const double lasso_tolerance = 1e-7;
static const double smallest_penalty = 1e-9; /* of the one that leaves no channel */

static bool prune_applies(const nd_conv *conv) {
    return nd_conv_taps(conv) > 1 && conv->ni > conv->groups;
}

static int64_t prune_max_rank(const nd_conv *conv) {
    return conv->ni;
}

static int64_t prune_step(const nd_conv *conv, nd_ranks ranks) {
    (void)ranks;
    return conv->groups;
}

static int64_t prune_channels(const nd_conv *conv) {
    (void)conv;
    return 1;
}

static void prune_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {
    (void)ranks;
    nd_shape_add(out, "", &conv->window, conv->no, rank, conv->groups);
    out->reads = rank;
}

/* What speaks for a channel: whether LASSO keeps it, then how much it contributes. */
typedef struct claim {
    bool kept;
    double weight;
    int32_t channel;
} claim;

static int compare_claims(const void *a, const void *b) {
    const claim *x = a, *y = b;
    if (x->kept != y->kept) return x->kept ? -1 : 1;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return (x->channel > y->channel) - (x->channel < y->channel);
}

static int compare_channels(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* |W[:, i]|^2 of the channels of one group. */
static void claim_by_norm(const nd_conv *conv, int64_t group, claim *claims) {
    int64_t rows = conv->no / conv->groups, cols = conv->ni / conv->groups, taps = nd_conv_taps(conv);
    for (int64_t i = 0; i < cols; i++) {
        claims[i] = (claim){.channel = (int32_t)(group * cols + i)};
        for (int64_t o = group * rows; o < (group + 1) * rows; o++)
            for (int64_t t = 0; t < taps; t++) {
                double w = conv->weights[(o * cols + i) * taps + t];
                claims[i].weight += w * w;
            }
    }
}

/* Least squares of the response on the contributions z_i = W[:, i] p_i of n channels, in moments. */
typedef struct lasso {
    int64_t n;
    double *a;            /* [n][n]: E[z_i . z_j] */
    double *b;            /* [n]: E[z_i . y] */
    double *beta, *slope; /* slope = b - a beta */
} lasso;

static nd_status contributions(nd_backend *backend, const nd_conv *conv, const nd_moments *m, int64_t group,
                               lasso *out) {
    int64_t rows = conv->no / conv->groups, k = m->k, taps = nd_conv_taps(conv);
    const double *g = m->g + group * k * k, *h = m->h + group * rows * k;
    double *w = nd_alloc_array((size_t)(rows * k), 2 * sizeof *w), *wg = w + rows * k;
    ND_REQUIRE(w, nd_status_memory, "conv %s: no memory for its contributions", conv->name);
    for (int64_t e = 0; e < rows * k; e++) w[e] = conv->weights[group * rows * k + e];
    memset(out->a, 0, (size_t)(out->n * out->n) * sizeof *out->a);
    memset(out->b, 0, (size_t)out->n * sizeof *out->b);
    nd_status status = nd_status_ok;
    for (int64_t i = 0; !status && i < out->n; i++) {
        status = backend->table->linalg.gemm(backend, false, false, rows, k, taps, 1, w + i * taps, k,
                                             g + i * taps * k, k, 0, wg, k);
        for (int64_t o = 0; !status && o < rows; o++) {
            for (int64_t e = 0; e < k; e++) out->a[i * out->n + e / taps] += wg[o * k + e] * w[o * k + e];
            for (int64_t t = i * taps; t < (i + 1) * taps; t++) out->b[i] += w[o * k + t] * h[o * k + t];
        }
    }
    free(w);
    return status;
}

/* argmin of beta a beta / 2 - b beta + penalty |beta| by coordinate descent from where it stands; the number
 * of channels it keeps. */
static int64_t descend(lasso *l, double penalty) {
    double scale = 0;
    for (int64_t i = 0; i < l->n; i++) scale = fmax(scale, fabs(l->b[i]));
    for (int cycle = 0; cycle < lasso_cycles; cycle++) {
        double largest = 0;
        for (int64_t i = 0; i < l->n; i++) {
            const double *a = l->a + i * l->n;
            if (!(a[i] > 0)) continue;
            double correlation = l->slope[i] + a[i] * l->beta[i], rest = fabs(correlation) - penalty;
            double change = (rest > 0 ? copysign(rest, correlation) / a[i] : 0) - l->beta[i];
            if (change == 0) continue;
            l->beta[i] += change;
            for (int64_t j = 0; j < l->n; j++) l->slope[j] -= change * a[j];
            largest = fmax(largest, fabs(change) * a[i]);
        }
        if (largest <= lasso_tolerance * scale) break;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < l->n; i++) kept += l->beta[i] != 0;
    return kept;
}

/* The largest penalty that keeps at least `wanted` channels; all that can be kept where that is fewer. */
static void bisect_penalty(lasso *l, int64_t wanted, double *best) {
    double most = 0;
    memset(l->beta, 0, (size_t)l->n * sizeof *l->beta);
    memcpy(l->slope, l->b, (size_t)l->n * sizeof *l->slope);
    for (int64_t i = 0; i < l->n; i++) most = fmax(most, fabs(l->b[i]));
    memset(best, 0, (size_t)l->n * sizeof *best);
    if (!(most > 0)) return;
    double low = log(most * smallest_penalty), high = log(most);
    bool reached = false;
    for (int step = 0; step < lasso_bisections && (high - low > 1e-6 || !reached); step++) {
        double middle = step ? (low + high) / 2 : low;
        bool enough = descend(l, exp(middle)) >= wanted;
        if (enough || !step) memcpy(best, l->beta, (size_t)l->n * sizeof *best);
        if (!enough && !step) return;
        reached = reached || enough;
        if (enough)
            low = middle;
        else
            high = middle;
    }
}

static nd_status claim_by_lasso(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                                int64_t group, int64_t wanted, claim *claims) {
    int64_t n = conv->ni / conv->groups;
    lasso l = {.n = n};
    double *memory = nd_alloc_array((size_t)n, (size_t)(n + 4) * sizeof *memory);
    ND_REQUIRE(memory, nd_status_memory, "conv %s: no memory for choosing channels", conv->name);
    l.a = memory;
    l.b = l.a + n * n;
    l.beta = l.b + n;
    l.slope = l.beta + n;
    double *best = l.slope + n;
    nd_status status = contributions(backend, conv, moments, group, &l);
    if (!status) bisect_penalty(&l, wanted, best);
    for (int64_t i = 0; !status && i < n; i++) {
        double energy = l.a[i * n + i];
        claims[i] = (claim){best[i] != 0, best[i] != 0 ? best[i] * best[i] * energy : energy,
                            (int32_t)(group * n + i)};
    }
    free(memory);
    return status;
}

/* channel[rank], rising: the same number of every group. */
static nd_status choose_channels(nd_backend *backend, const nd_conv *conv, int64_t rank,
                                 const nd_moments *moments, int32_t *channel) {
    int64_t cols = conv->ni / conv->groups, per_group = rank / conv->groups;
    claim *claims = nd_alloc_array((size_t)cols, sizeof *claims);
    ND_REQUIRE(claims, nd_status_memory, "conv %s: no memory for choosing channels", conv->name);
    nd_status status = nd_status_ok;
    for (int64_t g = 0; !status && g < conv->groups; g++) {
        if (moments)
            status = claim_by_lasso(backend, conv, moments, g, per_group, claims);
        else
            claim_by_norm(conv, g, claims);
        qsort(claims, (size_t)cols, sizeof *claims, compare_claims);
        int32_t *own = channel + g * per_group;
        for (int64_t c = 0; c < per_group; c++) own[c] = claims[c].channel;
        qsort(own, (size_t)per_group, sizeof *own, compare_channels);
    }
    free(claims);
    return status;
}

static nd_status prune_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                 const nd_moments *moments, nd_chain *out) {
    int64_t cols = conv->ni / conv->groups, per_group = rank / conv->groups, taps = nd_conv_taps(conv);
    int64_t rows = conv->no / conv->groups;
    prune_shape(conv, ranks, rank, out);
    ND_TRY(nd_chain_allocate(out, conv));
    nd_stage *stage = &out->stages[0];
    if (stage->channel) ND_TRY(choose_channels(backend, conv, rank, moments, stage->channel));
    for (int64_t o = 0; o < conv->no; o++)
        for (int64_t c = 0; c < per_group; c++) {
            int64_t i = stage->channel ? stage->channel[o / rows * per_group + c] % cols : c;
            memcpy(stage->weights + (o * per_group + c) * taps, conv->weights + (o * cols + i) * taps,
                   (size_t)taps * sizeof *stage->weights);
        }
    if (!moments) return nd_status_ok;
    ND_TRY(nd_refit_last(backend, conv, moments, out));
    return nd_refit_chain_bias(conv, moments, out);
}

/* The tails of the channels' norms, the largest of each group first. */
static nd_status prune_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                                double **energy, size_t *count) {
    (void)backend;
    (void)ranks;
    nd_status status = nd_status_ok;
    int64_t cols = conv->ni / conv->groups;
    claim *claims = nd_alloc_array((size_t)cols, sizeof *claims);
    double *error = nd_alloc_array((size_t)cols + 1, sizeof *error);
    double *share = nd_alloc_array((size_t)cols + 1, sizeof *share);
    ND_REQUIRE_DONE(claims && error && share, nd_status_memory, "conv %s: no memory for its spectrum",
                    conv->name);
    for (int64_t g = 0; g < conv->groups; g++) {
        claim_by_norm(conv, g, claims);
        qsort(claims, (size_t)cols, sizeof *claims, compare_claims);
        double tail = 0;
        for (int64_t c = cols - 1; c >= 0; c--) error[c] += tail += claims[c].weight;
    }
    for (int64_t c = 0; c <= cols; c++) share[c] = error[0] > 0 ? 1 - error[c] / error[0] : 1;
    *error2 = error;
    *energy = share;
    *count = (size_t)cols + 1;
    error = share = NULL;
done:
    free(claims);
    free(error);
    free(share);
    return status;
}

const nd_method nd_method_prune = {
    .name = "prune",
    .text = "the kernel on fewer input channels, which the layers before then need not compute",
    .applies = prune_applies,
    .max_rank = prune_max_rank,
    .step = prune_step,
    .channels = prune_channels,
    .shape = prune_shape,
    .spectrum = prune_spectrum,
    .decompose = prune_decompose,
};
