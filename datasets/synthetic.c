/* synthetic: pictures made up from nothing, for networks whose images are not at hand (method.md, "Synthetic
 * images"). Dead leaves: discs and boxes of every size fall on each other until nothing of the ground is
 * left. Sizes follow r^-3, with which a picture looks alike at every scale, as photographs do. See Lee,
 * Mumford and Huang, "Occlusion models for natural images" (International Journal of Computer Vision 41,
 * 2001).
 *
 * Measured on ResNet-20 (dwpw, T = 3 everywhere, 256 pictures; agreement on 1744 CIFAR-10 images): smallest
 * radius 1, 2, 3 and 5 pixels 78.1, 82.9, 86.0 and 85.2 %; half grey at 2 and 3 pixels 89.0 and 90.4 %, 0.85
 * grey at 3 pixels 87.1 %. */
#include "datasets/source.h"

#include "base/rng.h"
#include "base/text/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nd_synthetic_count = 10000, nd_synthetic_leaves_per_pixel = 64 };

static const double nd_synthetic_least = 3;      /* smallest radius, in pixels */
static const double nd_synthetic_most = 0.5;     /* largest, as a share of the longer side */
static const double nd_synthetic_grey = .5;      /* of a colour; the rest is its channels' own */
static const double nd_synthetic_narrowest = .2; /* a box's shorter side over its longer one */

typedef struct nd_synthetic {
    nd_source source;
    int64_t seed;
    nd_split split; /* the two splits have no picture in common */
} nd_synthetic;

/* A disc, or a box turned by the angle of (cosine, sine). */
typedef struct nd_leaf {
    double x, y, radius, cosine, sine;
    double aspect; /* 0: a disc */
    uint8_t colour[3];
} nd_leaf;

/* A direction without trigonometry, whose last digits differ between machines. */
static void leaf_turn(nd_rng *rng, nd_leaf *leaf) {
    double x, y, square;
    do {
        x = 2 * nd_rng_uniform(rng) - 1;
        y = 2 * nd_rng_uniform(rng) - 1;
        square = x * x + y * y;
    } while (square > 1 || square < .01);
    leaf->cosine = x / sqrt(square);
    leaf->sine = y / sqrt(square);
}

static nd_leaf leaf_fall(nd_rng *rng, int64_t width, int64_t height) {
    const double longer = (double)(width > height ? width : height);
    const double most = fmax(nd_synthetic_most * longer, 2 * nd_synthetic_least);
    const double far = 1 / (most * most), near = 1 / (nd_synthetic_least * nd_synthetic_least);
    nd_leaf leaf = {.radius = 1 / sqrt(far + (near - far) * nd_rng_uniform(rng))};
    /* Leaves also fall beside the picture, so that its border looks like its middle. */
    leaf.x = nd_rng_uniform(rng) * ((double)width + 2 * most) - most;
    leaf.y = nd_rng_uniform(rng) * ((double)height + 2 * most) - most;
    if (nd_rng_below(rng, 2)) {
        leaf.aspect = nd_synthetic_narrowest + (1 - nd_synthetic_narrowest) * nd_rng_uniform(rng);
        leaf_turn(rng, &leaf);
    }
    const double grey = nd_synthetic_grey * nd_rng_uniform(rng);
    for (int c = 0; c < 3; c++)
        leaf.colour[c] = (uint8_t)(256 * (grey + (1 - nd_synthetic_grey) * nd_rng_uniform(rng)));
    return leaf;
}

static bool leaf_covers(const nd_leaf *leaf, double x, double y) {
    const double dx = x - leaf->x, dy = y - leaf->y;
    if (leaf->aspect == 0) return dx * dx + dy * dy <= leaf->radius * leaf->radius;
    const double along = dx * leaf->cosine + dy * leaf->sine, across = dy * leaf->cosine - dx * leaf->sine;
    return fabs(along) <= leaf->radius && fabs(across) <= leaf->radius * leaf->aspect;
}

static int64_t leaf_clamp(double at, int64_t size) {
    return at < 0 ? 0 : at > (double)size ? size : (int64_t)at;
}

/* Colours what of the leaf no other hides; returns how many pixels that is. */
static int64_t leaf_draw(const nd_leaf *leaf, bool *covered, nd_image *image) {
    const double reach = leaf->radius * sqrt(1 + leaf->aspect * leaf->aspect) + 1;
    const int64_t top = leaf_clamp(leaf->y - reach, image->height),
                  bottom = leaf_clamp(leaf->y + reach, image->height),
                  left = leaf_clamp(leaf->x - reach, image->width),
                  right = leaf_clamp(leaf->x + reach, image->width);
    int64_t drawn = 0;
    for (int64_t y = top; y < bottom; y++) {
        for (int64_t x = left; x < right; x++) {
            const int64_t pixel = y * image->width + x;
            if (covered[pixel] || !leaf_covers(leaf, (double)x + .5, (double)y + .5)) continue;
            covered[pixel] = true;
            memcpy(image->rgb + 3 * pixel, leaf->colour, 3);
            drawn++;
        }
    }
    return drawn;
}

/* The topmost leaf first, so that it can end when the ground is hidden. What a picture of pathological shape
 * leaves bare after very many leaves, the last one hides. */
static void synthetic_draw(nd_rng *rng, bool *covered, nd_image *image) {
    int64_t bare = image->width * image->height;
    for (int64_t left = nd_synthetic_leaves_per_pixel * bare; bare > 0; left--) {
        nd_leaf leaf = leaf_fall(rng, image->width, image->height);
        if (left <= 0) {
            leaf.aspect = 0;
            leaf.radius = 4 * (double)(image->width + image->height);
        }
        bare -= leaf_draw(&leaf, covered, image);
    }
}

static nd_status synthetic_load(const nd_source *source, int64_t index, nd_image *out) {
    const nd_synthetic *self = (const nd_synthetic *)source;
    ND_TRY(nd_image_new(source->width, source->height, "synthetic", out));
    bool *covered = nd_alloc_array((size_t)source->width, (size_t)source->height * sizeof *covered);
    if (!covered) {
        nd_image_free(out);
        return nd_fail(nd_status_memory, "synthetic: no memory for a picture");
    }
    /* A number of its own for every picture of every seed. */
    const uint64_t number = (uint64_t)index + (self->split == nd_split_calib) * (uint64_t)nd_synthetic_count;
    nd_rng rng = nd_rng_seed((uint64_t)self->seed * (2 * (uint64_t)nd_synthetic_count) + number);
    synthetic_draw(&rng, covered, out);
    free(covered);
    return nd_status_ok;
}

static int32_t synthetic_label(const nd_source *source, int64_t index) {
    (void)source;
    (void)index;
    return -1;
}

/* A picture is what draws it: raise the number when the drawing changes. */
static void synthetic_identify(const nd_source *source, int64_t index, nd_sha256 *hash) {
    const nd_synthetic *self = (const nd_synthetic *)source;
    char text[160];
    const int length = snprintf(text, sizeof text, "dead leaves 1, %lldx%lld, seed %lld, split %d, %lld",
                                (long long)source->height, (long long)source->width, (long long)self->seed,
                                (int)self->split, (long long)index);
    nd_sha256_add(hash, text, (size_t)length + 1);
}

static void synthetic_close(nd_source *source) {
    free(source);
}

nd_status nd_source_open_synthetic(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    static const char seed_key[] = ":seed=";
    const size_t key = sizeof seed_key - 1;
    int64_t seed = 1;
    *out = NULL;
    const bool seeded = !strncmp(path, seed_key, key) && nd_text_int(path + key, &seed);
    ND_REQUIRE((seeded && seed >= 0) || !*path, nd_status_usage,
               "synthetic%s: expected synthetic or synthetic:seed=N, N from 0", path);
    nd_synthetic *self = calloc(1, sizeof *self);
    ND_REQUIRE(self, nd_status_memory, "synthetic: no memory");
    self->source = (nd_source){.count = nd_synthetic_count,
                               .made = true,
                               .label = synthetic_label,
                               .load = synthetic_load,
                               .identify = synthetic_identify,
                               .close = synthetic_close};
    self->seed = seed;
    self->split = asked == nd_split_none ? otherwise : asked;
    *out = &self->source;
    return nd_status_ok;
}
