/* DW+PW with a pointwise part of low rank: R' terms, then a pointwise conv to d channels, then one to all
 * outputs (method.md, "Low-rank pointwise part"). A rank R buys what R terms of dwpw cost; it is spent on
 * more terms through a narrower pointwise part where that leaves less error, so wide layers with redundant
 * outputs gain and no layer loses.
 */
#include "base/gcd.h"
#include "decouple/methods/combine.h"
#include "decouple/methods/dwpw.h"
#include "decouple/methods/lowrank_fit.h"

#include <math.h>
#include <stdlib.h>

enum {
    terms_per_step = 8, /* of adaptive ranks: eighths of a term per channel */
    widest_tried = 2560 /* numbers in a patch up to which every form is fitted */
};
static const double clearly = 0.7; /* less than this share of the error of plain dwpw */

/* Terms that are tried, relative to those of plain dwpw at the same cost, which is the first. */
static const double more_terms[] = {1, 1.25, 1.6, 2, 2.5, 3.2};
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

/* The width d of the pointwise part with which `terms` cost no more than `rank` of plain dwpw: all groups
 * together; 0 where there is none, or plain dwpw has it. */
static int64_t width_of(const nd_conv *conv, int64_t rank, int64_t terms) {
    int64_t rows = conv->no / conv->groups, taps = nd_conv_taps(conv);
    int64_t r = rank / conv->groups, more = terms / conv->groups;
    int64_t width = (r * (taps + rows) - more * taps) / (more + rows);
    return width >= 1 && width < rows && width < more ? width * conv->groups : 0;
}

static int list_forms(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_form forms[n_more]) {
    const int64_t step = lowrank_step(conv, ranks), most = lowrank_max_rank(conv);
    int n = 1;
    forms[0] = (nd_form){.terms = rank};
    for (int t = 1; t < n_more; t++) {
        const int64_t terms = (int64_t)(more_terms[t] * (double)rank) / step * step;
        const int64_t width = width_of(conv, rank, terms);
        if (width && terms <= most && terms != rank) forms[n++] = (nd_form){terms, width, 0};
    }
    return n;
}

/* Where there are fewer terms than channels some stay unread, which makes the layers before cheaper. Which
 * form will be best is not known yet: promised is what the one with the most terms saves. */
static void lowrank_shape(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out) {
    const nd_window pointwise = nd_window_pointwise();
    nd_form forms[n_more];
    const int n = list_forms(conv, ranks, rank, forms);
    const nd_form *most = &forms[n - 1];
    nd_method_dwpw.shape(conv, ranks, n > 1 && rank < conv->ni ? most->terms : rank, out);
    if (n == 1 || rank >= conv->ni) return;
    out->n--;
    nd_shape_add(out, ".pw.reduce", &pointwise, most->width, most->terms, conv->groups);
    nd_shape_add(out, ".pw.expand", &pointwise, conv->no, most->width, conv->groups);
}

static nd_status lowrank_spectrum(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                                  double **energy, size_t *count) {
    return nd_spectrum_by_rank(backend, &nd_method_dwpw_lowrank, conv, ranks, error2, energy, count);
}

/* From the weights alone: the error is that of the kernel. */
static nd_status fit_weights(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, nd_form *of,
                             nd_chain *out) {
    const int64_t size = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    ND_TRY(nd_method_dwpw.decompose(backend, conv, ranks, of->terms, NULL, out));
    if (of->width) ND_TRY(nd_chain_redo_stage(backend, &nd_method_channel, 1, of->width, conv, NULL, out));
    double *w = nd_alloc_array((size_t)size, sizeof *w);
    ND_REQUIRE(w, nd_status_memory, "conv %s: no memory for its forms", conv->name);
    const nd_status status = nd_chain_compose(out, conv, w);
    of->error = 0;
    for (int64_t e = 0; e < size; e++) of->error += (w[e] - conv->weights[e]) * (w[e] - conv->weights[e]);
    free(w);
    return status;
}

static nd_status fit_moments(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, nd_form *of,
                             const nd_moments *moments, nd_chain *out) {
    ND_TRY(nd_dwpw_fit(backend, conv, ranks, of->terms, nd_dwpw_rounds, moments, out));
    return nd_lowrank_narrow(backend, conv, moments, of, out);
}

/* Replaces the chain in `best` where this form has less error. */
static nd_status try_form(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, nd_form *of,
                          const nd_moments *moments, double *least, nd_chain *best) {
    nd_chain chain = {0};
    nd_status status = moments ? fit_moments(backend, conv, ranks, of, moments, &chain)
                               : fit_weights(backend, conv, ranks, of, &chain);
    if (!status && of->error < *least) {
        const nd_chain old = *best;
        *best = chain;
        chain = old;
        *least = of->error;
    }
    nd_chain_free(&chain);
    return status;
}

/* In wide layers descent takes long: there the form that is best without it gets it, and plain dwpw, which it
 * helps most, unless it is far behind. */
static nd_status lowrank_decompose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                                   const nd_moments *moments, nd_chain *out) {
    nd_form forms[n_more];
    double least = INFINITY;
    int n = list_forms(conv, ranks, rank, forms), first = 0;
    if (moments && moments->k > widest_tried && n > 1) {
        int best = 1;
        ND_TRY(nd_lowrank_screen(backend, conv, ranks, moments, n, forms));
        for (int f = 2; f < n; f++)
            if (forms[f].error < forms[best].error) best = f;
        forms[1] = forms[best];
        first = forms[1].error < clearly * forms[0].error;
        n = 2;
    }
    for (int f = first; f < n; f++) ND_TRY(try_form(backend, conv, ranks, &forms[f], moments, &least, out));
    return nd_status_ok;
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
