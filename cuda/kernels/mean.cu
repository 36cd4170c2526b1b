/* Mean over some axes. A block of 32 x 8 threads makes 32 outputs that are neighbours in channels: each of
 * its 8 rows sums every eighth element of the reduction, then the rows are added in shared memory. With NHWC
 * and a mean over H and W, every read of a warp is 32 neighbouring elements; one read per input element. */
#include "cuda/kernels/grid.cuh"

enum { nd_mean_columns = 32, nd_mean_rows = 8 };

/* `kept` has the dims of y, `reduced` those of one mean; both are traversed with axis 1 fastest. */
__device__ static int64_t nd_mean_at(const nd_view &shape, const nd_view &view, int64_t item) {
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

template <class T>
__global__ void __launch_bounds__(nd_mean_columns *nd_mean_rows)
    nd_mean_kernel(nd_view x_view, nd_view y_view, nd_view reduced, int64_t outputs, int64_t length,
                   const T *__restrict__ x, T *y) {
    ND_SHARED(float, partial); /* [rows][columns] */
    const int64_t output = (int64_t)blockIdx.x * nd_mean_columns + threadIdx.x;
    float sum = 0;
    if (output < outputs) {
        const T *from = x + x_view.offset + nd_mean_at(y_view, x_view, output);
        for (int64_t i = threadIdx.y; i < length; i += nd_mean_rows)
            sum += nd_load(from[nd_mean_at(reduced, x_view, i)]);
    }
    partial[threadIdx.y * nd_mean_columns + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || output >= outputs) return;
    for (int i = 1; i < nd_mean_rows; i++) sum += partial[i * nd_mean_columns + threadIdx.x];
    nd_store(&y[y_view.offset + nd_mean_at(y_view, y_view, output)], sum / (float)length);
}

nd_status nd_cuda_mean_launch(const nd_cuda_call *call) {
    const nd_work *work = call->work;
    nd_view reduced = work->x;
    for (int i = 0; i < reduced.rank; i++)
        if (!work->axes[i]) reduced.dims[i] = 1;
    const int64_t outputs = nd_view_count(&work->y), length = nd_view_count(&reduced);
    if (!outputs || !length) return nd_status_ok;
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_mean_kernel<T>,
                         dim3((unsigned)((outputs + nd_mean_columns - 1) / nd_mean_columns)),
                         dim3(nd_mean_columns, nd_mean_rows), nd_mean_columns * nd_mean_rows * sizeof(float),
                         call->stream, work->x, work->y, reduced, outputs, length,
                         static_cast<const T *>(call->x), static_cast<T *>(call->y));
    });
}
