#include "cuda/kernels/grid.cuh"
#include "cuda/tune/verify.h"

#include <float.h>

struct nd_verify_bound {
    float absolute, relative;
};

__device__ static float nd_verify_error(const nd_verify_bound &bound, float got, float expected) {
    if (expected != expected) return got != got ? 0 : INFINITY;
    const float error = fabsf(got - expected) / (bound.absolute + bound.relative * fabsf(expected));
    return error <= FLT_MAX ? error : INFINITY; /* NaN is not */
}

/* A thread keeps the largest of the elements it strides over; the block's are joined by halves in shared
 * memory. */
template <class T>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_verify_kernel(nd_verify_bound bound, int64_t count, const T *__restrict__ got,
                     const T *__restrict__ expected, float *worst) {
    ND_SHARED(float, largest); /* [threads] */
    float mine = 0;
    for (int64_t i = nd_grid_first(); i < count; i += nd_grid_step())
        mine = fmaxf(mine, nd_verify_error(bound, nd_load(got[i]), nd_load(expected[i])));
    largest[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned half = nd_grid_threads / 2; half; half /= 2) {
        if (threadIdx.x < half)
            largest[threadIdx.x] = fmaxf(largest[threadIdx.x], largest[threadIdx.x + half]);
        __syncthreads();
    }
    if (threadIdx.x == 0) worst[blockIdx.x] = largest[0];
}

nd_status nd_cuda_verify_launch(const nd_cuda_verify *call) {
    return nd_with_chosen(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_verify_kernel<T>, dim3(nd_verify_blocks), dim3(nd_grid_threads),
                         nd_grid_threads * sizeof(float), call->stream,
                         nd_verify_bound{call->absolute, call->relative}, call->count,
                         static_cast<const T *>(call->got), static_cast<const T *>(call->expected),
                         call->worst);
    });
}
