#include "datasets/dataset.h"
#include "datasets/source.h"

#include "model/model.h"
#include "tests/unit/help/decouple_help.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static nd_image picture(const char *path, nd_split split, int64_t height, int64_t width, int64_t index) {
    nd_source *source;
    nd_image image;
    cr_assert_eq(nd_source_open_synthetic(path, nd_split_none, split, &source), nd_status_ok, "%s",
                 nd_error());
    source->height = height;
    source->width = width;
    cr_assert_eq(source->load(source, index, &image), nd_status_ok);
    cr_assert_eq(source->label(source, index), -1);
    source->close(source);
    return image;
}

static bool same(nd_image a, nd_image b) {
    bool equal = !memcmp(a.rgb, b.rgb, (size_t)(a.width * a.height * 3));
    nd_image_free(&a);
    nd_image_free(&b);
    return equal;
}

Test(synthetic, a_picture_depends_on_seed_split_and_index_alone) {
    enum { side = 32 };
    nd_split calib = nd_split_calib, test = nd_split_test;
    cr_assert(same(picture("", calib, side, side, 5), picture("", calib, side, side, 5)));
    cr_assert(same(picture("", calib, side, side, 5), picture(":seed=1", calib, side, side, 5)));
    cr_assert(!same(picture("", calib, side, side, 5), picture("", calib, side, side, 6)));
    cr_assert(!same(picture("", calib, side, side, 5), picture("", test, side, side, 5)));
    cr_assert(!same(picture("", calib, side, side, 5), picture(":seed=2", calib, side, side, 5)));
}

Test(synthetic, odd_shapes_are_drawn_to_the_end) {
    static const int64_t shapes[][2] = {{1, 1}, {1, 200}, {200, 1}, {33, 7}, {224, 224}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        nd_image image = picture("", nd_split_calib, shapes[s][0], shapes[s][1], 0);
        cr_assert(image.height == shapes[s][0] && image.width == shapes[s][1]);
        nd_image_free(&image);
    }
}

/* What dead leaves promise: no bare ground (which is black), flat areas with sharp edges, the same statistics
 * at the border as in the middle, and structure at every scale, so that halving the picture changes its
 * neighbours' likeness little. */
Test(synthetic, pictures_have_the_statistics_of_dead_leaves) {
    enum { pictures = 48, side = 64 };
    double sum = 0, square = 0, border = 0, flat = 0, black = 0;
    for (int64_t i = 0; i < pictures; i++) {
        nd_image image = picture("", nd_split_calib, side, side, i);
        for (int64_t y = 0; y < side; y++) {
            for (int64_t x = 0; x < side; x++) {
                const uint8_t *pixel = image.rgb + 3 * (y * side + x);
                black += !pixel[0] && !pixel[1] && !pixel[2];
                for (int c = 0; c < 3; c++) sum += pixel[c], square += pixel[c] * pixel[c];
                if (y == 0) border += pixel[0];
                if (x) flat += !memcmp(pixel, pixel - 3, 3);
            }
        }
        nd_image_free(&image);
    }
    const double count = 3.0 * pictures * side * side, mean = sum / count;
    cr_assert(fabs(mean - 127.5) < 10, "mean %g", mean);
    cr_assert(fabs(sqrt(square / count - mean * mean) - 256 / sqrt(24)) < 6);
    cr_assert(fabs(border / (pictures * side) - 127.5) < 25, "border %g", border / (pictures * side));
    const double alike = flat / (pictures * side * (side - 1));
    cr_assert(alike > .5 && alike < .95, "%g of neighbours alike", alike);
    cr_assert(black / (pictures * side * side) < 1e-3);
}

Test(synthetic, the_stream_is_sized_for_the_network_and_prepared_for_it) {
    nd_batches *batches;
    nd_dataset_settings settings = {
        .spec = "synthetic:seed=3", .preprocess = "glyphs", .calibration = true, .batch = 4, .limit = 8};
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_usage); /* how large? */
    settings.height = 20;
    settings.width = 24;
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_ok, "%s", nd_error());
    cr_assert(batches->synthetic && batches->count == 8 && batches->channels == 3);
    cr_assert(batches->height == 20 && batches->width == 24);
    nd_batch batch;
    cr_assert_eq(batches->next(batches, &batch), nd_status_ok);
    float low = INFINITY, high = -INFINITY;
    for (int64_t e = 0; e < batch.n * 3 * 20 * 24; e++) {
        low = fminf(low, batch.images[e]);
        high = fmaxf(high, batch.images[e]);
    }
    cr_assert(batch.n == 4 && batch.labels[0] == -1);
    cr_assert(low >= -2 && low < -1.5f && high <= 2 && high > 1.5f, "%g to %g", low,
              high); /* (v - .5) / .25 */
    char sha256[65];
    memcpy(sha256, batches->sha256, sizeof sha256);
    nd_batches_close(batches);

    settings.preprocess = "resize=40,crop=32,order=grey";
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_ok, "%s", nd_error());
    cr_assert(batches->channels == 1 && batches->height == 32 && batches->width == 32);
    cr_assert(strcmp(batches->sha256, sha256), "pictures of another size are other pictures");
    nd_batches_close(batches);

    settings.preprocess = NULL;
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_usage); /* prepared how? */
    settings.spec = "synthetic:seed=x";
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_usage);
    cr_assert(strstr(nd_error(), "seed=N"));
}
