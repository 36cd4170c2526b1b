#ifndef ND_EVAL_IMAGES_H
#define ND_EVAL_IMAGES_H

#include "base/batches.h"
#include "model/graph.h"

/* Whether the first input of `graph` takes the images of a stream: nd_status_usage names both sizes. */
nd_status nd_images_fit(const nd_graph *graph, const nd_batches *batches);

#endif
