/* Calibration images pushed through parts of graphs, one block at a time. */
#ifndef ND_DECOUPLE_SAMPLE_H
#define ND_DECOUPLE_SAMPLE_H

#include "base/batches.h"
#include "run/executor.h"

enum { nd_taps_max = 16 };

/* Values of one graph that are wanted for every block, computed from `input`. data[i] holds a block of
 * value[i], row-major fp32, and belongs to the struct. Inputs may be among the values. */
typedef struct nd_taps {
    const nd_graph *graph;
    nd_exec *exec; /* NULL when nothing but inputs is wanted */
    int n;
    int value[nd_taps_max];
    float *data[nd_taps_max];
    int like[nd_taps_max];  /* an earlier tap of the same value, or -1 */
    int given[nd_taps_max]; /* the input that a tap is, or -1 */
    int n_inputs;
    int input[nd_taps_max];
    bool fed[nd_taps_max]; /* inputs that the other values depend on */
} nd_taps;

/* Compiles what the values need of the graph behind `inputs` (NULL: the image), for blocks of `batch` images.
 * The graph must not change until closing. */
nd_status nd_taps_open(nd_backend *backend, const nd_graph *graph, int64_t batch, const int *inputs,
                       int n_inputs, const int *values, int n, nd_taps *out);
/* data[i] of n images from inputs[n_inputs]. */
nd_status nd_taps_run(nd_taps *taps, int64_t n, const float *const *inputs);
void nd_taps_close(nd_taps *taps);

/* Elements of one image of a value; 0 where the shape is unknown. */
int64_t nd_value_size(const nd_graph *graph, int value);

/* Calls `block` with n images in all of `taps`, which start at the image, until `images` images (0 = all) are
 * through. */
typedef nd_status nd_sample_block(void *context, int64_t n);
nd_status nd_sample(nd_batches *batches, int64_t images, nd_taps *const *taps, int n_taps,
                    nd_sample_block *block, void *context);

#endif
