#include "cuda/kernels/grid.cuh"
#include "cuda/kernels/moments.h"

__global__ void __launch_bounds__(nd_grid_threads)
    nd_moments_kernel(const float *part, int64_t count, double *sum) {
    for (int64_t i = nd_grid_first(); i < count; i += nd_grid_step()) sum[i] += (double)part[i];
}

nd_status nd_cuda_moments_launch(const float *part, int64_t count, double *sum, cudaStream_t stream) {
    return nd_launch(nd_moments_kernel, nd_grid_blocks(count), dim3(nd_grid_threads), 0, stream, part, count,
                     sum);
}
