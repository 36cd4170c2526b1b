/* The loop under the elementwise operations, over views of any strides: binary, activation, affine, copy,
 * fill, the epilogue and the type conversions at the ends of a network.
 *
 * The host orders the axes by y's strides and merges those that step through every operand as one, so most
 * calls become one long row. A thread makes `vector` neighbours of the innermost axis: 16 bytes of y when all
 * operands lie that way, else one element. Bytes per output: one read of each operand, one write; the index
 * arithmetic (a 32-bit division for every axis but the outermost) is once per thread. A copy that transposes
 * reads with a stride and is not tuned: a network needs one at each end. */
#ifndef ND_CUDA_ELEMENTWISE_CUH
#define ND_CUDA_ELEMENTWISE_CUH

#include "cuda/kernels/launch.cuh"

enum { nd_loop_y, nd_loop_x, nd_loop_x2, nd_loop_channel, nd_loop_operands };

/* Axes outermost first; strides in elements; `channel` steps the index on the work's axis 1. */
struct nd_loop {
    int rank;
    uint32_t dims[nd_rank_max];
    int64_t strides[nd_loop_operands][nd_rank_max];
    int64_t offset[nd_loop_operands];
    uint32_t items; /* threads with work: elements / vector */
    int vector;
};

/* x2 may be NULL. `bytes` is the size of the largest element moved by 16-byte accesses. */
void nd_loop_make(const nd_view *y, const nd_view *x, const nd_view *x2, int bytes, nd_loop *loop);

/* The part of a loop with at most 2^30 elements that begins at *first on the outermost axis; steps *first. */
bool nd_loop_next(const nd_loop *loop, int64_t *first, nd_loop *part);

template <class X, int count>
__device__ inline void nd_loop_read(const X *x, int64_t step, float (&value)[count]) {
    if (step == 1) {
        const nd_pack<X, count> pack = *reinterpret_cast<const nd_pack<X, count> *>(x);
        for (int i = 0; i < count; i++) value[i] = nd_load(pack.value[i]);
    } else {
        const float one = nd_load(*x);
        for (int i = 0; i < count; i++) value[i] = one;
    }
}

template <class Operation, class X, class Y, int count>
__device__ inline void nd_loop_item(const nd_loop &loop, const Operation &operation, const int64_t *at,
                                    const X *x, const X *x2, Y *y) {
    const int last = loop.rank - 1;
    float a[count] = {}, b[count] = {};
    if (Operation::operands >= 1) nd_loop_read<X, count>(x + at[nd_loop_x], loop.strides[nd_loop_x][last], a);
    if (Operation::operands >= 2)
        nd_loop_read<X, count>(x2 + at[nd_loop_x2], loop.strides[nd_loop_x2][last], b);
    nd_pack<Y, count> pack;
    const int64_t step = loop.strides[nd_loop_channel][last];
    for (int i = 0; i < count; i++)
        nd_store(&pack.value[i], operation(a[i], b[i], at[nd_loop_channel] + i * step));
    *reinterpret_cast<nd_pack<Y, count> *>(y + at[nd_loop_y]) = pack;
}

template <class Operation, class X, class Y>
__global__ void __launch_bounds__(256)
    nd_loop_kernel(nd_loop loop, Operation operation, const X *x, const X *x2, Y *y) {
    constexpr int wide = 16 / (sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));
    uint32_t item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= loop.items) return;
    int64_t at[nd_loop_operands];
    for (int i = 0; i < nd_loop_operands; i++) at[i] = loop.offset[i];
    for (int axis = loop.rank - 1; axis >= 0; axis--) {
        const bool inner = axis == loop.rank - 1;
        const uint32_t dim = inner ? loop.dims[axis] / loop.vector : loop.dims[axis];
        const uint32_t rest = axis ? item / dim : 0;
        const int64_t index = (int64_t)(item - rest * dim) * (inner ? loop.vector : 1);
        for (int i = 0; i < nd_loop_operands; i++) at[i] += index * loop.strides[i][axis];
        item = rest;
    }
    if (loop.vector == wide)
        nd_loop_item<Operation, X, Y, wide>(loop, operation, at, x, x2, y);
    else
        nd_loop_item<Operation, X, Y, 1>(loop, operation, at, x, x2, y);
}

template <class Operation, class X, class Y>
nd_status nd_loop_launch(const nd_loop *loop, Operation operation, const X *x, const X *x2, Y *y,
                         cudaStream_t stream) {
    nd_loop part;
    for (int64_t first = 0; nd_loop_next(loop, &first, &part);)
        ND_TRY(nd_launch(nd_loop_kernel<Operation, X, Y>, dim3((part.items + 255) / 256), dim3(256), 0,
                         stream, part, operation, x, x2, y));
    return nd_status_ok;
}

/* A functor over the operands of a call, of x's type and y's. */
template <class X, class Y, class Operation>
nd_status nd_loop_typed(const nd_cuda_call *call, Operation operation) {
    const nd_work *work = call->work;
    nd_loop loop;
    nd_loop_make(&work->y, Operation::operands >= 1 ? &work->x : nullptr,
                 Operation::operands >= 2 ? &work->x2 : nullptr,
                 sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y), &loop);
    return nd_loop_launch(&loop, operation, static_cast<const X *>(call->x), static_cast<const X *>(call->x2),
                          static_cast<Y *>(call->y), call->stream);
}

/* The launch function of an operation: its functor over every storage type. */
template <class Operation> nd_status nd_loop_call(const nd_cuda_call *call, Operation operation) {
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_loop_typed<T, T>(call, operation);
    });
}

#endif
