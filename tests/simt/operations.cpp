/* The plain operations: elementwise, pools, softmax, LRN, mean, gather, direct convolution, conversions. */
#include "tests/simt/compare.h"

static const nd_dtype nd_test_storages[] = {nd_dtype_f32, nd_dtype_f16, nd_dtype_bf16};

static nd_view nd_test_rows(int rank, std::vector<int64_t> dims) {
    return nd_view_row_major(rank, dims.data());
}

static nd_view nd_test_rows(int64_t n, int64_t c, int64_t h, int64_t w) {
    return nd_test_rows(4, {n, c, h, w});
}

static nd_test_case nd_test_make(const char *name, nd_operation operation, nd_dtype storage, nd_view x,
                                 nd_view y) {
    nd_test_case test;
    test.name = name;
    test.storage = storage;
    test.work.operation = operation;
    test.work.x = x;
    test.work.y = y;
    test.work.x2 = y;
    return test;
}

static void nd_test_elementwise(nd_dtype storage) {
    const nd_view whole = nd_test_view(2, 24, 5, 3), odd = nd_test_view(2, 7, 5, 3),
                  apart = nd_test_view(2, 24, 5, 3, 8);
    nd_view broadcast = whole;
    broadcast.strides[2] = broadcast.strides[3] = 0; /* one value for each image and channel */
    broadcast.strides[0] = 24;
    nd_test_case add = nd_test_make("add", nd_operation_binary, storage, whole, whole);
    add.work.activation = {nd_act_relu, 0, 0};
    nd_test_operation(add, nd_cuda_binary_launch);
    nd_test_case multiply =
        nd_test_make("multiply by a broadcast", nd_operation_binary, storage, whole, apart);
    multiply.work.x2 = broadcast;
    multiply.work.pairing = nd_pairing_mul;
    nd_test_operation(multiply, nd_cuda_binary_launch);
    nd_test_case mixed =
        nd_test_make("add of two layouts", nd_operation_binary, storage, nd_test_rows(2, 7, 5, 3), odd);
    nd_test_operation(mixed, nd_cuda_binary_launch);
    nd_test_case affine = nd_test_make("affine", nd_operation_affine, storage, whole, apart);
    affine.weights = nd_test_integers(24, -3, 3, 8);
    affine.bias = nd_test_integers(24, -3, 3, 9);
    nd_test_operation(affine, nd_cuda_affine_launch);
    affine.work.x = affine.work.y = nd_test_rows(2, 24, 5, 3);
    nd_test_operation(affine, nd_cuda_affine_launch);
    nd_test_case copy =
        nd_test_make("NHWC to NCHW", nd_operation_copy, storage, odd, nd_test_rows(2, 7, 5, 3));
    nd_test_operation(copy, nd_cuda_copy_launch);
    nd_test_case scalar = nd_test_make("one element", nd_operation_copy, storage, nd_test_view(1, 1, 1, 1),
                                       nd_test_view(1, 1, 1, 1));
    nd_test_operation(scalar, nd_cuda_copy_launch);
    nd_test_case fill = nd_test_make("fill", nd_operation_fill, storage, whole, apart);
    fill.work.value = 3;
    nd_test_operation(fill, nd_cuda_fill_launch);
}

static void nd_test_activations(nd_dtype storage) {
    static const nd_activation activations[] = {
        {nd_act_relu, 0, 0},    {nd_act_clip, -1, 1.5f},          {nd_act_leaky_relu, 0.125f, 0},
        {nd_act_sigmoid, 0, 0}, {nd_act_hard_sigmoid, 0.2f, .5f}, {nd_act_hard_swish, 0, 0},
        {nd_act_none, 0, 0}};
    for (const nd_activation &activation : activations) {
        nd_test_case test = nd_test_make("activation", nd_operation_activation, storage,
                                         nd_test_view(2, 9, 4, 5), nd_test_view(2, 9, 4, 5));
        test.work.activation = activation;
        test.real = true;
        test.low = -5;
        test.high = 5;
        /* ref and kernel may differ by an ulp of fp32 and so round to neighbours in the storage type */
        test.relative = storage == nd_dtype_f32 ? 1e-6 : storage == nd_dtype_f16 ? 1e-3 : 8e-3;
        nd_test_operation(test, nd_cuda_activation_launch);
    }
}

/* Of numbers that a function takes; angles beyond a turn, and so large that fp32 has whole numbers alone. */
static void nd_test_functions(nd_dtype storage) {
    struct function {
        nd_activation activation;
        float low, high;
    };
    static const function functions[] = {
        {{nd_act_abs, 0, 0}, -5, 5},          {{nd_act_neg, 0, 0}, -5, 5},
        {{nd_act_reciprocal, 0, 0}, 1, 5},    {{nd_act_sqrt, 0, 0}, 0, 5},
        {{nd_act_exp, 0, 0}, -5, 5},          {{nd_act_log, 0, 0}, 2, 5},
        {{nd_act_sin, 0, 0}, -9, 9},          {{nd_act_cos, 0, 0}, -9, 9},
        {{nd_act_sin, 0, 0}, -3e4f, 3e4f},    {{nd_act_cos, 0, 0}, -3e4f, 3e4f},
        {{nd_act_tanh, 0, 0}, -5, 5},         {{nd_act_erf, 0, 0}, -3, 3},
        {{nd_act_floor, 0, 0}, -5, 5},        {{nd_act_ceil, 0, 0}, -5, 5},
        {{nd_act_round, 0, 0}, -5, 5},        {{nd_act_sign, 0, 0}, -5, 5},
        {{nd_act_softplus, 0, 0}, -5, 5},     {{nd_act_softsign, 0, 0}, -5, 5},
        {{nd_act_elu, 0.75f, 1.5f}, -5, 5},   {{nd_act_celu, 2, 0}, -5, 5},
        {{nd_act_threshold, 0.5f, 0}, -5, 5}, {{nd_act_swish, 1.5f, 0}, -5, 5},
        {{nd_act_mish, 0, 0}, -5, 5},         {{nd_act_gelu, 0, 0}, -5, 5},
        {{nd_act_gelu_tanh, 0, 0}, -5, 5},
    };
    for (const function &f : functions) {
        nd_test_case test = nd_test_make("function", nd_operation_activation, storage,
                                         nd_test_view(2, 9, 4, 5), nd_test_view(2, 9, 4, 5));
        test.name += " " + std::to_string(f.activation.act);
        test.work.activation = f.activation;
        test.real = true;
        test.low = f.low;
        test.high = f.high;
        test.relative = storage == nd_dtype_f32 ? 1e-6 : storage == nd_dtype_f16 ? 1e-3 : 8e-3;
        /* near their zeros sines are no better than the angle */
        if (f.activation.act == nd_act_sin || f.activation.act == nd_act_cos) test.absolute = 2e-7;
        nd_test_operation(test, nd_cuda_function_launch);
    }
}

/* All pairs that the device has, beside a broadcast; powers of positive numbers. */
static void nd_test_pairs(nd_dtype storage) {
    nd_view row = nd_test_view(2, 9, 4, 5);
    row.strides[0] = row.strides[2] = row.strides[3] = 0; /* one value for each channel */
    for (int pairing = 0; pairing <= nd_pairing_drop; pairing++)
        for (bool repeated : {false, true}) {
            const bool power = pairing == nd_pairing_pow, inexact = power || pairing == nd_pairing_div;
            nd_test_case test = nd_test_make(repeated ? "pairs by channel" : "pairs", nd_operation_binary,
                                             storage, nd_test_view(2, 9, 4, 5), nd_test_view(2, 9, 4, 5));
            test.name += " " + std::to_string(pairing);
            test.work.pairing = (nd_pairing)pairing;
            if (repeated) test.work.x2 = row;
            test.real = inexact;
            if (inexact) test.low = 0.5f, test.high = 3;
            if (inexact)
                test.relative = storage == nd_dtype_f32 ? 1e-6 : storage == nd_dtype_f16 ? 1e-3 : 8e-3;
            nd_test_operation(test, power ? nd_cuda_power_launch : nd_cuda_binary_launch);
        }
}

static void nd_test_pools(nd_dtype storage) {
    struct pool {
        const char *name;
        nd_window window;
        bool maximum, count_pad;
        int64_t h, w;
    };
    static const pool pools[] = {
        {"max 2x2", {{2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}}, true, false, 4, 3},
        {"max 3x3 with padding", {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}}, true, false, 4, 4},
        {"max 3x3, ceil mode", {{3, 3}, {2, 2}, {1, 1}, {0, 0, 0, 0}}, true, false, 4, 3},
        {"average, padding not counted", {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}}, false, false, 4, 4},
        {"average, padding counted, ceil mode", {{3, 3}, {2, 2}, {1, 1}, {1, 1, 0, 0}}, false, true, 5, 4},
        {"max, dilated", {{2, 2}, {1, 1}, {2, 2}, {0, 1, 0, 1}}, true, false, 6, 7},
    };
    for (const pool &p : pools) {
        nd_test_case test = nd_test_make(p.name, nd_operation_pool, storage, nd_test_view(2, 11, 8, 7),
                                         nd_test_view(2, 11, p.h, p.w));
        test.work.window = p.window;
        test.work.maximum = p.maximum;
        test.work.count_include_pad = p.count_pad;
        test.relative = p.maximum ? 0 : 1e-6;
        nd_test_operation(test, nd_cuda_pool_launch);
    }
}

static void nd_test_reductions(nd_dtype storage) {
    const double close = storage == nd_dtype_f32 ? 4e-6 : storage == nd_dtype_f16 ? 1e-3 : 8e-3;
    nd_test_case mean = nd_test_make("global mean", nd_operation_reduce, storage, nd_test_view(3, 37, 4, 4),
                                     nd_test_view(3, 37, 1, 1));
    mean.work.axes[2] = mean.work.axes[3] = true; /* 16 integers: the mean is exact */
    nd_test_operation(mean, nd_cuda_reduce_launch);
    nd_test_races(mean, nd_simt_sync_block, 0, 1);
    nd_test_case outer = nd_test_make("mean over images", nd_operation_reduce, storage,
                                      nd_test_rows(4, 3, 2, 5), nd_test_rows(1, 3, 2, 5));
    outer.work.axes[0] = true;
    nd_test_operation(outer, nd_cuda_reduce_launch);
    for (int kind = 0; kind < nd_reduction_count; kind++) {
        if (kind == nd_reduction_log_sum_exp) continue; /* not on this device */
        nd_test_case each = nd_test_make("reduction", nd_operation_reduce, storage, nd_test_view(3, 37, 2, 5),
                                         nd_test_view(3, 1, 2, 1));
        each.name += " " + std::to_string(kind);
        each.work.reduction = (nd_reduction)kind;
        each.work.axes[1] = each.work.axes[3] = true;
        each.real = true; /* of 185 numbers near 1, so that products stay near it too */
        each.low = 0.97f;
        each.high = 1.03f;
        each.relative = storage == nd_dtype_f32 ? 1e-5 : storage == nd_dtype_f16 ? 1e-3 : 8e-3;
        nd_test_operation(each, nd_cuda_reduce_launch);
        nd_test_races(each, nd_simt_sync_block, 0, 1);
    }
    for (int64_t axis = 0; axis < 2; axis++) {
        nd_test_case softmax = nd_test_make("softmax", nd_operation_softmax, storage,
                                            nd_test_rows(2, {5, 300}), nd_test_rows(2, {5, 300}));
        softmax.work.axis = axis;
        softmax.real = true;
        softmax.low = -9;
        softmax.high = 9;
        softmax.relative = close;
        nd_test_operation(softmax, nd_cuda_softmax_launch);
        nd_test_races(softmax, nd_simt_sync_block, 0, 1);
    }
    nd_test_case joined = nd_test_make("softmax over c, h, w", nd_operation_softmax, storage,
                                       nd_test_view(2, 3, 4, 5), nd_test_view(2, 3, 4, 5));
    joined.work.axis = 1;
    joined.work.inner = 60;
    joined.relative = close;
    nd_test_operation(joined, nd_cuda_softmax_launch);
    for (int64_t size : {1, 4, 5}) {
        nd_test_case lrn = nd_test_make("lrn", nd_operation_lrn, storage, nd_test_view(2, 9, 3, 2),
                                        nd_test_view(2, 9, 3, 2));
        lrn.work.size = size;
        lrn.work.alpha = 0.5f;
        lrn.work.beta = 0.75f;
        lrn.work.k = 1;
        lrn.relative = close;
        nd_test_operation(lrn, nd_cuda_lrn_launch);
    }
}

static void nd_test_others(nd_dtype storage) {
    nd_test_case gather = nd_test_make("gather", nd_operation_gather, storage, nd_test_view(2, 6, 3, 4),
                                       nd_test_view(2, 8, 3, 4, 2));
    gather.channel = {5, 0, 0, 1, 4, 4, 2, 5};
    gather.work.terms = 8;
    nd_test_operation(gather, nd_cuda_gather_launch);
    for (int64_t groups : {1, 2}) {
        nd_test_case conv = nd_test_make("direct convolution", nd_operation_conv, storage,
                                         nd_test_view(2, 4, 6, 5), nd_test_rows(2, 6, 3, 3));
        conv.work.window = {{3, 2}, {2, 2}, {1, 1}, {1, 1, 0, 0}};
        conv.work.groups = groups;
        conv.work.residual = true;
        conv.work.activation = {nd_act_relu, 0, 0};
        const size_t taps = (size_t)(4 / groups) * 6;
        conv.weights = nd_test_integers(6 * taps, -2, 2, 5);
        conv.bias = nd_test_integers(6, -3, 3, 6);
        std::vector<float> transposed(6 * taps);
        for (size_t o = 0; o < 6; o++)
            for (size_t tap = 0; tap < taps; tap++) transposed[tap * 6 + o] = conv.weights[o * taps + tap];
        conv.launch = [&transposed](const nd_test_case &self, const void *x, const void *x2, void *y) {
            nd_cuda_call call = {};
            call.work = &self.work;
            call.storage = self.storage;
            call.x = x;
            call.x2 = x2;
            call.y = y;
            call.weights = transposed.data();
            call.bias = self.work.bias;
            return nd_cuda_conv_launch(&call);
        };
        nd_test_run(conv);
    }
}

/* The two ends of a network: fp32 row-major in, storage NHWC inside, and back. */
static void nd_test_conversions(nd_dtype storage) {
    const nd_view rows = nd_test_rows(2, 5, 3, 4), pixels = nd_test_view(2, 5, 3, 4);
    const std::vector<float> x = nd_test_reals(120, -4, 4, 1);
    std::vector<unsigned char> inside(120 * nd_dtype_bytes(storage));
    std::vector<float> back(120);
    const bool ran =
        !nd_cuda_convert_launch(nd_dtype_f32, &rows, x.data(), storage, &pixels, inside.data(), nullptr) &&
        !nd_cuda_convert_launch(storage, &pixels, inside.data(), nd_dtype_f32, &rows, back.data(), nullptr);
    bool equal = ran;
    for (size_t i = 0; i < x.size(); i++) {
        const float want = storage == nd_dtype_f32   ? x[i]
                           : storage == nd_dtype_f16 ? nd_f16_to_f32(nd_f32_to_f16(x[i]))
                                                     : nd_bf16_to_f32(nd_f32_to_bf16(x[i]));
        equal = equal && back[i] == want;
    }
    nd_test_expect(equal, "conversion to storage and back rounds once");
}

void nd_test_operations() {
    for (nd_dtype storage : nd_test_storages) {
        nd_test_elementwise(storage);
        nd_test_activations(storage);
        nd_test_functions(storage);
        nd_test_pairs(storage);
        nd_test_pools(storage);
        nd_test_reductions(storage);
        nd_test_others(storage);
        nd_test_conversions(storage);
    }
}
