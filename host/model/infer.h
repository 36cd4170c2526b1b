/* Shapes, and the graph clean-ups that everything else relies on. */
#ifndef ND_MODEL_INFER_H
#define ND_MODEL_INFER_H

#include "model/graph.h"

/* Fills in dims and dtype of every value for the given number of images. The graph's image input keeps its
 * own channels, height and width when the file fixes them; otherwise `height` and `width` are used (0 =
 * unknown, an error). Constants computed from shapes (Shape-Gather-Concat-Reshape chains of exporters) are
 * folded into initializers on the way. Stops with nd_status_unsupported at the first value that depends on an
 * opaque node unless `allow_opaque`, which leaves such values at rank -1. Messages name node, op and shapes.
 */
typedef struct nd_infer_settings {
    int64_t batch;
    int64_t height, width;
    bool allow_opaque;
} nd_infer_settings;

nd_status nd_graph_infer(nd_graph *graph, const nd_infer_settings *settings);

/* BatchNormalization into the convolution or inner product before it (paper, a.3), or into a per-channel Mul
 * and Add where there is none; Identity, Dropout and Constant nodes removed. The graph's function is
 * unchanged. Needs no shapes. */
nd_status nd_graph_fold(nd_graph *graph);

#endif
