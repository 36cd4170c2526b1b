/* y = x / (k + alpha/size * sum over `size` channels of x^2)^beta. One thread per output, last axis fastest;
 * the window's reads overlap with the neighbours' and come from cache. An even size reaches one
 * further up. */
#include "cuda/kernels/grid.cuh"

struct nd_lrn {
    int64_t size;
    float scale, beta, k; /* scale: alpha / size */
};

template <class T>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_lrn_kernel(nd_lrn lrn, nd_view x_view, nd_view y_view, int64_t count, const T *__restrict__ x, T *y) {
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        int64_t rest = item / y_view.dims[1], from = x_view.offset, to = y_view.offset;
        const int64_t c = item - rest * y_view.dims[1], step = x_view.strides[1];
        for (int i = y_view.rank - 1; i >= 0; i--) {
            if (i == 1) continue;
            from += rest % y_view.dims[i] * x_view.strides[i];
            to += rest % y_view.dims[i] * y_view.strides[i];
            rest /= y_view.dims[i];
        }
        const int64_t low = c - (lrn.size - 1) / 2, high = c + lrn.size / 2;
        float sum = 0;
        for (int64_t i = low < 0 ? 0 : low; i <= high && i < y_view.dims[1]; i++) {
            const float value = nd_load(x[from + i * step]);
            sum += value * value;
        }
        nd_store(&y[to + c * y_view.strides[1]],
                 nd_load(x[from + c * step]) * powf(lrn.k + lrn.scale * sum, -lrn.beta));
    }
}

nd_status nd_cuda_lrn_launch(const nd_cuda_call *call) {
    const nd_work *work = call->work;
    const int64_t count = nd_view_count(&work->y);
    if (!count) return nd_status_ok;
    const nd_lrn lrn = {work->size, work->alpha / (float)work->size, work->beta, work->k};
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_lrn_kernel<T>, nd_grid_blocks(count), dim3(nd_grid_threads), 0, call->stream, lrn,
                         work->x, work->y, count, static_cast<const T *>(call->x), static_cast<T *>(call->y));
    });
}
