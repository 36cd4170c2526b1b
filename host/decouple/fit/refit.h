/* Closed-form least squares on the moments of a layer (method.md, "Choosing filters" and "Refit"). The
 * moments carry their ridge.
 */
#ifndef ND_DECOUPLE_REFIT_H
#define ND_DECOUPLE_REFIT_H

#include "decouple/fit/moments.h"

/* The best dense kernel for the current inputs, h g^-1: w[no][k], by nd_moments_find. Fits begin with it. */
nd_status nd_refit_kernel(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                          const double **w);

/* x[n_out][n] = argmin |h - x E g| for linear features E p of the patches of one group, of gram[n][n] =
 * E g E^T and h E^T in x. Features that never vary get 0. Their factor is left in the place of the gram: it
 * is the largest matrix of a fit, and copies of it cost as much as the solution where features are many. */
nd_status nd_refit_gram(nd_backend *backend, int64_t n, double *gram, int64_t n_out, double *x);

/* x[n_out][n], h E^T before, becomes what each feature explains besides those before it: for any number m of
 * leading features the best |h - x E g| leaves <x, x> over their m columns less than none of them. The gram
 * is overwritten. */
nd_status nd_refit_whiten(nd_backend *backend, int64_t n, double *gram, int64_t n_out, double *x);

/* The normal equations of a chain's last stage given the ones before it, to be solved for several ridges:
 * what they have of g, h, the identity and the original weights. */
typedef struct nd_refit {
    int64_t n;     /* features of a group of the stage */
    double *gram;  /* [groups][n][n]: E g E^T */
    double *norms; /* the same of E E^T; NULL: for the ridge at hand alone */
    double *h, *w; /* [no][n]: h E^T and W E^T */
    double *ridge; /* [conv groups]: of `gram` and `h` */
} nd_refit;

nd_status nd_refit_open(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                        const nd_chain *chain, bool ridges, nd_refit *out);
/* The exact optimum of the last stage with the ridge that the moments have now; they are otherwise those
 * that it was opened with, and so are the stages before. Opened for one ridge, it is solved once: the
 * equations are overwritten. */
nd_status nd_refit_solve(nd_refit *refit, nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                         nd_chain *chain);
void nd_refit_close(nd_refit *refit); /* zeroed is legal */

/* All three, for one ridge. */
nd_status nd_refit_last(nd_backend *backend, const nd_conv *conv, const nd_moments *moments, nd_chain *chain);

/* bias[o] = mean_y[o] - w[o] mean_p; for a chain, of the kernel it composes to. */
void nd_refit_bias(const nd_moments *moments, const double *w, float *bias);
nd_status nd_refit_chain_bias(const nd_conv *conv, const nd_moments *moments, nd_chain *chain);

#endif
