#include "datasets/image/resize.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void read_picture(const char *name, nd_image *out) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/data/images/%s", ND_SOURCE_DIR, name);
    cr_assert_eq(nd_image_read(path, out), nd_status_ok, "%s", nd_error());
}

/* The sizes for which tests/data/images holds what Pillow made of rgb8.png (make.py). */
static const int sizes[][2] = {{8, 6}, {54, 38}, {27, 5}, {100, 19}, {13, 40}, {1, 1}, {27, 19}};
enum { n_sizes = sizeof sizes / sizeof *sizes };

Test(resize, equals_pillow_up_and_down_in_both_filters) {
    nd_image image;
    read_picture("rgb8.png", &image);
    for (int filter = 0; filter < nd_filter_count; filter++) {
        for (int i = 0; i < n_sizes; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s-%dx%d.png", nd_filter_name((nd_filter)filter), sizes[i][0],
                     sizes[i][1]);
            nd_image resized, expected;
            read_picture(name, &expected);
            cr_assert_eq(nd_image_resize(&image, sizes[i][0], sizes[i][1], (nd_filter)filter, &resized),
                         nd_status_ok);
            cr_assert_eq(resized.width, expected.width);
            cr_assert_eq(resized.height, expected.height);
            for (int64_t j = 0; j < expected.width * expected.height * 3; j++)
                cr_assert_eq(resized.rgb[j], expected.rgb[j], "%s, byte %lld: %d, not %d", name, (long long)j,
                             resized.rgb[j], expected.rgb[j]);
            nd_image_free(&resized);
            nd_image_free(&expected);
        }
    }
    nd_image_free(&image);
}

/* The weights of every window sum to one, whatever the sizes: a flat picture stays flat. */
Test(resize, a_flat_picture_stays_flat) {
    nd_image image, resized;
    cr_assert_eq(nd_image_new(37, 23, "flat", &image), nd_status_ok);
    memset(image.rgb, 201, 37 * 23 * 3);
    for (int width = 1; width < 90; width += 7) {
        for (int filter = 0; filter < nd_filter_count; filter++) {
            cr_assert_eq(nd_image_resize(&image, width, 91 - width, (nd_filter)filter, &resized),
                         nd_status_ok);
            for (int i = 0; i < width * (91 - width) * 3; i++) cr_assert_eq(resized.rgb[i], 201);
            nd_image_free(&resized);
        }
    }
    nd_image_free(&image);
}

Test(resize, impossible_sizes_are_refused) {
    nd_image image, resized;
    cr_assert_eq(nd_image_new(4, 4, "small", &image), nd_status_ok);
    cr_assert_neq(nd_image_resize(&image, 0, 4, nd_filter_bilinear, &resized), nd_status_ok);
    cr_assert_eq(nd_image_resize(&image, 1 << 20, 1 << 20, nd_filter_bilinear, &resized),
                 nd_status_unsupported);
    cr_assert_null(resized.rgb);
    nd_image_free(&image);
    nd_filter filter;
    cr_assert(nd_filter_find("bicubic", &filter) && filter == nd_filter_bicubic);
    cr_assert_not(nd_filter_find("lanczos", &filter));
}
