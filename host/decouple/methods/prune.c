/* Channel pruning (He et al. 2017): the kernel on fewer of its input channels. On data these are chosen by
 * LASSO on how much each channel contributes to the response, all outputs together, and the kernel is fitted
 * to them by least squares (method.md, "Channel pruning"); from the weights alone those with the largest
 * kernels stay as they are. What a pruned conv no longer reads, nd_graph_shrink takes out of the layers
 * before. */
#include "decouple/fit/found.h"
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
    const double *a;      /* [n][n]: E[z_i . z_j] */
    const double *b;      /* [n]: E[z_i . y] */
    double *beta, *slope; /* slope = b - a beta */
} lasso;

enum { panel_channels = 64 };

/* a[i][j] = <G_ij, W_i^T W_j> over the taps of both, a panel of channels i at a time; those from the panel
 * on, and their mirrors. gram[panel_channels taps][k]. */
static nd_status contributions_of(nd_backend *backend, int64_t rows, int64_t n, int64_t taps, const double *w,
                                  const double *g, double *gram, double *a) {
    const int64_t k = n * taps;
    for (int64_t first = 0; first < n; first += panel_channels) {
        const int64_t count = first + panel_channels < n ? panel_channels : n - first;
        const int64_t from = first * taps, width = k - from;
        ND_TRY(backend->table->linalg.gemm(backend, true, false, count * taps, width, rows, 1, w + from, k,
                                           w + from, k, 0, gram, width));
        for (int64_t r = 0; r < count * taps; r++)
            for (int64_t e = 0; e < width; e++)
                a[(first + r / taps) * n + first + e / taps] +=
                    gram[r * width + e] * g[(from + r) * k + from + e];
        for (int64_t i = first; i < first + count; i++)
            for (int64_t j = first + count; j < n; j++) a[j * n + i] = a[i * n + j];
    }
    return nd_status_ok;
}

/* a[n][n] and b[n] of every group. */
static nd_status find_contributions(nd_backend *backend, const nd_conv *conv, const nd_moments *m,
                                    double *out) {
    const int64_t rows = conv->no / conv->groups, k = m->k, taps = nd_conv_taps(conv), n = k / taps;
    double *w = nd_alloc_array((size_t)(rows + panel_channels * taps), (size_t)k * sizeof *w);
    ND_REQUIRE(w, nd_status_memory, "conv %s: no memory for its contributions", conv->name);
    nd_status status = nd_status_ok;
    for (int64_t q = 0; !status && q < conv->groups; q++, out += n * (n + 1)) {
        const double *h = m->h + q * rows * k;
        for (int64_t e = 0; e < rows * k; e++) {
            w[e] = conv->weights[q * rows * k + e];
            out[n * n + e % k / taps] += w[e] * h[e];
        }
        status = contributions_of(backend, rows, n, taps, w, m->g + q * k * k, w + rows * k, out);
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
    const double *found = NULL;
    ND_TRY(nd_moments_find(backend, conv, moments, find_contributions, (size_t)(conv->ni * (n + 1)), &found));
    lasso l = {.n = n, .a = found + group * n * (n + 1), .b = found + group * n * (n + 1) + n * n};
    l.beta = nd_alloc_array((size_t)(3 * n), sizeof *l.beta);
    ND_REQUIRE(l.beta, nd_status_memory, "conv %s: no memory for choosing channels", conv->name);
    l.slope = l.beta + n;
    double *best = l.slope + n;
    bisect_penalty(&l, wanted, best);
    for (int64_t i = 0; i < n; i++) {
        double energy = l.a[i * n + i];
        claims[i] = (claim){best[i] != 0, best[i] != 0 ? best[i] * best[i] * energy : energy,
                            (int32_t)(group * n + i)};
    }
    free(l.beta);
    return nd_status_ok;
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
