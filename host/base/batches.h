/* A stream of preprocessed images: what datasets produce, and all that decouple, eval and bench know
 * of them. */
#ifndef ND_BASE_BATCHES_H
#define ND_BASE_BATCHES_H

#include "base/boxes.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* `images` is n x channels x height x width, or n x height x width x channels, fp32, preprocessed.
 * labels[i] is -1 where unknown; index[i] is the image's place in the data set (skipped images leave gaps);
 * frames[i] says where its picture lies in it, NULL where the stream does not know. All memory belongs to the
 * stream and is valid until the next call on it. n == 0 marks the end. */
typedef struct nd_batch {
    int64_t n;
    const float *images;
    const int32_t *labels;
    const int64_t *index;
    const nd_frame *frames;
} nd_batch;

typedef struct nd_batches nd_batches;
struct nd_batches {
    int64_t channels, height, width;
    bool channels_last; /* the second order of `images` */
    int64_t count;      /* images in the set, broken ones included */
    int64_t batch;      /* images in a full batch */
    int64_t skipped;    /* broken images met since the last rewind; each was named in a warning */
    bool synthetic;  /* made-up pictures: good to calibrate on and to compare two networks, never labelled */
    char sha256[65]; /* of the list of items and labels: the data set's identity in rows */
    char name[256];  /* the DATASET specification it was opened with */
    char preprocess[256]; /* the recipe, spelled out */
    nd_status (*next)(nd_batches *self, nd_batch *out);
    nd_status (*rewind)(nd_batches *self);
    /* Where the image at a place in the set and its label stand, for messages: "val.txt:17:
     * a.jpg". Optional. */
    void (*where)(const nd_batches *self, int64_t index, char *text, size_t size);
    /* The boxes annotated in the picture at a place in the set, in its pixels, with their classes; valid
     * until the next call. NULL where the set has none. */
    nd_status (*objects)(nd_batches *self, int64_t index, const nd_object **out, size_t *count);
    const char *const *classes; /* names of the set's classes, by number; NULL where they have none */
    int64_t n_classes;
    void (*close)(nd_batches *self); /* frees self */
};

/* NULL is legal. */
static inline void nd_batches_close(nd_batches *batches) {
    if (batches) batches->close(batches);
}

#pragma GCC visibility pop

#endif
