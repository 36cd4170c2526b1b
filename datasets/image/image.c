#include "datasets/image/image.h"

#include <stdlib.h>

nd_status nd_image_new(int64_t width, int64_t height, const char *name, nd_image *out) {
    *out = (nd_image){0};
    ND_REQUIRE(width > 0 && height > 0, nd_status_format, "%s: an image of %lld x %lld pixels", name,
               (long long)width, (long long)height);
    ND_REQUIRE(width <= nd_image_pixels_max && height <= nd_image_pixels_max / width, nd_status_unsupported,
               "%s: %lld x %lld pixels are more than the limit of %d", name, (long long)width,
               (long long)height, nd_image_pixels_max);
    uint8_t *rgb = calloc((size_t)(width * height), 3);
    ND_REQUIRE(rgb, nd_status_memory, "%s: no memory for %lld x %lld pixels", name, (long long)width,
               (long long)height);
    *out = (nd_image){width, height, rgb};
    return nd_status_ok;
}

void nd_image_free(nd_image *image) {
    free(image->rgb);
    *image = (nd_image){0};
}
