#include "cuda/kernels/elementwise.cuh"

struct nd_copy {
    static constexpr int operands = 1;
    __device__ float operator()(float a, float, int64_t) const {
        return a;
    }
};

nd_status nd_cuda_copy_launch(const nd_cuda_call *call) {
    return nd_loop_call(call, nd_copy{});
}

nd_status nd_cuda_convert_launch(nd_dtype from, const nd_view *x_view, const void *x, nd_dtype to,
                                 const nd_view *y_view, void *y, cudaStream_t stream) {
    nd_loop loop;
    nd_loop_make(y_view, x_view, nullptr, sizeof(float), &loop); /* one side of a conversion is fp32 */
    if (from == nd_dtype_f32)
        return nd_with_storage(to, [&](auto element) {
            using T = decltype(element);
            return nd_loop_launch<nd_copy, float, T>(&loop, nd_copy{}, static_cast<const float *>(x), nullptr,
                                                     static_cast<T *>(y), stream);
        });
    ND_REQUIRE(to == nd_dtype_f32, nd_status_internal, "no conversion from %s to %s", nd_dtype_name(from),
               nd_dtype_name(to));
    return nd_with_storage(from, [&](auto element) {
        using T = decltype(element);
        return nd_loop_launch<nd_copy, T, float>(&loop, nd_copy{}, static_cast<const T *>(x), nullptr,
                                                 static_cast<float *>(y), stream);
    });
}
