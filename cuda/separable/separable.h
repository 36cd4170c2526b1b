/* The implementations of a separable layer; separable.c chooses among them. */
#ifndef ND_CUDA_SEPARABLE_H
#define ND_CUDA_SEPARABLE_H

#include "cuda/device.h"

/* x, y and the residual are pixels of neighbouring channels. */
bool nd_separable_is_pixels(const nd_work *work);

/* Filters as the kernels want them: fp32 [taps][terms], and T where every channel has T terms, else 0. */
nd_status nd_separable_filters(nd_kernel *kernel, const nd_work *work, nd_cuda_depthwise *call);

extern const nd_cuda_implementation nd_separable_dense_implementation, nd_separable_chunked_implementation;
extern const nd_cuda_implementation
    nd_separable_fused_implementations[3]; /* tiles of 64, 128, 256 output channels */
extern const nd_cuda_implementation nd_separable_wgmma_implementation; /* sm_90a */

#endif
