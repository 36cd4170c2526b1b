/* What a separable layer's candidates are timed and checked on in the layer's place: the same one with random
 * weights. The choice is that of all layers of the same shape: what the weights of the first one are (pruned,
 * or zero) must neither hide a wrong kernel nor make a fast one. Plain host code. */
#ifndef ND_CUDA_SEPARABLE_SAMPLE_H
#define ND_CUDA_SEPARABLE_SAMPLE_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nd_separable_sample {
    nd_work work; /* points into `memory` and to the layer's channels */
    nd_arena memory;
} nd_separable_sample;

/* On operands as nd_cuda_noise_launch makes them, with scale 1, the sums at its ends have variance 1, and
 * with bias and residual at most 3. Of int8 operands and weights are any integers, and where they are
 * quantised, depthwise results and outputs have their zeros in the middle and 32 steps a unit. Seeds from
 * `seed` on are the sample's. */
nd_status nd_separable_sample_make(const nd_work *work, nd_precision precision, uint64_t seed,
                                   nd_separable_sample *sample);
void nd_separable_sample_free(nd_separable_sample *sample);

#ifdef __cplusplus
}
#endif

#endif
