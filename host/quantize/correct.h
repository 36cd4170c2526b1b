/* Bias correction. Private to quantize*.c. */
#ifndef ND_QUANTIZE_CORRECT_H
#define ND_QUANTIZE_CORRECT_H

#include "model/graph.h"

/* Means over images of what a value is and of what its 8 bits stand for: [elements of an image] each. */
typedef struct nd_means {
    float *real, *stored;
} nd_means;

/* By how much the mean of output o, over images and places, grows when a Conv or Gemm reads what is stored
 * and multiplies by q[] * scales[o], of i8 or e4m3: shift[outputs], outputs along `axis` of the weights
 * (Nagel et al. 2019, arXiv 1906.04721, section 4.2). Exact at the border of an image too. */
nd_status nd_correct_shift(const nd_graph *graph, const nd_node *node, const nd_means *means,
                           const nd_tensor *q, const float *scales, int axis, double *shift);

#endif
