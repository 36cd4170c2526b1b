/* The second moments of 3x3 patches at stride 1 and padding 1 from correlations of whole maps. With C
 * channels a pixel costs 12.5 C^2 multiply-adds and the border 4 x (3 C)^2 / 2 for each of its own, where
 * patches cost (9 C)^2 / 2.
 *
 * Two taps t and t' of all windows that overlap an image, also those centred one pixel outside of it, see
 * every pair of pixels x and x + (t' - t) once: their moments depend on t' - t alone, of which 25 values are
 * 13 up to order. The windows outside are then taken away again: three taps of them are within the image, a
 * line along its edge. */
#ifndef ND_DECOUPLE_SHIFTS_H
#define ND_DECOUPLE_SHIFTS_H

#include "decouple/chain.h"
#include "run/backend.h"

typedef struct nd_shifts nd_shifts;

/* Whether they are exact for this convolution, and faster than patches. */
bool nd_shifts_suit(const nd_conv *conv);

nd_status nd_shifts_new(const nd_conv *conv, nd_shifts **out);
void nd_shifts_free(nd_shifts *shifts); /* NULL is legal */

/* x[n][ni][in_h][in_w] */
nd_status nd_shifts_add(nd_shifts *shifts, nd_backend *backend, const nd_conv *conv, int64_t n,
                        const float *x);

/* Puts the sums of p p^T into g[groups][9 C][9 C] and those of p into p[groups][9 C], patches as in
 * fit/moments.h. Once. */
nd_status nd_shifts_finish(nd_shifts *shifts, nd_backend *backend, double *g, double *p);

#endif
