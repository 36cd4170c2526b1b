/* Closed-form least squares on the moments of a layer (method.md, "Choosing filters" and "Refit"). The
 * moments carry their ridge.
 */
#ifndef ND_DECOUPLE_REFIT_H
#define ND_DECOUPLE_REFIT_H

#include "decouple/fit/moments.h"

/* The best dense kernel for the current inputs, h g^-1: w[no][k]. All fits begin with it: it stays with the
 * moments until they change. */
nd_status nd_refit_kernel(nd_backend *backend, const nd_conv *conv, const nd_moments *moments, double *w);

/* x[n_out][n] = argmin |h - x E g| for linear features E p of the patches of one group, of gram[n][n] =
 * E g E^T and h E^T in x. Features that never vary get 0. */
nd_status nd_refit_gram(nd_backend *backend, int64_t n, const double *gram, int64_t n_out, double *x);

/* The exact optimum of the last stage given the ones before it, whatever they are. */
nd_status nd_refit_last(nd_backend *backend, const nd_conv *conv, const nd_moments *moments, nd_chain *chain);

/* bias[o] = mean_y[o] - w[o] mean_p; for a chain, of the kernel it composes to. */
void nd_refit_bias(const nd_moments *moments, const double *w, float *bias);
nd_status nd_refit_chain_bias(const nd_conv *conv, const nd_moments *moments, nd_chain *chain);

#endif
