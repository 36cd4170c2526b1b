#include "cuda/kernels/elementwise.cuh"

struct nd_affine {
    static constexpr int operands = 1;
    const float *weights, *bias;
    nd_activation activation;
    __device__ float operator()(float a, float, int64_t c) const {
        return nd_activate(activation, fmaf(a, weights[c], bias ? bias[c] : 0));
    }
};

nd_status nd_cuda_affine_launch(const nd_cuda_call *call) {
    return nd_loop_call(call, nd_affine{call->weights, call->bias, call->work->activation});
}
