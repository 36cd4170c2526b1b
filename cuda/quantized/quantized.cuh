/* What follows a sum of integers: the constants of run/quantized.h on the device. */
#ifndef ND_CUDA_QUANTIZED_CUH
#define ND_CUDA_QUANTIZED_CUH

#include "cuda/quantized/quantized.h"

#include "cuda/kernels/launch.cuh"

/* The activation, and into the range of y. The product is rounded on its own: a compiler would fuse it with
 * the sum that follows. */
__device__ inline float nd_quantized_bounded(const nd_requant &r, float t) {
    if (r.leaky && t < 0) t = nd_ptx_mul(t, r.slope);
    return fminf(fmaxf(t + r.zero, r.low), r.high);
}

/* One element of y, not yet rounded. */
template <class Sum, class T>
__device__ inline float nd_quantized_finish(const nd_requant &r, Sum sum, float factor, float shift,
                                            bool residual, T x2) {
    float t = fmaf((float)sum, factor, shift);
    if (residual) t = fmaf(nd_load(x2), r.x2_factor, t);
    return nd_quantized_bounded(r, t);
}

#endif
