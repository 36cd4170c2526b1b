/* Antialiased resizing of 8-bit RGB, equal to Pillow's Image.resize.
 *
 * Two passes, rows first, each a weighted mean over a window that grows with the reduction; the weights are
 * rounded to 22 fractional bits and the picture between the passes to 8 bits, which is where the exact
 * equality comes from. */
#ifndef ND_DATASETS_RESIZE_H
#define ND_DATASETS_RESIZE_H

#include "datasets/image/image.h"

typedef enum nd_filter {
    nd_filter_bilinear, /* triangle of radius 1 */
    nd_filter_bicubic,  /* Keys' cubic with a = -1/2, radius 2 */
    nd_filter_count,
} nd_filter;

const char *nd_filter_name(nd_filter filter);
bool nd_filter_find(const char *name, nd_filter *out);

/* *out is a new image, even where the size stays. */
nd_status nd_image_resize(const nd_image *image, int64_t width, int64_t height, nd_filter filter,
                          nd_image *out);

#endif
