#include "cuda/kernels/grid.cuh"
#include "cuda/tune/noise.h"

template <class T> __device__ inline void nd_noise_store(T *out, uint64_t seed, int64_t index, float scale) {
    nd_store(out, scale * nd_noise(seed, (uint64_t)index));
}

__device__ inline void nd_noise_store(nd_u8 *out, uint64_t seed, int64_t index, float) {
    out->integer = nd_noise_integer(seed, (uint64_t)index);
}

template <class T>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_noise_kernel(uint64_t seed, float scale, int64_t count, T *out) {
    for (int64_t i = nd_grid_first(); i < count; i += nd_grid_step()) nd_noise_store(&out[i], seed, i, scale);
}

nd_status nd_cuda_noise_launch(uint64_t seed, float scale, nd_dtype storage, int64_t count, void *out,
                               cudaStream_t stream) {
    return nd_with_chosen(storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_noise_kernel<T>, nd_grid_blocks(count), dim3(nd_grid_threads), 0, stream, seed,
                         scale, count, static_cast<T *>(out));
    });
}
