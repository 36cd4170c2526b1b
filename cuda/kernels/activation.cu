#include "cuda/kernels/elementwise.cuh"

struct nd_activation_of {
    static constexpr int operands = 1;
    nd_activation activation;
    __device__ float operator()(float a, float, int64_t) const {
        return nd_activate(activation, a);
    }
};

nd_status nd_cuda_activation_launch(const nd_cuda_call *call) {
    return nd_loop_call(call, nd_activation_of{call->work->activation});
}
