/* Fits of one layer by several methods at several ranks. They need nothing of each other. */
#ifndef ND_DECOUPLE_LAYER_FITS_H
#define ND_DECOUPLE_LAYER_FITS_H

#include "decouple/curves/curve.h"
#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

/* What the images held out say of a chain. */
typedef nd_status nd_fit_judge(const nd_split *split, nd_backend *backend, const nd_conv *conv,
                               const nd_chain *chain, double *result);

typedef struct nd_layer_fit {
    const nd_method *method;
    int64_t rank, cost;
    nd_fit_judge *judge; /* or NULL */
    double *result;      /* of the judge */
    nd_chain *kept;      /* gets the chain; or NULL */
} nd_layer_fit;

typedef struct nd_layer_fits {
    nd_backend *backend;
    nd_ranks ranks;
    const nd_layer *layer;
    const nd_split *split;
    nd_layer_fit list[nd_methods_max * nd_curve_points];
    int n;
} nd_layer_fits;

void nd_layer_fits_add(nd_layer_fits *fits, nd_layer_fit fit); /* finds its cost */

/* All of them, to split->fit: several at once where the backend allows that and a quarter of the memory that
 * is left holds what each allocates. Those that were not reached when one failed keep nothing. */
nd_status nd_layer_fits_run(nd_layer_fits *fits);

#endif
