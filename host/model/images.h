/* What a network takes for images, and whether a stream gives it. */
#ifndef ND_MODEL_IMAGES_H
#define ND_MODEL_IMAGES_H

#include "base/batches.h"
#include "model/graph.h"

/* Of the first input: n x channels x height x width, or channels last, which is told by an axis of 1, 3 or 4
 * where the other has another length. Sizes below 1 are not known; channels are -1 where it is no image. */
typedef struct nd_image_input {
    int64_t channels, height, width;
    bool channels_last;
} nd_image_input;

nd_image_input nd_image_input_of(const nd_value *value);
/* Where its height lies, and the width after it; NULL where it is no image. */
int64_t *nd_image_size(nd_value *value);

/* Whether the first input of `graph` takes the images of a stream: nd_status_usage names both sizes. */
nd_status nd_images_fit(const nd_graph *graph, const nd_batches *batches);

#endif
