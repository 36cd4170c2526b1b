/* DW+PW with a pointwise part of low rank: R' terms, then a pointwise conv to d channels, then one to all
 * outputs (method.md, "Low-rank pointwise part"). A rank R buys what R terms of dwpw cost; it is spent on
 * more terms through a narrower pointwise part where that leaves less error, so wide layers with redundant
 * outputs gain and no layer loses.
 */
#include "base/gcd.h"
#include "decouple/fit/refit.h"
#include "decouple/methods/combine.h"
#include "decouple/methods/dwpw.h"

#include <math.h>
#include <stdlib.h>

enum { terms_per_step = 8 }; /* of adaptive ranks: eighths of a term per channel */

/* Terms that are tried, relative to those of plain dwpw at the same cost, which is the first. */
static const double more_terms[] = {1, 1.25, 1.6, 2};
enum { n_more = sizeof more_terms / sizeof *more_terms };

static bool lowrank_applies(const nd_conv *conv) {
    return nd_method_dwpw.applies(conv);
}

static int64_t lowrank_max_rank(const nd_conv *conv) {
    return nd_method_dwpw.max_rank(conv);
}

static int64_t lowrank_step(const nd_conv *conv, nd_ranks ranks) {
    if (ranks == nd_ranks_uniform) return conv->ni;
    return conv->ni / nd_gcd(conv->ni / conv->groups, terms_per_step);
}

static int64_t lowrank_channels(const nd_conv *conv) {
    return conv->ni;
}

static void lowrank_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {
    nd_method_dwpw.shape(conv, ranks, rank, out);
}

static nd_status lowrank_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                                  double **energy, size_t *count) {
    return nd_spectrum_by_rank(backend, &nd_method_dwpw_lowrank, conv, ranks, error2, energy, count);
}

/* The width d of the pointwise part with which `terms` cost no more than `rank` of plain dwpw: all groups
 * together; 0 where there is none, or plain dwpw has it. */
static int64_t width_of(const nd_conv *conv, int64_t rank, int64_t terms) {
    int64_t rows = conv->no / conv->groups, taps = nd_conv_taps(conv);
    int64_t r = rank / conv->groups, more = terms / conv->groups;
    int64_t width = (r * (taps + rows) - more * taps) / (more + rows);
    return width >= 1 && width < rows && width < more ? width * conv->groups : 0;
}

/* With moments the output error, else the squared error of the kernel. */
static nd_status error_of(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                          const nd_chain *chain, double *w, double *error) {
    ND_TRY(nd_chain_compose(chain, conv, w));
    if (moments) return nd_moments_error(moments, backend, conv, w, NULL, error);
    int64_t size = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    *error = 0;
    for (int64_t e = 0; e < size; e++) *error += (w[e] - conv->weights[e]) * (w[e] - conv->weights[e]);
    return nd_status_ok;
}

static nd_status narrowed(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t terms,
                          int64_t width, const nd_moments *moments, nd_chain *out) {
    ND_TRY(nd_method_dwpw.decompose(backend, conv, ranks, terms, moments, out));
    if (!width) return nd_status_ok;
    ND_TRY(nd_chain_redo_stage(backend, &nd_method_channel, 1, width, conv, moments, out));
    if (!moments) return nd_status_ok;
    ND_TRY(nd_refit_last(backend, conv, moments, out));
    return nd_refit_chain_bias(conv, moments, out);
}

static nd_status lowrank_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                   const nd_moments *moments, nd_chain *out) {
    nd_status status = nd_status_ok;
    nd_chain chain = {0};
    int64_t step = lowrank_step(conv, ranks), most = lowrank_max_rank(conv);
    double least = INFINITY, error = 0;
    /* Fewer terms than channels leave some unread, which makes the layers before cheaper: more terms would
     * read more of them than the shape promises, and the network would cost more than was planned. */
    bool reads_less = rank < conv->ni;
    double *w =
        nd_alloc_array((size_t)(conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv)), sizeof *w);
    ND_REQUIRE_DONE(w, nd_status_memory, "conv %s: no memory for its forms", conv->name);
    for (int t = 0; t < n_more; t++) {
        int64_t terms = (int64_t)(more_terms[t] * (double)rank) / step * step;
        int64_t width = t ? width_of(conv, rank, terms) : 0;
        if (t && (!width || terms > most || terms == rank || reads_less)) continue;
        ND_TRY_DONE(narrowed(backend, conv, ranks, t ? terms : rank, width, moments, &chain));
        ND_TRY_DONE(error_of(backend, conv, moments, &chain, w, &error));
        if (error < least) {
            least = error;
            nd_chain_free(out);
            *out = chain;
            chain = (nd_chain){0};
        }
        nd_chain_free(&chain);
    }
done:
    nd_chain_free(&chain);
    free(w);
    return status;
}

const nd_method nd_method_dwpw_lowrank = {
    .name = "dwpw_lowrank",
    .text = "dwpw at the same cost, with more terms and a pointwise part of low rank where that is better",
    .applies = lowrank_applies,
    .max_rank = lowrank_max_rank,
    .step = lowrank_step,
    .channels = lowrank_channels,
    .shape = lowrank_shape,
    .spectrum = lowrank_spectrum,
    .decompose = lowrank_decompose,
};
