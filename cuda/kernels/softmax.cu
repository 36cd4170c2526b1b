/* Softmax of every group of elements that share their other indices. One block per group: each thread keeps
 * the running maximum and rescaled sum of its elements (one pass over x), the block combines them by shuffles
 * and one row of shared memory, and a second pass writes. Two reads (the second from cache) and one write an
 * element. */
#include "cuda/kernels/grid.cuh"

enum { nd_softmax_threads = 128, nd_softmax_warps = nd_softmax_threads / 32 };

struct nd_softmax_state {
    float largest, sum; /* sum of exp(x - largest) */
};

__device__ static nd_softmax_state nd_softmax_join(nd_softmax_state a, nd_softmax_state b) {
    const float largest = fmaxf(a.largest, b.largest);
    if (largest == -INFINITY) return a; /* neither has seen a number */
    return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

template <class T>
__global__ void __launch_bounds__(nd_softmax_threads)
    nd_softmax_kernel(nd_view x_view, nd_view y_view, nd_view across, nd_view within, int64_t length,
                      const T *__restrict__ x, T *y) {
    ND_SHARED(nd_softmax_state, states); /* [warps] */
    x += x_view.offset + nd_view_at(x_view, across, blockIdx.x);
    y += y_view.offset + nd_view_at(y_view, across, blockIdx.x);
    nd_softmax_state state = {-INFINITY, 0};
    for (int64_t i = threadIdx.x; i < length; i += nd_softmax_threads)
        state = nd_softmax_join(state, {nd_load(x[nd_view_at(x_view, within, i)]), 1});
    for (int lanes = 16; lanes; lanes /= 2)
        state = nd_softmax_join(state, {__shfl_xor_sync(0xffffffffu, state.largest, lanes),
                                        __shfl_xor_sync(0xffffffffu, state.sum, lanes)});
    if (threadIdx.x % 32 == 0) states[threadIdx.x / 32] = state;
    __syncthreads();
    state = states[0];
    for (int i = 1; i < nd_softmax_warps; i++) state = nd_softmax_join(state, states[i]);
    for (int64_t i = threadIdx.x; i < length; i += nd_softmax_threads)
        nd_store(&y[nd_view_at(y_view, within, i)],
                 expf(nd_load(x[nd_view_at(x_view, within, i)]) - state.largest) / state.sum);
}

nd_status nd_cuda_softmax_launch(const nd_cuda_call *call) {
    const nd_work *work = call->work;
    nd_view across = work->y, within = work->y;
    int64_t product = 1;
    for (int i = 0; i < work->y.rank; i++) {
        const bool inside = i == work->axis || (i > work->axis && product < work->inner);
        if (inside) product *= work->y.dims[i];
        (inside ? &across : &within)->dims[i] = 1;
    }
    const int64_t groups = nd_view_count(&across), length = nd_view_count(&within);
    if (!groups || !length) return nd_status_ok;
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_softmax_kernel<T>, dim3((unsigned)groups), dim3(nd_softmax_threads),
                         nd_softmax_warps * sizeof(nd_softmax_state), call->stream, work->x, work->y, across,
                         within, length, static_cast<const T *>(call->x), static_cast<T *>(call->y));
    });
}
