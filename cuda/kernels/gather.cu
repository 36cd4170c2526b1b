/* y[:, i] = x[:, channel[i]]. One thread per output, in y's memory order for NHWC: writes are coalesced,
 * reads as scattered as the channels are. */
#include "cuda/kernels/grid.cuh"

/* Views of any rank, seen as [outer][axis 1][inner] by dims alone. */
template <class T>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_gather_kernel(nd_view x_view, nd_view y_view, int64_t count, const int32_t *__restrict__ channel,
                     const T *__restrict__ x, T *y) {
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        int64_t rest = item / y_view.dims[1];
        const int64_t c = item - rest * y_view.dims[1];
        int64_t from = x_view.offset + channel[c] * x_view.strides[1];
        int64_t to = y_view.offset + c * y_view.strides[1];
        for (int i = y_view.rank - 1; i >= 0; i--) {
            if (i == 1) continue;
            const int64_t index = rest % y_view.dims[i];
            from += index * x_view.strides[i];
            to += index * y_view.strides[i];
            rest /= y_view.dims[i];
        }
        y[to] = x[from];
    }
}

nd_status nd_cuda_gather_launch(const nd_cuda_call *call) {
    const int64_t count = nd_view_count(&call->work->y);
    if (!count) return nd_status_ok;
    return nd_with_moved(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_gather_kernel<T>, nd_grid_blocks(count), dim3(nd_grid_threads), 0, call->stream,
                         call->work->x, call->work->y, count, call->channel, static_cast<const T *>(call->x),
                         static_cast<T *>(call->y));
    });
}
