#include "datasets/image/image.h"

#include "base/files/file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *picture_path(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/tests/data/images/%s", ND_SOURCE_DIR, name);
    return path;
}

static nd_buffer *picture_bytes(const char *name) {
    nd_buffer *file, *copy;
    cr_assert_eq(nd_file_map(picture_path(name), &file), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_buffer_new(file->bytes, &copy), nd_status_ok);
    memcpy(copy->data, file->data, file->bytes);
    nd_buffer_unref(file);
    return copy;
}

static int largest_difference(const nd_image *a, const nd_image *b) {
    if (a->width != b->width || a->height != b->height) return 256;
    int largest = 0;
    for (int64_t i = 0; i < a->width * a->height * 3; i++) {
        const int difference = abs(a->rgb[i] - b->rgb[i]);
        if (difference > largest) largest = difference;
    }
    return largest;
}

/* The name, what it decodes to, and how far it may be off: JPEG decoders differ in the last bit. */
static const struct {
    const char *name, *expected;
    int tolerance;
} pictures[] = {
    {"interlaced.png", "rgb8.png", 0},
    {"rgb16.png", "rgb16.rgb.png", 0},
    {"rgba8.png", "rgba8.rgb.png", 0},
    {"greyalpha8.png", "greyalpha8.rgb.png", 0},
    {"grey1.png", "grey1.rgb.png", 0},
    {"grey2.png", "grey2.rgb.png", 0},
    {"grey4.png", "grey4.rgb.png", 0},
    {"grey8.png", "grey8.rgb.png", 0},
    {"grey16.png", "grey16.rgb.png", 0},
    {"palette4.png", "palette4.rgb.png", 0},
    {"palette8.png", "palette8.rgb.png", 0},
    {"baseline.jpg", "baseline.rgb.png", 1},
    {"progressive.jpg", "progressive.rgb.png", 1},
    {"grey.jpg", "grey.rgb.png", 1},
    {"cmyk.jpg", "cmyk.rgb.png", 2},
};
enum { n_pictures = sizeof pictures / sizeof *pictures };

Test(image, every_pixel_format_decodes_as_pillow_does) {
    for (int i = 0; i < n_pictures; i++) {
        nd_image image, expected;
        cr_assert_eq(nd_image_read(picture_path(pictures[i].name), &image), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_image_read(picture_path(pictures[i].expected), &expected), nd_status_ok, "%s",
                     nd_error());
        cr_assert_leq(largest_difference(&image, &expected), pictures[i].tolerance, "%s: %d",
                      pictures[i].name, largest_difference(&image, &expected));
        nd_image_free(&image);
        nd_image_free(&expected);
    }
}

Test(image, a_picture_cut_short_is_refused_at_every_length) {
    static const char *const names[] = {"rgb8.png", "palette4.png", "baseline.jpg", "progressive.jpg",
                                        "cmyk.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        nd_buffer *bytes = picture_bytes(names[i]);
        for (size_t length = 0; length < bytes->bytes; length++) {
            nd_image image;
            const nd_status status = nd_image_decode(bytes->data, length, names[i], &image);
            cr_assert_eq(nd_status_exit_code(status), 3, "%s cut to %zu bytes: status %d", names[i], length,
                         status);
            cr_assert_null(image.rgb);
            cr_assert(strstr(nd_error(), names[i]), "%s", nd_error());
        }
        nd_buffer_unref(bytes);
    }
}

/* PNG has checksums, so that a flipped bit in what matters shows; in a JPEG it may be a legal
 * other picture. */
Test(image, flipped_bits_never_crash_and_never_pass_a_png_off) {
    static const char *const names[] = {"rgb8.png", "palette8.png", "baseline.jpg", "progressive.jpg",
                                        "cmyk.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        nd_buffer *bytes = picture_bytes(names[i]);
        unsigned char *data = bytes->data;
        nd_image whole;
        cr_assert_eq(nd_image_decode(data, bytes->bytes, names[i], &whole), nd_status_ok);
        for (size_t at = 0; at < bytes->bytes; at++) {
            nd_image image;
            data[at] ^= (unsigned char)(1 << at % 8);
            const nd_status status = nd_image_decode(data, bytes->bytes, names[i], &image);
            if (!status && strstr(names[i], ".png"))
                cr_assert_eq(largest_difference(&image, &whole), 0, "%s, byte %zu", names[i], at);
            if (status) cr_assert(strstr(nd_error(), names[i]), "%s", nd_error());
            nd_image_free(&image);
            data[at] ^= (unsigned char)(1 << at % 8);
        }
        nd_image_free(&whole);
        nd_buffer_unref(bytes);
    }
}

/* A header that promises more than its file can hold, or more than the limit, is refused before memory is
 * taken. */
Test(image, decompression_bombs_are_refused) {
    static const unsigned char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\x75\x30\x08\x02\0\0\0"
                                       "\x10\x59\x84\xbe\0\0\0\0IDAT\x35\xaf\x06\x1e";
    nd_image image;
    cr_assert_eq(nd_image_decode(png, sizeof png - 1, "bomb.png", &image), nd_status_format);
    cr_assert(strstr(nd_error(), "bomb.png"), "%s", nd_error());
    cr_assert_eq(nd_image_new(1 << 16, 1 << 16, "large", &image), nd_status_unsupported);
    cr_assert_eq(nd_image_new(0, 5, "flat", &image), nd_status_format);
    cr_assert_eq(nd_image_new(INT64_MAX, 2, "long", &image), nd_status_unsupported);

    nd_buffer *bytes = picture_bytes("baseline.jpg");
    unsigned char *data = bytes->data;
    for (size_t at = 0; at + 9 < bytes->bytes;
         at++) { /* the frame header: FFC0, length, bits, height, width */
        if (data[at] != 0xff || data[at + 1] != 0xc0) continue;
        memset(data + at + 5, 0xf0, 4);
        break;
    }
    cr_assert_eq(nd_image_decode(data, bytes->bytes, "bomb.jpg", &image), nd_status_format);
    cr_assert(strstr(nd_error(), "61680 x 61680"), "%s", nd_error());
    nd_buffer_unref(bytes);
}

Test(image, other_files_are_named) {
    nd_image image;
    cr_assert_eq(nd_image_decode("GIF89a", 6, "a.gif", &image), nd_status_format);
    cr_assert_str_eq(nd_error(), "a.gif: neither PNG nor JPEG");
    cr_assert_eq(nd_image_decode("", 0, "empty", &image), nd_status_format);
    cr_assert_eq(nd_image_read("/nonexistent/a.png", &image), nd_status_input);
    nd_image_free(&image);
}
