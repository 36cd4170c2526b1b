/* Direct convolution: the fallback where cuDNN offers no plan for the shape or the strides. One thread per
 * output, channels fastest, weights transposed so that a warp reads 32 neighbours; no reuse but the caches'.
 * ni/groups * kh * kw multiply-adds per output. */
#include "cuda/kernels/grid.cuh"

struct nd_conv {
    nd_window window;
    nd_activation activation;
    int64_t groups;
    nd_view x, x2, y;
};

template <class T>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_conv_kernel(nd_conv conv, int64_t count, const float *__restrict__ weights,
                   const float *__restrict__ bias, const T *__restrict__ x, const T *__restrict__ x2, T *y) {
    const nd_window &g = conv.window;
    const int64_t no = conv.y.dims[1], channels = conv.x.dims[1] / conv.groups;
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        const nd_image_index out = nd_image_at(conv.y, item);
        const int64_t first = out.c / (no / conv.groups) * channels;
        nd_image_index in = out;
        float sum = bias ? bias[out.c] : 0;
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < g.kernel[0]; i++)
                for (int64_t j = 0; j < g.kernel[1]; j++) {
                    in.c = first + c;
                    in.h = out.h * g.stride[0] - g.pad[0] + i * g.dilation[0];
                    in.w = out.w * g.stride[1] - g.pad[1] + j * g.dilation[1];
                    if (in.h < 0 || in.h >= conv.x.dims[2] || in.w < 0 || in.w >= conv.x.dims[3]) continue;
                    const int64_t tap = (c * g.kernel[0] + i) * g.kernel[1] + j;
                    sum = fmaf(weights[tap * no + out.c], nd_load(x[nd_view_at(conv.x, in)]), sum);
                }
        if (x2) sum += nd_load(x2[nd_view_at(conv.x2, out)]);
        nd_store(&y[nd_view_at(conv.y, out)], nd_activate(conv.activation, sum));
    }
}

nd_status nd_cuda_conv_launch(const nd_cuda_call *call) {
    const nd_work *work = call->work;
    const int64_t count = nd_view_count(&work->y);
    if (!count) return nd_status_ok;
    const nd_conv conv = {work->window, work->activation, work->groups, work->x, work->x2, work->y};
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_conv_kernel<T>, nd_grid_blocks(count), dim3(nd_grid_threads), 0, call->stream,
                         conv, count, call->weights, call->bias, static_cast<const T *>(call->x),
                         work->residual ? static_cast<const T *>(call->x2) : nullptr,
                         static_cast<T *>(call->y));
    });
}
