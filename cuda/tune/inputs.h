/* Operands to time a layer on, and the result that its candidates are checked against.
 *
 * x and x2 are normal numbers, of int8 any integers (noise.h), as far as the work's views reach. The
 * reference is what the simplest kernel makes of them, our direct one, of int8 the plain one, kept in a
 * second y. It costs one run of that kernel a layer, and one run and one comparison a candidate, where y
 * holds integers two; where the device has no room for it the candidates are timed unchecked, and that is
 * said. */
#ifndef ND_CUDA_INPUTS_H
#define ND_CUDA_INPUTS_H

#include "cuda/device.h"

enum { nd_inputs_blocks = 10 }; /* each filled by its number as the seed */

typedef struct nd_inputs {
    nd_cuda *cuda;
    nd_work work; /* pointers are not followed */
    nd_precision precision;
    nd_cuda_operands operands;         /* the workspace grows with what candidates want */
    const void *weights, *bias_stored; /* by nd_inputs_add_weights */
    const float *bias;
    void *expected; /* NULL: nothing is checked */
    size_t y_bytes, workspace_bytes;
    void *blocks[nd_inputs_blocks];
} nd_inputs;

/* Activations alone; weights are the caller's, or come with nd_inputs_add_weights. */
nd_status nd_inputs_make(nd_cuda *cuda, const nd_work *work, nd_precision precision, nd_inputs *inputs);

/* For a convolution: random weights in the storage type through the view `filter`
 * ([no][ni/groups][kh][kw] in the layout of a library) and a bias where wanted, scaled so that outputs have
 * variance 1; then the reference. */
nd_status nd_inputs_add_weights(nd_inputs *inputs, const nd_view *filter, bool biased);

/* The reference by the caller's own run, which writes operands->y. */
typedef nd_status nd_inputs_run(void *context, const nd_cuda_operands *operands);
nd_status nd_inputs_reference(nd_inputs *inputs, nd_inputs_run *run, void *context);
void nd_inputs_drop_reference(
    nd_inputs *inputs); /* says that there is no room for a reference, and does without */

/* Fills y with a poison, so that what a candidate leaves out shows; then, after its run, how many times the
 * bound of bound.h y is off (infinite for NaN): up to 1 it agrees. The poison is NaN. Integers have none:
 * there it is one number and then, for another run, another, as nd_inputs_poisons counts, and what is left
 * out can look right on one of them alone. */
int nd_inputs_poisons(const nd_inputs *inputs);
nd_status nd_inputs_poison(const nd_inputs *inputs, int poison);
nd_status nd_inputs_verify(const nd_inputs *inputs, int poison, bool transformed, double *times);

/* More workspace. The reference goes where there is no room for both. */
nd_status nd_inputs_grow(nd_inputs *inputs, size_t workspace_bytes);
void nd_inputs_free(nd_inputs *inputs); /* waits for the stream */

/* "conv 64x56x56 to 128x28x28, 3x3, batch 32, fp16" */
const char *nd_inputs_text(const nd_inputs *inputs, char *text, size_t size);

#endif
