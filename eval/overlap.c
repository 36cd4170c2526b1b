#include "eval/overlap.h"

#include "base/hash.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

typedef struct nd_overlap {
    uint64_t *prints; /* of `few`, sorted once complete */
    bool *met;
    int64_t n;
} nd_overlap;

/* The first 64 bits of the SHA-256 of the pixels. */
static uint64_t overlap_print(const float *image, size_t floats) {
    nd_sha256 hash;
    char hex[nd_sha256_hex_size];
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, image, floats * sizeof *image);
    nd_sha256_hex(&hash, hex);
    hex[16] = '\0';
    return strtoull(hex, NULL, 16);
}

static int overlap_order(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void overlap_meet(nd_overlap *overlap, uint64_t print) {
    const uint64_t *found =
        bsearch(&print, overlap->prints, (size_t)overlap->n, sizeof *found, overlap_order);
    if (found) overlap->met[found - overlap->prints] = true;
}

/* Takes the prints of a stream: collects them, or looks each up. */
static nd_status overlap_read(nd_batches *batches, int64_t limit, nd_overlap *overlap, bool collect) {
    const size_t floats = (size_t)(batches->channels * batches->height * batches->width);
    ND_TRY(batches->rewind(batches));
    for (int64_t seen = 0; !limit || seen < limit;) {
        nd_batch batch;
        ND_TRY(batches->next(batches, &batch));
        if (!batch.n) break;
        for (int64_t i = 0; i < batch.n && (!limit || seen < limit); i++, seen++) {
            const uint64_t print = overlap_print(batch.images + (size_t)i * floats, floats);
            if (collect)
                overlap->prints[overlap->n++] = print;
            else
                overlap_meet(overlap, print);
        }
    }
    return nd_status_ok;
}

nd_status nd_overlap_count(nd_batches *few, int64_t limit, nd_batches *many, int64_t *shared) {
    nd_status status = nd_status_ok;
    nd_overlap overlap = {.prints = nd_alloc_array((size_t)few->count, sizeof *overlap.prints),
                          .met = nd_alloc_array((size_t)few->count, sizeof *overlap.met)};
    *shared = 0;
    ND_REQUIRE_DONE(overlap.prints && overlap.met, nd_status_memory, "%s: no memory for comparing images",
                    few->name);
    ND_TRY_DONE(overlap_read(few, limit, &overlap, true));
    qsort(overlap.prints, (size_t)overlap.n, sizeof *overlap.prints, overlap_order);
    ND_TRY_DONE(overlap_read(many, 0, &overlap, false));
    for (int64_t i = 0; i < overlap.n; i++) *shared += overlap.met[i];
done:
    free(overlap.prints);
    free(overlap.met);
    return status;
}
