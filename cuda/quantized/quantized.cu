#include "cuda/quantized/quantized.cuh"

#include "cuda/kernels/elementwise.cuh"
#include "cuda/kernels/grid.cuh"

template <class Y>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_quantized_conv_kernel(const __grid_constant__ nd_cuda_quantized_conv conv, int64_t count) {
    const nd_window &g = conv.window;
    const nd_u8 *x = static_cast<const nd_u8 *>(conv.x), *x2 = static_cast<const nd_u8 *>(conv.x2);
    const int64_t no = conv.y_view.dims[1], channels = conv.x_view.dims[1] / conv.groups;
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        const nd_image_index out = nd_image_at(conv.y_view, item);
        const int64_t first = out.c / (no / conv.groups) * channels;
        nd_image_index in = out;
        int32_t sum = 0;
        for (int64_t i = 0; i < g.kernel[0]; i++)
            for (int64_t j = 0; j < g.kernel[1]; j++) {
                in.h = out.h * g.stride[0] - g.pad[0] + i * g.dilation[0];
                in.w = out.w * g.stride[1] - g.pad[1] + j * g.dilation[1];
                if (in.h < 0 || in.h >= conv.x_view.dims[2] || in.w < 0 || in.w >= conv.x_view.dims[3])
                    continue;
                for (int64_t c = 0; c < channels; c++) {
                    in.c = first + c;
                    const int64_t tap = (c * g.kernel[0] + i) * g.kernel[1] + j;
                    sum += conv.weights[tap * no + out.c] *
                           ((int32_t)x[nd_view_at(conv.x_view, in)].integer - conv.x_zero);
                }
            }
        const float t = nd_quantized_finish(conv.requant, sum, conv.factor[out.c], conv.shift[out.c], x2,
                                            x2 ? x2[nd_view_at(conv.x2_view, out)] : nd_u8());
        nd_store(&static_cast<Y *>(conv.y)[nd_view_at(conv.y_view, out)], t);
    }
}

nd_status nd_cuda_quantized_conv_launch(const nd_cuda_quantized_conv *call) {
    const int64_t count = nd_view_count(&call->y_view);
    if (!count) return nd_status_ok;
    return nd_launch(call->real ? nd_quantized_conv_kernel<float> : nd_quantized_conv_kernel<nd_u8>,
                     nd_grid_blocks(count), dim3(nd_grid_threads), 0, call->stream, *call, count);
}

/* at_once: 16 channels of x lie together, on 16 bytes. */
__global__ void __launch_bounds__(nd_grid_threads)
    nd_quantized_in_kernel(const __grid_constant__ nd_cuda_quantized_in s,
                           const __grid_constant__ nd_view chunks, int64_t count, bool at_once) {
    using chunk = nd_pack<uint32_t, 4>;
    const uint32_t flip = s.e4m3 ? 0 : 0x80808080u; /* less 128, in two's complement */
    const nd_u8 *x = static_cast<const nd_u8 *>(s.x);
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        nd_image_index in = nd_image_at(chunks, item);
        in.c *= 16;
        in.h -= s.top;
        in.w -= s.left;
        const bool inside = in.h >= 0 && in.h < s.x_view.dims[2] && in.w >= 0 && in.w < s.x_view.dims[3];
        chunk out;
        for (int i = 0; i < 4; i++) out.value[i] = (uint32_t)s.x_zero * 0x01010101u;
        if (inside && at_once) {
            out = *reinterpret_cast<const chunk *>(x + nd_view_at(s.x_view, in));
        } else if (inside) {
            ND_UNROLL
            for (int i = 0; i < 4; i++) {
                out.value[i] = flip;
                for (int k = 0; k < 4 && in.c < s.x_view.dims[1]; k++, in.c++)
                    out.value[i] ^= (x[nd_view_at(s.x_view, in)].integer ^ (flip & 0xff)) << 8 * k;
            }
        }
        for (int i = 0; i < 4; i++) out.value[i] ^= flip;
        static_cast<chunk *>(s.y)[item] = out;
    }
}

nd_status nd_cuda_quantized_in_launch(const nd_cuda_quantized_in *call) {
    const nd_view &x = call->x_view;
    const int64_t dims[] = {x.dims[0], call->channels / 16, call->height, call->width};
    const nd_view chunks = nd_view_channels_last(4, dims);
    const int64_t count = nd_view_count(&chunks);
    const int64_t apart = x.strides[0] | x.strides[2] | x.strides[3] | x.offset | x.dims[1];
    const bool at_once = x.strides[1] == 1 && (apart | (int64_t)(uintptr_t)call->x) % 16 == 0;
    if (!count) return nd_status_ok;
    return nd_launch(nd_quantized_in_kernel, nd_grid_blocks(count), dim3(nd_grid_threads), 0, call->stream,
                     *call, chunks, count, at_once);
}

/* Of numbers as X has them, summed in Sum. at_once: four channels of y lie together, on as many elements. */
template <class X, class Sum, class Y>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_quantized_end_kernel(const __grid_constant__ nd_cuda_quantized_end e,
                            const __grid_constant__ nd_view fours, int64_t count, bool at_once) {
    const X *x2 = static_cast<const X *>(e.x2);
    Y *y = static_cast<Y *>(e.y);
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        nd_image_index out = nd_image_at(fours, item);
        const auto sums = static_cast<const nd_pack<Sum, 4> *>(e.sums)[item];
        const int64_t first = out.c * 4;
        nd_pack<Y, 4> four = {};
        for (int i = 0; i < 4; i++) {
            out.c = first + i;
            if (out.c >= e.y_view.dims[1]) break;
            const Sum sum = e.start ? sums.value[i] + e.start[out.c] : sums.value[i];
            const float t = nd_quantized_finish(e.requant, sum, e.factor[out.c], e.shift[out.c], x2,
                                                x2 ? x2[nd_view_at(e.x2_view, out)] : X());
            nd_store(&four.value[i], t);
            if (!at_once) y[nd_view_at(e.y_view, out)] = four.value[i];
        }
        out.c = first;
        if (at_once && first < e.y_view.dims[1])
            *reinterpret_cast<nd_pack<Y, 4> *>(y + nd_view_at(e.y_view, out)) = four;
    }
}

nd_status nd_cuda_quantized_end_launch(const nd_cuda_quantized_end *call) {
    const nd_view &y = call->y_view;
    const int64_t dims[] = {y.dims[0], call->row / 4, y.dims[2], y.dims[3]};
    const nd_view fours = nd_view_channels_last(4, dims);
    const int64_t count = nd_view_count(&fours), size = call->real ? 4 : 1;
    const int64_t apart = y.strides[0] | y.strides[2] | y.strides[3] | y.offset | y.dims[1];
    const bool at_once = y.strides[1] == 1 && apart % 4 == 0 && (int64_t)(uintptr_t)call->y % (4 * size) == 0;
    const auto integers = call->real ? nd_quantized_end_kernel<nd_u8, int32_t, float>
                                     : nd_quantized_end_kernel<nd_u8, int32_t, nd_u8>;
    const auto e4m3 = call->real ? nd_quantized_end_kernel<nd_e4m3, float, float>
                                 : nd_quantized_end_kernel<nd_e4m3, float, nd_e4m3>;
    if (!count) return nd_status_ok;
    return nd_launch(call->e4m3 ? e4m3 : integers, nd_grid_blocks(count), dim3(nd_grid_threads), 0,
                     call->stream, *call, fours, count, at_once);
}

__global__ void __launch_bounds__(nd_grid_threads)
    nd_quantized_depthwise_kernel(const __grid_constant__ nd_cuda_quantized_depthwise d, int64_t count) {
    const nd_window &g = d.window;
    const nd_u8 *x = static_cast<const nd_u8 *>(d.x);
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        const int64_t term = item % d.terms, pixel = item / d.terms, row = pixel / d.out_width;
        nd_image_index in;
        in.c = d.channel[term];
        in.n = row / d.out_height;
        float chain = 0;
        for (int64_t i = 0; i < g.kernel[0]; i++)
            for (int64_t j = 0; j < g.kernel[1]; j++) {
                in.h = row % d.out_height * g.stride[0] - g.pad[0] + i * g.dilation[0];
                in.w = pixel % d.out_width * g.stride[1] - g.pad[1] + j * g.dilation[1];
                if (in.h < 0 || in.h >= d.x_view.dims[2] || in.w < 0 || in.w >= d.x_view.dims[3]) continue;
                const int32_t value = x[nd_view_at(d.x_view, in)].integer;
                chain =
                    fmaf((float)(value - d.x_zero), d.filters[(i * g.kernel[1] + j) * d.terms + term], chain);
            }
        nd_store(static_cast<nd_u8 *>(d.y) + item, fmaf(chain, d.middle_factor[term], (float)d.middle_zero));
    }
}

nd_status nd_cuda_quantized_depthwise_launch(const nd_cuda_quantized_depthwise *call) {
    const int64_t count = call->images * call->out_height * call->out_width * call->terms;
    if (!count) return nd_status_ok;
    return nd_launch(nd_quantized_depthwise_kernel, nd_grid_blocks(count), dim3(nd_grid_threads), 0,
                     call->stream, *call, count);
}

struct nd_quantized_add {
    static constexpr int operands = 2;
    nd_requant requant;
    __device__ float operator()(float a, float b, int64_t) const {
        return nd_quantized_bounded(requant,
                                    fmaf(b, requant.x2_factor, fmaf(a, requant.x_factor, requant.shift)));
    }
};

nd_status nd_cuda_quantized_add_launch(const nd_cuda_call *call) {
    return nd_loop_typed<nd_u8, nd_u8>(
        call, nd_quantized_add{nd_requant_of(call->work, nullptr, nullptr, nullptr)});
}

struct nd_quantize_of {
    static constexpr int operands = 1;
    float scale, zero;
    __device__ float operator()(float a, float, int64_t) const {
        return a / scale + zero;
    }
};

nd_status nd_cuda_quantize_launch(const nd_cuda_call *call) {
    const nd_quant quant = call->work->y_quant;
    const nd_quantize_of of = {quant.scale, (float)quant.zero};
    return quant.e4m3 ? nd_loop_typed<float, nd_e4m3>(call, of) : nd_loop_typed<float, nd_u8>(call, of);
}

struct nd_dequantize_of {
    static constexpr int operands = 1;
    float scale, zero;
    __device__ float operator()(float a, float, int64_t) const {
        return scale * (a - zero);
    }
};

nd_status nd_cuda_dequantize_launch(const nd_cuda_call *call) {
    const nd_quant quant = call->work->x_quant;
    const nd_dequantize_of of = {quant.scale, (float)quant.zero};
    return quant.e4m3 ? nd_loop_typed<nd_e4m3, float>(call, of) : nd_loop_typed<nd_u8, float>(call, of);
}
