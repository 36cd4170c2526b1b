/* Shapes, and the graph clean-ups that everything else relies on. */
#ifndef ND_MODEL_INFER_H
#define ND_MODEL_INFER_H

#include "model/graph.h"

#pragma GCC visibility push(default)

/* Fills in dims and dtype of every value for the given number of images, sorting the graph first. The batch
 * is dimension 0 of the first input and of the inputs that agree with it there. The image input keeps its own
 * channels, height and width when the file fixes them; otherwise `height` and `width` are used (0 = unknown,
 * an error).
 *
 * What follows from shapes (Shape-Gather-Concat-Reshape chains of exporters) is computed, exactly for this
 * batch and size: its values become initializers marked `computed`, its nodes are set aside, and both are
 * computed anew when the graph is inferred again. Operands that must be constant (shapes, axes, bounds) are
 * read into `attr`. A constant shape of a Reshape or Resize that begins with the images that the file was
 * exported for takes the batch as well.
 * Axes become non-negative, absent lists (transpose, reduce_mean) are filled in, windows get their kernel and
 * automatic padding.
 *
 * Stops with nd_status_unsupported at the first node it cannot interpret unless `allow_opaque`, which leaves
 * its values and those that depend on them at rank -1 where neither the file declares a shape nor the
 * operator is known to keep its input's. Messages name node, op and shapes.
 *
 * What a dynamic node makes (graph.h), and what follows from it, keeps rank -1 where its size is known while
 * running alone. */
typedef struct nd_infer_settings {
    int64_t batch;
    int64_t height, width;
    bool allow_opaque;
} nd_infer_settings;

nd_status nd_graph_infer(nd_graph *graph, const nd_infer_settings *settings);

/* One image, of the height and width that the first input of an inferred graph has. */
nd_infer_settings nd_infer_image(const nd_graph *graph);

/* Height and width of what a window makes of `input`; automatic padding goes into the window. */
nd_status nd_infer_window(nd_attr *attr, const int64_t *input, int64_t *output);

/* Entry `i` of a slice's lists applied to an axis of `dim` elements: how many are taken, and the first. */
int64_t nd_slice_count(const nd_attr *attr, int i, int64_t dim, int64_t *first);

/* Which of an axis of `size` elements is at place i of it when it is padded, i from -before to
 * size + after - 1; -1 where that is a constant, or more than there is to repeat. */
int64_t nd_pad_index(nd_pad_mode mode, int64_t i, int64_t size);

/* BatchNormalization into the convolution or inner product before it (method.md, "Bias, stride, padding");
 * one that has none before it stays as it is. Constants cast to fp32 become fp32. Identity, Dropout and
 * Constant nodes removed. The graph's function and the names of its outputs are unchanged. Needs
 * no shapes. */
nd_status nd_graph_fold(nd_graph *graph);

#pragma GCC visibility pop

#endif
