/* The ways a separable layer can run, each a kind of its own; separable.c chooses among them. */
#ifndef ND_CUDA_SEPARABLE_H
#define ND_CUDA_SEPARABLE_H

#include "cuda/device.h"

/* x, y and the residual are pixels of neighbouring channels. */
bool nd_separable_is_pixels(const nd_work *work);

/* Filters as the kernels want them: fp32 [taps][terms], and T where every channel has T terms, else 0. */
nd_status nd_separable_filters(nd_kernel *kernel, const nd_work *work, nd_cuda_depthwise *call);

extern const nd_cuda_kind nd_separable_dense_kind, nd_separable_chunked_kind;
extern const nd_cuda_kind nd_separable_fused_kinds[3]; /* tiles of 64, 128, 256 output channels */
extern const nd_cuda_kind nd_separable_wgmma_kind;     /* sm_90a */

#endif
