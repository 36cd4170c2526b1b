#include "datasets/image/image.h"

#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

/* A block of 64 pixels takes at least a bit a component. A header that claims more than that is not worth its
 * memory. */
enum { nd_jpeg_pixels_per_byte = 8 * 64 };

/* a * b / 255, rounded, for bytes. */
static int jpeg_scale(int a, int b) {
    const int product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

/* Inverted CMYK (255 = no ink) to RGB: what the black ink lets through, less what the coloured ink takes
 * away. */
static void jpeg_from_cmyk(const uint8_t *cmyk, nd_image *image) {
    const int64_t pixels = image->width * image->height;
    for (int64_t i = 0; i < pixels; i++) {
        const int black = cmyk[4 * i + 3];
        for (int c = 0; c < 3; c++)
            image->rgb[3 * i + c] = (uint8_t)(black - jpeg_scale(255 - cmyk[4 * i + c], black));
    }
}

/* Cameras leave stray bytes between segments; the picture is whole. Any other warning is damage. */
static bool jpeg_harmless(tjhandle jpeg) {
    return tjGetErrorCode(jpeg) == TJERR_WARNING &&
           strstr(tjGetErrorStr2(jpeg), "extraneous bytes before marker");
}

static bool jpeg_ends(const uint8_t *data, size_t bytes) {
    for (size_t i = bytes - 1; i > 0; i--)
        if (data[i] == 0xd9 && data[i - 1] == 0xff) return true;
    return false;
}

static nd_status jpeg_decompress(tjhandle jpeg, const uint8_t *data, size_t bytes, const char *name,
                                 int format, const nd_image *size, uint8_t *pixels) {
    const int flags = TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS;
    const int failed = tjDecompress2(jpeg, data, (unsigned long)bytes, pixels, (int)size->width, 0,
                                     (int)size->height, format, flags);
    const bool whole = !failed || (jpeg_harmless(jpeg) && jpeg_ends(data, bytes));
    ND_REQUIRE(whole, nd_status_format, "%s: JPEG: %s", name, tjGetErrorStr2(jpeg));
    return nd_status_ok;
}

static nd_status jpeg_decode(tjhandle jpeg, const uint8_t *data, size_t bytes, const char *name,
                             nd_image *out) {
    int width, height, sampling, space;
    ND_REQUIRE(!tjDecompressHeader3(jpeg, data, (unsigned long)bytes, &width, &height, &sampling, &space) ||
                   jpeg_harmless(jpeg),
               nd_status_format, "%s: JPEG: %s", name, tjGetErrorStr2(jpeg));
    ND_REQUIRE((int64_t)width * height / nd_jpeg_pixels_per_byte <= (int64_t)bytes, nd_status_format,
               "%s: JPEG: %zu bytes cannot hold %d x %d pixels", name, bytes, width, height);
    ND_TRY(nd_image_new(width, height, name, out));
    if (space != TJCS_CMYK && space != TJCS_YCCK)
        return jpeg_decompress(jpeg, data, bytes, name, TJPF_RGB, out, out->rgb);
    uint8_t *cmyk = malloc((size_t)width * (size_t)height * 4);
    ND_REQUIRE(cmyk, nd_status_memory, "%s: no memory for %d x %d pixels", name, width, height);
    nd_status status = jpeg_decompress(jpeg, data, bytes, name, TJPF_CMYK, out, cmyk);
    if (!status) jpeg_from_cmyk(cmyk, out);
    free(cmyk);
    return status;
}

nd_status nd_image_decode_jpeg(const uint8_t *data, size_t bytes, const char *name, nd_image *out) {
    tjhandle jpeg = tjInitDecompress();
    ND_REQUIRE(jpeg, nd_status_memory, "%s: JPEG: %s", name, tjGetErrorStr2(NULL));
    nd_status status = jpeg_decode(jpeg, data, bytes, name, out);
    tjDestroy(jpeg);
    return status;
}
