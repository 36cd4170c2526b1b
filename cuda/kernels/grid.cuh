/* Index arithmetic shared by the kernels that make one output per thread. */
#ifndef ND_CUDA_GRID_CUH
#define ND_CUDA_GRID_CUH

#include "cuda/kernels/launch.cuh"

enum { nd_grid_threads = 256 };

/* Blocks for `count` threads; a grid-stride loop takes what one grid cannot hold. */
inline dim3 nd_grid_blocks(int64_t count) {
    const int64_t blocks = nd_ceil_div(count, nd_grid_threads);
    return dim3((unsigned)(blocks < 1 ? 1 : blocks > 1 << 20 ? 1 << 20 : blocks));
}

__device__ inline int64_t nd_grid_first() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ inline int64_t nd_grid_step() {
    return (int64_t)gridDim.x * blockDim.x;
}

/* Position `item` of an image view counted with channels fastest, as NHWC memory lies. */
struct nd_image_index {
    int64_t n, c, h, w;
};

__device__ inline nd_image_index nd_image_at(const nd_view &view, int64_t item) {
    nd_image_index at;
    at.c = item % view.dims[1];
    item /= view.dims[1];
    at.w = item % view.dims[3];
    item /= view.dims[3];
    at.h = item % view.dims[2];
    at.n = item / view.dims[2];
    return at;
}

/* The same counted with pixels fastest, as NCHW memory lies. */
__device__ inline nd_image_index nd_image_by_rows(const nd_view &view, int64_t item) {
    nd_image_index at;
    at.w = item % view.dims[3];
    item /= view.dims[3];
    at.h = item % view.dims[2];
    item /= view.dims[2];
    at.c = item % view.dims[1];
    at.n = item / view.dims[1];
    return at;
}

__device__ inline int64_t nd_view_at(const nd_view &view, const nd_image_index &at) {
    return view.offset + at.n * view.strides[0] + at.c * view.strides[1] + at.h * view.strides[2] +
           at.w * view.strides[3];
}

/* Element offset of position `item`, row-major over the dims of `shape`, by the strides of `view`. */
__device__ inline int64_t nd_view_at(const nd_view &view, const nd_view &shape, int64_t item) {
    int64_t at = 0;
    for (int i = shape.rank - 1; i >= 0; i--) {
        at += item % shape.dims[i] * view.strides[i];
        item /= shape.dims[i];
    }
    return at;
}

#endif
