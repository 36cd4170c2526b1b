/* PREPROCESS: from a decoded picture to the numbers a network was trained on.
 *
 * A named recipe (nd_preprocess_recipes) or a comma list of key=value, in any order, every key at most once:
 *
 *   resize=256               shorter side to 256, aspect kept; resize=HxW stretches to that; default none
 *   fit=320                  as large as fits into that, aspect kept, fit=HxW too; the rest is border; no
 *                            resize or crop with it; default none
 *   pad=114                  value of a border's pixels, 0 to 255 before `scale`; default 0, black
 *   place=centre|corner      where the picture stands in the border of a fit: in the middle (default), or
 *                            left above
 *   crop=224                 centre crop, crop=HxW too; a smaller picture is padded with black; default none
 *   centre=floor|even        where the crop starts when an odd number of pixels is left over: half of it
 *                            rounded down, as in Caffe (default), or to even, as in torchvision
 *   order=rgb|bgr|grey
 *   scale=1/255              pixel * scale, then
 *   mean=A:B:C               - mean, then
 *   std=A:B:C                / std; in the order of the channels after `order`; one number stands for all
 *   interp=bilinear|bicubic  of the resize, antialiased as Pillow's
 *
 * A recipe may come first and be changed by what follows: "torchvision-224,crop=192". */
#ifndef ND_DATASETS_PREPROCESS_H
#define ND_DATASETS_PREPROCESS_H

#include "base/boxes.h"
#include "datasets/image/resize.h"

typedef enum nd_order { nd_order_rgb, nd_order_bgr, nd_order_grey, nd_order_count } nd_order;

typedef struct nd_preprocess {
    int64_t resize_short;                /* 0: none */
    int64_t resize_height, resize_width; /* 0: none; never together with resize_short */
    int64_t fit_height, fit_width;       /* 0: none; never together with resize or crop */
    int64_t crop_height, crop_width;     /* 0: none */
    int pad;
    bool corner;
    bool centre_even;
    nd_order order;
    nd_filter filter;
    double scale, mean[3], std[3];
} nd_preprocess;

typedef struct nd_preprocess_recipe {
    const char *name, *settings, *text;
} nd_preprocess_recipe;

extern const nd_preprocess_recipe nd_preprocess_recipes[]; /* ends with a NULL name */

nd_status nd_preprocess_parse(const char *text, nd_preprocess *out);

/* Spelled out with every key that does something: equal settings give equal text. Returns `text`. */
const char *nd_preprocess_format(const nd_preprocess *preprocess, char *text, size_t size);

int64_t nd_preprocess_channels(const nd_preprocess *preprocess); /* 3, or 1 for grey */

/* The size every picture comes out with, given that of the set's pictures (0 x 0 where nobody knows).
 * nd_status_usage when neither fixes it. */
nd_status nd_preprocess_size(const nd_preprocess *preprocess, int64_t set_height, int64_t set_width,
                             int64_t *height, int64_t *width);

/* channels x height x width floats to dst, with height and width from nd_preprocess_size. nd_status_usage for
 * a picture that comes out with another size. */
nd_status nd_preprocess_run(const nd_preprocess *preprocess, const nd_image *image, int64_t height,
                            int64_t width, float *dst);

/* Where a picture of a size comes to lie in what nd_preprocess_run makes of it. */
nd_frame nd_preprocess_frame(const nd_preprocess *preprocess, int64_t picture_height, int64_t picture_width,
                             int64_t height, int64_t width);

#endif
