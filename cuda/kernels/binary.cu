#include "cuda/kernels/elementwise.cuh"

struct nd_binary {
    static constexpr int operands = 2;
    nd_pairing pairing;
    nd_activation activation;
    __device__ float operator()(float a, float b, int64_t) const {
        return nd_activate(activation, nd_pair(pairing, a, b));
    }
};

nd_status nd_cuda_binary_launch(const nd_cuda_call *call) {
    return nd_loop_call(call, nd_binary{call->work->pairing, call->work->activation});
}
