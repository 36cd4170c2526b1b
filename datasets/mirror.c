/* The pictures of a set and their mirror images: to a network that does not tell left from right, as those
 * trained on mirrored pictures, twice as many. Four pictures come before their four mirror images: the images
 * of a calibration that are held out, every fourth one, are both of a picture or none. */
#include "base/memory.h"
#include "datasets/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { block = 4 };

typedef struct mirrored {
    nd_source source; /* first: the source is the object */
    nd_source *of;
    int64_t first, count; /* pictures of it */
} mirrored;

/* Which picture of the set an image is of. */
static int64_t picture_of(const mirrored *self, int64_t index, bool *mirror) {
    const int64_t before = index / (2 * block) * block, left = self->count - before;
    const int64_t n = left < block ? left : block, place = index - 2 * before;
    *mirror = place >= n;
    return self->first + before + place % n;
}

static int32_t mirrored_label(const nd_source *source, int64_t index) {
    const mirrored *self = (const mirrored *)source;
    bool mirror;
    return self->of->label(self->of, picture_of(self, index, &mirror));
}

static void mirrored_where(const nd_source *source, int64_t index, char *text, size_t size) {
    const mirrored *self = (const mirrored *)source;
    bool mirror;
    const int64_t picture = picture_of(self, index, &mirror);
    if (self->of->where)
        self->of->where(self->of, picture, text, size);
    else
        snprintf(text, size, "image %lld", (long long)picture);
    const size_t length = strlen(text);
    if (mirror) snprintf(text + length, size - length, " (mirrored)");
}

static void mirrored_identify(const nd_source *source, int64_t index, nd_sha256 *hash) {
    const mirrored *self = (const mirrored *)source;
    bool mirror;
    self->of->identify(self->of, picture_of(self, index, &mirror), hash);
    if (mirror) nd_sha256_add(hash, "mirrored", sizeof "mirrored");
}

static void swap_pixels(uint8_t *a, uint8_t *b) {
    for (int c = 0; c < 3; c++) {
        const uint8_t kept = a[c];
        a[c] = b[c];
        b[c] = kept;
    }
}

static nd_status mirrored_load(const nd_source *source, int64_t index, nd_image *out) {
    const mirrored *self = (const mirrored *)source;
    bool mirror;
    ND_TRY(self->of->load(self->of, picture_of(self, index, &mirror), out));
    for (int64_t y = 0; mirror && y < out->height; y++) {
        uint8_t *row = out->rgb + y * out->width * 3;
        for (int64_t x = 0; x < out->width / 2; x++) swap_pixels(row + 3 * x, row + 3 * (out->width - 1 - x));
    }
    return nd_status_ok;
}

static void mirrored_close(nd_source *source) {
    mirrored *self = (mirrored *)source;
    self->of->close(self->of);
    free(self);
}

nd_status nd_source_mirror(nd_source *of, int64_t first, int64_t count, nd_source **out) {
    mirrored *self = calloc(1, sizeof *self);
    ND_REQUIRE(self, nd_status_memory, "no memory for mirror images");
    *self = (mirrored){.source = *of, .of = of, .first = first, .count = count};
    self->source.count = 2 * count;
    self->source.label = mirrored_label;
    self->source.where = mirrored_where;
    self->source.load = mirrored_load;
    self->source.identify = mirrored_identify;
    self->source.objects = NULL; /* nothing that looks at mirror images wants their boxes */
    self->source.close = mirrored_close;
    *out = &self->source;
    return nd_status_ok;
}
