/* DW+PW with a narrow pointwise part on data: the fits of dwpw_lowrank. What the least squares of the whole
 * pointwise part have, its features' moments and its covariance, gives the narrow one in closed form: the
 * leading eigenvectors of the covariance (method.md, "Low-rank pointwise part"). */
#ifndef ND_DECOUPLE_LOWRANK_FIT_H
#define ND_DECOUPLE_LOWRANK_FIT_H

#include "decouple/fit/moments.h"
#include "decouple/methods/method.h"

/* A way to spend a rank: so many terms, and the width of the pointwise part, 0 for all outputs. */
typedef struct nd_form {
    int64_t terms, width;
    double error; /* of a fit: squared, relative to the variance of the target, with the ridge's penalty */
} nd_form;

/* The errors of forms[n], in rising order of their terms, as they are before descent. The filters of fewer
 * terms are the first of those of more, so that one factorisation serves all. */
nd_status nd_lowrank_screen(nd_backend *backend, const nd_conv *conv, nd_ranks ranks,
                            const nd_moments *moments, int n, nd_form *forms);

/* The error of `form`, whose terms the chain of two stages has, and its pointwise part replaced by the best
 * two with the form's width between them, where it has one. */
nd_status nd_lowrank_narrow(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                            nd_form *form, nd_chain *chain);

#endif
