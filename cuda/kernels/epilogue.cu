/* y = act(y + bias[c] + x2): what follows a convolution whose engine does not do it itself. */
#include "cuda/kernels/elementwise.cuh"

template <int count> struct nd_epilogue {
    static constexpr int operands = count;
    const float *bias;
    nd_activation activation;
    __device__ float operator()(float a, float b, int64_t c) const {
        return nd_activate(activation, a + (bias ? bias[c] : 0) + b);
    }
};

nd_status nd_cuda_epilogue_launch(const nd_cuda_call *call) {
    const nd_activation activation = call->work->activation;
    nd_work in_place = *call->work;
    in_place.x = in_place.y;
    nd_cuda_call inner = *call;
    inner.work = &in_place;
    inner.x = call->y;
    if (call->work->residual) return nd_loop_call(&inner, nd_epilogue<2>{call->bias, activation});
    return nd_loop_call(&inner, nd_epilogue<1>{call->bias, activation});
}
