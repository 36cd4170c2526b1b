/* Data sets: DATASET and PREPROCESS specifications to a stream of batches (base/batches.h).
 *
 * DATASET: imagefolder:DIR | list:FILE | cifar10:PATH (binary or python batches) | voc:DIR[:SPLIT] |
 * coco:FILE:IMAGES (annotated boxes, folder of the pictures) | glyphs |
 * synthetic[:seed=N] (made-up pictures without labels), each with an optional ":test" or ":calib" where the
 * set has both. Decoding runs ahead on worker threads, in order; a broken image is warned about, counted and
 * left out. Memory does not grow with the set. */
#ifndef ND_DATASETS_DATASET_H
#define ND_DATASETS_DATASET_H

#include "base/batches.h"

#pragma GCC visibility push(default)

typedef struct nd_dataset_settings {
    const char *spec;       /* DATASET */
    const char *preprocess; /* a named recipe or key=value list; NULL = the set's own default */
    bool calibration;       /* which split when the spec does not say */
    int64_t height,
        width;           /* what the network takes, 0 if unknown: pictures that are made up are made for it */
    bool channels_last;  /* it takes images of height x width x channels */
    const char *classes; /* class map (datasets/labels.h), NULL = the set's own numbers */
    int64_t label_offset; /* added to every known class */
    int64_t batch;
    int64_t first, limit; /* a range of the set's images; limit 0 = all */
    bool mirror;          /* and the mirror images of these: twice as many */
    int workers;          /* decoding threads; 0 = by cores */
} nd_dataset_settings;

nd_status nd_dataset_open(const nd_dataset_settings *settings, nd_batches **out);

#pragma GCC visibility pop

#endif
