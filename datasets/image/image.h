/* Decoded pictures: PNG (libpng) and JPEG (TurboJPEG) to 8-bit RGB.
 *
 * The conversion to RGB is that of Pillow's convert("RGB"), which published accuracies rest on: grey and
 * palette are expanded, alpha is dropped without blending, 16 bits are cut to the upper 8, colour profiles,
 * gamma and EXIF orientation are ignored, CMYK and YCCK JPEGs are taken as inverted (as Adobe writes them)
 * and multiplied out. */
#ifndef ND_DATASETS_IMAGE_H
#define ND_DATASETS_IMAGE_H

#include "base/memory.h"

/* Row-major, 3 bytes a pixel: rgb[(y * width + x) * 3 + channel]. A zeroed struct is an empty image. */
typedef struct nd_image {
    int64_t width, height;
    uint8_t *rgb;
} nd_image;

/* Larger pictures are refused before anything is allocated for them: 300 MB of RGB. */
enum { nd_image_pixels_max = 100000000 };

/* The format is told by the first bytes. `name` goes into messages. A picture that is cut short or damaged is
 * an nd_status_format: half a picture is never returned. */
nd_status nd_image_decode(const void *data, size_t bytes, const char *name, nd_image *out);
nd_status nd_image_read(const char *path, nd_image *out);

nd_status nd_image_new(int64_t width, int64_t height, const char *name, nd_image *out); /* black */
void nd_image_free(nd_image *image);                                                    /* leaves it empty */

/* The two decoders of nd_image_decode: the bytes start with their signature. */
nd_status nd_image_decode_png(const uint8_t *data, size_t bytes, const char *name, nd_image *out);
nd_status nd_image_decode_jpeg(const uint8_t *data, size_t bytes, const char *name, nd_image *out);

#endif
