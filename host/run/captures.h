/* Calibration images pushed through parts of graphs, one block at a time. */
#ifndef ND_RUN_CAPTURES_H
#define ND_RUN_CAPTURES_H

#include "base/batches.h"
#include "run/executor.h"

enum { nd_captures_max = 16 }; /* inputs: values that cross a cut of a graph */

/* Values of one graph that are wanted for every block, computed from `input`. data[i] holds a block of
 * value[i], row-major fp32, and belongs to the struct. Inputs may be among the values. */
typedef struct nd_captures {
    const nd_graph *graph;
    nd_exec *exec; /* NULL when nothing but inputs is wanted */
    int n;
    int *value;      /* [n] */
    float **data;    /* [n] */
    int *like;       /* [n]: an earlier capture of the same value, or -1 */
    int *given;      /* [n]: the input that a capture is, or -1 */
    float **outputs; /* data of those that exec computes */
    int n_inputs;
    int input[nd_captures_max];
    bool fed[nd_captures_max]; /* inputs that the other values depend on */
} nd_captures;

/* Compiles what the values need of the graph after `inputs` (NULL: the image), for blocks of `batch` images.
 * The graph must not change until closing. */
nd_status nd_captures_open(nd_backend *backend, const nd_graph *graph, int64_t batch, const int *inputs,
                           int n_inputs, const int *values, int n, nd_captures *out);
/* data[i] of n images from inputs[n_inputs]. */
nd_status nd_captures_run(nd_captures *captures, int64_t n, const float *const *inputs);
void nd_captures_close(nd_captures *captures);

/* Images that a pass sees: `images` of those that there are, 0 = all. */
int64_t nd_sample_count(const nd_batches *batches, int64_t images);

/* Marks the values that nodes make of the marked ones; and those that depend on the inputs: what does not
 * is the same for all images, is computed anew by every executor, and is no value to capture.
 * marked[graph->n_values]. */
void nd_mark_after(const nd_graph *graph, bool *marked);
void nd_mark_images(const nd_graph *graph, bool *marked);
/* Marks what is no part of a plan: values whose sizes or integers only the run knows, as those after
 * post-processing. */
void nd_mark_late(const nd_graph *graph, bool *marked);

/* Elements of one image of a value; 0 where the shape is unknown. */
int64_t nd_value_size(const nd_graph *graph, int value);

/* Calls `block` with n images in all of `captures`, which start at the image, until `images` images (0 = all)
 * are through. */
typedef nd_status nd_sample_block(void *context, int64_t n);
nd_status nd_sample(nd_batches *batches, int64_t images, nd_captures *const *captures, int n_captures,
                    nd_sample_block *block, void *context);

#endif
