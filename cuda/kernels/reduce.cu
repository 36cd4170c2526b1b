/* Reductions over some axes. A block of 32 x 8 threads makes 32 outputs that are neighbours in channels: each
 * of its 8 rows takes every eighth element of the reduction, then the rows are put together in shared memory.
 * With NHWC and a reduction over H and W, every read of a warp is 32 neighbouring elements; one read per
 * input element. */
#include "cuda/kernels/grid.cuh"

enum { nd_reduce_columns = 32, nd_reduce_rows = 8 };

/* `kept` has the dims of y, `reduced` those of one result; both are traversed with axis 1 fastest. */
__device__ static int64_t nd_reduce_at(const nd_view &shape, const nd_view &view, int64_t item) {
    int64_t at = 0;
    if (shape.rank > 1) {
        at += item % shape.dims[1] * view.strides[1];
        item /= shape.dims[1];
    }
    for (int i = shape.rank - 1; i >= 0; i--) {
        if (i == 1) continue;
        at += item % shape.dims[i] * view.strides[i];
        item /= shape.dims[i];
    }
    return at;
}

__device__ static float nd_reduce_start(nd_reduction reduction) {
    if (reduction == nd_reduction_max) return -INFINITY;
    if (reduction == nd_reduction_min) return INFINITY;
    return reduction == nd_reduction_prod ? 1.0f : 0.0f;
}

/* What one element adds; and how the results of two parts go together. */
__device__ static float nd_reduce_map(nd_reduction reduction, float x) {
    if (reduction == nd_reduction_l1) return fabsf(x);
    return reduction == nd_reduction_l2 || reduction == nd_reduction_sum_square ? x * x : x;
}

__device__ static float nd_reduce_join(nd_reduction reduction, float a, float b) {
    if (reduction == nd_reduction_max) return nd_pair(nd_pairing_max, a, b);
    if (reduction == nd_reduction_min) return nd_pair(nd_pairing_min, a, b);
    return reduction == nd_reduction_prod ? a * b : a + b;
}

__device__ static float nd_reduce_finish(nd_reduction reduction, float sum, int64_t length) {
    if (reduction == nd_reduction_mean) return sum / (float)length;
    if (reduction == nd_reduction_l2) return sqrtf(sum);
    return reduction == nd_reduction_log_sum ? logf(sum) : sum;
}

template <class T>
__global__ void __launch_bounds__(nd_reduce_columns *nd_reduce_rows)
    nd_reduce_kernel(nd_reduction reduction, nd_view x_view, nd_view y_view, nd_view reduced, int64_t outputs,
                     int64_t length, const T *__restrict__ x, T *y) {
    ND_SHARED(float, partial); /* [rows][columns] */
    const int64_t output = (int64_t)blockIdx.x * nd_reduce_columns + threadIdx.x;
    float sum = nd_reduce_start(reduction);
    if (output < outputs) {
        const T *from = x + x_view.offset + nd_reduce_at(y_view, x_view, output);
        for (int64_t i = threadIdx.y; i < length; i += nd_reduce_rows)
            sum = nd_reduce_join(reduction, sum,
                                 nd_reduce_map(reduction, nd_load(from[nd_reduce_at(reduced, x_view, i)])));
    }
    partial[threadIdx.y * nd_reduce_columns + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || output >= outputs) return;
    for (int i = 1; i < nd_reduce_rows; i++)
        sum = nd_reduce_join(reduction, sum, partial[i * nd_reduce_columns + threadIdx.x]);
    nd_store(&y[y_view.offset + nd_reduce_at(y_view, y_view, output)],
             nd_reduce_finish(reduction, sum, length));
}

nd_status nd_cuda_reduce_launch(const nd_cuda_call *call) {
    const nd_work *work = call->work;
    nd_view reduced = work->x;
    for (int i = 0; i < reduced.rank; i++)
        if (!work->axes[i]) reduced.dims[i] = 1;
    const int64_t outputs = nd_view_count(&work->y), length = nd_view_count(&reduced);
    if (!outputs || !length) return nd_status_ok;
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(
            nd_reduce_kernel<T>, dim3((unsigned)((outputs + nd_reduce_columns - 1) / nd_reduce_columns)),
            dim3(nd_reduce_columns, nd_reduce_rows), nd_reduce_columns * nd_reduce_rows * sizeof(float),
            call->stream, work->reduction, work->x, work->y, reduced, outputs, length,
            static_cast<const T *>(call->x), static_cast<T *>(call->y));
    });
}
