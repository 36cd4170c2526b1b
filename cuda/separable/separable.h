/* The implementations of a separable layer; separable.c chooses among them. */
#ifndef ND_CUDA_SEPARABLE_H
#define ND_CUDA_SEPARABLE_H

#include "cuda/device.h"
#include "cuda/separable/separable_pack.h"

/* x, y and the residual are pixels of neighbouring channels. */
bool nd_separable_is_pixels(const nd_work *work);

/* The layer as the fused kernels are told of it, with no weights yet and no plan; kernel->bias is set. */
nd_cuda_separable nd_separable_call(const nd_kernel *kernel, const nd_work *work, int64_t tile);

/* What int8 has beside the rest, to the device; the kernel owns it. */
nd_status nd_separable_integers_send(nd_kernel *kernel, const nd_work *work,
                                     const nd_separable_integers *host, nd_cuda_integers *integers);

extern const nd_cuda_implementation nd_separable_dense_implementation, nd_separable_chunked_implementation;
extern const nd_cuda_implementation
    nd_separable_fused_implementations[3]; /* tiles of 64, 128, 256 output channels */
extern const nd_cuda_implementation nd_separable_wgmma_implementation; /* sm_90a */

#endif
