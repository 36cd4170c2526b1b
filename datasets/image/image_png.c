#include "datasets/image/image.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* What one decoding owns. libpng leaves by longjmp, so all of it lives here and not in locals. */
typedef struct nd_png {
    png_structp png;
    png_infop info;
    const uint8_t *data;
    size_t bytes, at;
    png_bytepp rows;
    char message[128];
} nd_png;

static void png_failed(png_structp png, png_const_charp message) {
    nd_png *self = png_get_error_ptr(png);
    strncpy(self->message, message, sizeof self->message - 1);
    png_longjmp(png, 1);
}

/* Ancillary chunks may be odd; the pixels are not touched by them. */
static void drop_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static void png_read(png_structp png, png_bytep out, size_t length) {
    nd_png *self = png_get_io_ptr(png);
    if (length > self->bytes - self->at) png_error(png, "the file ends early");
    memcpy(out, self->data + self->at, length);
    self->at += length;
}

/* Deflate expands at most 1032-fold. A header that claims more than the file can hold is not worth its
 * memory. */
static bool png_plausible(const nd_png *self, int64_t width, int64_t height) {
    const int64_t bits = png_get_bit_depth(self->png, self->info) * png_get_channels(self->png, self->info);
    return height * ((width * bits + 7) / 8) / 1032 <= (int64_t)self->bytes;
}

static void png_to_rgb(const nd_png *self) {
    png_set_expand(self->png); /* palette to RGB, 1, 2 and 4 bits to 8, transparency to alpha */
    png_set_strip_16(self->png);
    png_set_strip_alpha(self->png);
    png_set_gray_to_rgb(self->png);
    png_set_interlace_handling(self->png);
    png_read_update_info(self->png, self->info);
}

static nd_status png_decode(nd_png *self, const char *name, nd_image *out) {
    if (setjmp(png_jmpbuf(self->png))) return nd_fail(nd_status_format, "%s: PNG: %s", name, self->message);
    png_set_read_fn(self->png, self, png_read);
    png_set_user_limits(self->png, nd_image_pixels_max, nd_image_pixels_max);
    png_set_chunk_malloc_max(self->png, 8 << 20);
    png_read_info(self->png, self->info);
    const int64_t width = png_get_image_width(self->png, self->info);
    const int64_t height = png_get_image_height(self->png, self->info);
    ND_REQUIRE(png_plausible(self, width, height), nd_status_format,
               "%s: PNG: %zu bytes cannot hold %lld x %lld pixels", name, self->bytes, (long long)width,
               (long long)height);
    ND_TRY(nd_image_new(width, height, name, out));
    png_to_rgb(self);
    ND_REQUIRE(png_get_rowbytes(self->png, self->info) == (size_t)width * 3, nd_status_unsupported,
               "%s: PNG: unexpected pixel layout", name);
    self->rows = malloc((size_t)height * sizeof *self->rows);
    ND_REQUIRE(self->rows, nd_status_memory, "%s: no memory", name);
    for (int64_t y = 0; y < height; y++) self->rows[y] = out->rgb + y * width * 3;
    png_read_image(self->png, self->rows);
    png_read_end(self->png, NULL);
    return nd_status_ok;
}

nd_status nd_image_decode_png(const uint8_t *data, size_t bytes, const char *name, nd_image *out) {
    nd_png self = {.data = data, .bytes = bytes};
    self.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &self, png_failed, drop_warning);
    self.info = self.png ? png_create_info_struct(self.png) : NULL;
    nd_status status = self.info ? png_decode(&self, name, out)
                                 : nd_fail(nd_status_memory, "%s: PNG: libpng did not start", name);
    free(self.rows);
    png_destroy_read_struct(&self.png, &self.info, NULL);
    return status;
}
