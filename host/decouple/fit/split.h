/* The moments of a layer in two parts: of the images that its fit sees, and of others that judge it. An error
 * measured on the images of the fit is too small where there are few pixels for each unknown, and by more the
 * deeper the layer; on other images it can be compared between ridges, ranks, methods and layers. */
#ifndef ND_DECOUPLE_SPLIT_H
#define ND_DECOUPLE_SPLIT_H

#include "decouple/fit/moments.h"

/* Squared, relative to the variance of the target; negative where it is not known. */
typedef struct nd_fit_error {
    double seen; /* on the images of the fit */
    double held; /* on images that the same fit without them has not seen */
} nd_fit_error;

typedef struct nd_split {
    nd_moments *fit, *held; /* held: of one image in four; NULL where there are fewer than 8 images */
    double lambda;          /* of the ridge that `fit` has */
    int64_t images;         /* added so far */
} nd_split;

/* For `images` images to come, under nd_moments_limit. */
nd_status nd_split_open(const nd_conv *conv, int64_t images, nd_split *out);
void nd_split_close(nd_split *split); /* zeroed is legal */

/* How many images, the last ones, are held out of a block of n that begins with number `first`: one in four,
 * counted over all blocks. */
int64_t nd_split_held(int64_t first, int64_t n);

/* nd_moments_add of the next n images. */
nd_status nd_split_add(nd_split *split, nd_backend *backend, const nd_conv *conv, int64_t n, const float *x,
                       const float *y);
/* nd_moments_finish, and the ridge of `fit`: lambda, or by pixels per unknown where it is 0 or less. */
nd_status nd_split_finish(nd_split *split, nd_backend *backend, const nd_conv *conv, double lambda);

/* Takes the lambda with which the chain, its last stage refitted to `fit`, leaves the least error on `held`:
 * upwards or downwards from the present one in steps of half a decade within [1e-4, 10], each of which lowers
 * it by 1 % at least. The chain is left refitted with it. Needs `held`. */
nd_status nd_split_ridge(nd_split *split, nd_backend *backend, const nd_conv *conv, nd_chain *chain);

/* Squared relative output error of a chain with its bias: on `held`, or on `fit` where nothing is held out.
 */
nd_status nd_split_error(const nd_split *split, nd_backend *backend, const nd_conv *conv,
                         const nd_chain *chain, double *error);

/* The error of a chain that was fitted to `fit` on the images that it has not seen, over that on those it
 * has: what a loss measured on images of the fit is to be multiplied by. 1 where nothing is held out. */
nd_status nd_split_optimism(const nd_split *split, nd_backend *backend, const nd_conv *conv,
                            const nd_chain *chain, double *factor);

/* All images into `fit`, with the same lambda; `held` is NULL afterwards. */
void nd_split_pool(nd_split *split, const nd_conv *conv);

#endif
