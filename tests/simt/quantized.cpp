/* Operations on 8-bit integers and on e4m3, equal to ref's to the bit: operands are drawn from all 256
 * integers, and the scales spread outputs over their range. Between a view's elements nothing may be
 * written. */
#include "cuda/quantized/quantized.h"
#include "tests/simt/quantized_case.h"

#include <string.h>

extern "C" {
#include "base/rng.h"
#include "run/plugins.h"
}

static std::vector<unsigned char> nd_test_bytes(size_t count, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    std::vector<unsigned char> bytes(count);
    for (unsigned char &byte : bytes) byte = (unsigned char)nd_rng_below(&rng, 256);
    return bytes;
}

static size_t nd_test_elements(const nd_view &view) {
    int64_t last = 0;
    for (int64_t at : nd_test_positions(view)) last = at + 1 > last ? at + 1 : last;
    return (size_t)last;
}

/* Operands, and what the reference makes of them. */
struct nd_test_bytes_of {
    std::vector<unsigned char> x, x2, expected;
};

static nd_test_bytes_of nd_test_refer(const nd_quantized_case &test) {
    const nd_work &work = test.work;
    const bool e4m3 = work.x_quant.e4m3 || work.y_quant.e4m3;
    const bool moved = work.operation == nd_operation_pool || work.operation == nd_operation_copy ||
                       work.operation == nd_operation_gather;
    const bool sums = work.operation == nd_operation_separable || work.operation == nd_operation_conv;
    const size_t size = work.y_quant.scale > 0 || moved ? 1 : sizeof(float);
    nd_test_bytes_of bytes = {nd_test_bytes(nd_test_elements(work.x), 1),
                              nd_test_bytes(nd_test_elements(work.x2), 2),
                              std::vector<unsigned char>(nd_test_elements(work.y) * size, 0x5a)};
    for (unsigned char &byte : bytes.x) /* what is no number would be in every sum */
        if (e4m3 && sums && byte % 128 == 127) byte--;
    for (unsigned char &byte : bytes.x2)
        if (e4m3 && sums && byte % 128 == 127) byte--;
    if (work.operation == nd_operation_quantize) {
        const std::vector<float> numbers = nd_test_reals(bytes.x.size(), -9, 9, 1);
        bytes.x.resize(numbers.size() * sizeof(float));
        memcpy(bytes.x.data(), numbers.data(), bytes.x.size());
    }
    nd_test_expect(nd_quantized_agrees(&work, e4m3 ? nd_precision_e4m3 : nd_precision_int8) &&
                       !nd_ref_run_quantized(&work, bytes.x.data(), bytes.x2.data(), bytes.expected.data()),
                   (test.name + ": the reference takes it").c_str());
    return bytes;
}

/* Sums of e4m3 are of another order: some that lie between two numbers may go to the other one, of the same
 * sign. */
static bool nd_test_near(const std::vector<unsigned char> &y, const std::vector<unsigned char> &expected) {
    size_t apart = 0;
    for (size_t i = 0; i < y.size(); i++) {
        const int distance = (y[i] & 0x7f) - (expected[i] & 0x7f);
        if (distance < -1 || distance > 1 || (y[i] & 0x80) != (expected[i] & 0x80)) return false;
        apart += distance != 0;
    }
    return 200 * apart <= y.size();
}

/* Whether it runs, and whether all is as expected. */
static bool nd_test_integers_once(const nd_quantized_case &test, const nd_test_bytes_of &bytes,
                                  nd_simt_order order, uint64_t seed, bool *ran) {
    nd_simt_set_order(order, seed);
    std::vector<unsigned char> y(bytes.expected.size(), 0x5a);
    const uint64_t before = nd_simt_launches();
    *ran = !test.launch(test.work, bytes.x.data(), bytes.x2.data(), y.data()) && nd_simt_launches() > before;
    const bool free = test.work.operation == nd_operation_separable && test.work.y_quant.e4m3;
    return free ? nd_test_near(y, bytes.expected) : y == bytes.expected;
}

void nd_test_integers_alike(const nd_quantized_case &test) {
    const nd_test_bytes_of bytes = nd_test_refer(test);
    for (int order = 0; order < nd_simt_order_count; order++) {
        bool ran = false;
        const bool equal = nd_test_integers_once(test, bytes, (nd_simt_order)order, 7, &ran);
        nd_test_expect(ran, (test.name + ": runs").c_str());
        nd_test_expect(equal, (test.name + ": as ref, to the bit").c_str());
    }
}

void nd_test_integers_races(const nd_quantized_case &test, nd_simt_sync sync, int first, int end) {
    const nd_test_bytes_of bytes = nd_test_refer(test);
    nd_test_missed(test.name, sync, first, end, [&](nd_simt_order order, uint64_t seed) {
        bool ran;
        return !nd_test_integers_once(test, bytes, order, seed ? seed : 7, &ran) || !ran;
    });
}

void nd_quantized_case::own() {
    work.weights = weights.empty() ? nullptr : weights.data();
    work.bias = bias.empty() ? nullptr : bias.data();
    work.weights_scale = scales.empty() ? nullptr : scales.data();
    work.depthwise = depthwise.empty() ? nullptr : depthwise.data();
    work.depthwise_scale = depthwise_scales.empty() ? nullptr : depthwise_scales.data();
    work.channel = channel.empty() ? nullptr : channel.data();
}

static nd_quantized_case nd_test_conv_case(const char *name, int64_t groups, bool real,
                                           nd_activation activation, bool residual) {
    nd_quantized_case test;
    const int64_t ni = 12, no = 10;
    nd_work &work = test.work;
    test.name = name;
    work.operation = nd_operation_conv;
    work.window = {{3, 3}, {2, 1}, {1, 1}, {1, 1, 1, 1}};
    work.groups = groups;
    work.x = nd_test_view(2, ni, 7, 6, 3);
    work.y = work.x2 = nd_test_view(2, no, 4, 6, 5);
    work.residual = residual;
    work.activation = activation;
    work.x_quant = {0.02f, 119, false};
    work.x2_quant = {0.03f, 140, false};
    if (!real) work.y_quant = {0.05f, 77, false};
    test.weights = nd_test_integers((size_t)(no * ni / groups * 9), -128, 127, 3);
    test.bias = nd_test_reals((size_t)no, -2, 2, 4);
    test.scales = nd_test_reals((size_t)no, 0.0005f, 0.002f, 5);
    return test;
}

/* The same convolution of e4m3: weights are numbers of it, zeros are 0. */
static nd_quantized_case nd_test_conv_e4m3(nd_quantized_case test) {
    nd_work &work = test.work;
    test.weights = nd_test_reals(test.weights.size(), -400, 400, 3);
    for (float &weight : test.weights) weight = nd_e4m3_to_f32(nd_f32_to_e4m3(weight));
    for (float &scale : test.scales) scale *= 0.05f;
    work.x_quant = {0.02f, 0, true};
    work.x2_quant = {0.03f, 0, true};
    if (work.y_quant.scale > 0) work.y_quant = {0.15f, 0, true};
    return test;
}

static nd_status nd_test_conv_launch(const nd_work &work, const void *x, const void *x2, void *y) {
    const int64_t no = work.y.dims[1], length = work.x.dims[1] / work.groups * 9;
    std::vector<int8_t> turned((size_t)(no * length));
    std::vector<float> factor((size_t)no), shift((size_t)no);
    for (int64_t o = 0; o < no; o++)
        for (int64_t i = 0; i < length; i++)
            turned[(size_t)(i * no + o)] = (int8_t)work.weights[o * length + i];
    nd_cuda_quantized_conv call = {};
    call.window = work.window;
    call.groups = work.groups;
    call.x_view = work.x;
    call.x2_view = work.x2;
    call.y_view = work.y;
    call.requant = nd_requant_of(&work, factor.data(), shift.data(), nullptr);
    call.x_zero = work.x_quant.zero;
    call.real = !(work.y_quant.scale > 0);
    call.weights = turned.data();
    call.factor = factor.data();
    call.shift = shift.data();
    call.x = x;
    call.x2 = work.residual ? x2 : nullptr;
    call.y = y;
    return nd_cuda_quantized_conv_launch(&call);
}

/* The two kernels about a library's sums, which loops stand for, exact before they are rounded to fp32: of
 * integers signed and padded, of e4m3 in channels alone, then ended; channels of sums that nobody asks for
 * are anything. */
static nd_status nd_test_library_launch(const nd_work &work, const void *x, const void *x2, void *y) {
    const bool e4m3 = work.x_quant.e4m3;
    const nd_window &g = work.window;
    const int64_t ni = work.x.dims[1], no = work.y.dims[1], rows = work.y.dims[2], columns = work.y.dims[3];
    nd_cuda_quantized_in in = {};
    in.x_view = work.x;
    in.height = e4m3 ? work.x.dims[2] : (rows - 1) * g.stride[0] + g.kernel[0];
    in.width = e4m3 ? work.x.dims[3] : (columns - 1) * g.stride[1] + g.kernel[1];
    in.channels = (ni + 15) / 16 * 16;
    in.top = e4m3 ? 0 : g.pad[0];
    in.left = e4m3 ? 0 : g.pad[1];
    in.x_zero = work.x_quant.zero;
    in.e4m3 = e4m3;
    in.x = x;
    std::vector<int32_t> words((size_t)(work.x.dims[0] * in.height * in.width * in.channels / 4), 0x5a5a5a5a);
    in.y = words.data();
    ND_TRY(nd_cuda_quantized_in_launch(&in));
    nd_cuda_quantized_end end = {};
    end.row = (no + 15) / 16 * 16;
    std::vector<int32_t> sums((size_t)(work.x.dims[0] * rows * columns * end.row), 0x5a5a5a5a),
        start((size_t)no);
    const auto *bytes = reinterpret_cast<const uint8_t *>(words.data());
    for (int64_t i = 0; i < work.x.dims[0] * rows * columns * no; i++) {
        const int64_t o = i % no, pixel = i / no, column = pixel % columns, row = pixel / columns % rows,
                      image = pixel / (columns * rows);
        double sum = 0;
        start[(size_t)o] = 0;
        for (int64_t tap = 0; tap < ni * g.kernel[0] * g.kernel[1]; tap++) {
            const int64_t c = tap / (g.kernel[0] * g.kernel[1]),
                          h = row * g.stride[0] + tap / g.kernel[1] % g.kernel[0] - (g.pad[0] - in.top),
                          w = column * g.stride[1] + tap % g.kernel[1] - (g.pad[1] - in.left);
            const float weight = work.weights[o * ni * g.kernel[0] * g.kernel[1] + tap];
            start[(size_t)o] += (int32_t)weight * (128 - work.x_quant.zero);
            if (h < 0 || h >= in.height || w < 0 || w >= in.width) continue;
            const uint8_t byte = bytes[((image * in.height + h) * in.width + w) * in.channels + c];
            sum += (double)weight * (double)(e4m3 ? nd_e4m3_to_f32(byte) : (float)(int8_t)byte);
        }
        const float real = (float)sum;
        sums[(size_t)(pixel * end.row + o)] = (int32_t)(e4m3 ? 0 : sum);
        if (e4m3) memcpy(&sums[(size_t)(pixel * end.row + o)], &real, sizeof real);
    }
    std::vector<float> factor((size_t)no), shift((size_t)no);
    end.requant = nd_requant_of(&work, factor.data(), shift.data(), nullptr);
    end.x2_view = work.x2;
    end.y_view = work.y;
    end.e4m3 = e4m3;
    end.real = !(work.y_quant.scale > 0);
    end.start = e4m3 ? nullptr : start.data();
    end.factor = factor.data();
    end.shift = shift.data();
    end.sums = sums.data();
    end.x2 = work.residual ? x2 : nullptr;
    end.y = y;
    return nd_cuda_quantized_end_launch(&end);
}

static void nd_test_convs() {
    struct variant {
        const char *name;
        int64_t groups;
        bool real, residual;
        nd_activation activation;
    };
    static const variant variants[] = {
        {"s8 convolution", 1, false, false, {nd_act_none, 0, 0}},
        {"s8 convolution to fp32", 1, true, false, {nd_act_leaky_relu, 0.1f, 0}},
        {"s8 convolution, groups, residual, ReLU", 2, false, true, {nd_act_relu, 0, 0}},
        {"s8 convolution, leaky ReLU", 1, false, true, {nd_act_leaky_relu, 0.1f, 0}},
        {"s8 convolution, clip", 1, false, false, {nd_act_clip, -1, 3}},
    };
    for (const variant &v : variants) {
        nd_quantized_case test = nd_test_conv_case(v.name, v.groups, v.real, v.activation, v.residual);
        test.own();
        test.launch = nd_test_conv_launch;
        nd_test_integers_alike(test);
        if (v.groups > 1) continue;
        test.name += ", sums of a library";
        test.launch = nd_test_library_launch;
        nd_test_integers_alike(test);
        nd_quantized_case real = nd_test_conv_e4m3(test);
        real.name.replace(0, 2, "e4m3");
        real.own();
        nd_test_integers_alike(real);
    }
}

/* Channels that move at once: 16 of x, 4 of y. */
static void nd_test_library_wide() {
    for (bool real : {false, true}) {
        nd_quantized_case test = nd_test_conv_case("s8 convolution of wide pixels, sums of a library", 1,
                                                   real, {nd_act_relu, 0, 0}, true);
        test.work.x = nd_test_view(2, 32, 7, 6, 16);
        test.work.y = test.work.x2 = nd_test_view(2, 20, 4, 6, 8);
        test.weights = nd_test_integers(20 * 32 * 9, -128, 127, 3);
        test.bias = nd_test_reals(20, -2, 2, 4);
        test.scales = nd_test_reals(20, 0.0002f, 0.001f, 5);
        test.launch = nd_test_library_launch;
        nd_quantized_case e4m3 = nd_test_conv_e4m3(test);
        e4m3.name.replace(0, 2, "e4m3");
        for (nd_quantized_case *one : {&test, &e4m3}) {
            one->own();
            nd_test_integers_alike(*one);
        }
    }
}

/* One launch function over the same view, of integers with the quantisations given. */
static void nd_test_plain(const char *name, nd_operation operation, nd_cuda_launch *launch, nd_quant x_quant,
                          nd_quant y_quant, nd_activation activation) {
    nd_quantized_case test;
    test.name = name;
    nd_work &work = test.work;
    work.operation = operation;
    work.x = nd_test_view(2, 32, 4, 5, 16);
    work.x2 = work.y = nd_test_view(2, 32, 4, 5);
    work.activation = activation;
    work.x_quant = x_quant;
    if (operation == nd_operation_binary) work.x2_quant = {0.031f, 130, false};
    work.y_quant = y_quant;
    if (operation == nd_operation_pool) {
        work.maximum = true;
        work.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    }
    if (operation == nd_operation_gather) {
        test.channel = {5, 0, 0, 31, 4, 4, 2, 5};
        work.terms = 8;
        work.y = nd_test_view(2, 8, 4, 5, 3);
    }
    test.own();
    test.launch = [launch](const nd_work &of, const void *x, const void *x2, void *y) {
        nd_cuda_call call = {};
        call.work = &of;
        call.storage = of.x_quant.e4m3 ? nd_dtype_e4m3 : nd_dtype_u8;
        call.x = x;
        call.x2 = x2;
        call.y = y;
        call.channel = of.channel;
        return launch(&call);
    };
    nd_test_integers_alike(test);
}

void nd_test_quantized() {
    const nd_quant a = {0.02f, 119, false}, b = {0.045f, 77, false}, none = {0, 0, false},
                   c = {0.01f, 0, true};
    nd_test_convs();
    nd_test_library_wide();
    nd_test_plain("s8 add", nd_operation_binary, nd_cuda_quantized_add_launch, a, b, {nd_act_none, 0, 0});
    nd_test_plain("s8 add, leaky ReLU", nd_operation_binary, nd_cuda_quantized_add_launch, a, b,
                  {nd_act_leaky_relu, 0.1f, 0});
    nd_test_plain("quantize", nd_operation_quantize, nd_cuda_quantize_launch, none, b, {nd_act_none, 0, 0});
    nd_test_plain("dequantize", nd_operation_dequantize, nd_cuda_dequantize_launch, a, none,
                  {nd_act_none, 0, 0});
    nd_test_plain("s8 max pool", nd_operation_pool, nd_cuda_pool_launch, a, a, {nd_act_none, 0, 0});
    nd_test_plain("s8 gather", nd_operation_gather, nd_cuda_gather_launch, a, a, {nd_act_none, 0, 0});
    nd_test_plain("s8 copy", nd_operation_copy, nd_cuda_copy_launch, a, a, {nd_act_none, 0, 0});
    nd_test_plain("quantize to e4m3", nd_operation_quantize, nd_cuda_quantize_launch, none, c,
                  {nd_act_none, 0, 0});
    nd_test_plain("dequantize e4m3", nd_operation_dequantize, nd_cuda_dequantize_launch, c, none,
                  {nd_act_none, 0, 0});
    nd_test_plain("e4m3 gather", nd_operation_gather, nd_cuda_gather_launch, c, c, {nd_act_none, 0, 0});
    nd_test_plain("e4m3 copy", nd_operation_copy, nd_cuda_copy_launch, c, c, {nd_act_none, 0, 0});
}
