/* Patches of a layer's input beside the outputs wanted there, gathered from images until there are enough for
 * a product of matrices that is worth its time. */
#ifndef ND_DECOUPLE_PATCHES_H
#define ND_DECOUPLE_PATCHES_H

#include "decouple/chain.h"

typedef struct nd_patches {
    int64_t n, most; /* rows that are there, and that there is room for */
    float *x;        /* [groups][most][k], channel-major as weights are; zeros beyond the border */
    float *y;        /* [groups][most][targets + 1], the last one 1 */
    int64_t targets; /* of a group: its outputs, or none */
} nd_patches;

/* Empty; without targets beside them where none are wanted. One call of nd_patches_close cleans up, also
 * after a failure. */
nd_status nd_patches_open(const nd_conv *conv, bool targets, nd_patches *out);
void nd_patches_close(nd_patches *patches);

/* Pixels of images: x[n][ni][in_h][in_w], y[n][no][out_h][out_w] where there are targets, of each image
 * per_image of the output, those listed in pixel[n][per_image] or, NULL, all. */
typedef struct nd_pixels {
    const float *x, *y;
    int64_t per_image;
    const int32_t *pixel;
} nd_pixels;

/* Appends the pixels `first` to first + count, counted through all images, for which there must be room. */
void nd_patches_gather(nd_patches *patches, const nd_conv *conv, const nd_pixels *pixels, int64_t first,
                       int64_t count);

#endif
