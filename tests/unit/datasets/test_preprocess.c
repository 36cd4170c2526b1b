#include "datasets/image/preprocess.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static nd_preprocess parsed(const char *text) {
    nd_preprocess preprocess;
    cr_assert_eq(nd_preprocess_parse(text, &preprocess), nd_status_ok, "%s: %s", text, nd_error());
    return preprocess;
}

static const char *spelled(const char *text) {
    static char out[256];
    const nd_preprocess preprocess = parsed(text);
    return nd_preprocess_format(&preprocess, out, sizeof out);
}

/* A picture whose pixel (x, y) is (x, y, x + y). */
static nd_image ramp(int64_t width, int64_t height) {
    nd_image image;
    cr_assert_eq(nd_image_new(width, height, "ramp", &image), nd_status_ok);
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            uint8_t *pixel = image.rgb + (y * width + x) * 3;
            pixel[0] = (uint8_t)x;
            pixel[1] = (uint8_t)y;
            pixel[2] = (uint8_t)(x + y);
        }
    return image;
}

Test(preprocess, recipes_are_spelled_out) {
    cr_assert_str_eq(spelled("torchvision-224"),
                     "resize=256,crop=224,centre=even,order=rgb,scale=1/255,mean=0.485:0.456:0.406,"
                     "std=0.229:0.224:0.225,interp=bilinear");
    cr_assert_str_eq(spelled("caffe-224"), "resize=256,crop=224,order=bgr,mean=104:117:123,interp=bilinear");
    cr_assert_str_eq(spelled("cifar10"),
                     "resize=none,order=rgb,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225");
    cr_assert_str_eq(spelled("glyphs"), "resize=none,order=rgb,scale=1/255,mean=0.5,std=0.25");
    cr_assert_str_eq(spelled(""), "resize=none,order=rgb");
}

Test(preprocess, what_is_spelled_out_parses_to_the_same) {
    static const char *const texts[] = {"torchvision-224-bicubic,crop=192", "resize=32x48,order=grey,std=2",
                                        "crop=7x9,centre=even,scale=0.25,mean=1:2:3",
                                        "scale=-2,interp=bicubic,resize=5"};
    for (const nd_preprocess_recipe *recipe = nd_preprocess_recipes; recipe->name; recipe++) {
        char first[256];
        strcpy(first, spelled(recipe->name));
        cr_assert_str_eq(spelled(first), first);
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char first[256];
        strcpy(first, spelled(texts[i]));
        cr_assert_str_eq(spelled(first), first);
    }
}

Test(preprocess, nonsense_is_named) {
    static const char *const texts[] = {"imagenet",      "resize=0",    "resize=-3",    "crop=x5",
                                        "order=gbr",     "scale=1/0",   "scale=0",      "mean=1:2",
                                        "std=1:0:1",     "std=1:2:3:4", "crop=5,",      "crop",
                                        "crop=5,crop=6", "mean=nan",    "=5",           "resize=99999999",
                                        "interp=area",   "centre=left", "crop=7,glyphs"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        nd_preprocess preprocess;
        cr_assert_eq(nd_preprocess_parse(texts[i], &preprocess), nd_status_usage, "%s", texts[i]);
    }
}

/* An odd rest is halved down, or to even as torchvision's CenterCrop does: round(1.5) is 2, round(2.5)
 * is 2. */
Test(preprocess, the_crop_starts_where_caffe_or_torchvision_starts_it) {
    static const int cases[][4] = {{10, 4, 3, 3}, {10, 5, 2, 2}, {11, 4, 3, 4}, {227, 224, 1, 2},
                                   {5, 4, 0, 0},  {8, 5, 1, 2},  {4, 4, 0, 0}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        const int have = cases[i / 2][0], want = cases[i / 2][1], start = cases[i / 2][2 + i % 2];
        const nd_preprocess preprocess = {
            .crop_height = want, .crop_width = want, .centre_even = i % 2, .scale = 1, .std = {1, 1, 1}};
        nd_image image = ramp(have, have);
        float *out = malloc((size_t)(3 * want * want) * sizeof *out);
        cr_assert_eq(nd_preprocess_run(&preprocess, &image, want, want, out), nd_status_ok);
        cr_assert_eq(out[0], start, "%d of %d: %g", want, have, out[0]);
        cr_assert_eq(out[want * want], start);
        free(out);
        nd_image_free(&image);
    }
}

Test(preprocess, a_smaller_picture_gets_a_black_border) {
    const nd_preprocess preprocess = parsed("crop=5,mean=1");
    nd_image image = ramp(2, 2);
    float out[75];
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 5, 5, out), nd_status_ok);
    for (int y = 0; y < 5; y++)
        for (int x = 0; x < 5; x++) {
            const bool inside = x >= 1 && x < 3 && y >= 1 && y < 3;
            cr_assert_eq(out[y * 5 + x], inside ? (float)(x - 1) - 1 : -1);
        }
    nd_image_free(&image);
}

Test(preprocess, scale_comes_first_then_mean_then_std_in_the_networks_order) {
    nd_image image;
    float out[3];
    cr_assert_eq(nd_image_new(1, 1, "pixel", &image), nd_status_ok);
    memcpy(image.rgb, (uint8_t[]){10, 20, 40}, 3);
    nd_preprocess preprocess = parsed("order=bgr,scale=1/2,mean=1:2:3,std=2:4:8");
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 1, 1, out), nd_status_ok);
    cr_assert_float_eq(out[0], (40 / 2 - 1) / 2.0, 1e-6);
    cr_assert_float_eq(out[1], (20 / 2 - 2) / 4.0, 1e-6);
    cr_assert_float_eq(out[2], (10 / 2 - 3) / 8.0, 1e-6);
    preprocess = parsed("order=grey");
    cr_assert_eq(nd_preprocess_channels(&preprocess), 1);
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 1, 1, out), nd_status_ok);
    cr_assert_eq(out[0], roundf(0.299f * 10 + 0.587f * 20 + 0.114f * 40));
    nd_image_free(&image);
}

Test(preprocess, the_shorter_side_is_resized_and_the_longer_cut_to_whole_pixels) {
    nd_image image = ramp(50, 33), resized;
    const nd_preprocess preprocess = parsed("resize=10,crop=10x15");
    float out[3 * 150];
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 10, 15, out), nd_status_ok);
    cr_assert_eq(nd_image_resize(&image, 15, 10, nd_filter_bilinear, &resized),
                 nd_status_ok); /* 10 * 50 / 33 = 15.15 */
    for (int i = 0; i < 150; i++) cr_assert_eq(out[i], resized.rgb[3 * i]);
    nd_image_free(&resized);
    nd_image_free(&image);
}

/* Without a rule of sizes nothing is cut or bordered in silence. */
Test(preprocess, a_picture_of_another_size_is_refused) {
    nd_image image = ramp(12, 8);
    nd_preprocess preprocess = parsed("scale=1/255");
    float out[3 * 12 * 8];
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 8, 12, out), nd_status_ok);
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 8, 8, out), nd_status_usage);
    cr_assert(strstr(nd_error(), "8x12"), "%s", nd_error());
    preprocess = parsed("resize=4");
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 4, 6, out), nd_status_ok);
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 4, 4, out), nd_status_usage);
    preprocess = parsed("crop=8");
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 8, 8, out), nd_status_ok);
    nd_image_free(&image);
}

Test(preprocess, the_size_must_be_fixed_by_someone) {
    int64_t height, width;
    nd_preprocess preprocess = parsed("scale=1/255");
    cr_assert_eq(nd_preprocess_size(&preprocess, 0, 0, &height, &width), nd_status_usage);
    cr_assert_eq(nd_preprocess_size(&preprocess, 32, 48, &height, &width), nd_status_ok);
    cr_assert(height == 32 && width == 48);
    preprocess = parsed("resize=8");
    cr_assert_eq(nd_preprocess_size(&preprocess, 32, 48, &height, &width), nd_status_ok);
    cr_assert(height == 8 && width == 12);
    cr_assert_eq(nd_preprocess_size(&preprocess, 0, 0, &height, &width), nd_status_usage);
    preprocess = parsed("resize=9x5");
    cr_assert_eq(nd_preprocess_size(&preprocess, 0, 0, &height, &width), nd_status_ok);
    cr_assert(height == 9 && width == 5);
    preprocess = parsed("torchvision-224");
    cr_assert_eq(nd_preprocess_size(&preprocess, 0, 0, &height, &width), nd_status_ok);
    cr_assert(height == 224 && width == 224);
}
