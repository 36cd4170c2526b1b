/* Maximum and average pooling. One thread per output, in the order of y in memory: a warp reads 32
 * neighbouring channels of each tap (NHWC), or the taps of neighbouring windows (NCHW). kh*kw reads (from
 * cache but for the first) and one write an output. */
#include "cuda/kernels/grid.cuh"

/* What an average divides by along one axis: taps on real pixels, or on declared padding too; never those
 * beyond the declared padding, which ceil mode can reach. */
__device__ static int nd_pool_taps(const nd_window &g, bool count_pad, int64_t size, int axis,
                                   int64_t position) {
    const int64_t low = count_pad ? -g.pad[axis] : 0, high = size + (count_pad ? g.pad[2 + axis] : 0);
    int taps = 0;
    for (int64_t i = 0; i < g.kernel[axis]; i++) {
        const int64_t at = position * g.stride[axis] - g.pad[axis] + i * g.dilation[axis];
        taps += at >= low && at < high;
    }
    return taps;
}

struct nd_pool {
    nd_window window;
    bool maximum, count_pad, by_rows;
};

template <class T>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_pool_kernel(nd_pool pool, nd_view x_view, nd_view y_view, int64_t count, const T *__restrict__ x,
                   T *y) {
    const nd_window &g = pool.window;
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        const nd_image_index out = pool.by_rows ? nd_image_by_rows(y_view, item) : nd_image_at(y_view, item);
        nd_image_index in = out;
        float sum = 0, largest = -INFINITY;
        for (int64_t i = 0; i < g.kernel[0]; i++) {
            in.h = out.h * g.stride[0] - g.pad[0] + i * g.dilation[0];
            if (in.h < 0 || in.h >= x_view.dims[2]) continue;
            for (int64_t j = 0; j < g.kernel[1]; j++) {
                in.w = out.w * g.stride[1] - g.pad[1] + j * g.dilation[1];
                if (in.w < 0 || in.w >= x_view.dims[3]) continue;
                const float value = nd_load(x[nd_view_at(x_view, in)]);
                sum += value;
                largest = fmaxf(largest, value);
            }
        }
        float result = largest;
        if (!pool.maximum) {
            const int taps = nd_pool_taps(g, pool.count_pad, x_view.dims[2], 0, out.h) *
                             nd_pool_taps(g, pool.count_pad, x_view.dims[3], 1, out.w);
            result = taps ? sum / taps : 0;
        }
        nd_store(&y[nd_view_at(y_view, out)], result);
    }
}

nd_status nd_cuda_pool_launch(const nd_cuda_call *call) {
    const nd_work *work = call->work;
    const int64_t count = nd_view_count(&work->y);
    if (!count) return nd_status_ok;
    const bool by_rows = work->y.dims[3] > 1 && work->y.strides[3] < work->y.strides[1];
    const nd_pool pool = {work->window, work->maximum, work->count_include_pad, by_rows};
    return nd_with_chosen(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_pool_kernel<T>, nd_grid_blocks(count), dim3(nd_grid_threads), 0, call->stream,
                         pool, work->x, work->y, count, static_cast<const T *>(call->x),
                         static_cast<T *>(call->y));
    });
}
