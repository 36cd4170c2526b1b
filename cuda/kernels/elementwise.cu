#include "cuda/kernels/elementwise.cuh"
#include "cuda/kernels/grid.cuh"

static void nd_loop_swap(nd_loop *loop, int a, int b) {
    const uint32_t dim = loop->dims[a];
    loop->dims[a] = loop->dims[b];
    loop->dims[b] = dim;
    for (int i = 0; i < nd_loop_operands; i++) {
        const int64_t stride = loop->strides[i][a];
        loop->strides[i][a] = loop->strides[i][b];
        loop->strides[i][b] = stride;
    }
}

/* Axes a and a + 1 are one axis when stepping a is stepping a + 1 all its way, for every operand. */
static bool nd_loop_mergeable(const nd_loop *loop, int a) {
    if ((uint64_t)loop->dims[a] * loop->dims[a + 1] > UINT32_MAX / 2) return false;
    for (int i = 0; i < nd_loop_operands; i++)
        if (loop->strides[i][a] != loop->dims[a + 1] * loop->strides[i][a + 1]) return false;
    return true;
}

static void nd_loop_merge(nd_loop *loop) {
    for (int a = loop->rank - 2; a >= 0; a--) {
        if (!nd_loop_mergeable(loop, a)) continue;
        loop->dims[a] *= loop->dims[a + 1];
        for (int i = 0; i < nd_loop_operands; i++) loop->strides[i][a] = loop->strides[i][a + 1];
        for (int b = a + 1; b + 1 < loop->rank; b++) nd_loop_swap(loop, b, b + 1);
        loop->rank--;
    }
}

/* 16-byte accesses need neighbours (or one repeated element of x, x2) and every row to begin on
 * a multiple. */
static bool nd_loop_is_wide(const nd_loop *loop, int wide) {
    const int last = loop->rank - 1;
    if (loop->dims[last] % (uint32_t)wide) return false;
    for (int i = nd_loop_y; i <= nd_loop_x2; i++) {
        const int64_t step = loop->strides[i][last];
        if (step == 0 && i != nd_loop_y) continue;
        if (step != 1 || loop->offset[i] % wide) return false;
        for (int a = 0; a < last; a++)
            if (loop->strides[i][a] % wide) return false;
    }
    return true;
}

void nd_loop_make(const nd_view *y, const nd_view *x, const nd_view *x2, int bytes, nd_loop *loop) {
    const nd_view *views[] = {y, x, x2};
    *loop = nd_loop();
    for (int i = 0; i < 3; i++) loop->offset[i] = views[i] ? views[i]->offset : 0;
    for (int a = 0; a < y->rank; a++) {
        if (y->dims[a] == 1) continue;
        loop->dims[loop->rank] = (uint32_t)y->dims[a];
        for (int i = 0; i < 3; i++) loop->strides[i][loop->rank] = views[i] ? views[i]->strides[a] : 0;
        loop->strides[nd_loop_channel][loop->rank] = a == 1;
        loop->rank++;
    }
    for (int a = 1; a < loop->rank; a++)
        for (int b = a; b > 0 && loop->strides[nd_loop_y][b] > loop->strides[nd_loop_y][b - 1]; b--)
            nd_loop_swap(loop, b, b - 1);
    nd_loop_merge(loop);
    if (!loop->rank) {
        loop->rank = 1;
        loop->dims[0] = 1;
    }
    const int wide = 16 / bytes;
    loop->vector = nd_loop_is_wide(loop, wide) ? wide : 1;
}

bool nd_loop_next(const nd_loop *loop, int64_t *first, nd_loop *part) {
    uint64_t row = 1; /* elements of one step on the outermost axis */
    for (int a = 1; a < loop->rank; a++) row *= loop->dims[a];
    if (!row || *first >= loop->dims[0]) return false;
    const uint64_t limit = UINT64_C(1) << 30;
    uint64_t steps = row >= limit ? 1 : limit / row;
    if (loop->rank == 1) steps -= steps % (uint64_t)loop->vector;
    if (steps > loop->dims[0] - (uint64_t)*first) steps = loop->dims[0] - (uint64_t)*first;
    *part = *loop;
    part->dims[0] = (uint32_t)steps;
    for (int i = 0; i < nd_loop_operands; i++) part->offset[i] += *first * loop->strides[i][0];
    part->items = (uint32_t)(steps * row / (uint64_t)loop->vector);
    *first += (int64_t)steps;
    return true;
}

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

struct nd_copy {
    static constexpr int operands = 1;
    __device__ float operator()(float a, float, int64_t) const {
        return a;
    }
};

nd_status nd_cuda_copy_launch(const nd_cuda_call *call) {
    return nd_with_moved(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_loop_typed<T, T>(call, nd_copy{});
    });
}

nd_status nd_cuda_convert_launch(nd_dtype from, const nd_view *x_view, const void *x, nd_dtype to,
                                 const nd_view *y_view, void *y, cudaStream_t stream) {
    nd_loop loop;
    nd_loop_make(y_view, x_view, nullptr, sizeof(float), &loop); /* one side of a conversion is fp32 */
    if (from == nd_dtype_f32)
        return nd_with_moved(to, [&](auto element) {
            using T = decltype(element);
            return nd_loop_launch<nd_copy, float, T>(&loop, nd_copy{}, static_cast<const float *>(x), nullptr,
                                                     static_cast<T *>(y), stream);
        });
    ND_REQUIRE(to == nd_dtype_f32, nd_status_internal, "no conversion from %s to %s", nd_dtype_name(from),
               nd_dtype_name(to));
    return nd_with_moved(from, [&](auto element) {
        using T = decltype(element);
        return nd_loop_launch<nd_copy, T, float>(&loop, nd_copy{}, static_cast<const T *>(x), nullptr,
                                                 static_cast<float *>(y), stream);
    });
}

struct nd_fill {
    static constexpr int operands = 0;
    float value;
    __device__ float operator()(float, float, int64_t) const {
        return value;
    }
};

nd_status nd_cuda_fill_launch(const nd_cuda_call *call) {
    return nd_loop_call(call, nd_fill{call->work->value});
}

/* y = act(y + bias[c] + x2): what follows a convolution whose engine does not do it itself. */
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

__global__ void __launch_bounds__(nd_grid_threads)
    nd_moments_kernel(const float *part, int64_t count, double *sum) {
    for (int64_t i = nd_grid_first(); i < count; i += nd_grid_step()) sum[i] += (double)part[i];
}

nd_status nd_cuda_moments_launch(const float *part, int64_t count, double *sum, cudaStream_t stream) {
    return nd_launch(nd_moments_kernel, nd_grid_blocks(count), dim3(nd_grid_threads), 0, stream, part, count,
                     sum);
}
