/* sum[i] += part[i]: fp32 products of one block of rows into the fp64 moments. */
#ifndef ND_CUDA_MOMENTS_H
#define ND_CUDA_MOMENTS_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

nd_status nd_cuda_moments_launch(const float *part, int64_t count, double *sum, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
