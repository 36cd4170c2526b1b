/* Features: what the last stage of a chain takes in, as linear functionals E of the patches of one group. On
 * them a kernel is x[rows][features] with w = x E, and moments of patches become moments of features, which
 * are fewer: of a decoupled layer T times its channels in place of kh kw times. */
#ifndef ND_DECOUPLE_FEATURES_H
#define ND_DECOUPLE_FEATURES_H

#include "decouple/fit/moments.h"

/* Of `count` groups of stage `index` from q on, group by group and tap by tap, over [0, k) of the patch of
 * the conv's group that they lie in. `in`: nd_chain_functionals of that stage. */
nd_status nd_features_of_stage(const nd_chain *chain, const nd_conv *conv, int index,
                               const nd_functionals *in, int64_t q, int64_t count, nd_functionals *out);

/* gram[rows][rows] = E g E^T of g[k][k]. */
nd_status nd_features_gram(nd_backend *backend, const nd_functionals *features, int64_t k, const double *g,
                           double *gram);

/* The same of each `group` rows by themselves: grams[rows / group][group][group]. The rows are those of the
 * groups of a stage with so many taps; at a tap all of them mostly read the same rows of g. */
nd_status nd_features_grams(const nd_functionals *features, int64_t group, int64_t taps, int64_t k,
                            const double *g, double *grams);

/* out[rows][rows] = E E^T. */
nd_status nd_features_norms(nd_backend *backend, const nd_functionals *features, int64_t k, double *out);

/* out[rows][features->rows] = dense E^T of dense[rows][k]. */
nd_status nd_features_dot(nd_backend *backend, const nd_functionals *features, int64_t rows, int64_t k,
                          const double *dense, double *out);

/* nd_moments_error of the kernel that a chain composes to, with its bias, by its features where that takes
 * fewer operations. */
nd_status nd_features_error(const nd_moments *moments, nd_backend *backend, const nd_conv *conv,
                            const nd_chain *chain, double *error);

#endif
