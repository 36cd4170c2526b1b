/* The fused kernel for sm_90a alone (separable_sm90a.cu). Same call as nd_cuda_separable_launch, not strict
 * fp32, with chunks for a whole block of terms (4 for 16-bit elements, 8 for tf32), tiles of 128 or 256
 * channels, and pixels of x on multiples of 16 bytes. */
#ifndef ND_CUDA_SEPARABLE_SM90A_H
#define ND_CUDA_SEPARABLE_SM90A_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

nd_status nd_cuda_separable_sm90a_launch(const nd_cuda_separable *call);
size_t nd_cuda_separable_sm90a_shared(const nd_cuda_separable *call);

#ifdef __cplusplus
}
#endif

#endif
