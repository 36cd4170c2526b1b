#include "tests/simt/separable_case.h"

const std::vector<nd_test_layer> nd_test_layers = {
    {"8x16 patch, T=3", 1, 32, 9, 17, 64, ND_3X3, 3, 64, 0, true, false, {nd_act_relu, 0, 0}},
    {"two N tiles, T=2", 1, 40, 5, 6, 136, ND_3X3, 2, 128, 0, true, true, {nd_act_relu, 0, 0}},
    {"N=256, T=1", 2, 64, 7, 7, 260, ND_3X3, 1, 256, 0, true, true, {nd_act_relu, 0, 0}},
    {"adaptive", 1, 72, 6, 10, 70, ND_3X3, 0, 128, 0, true, false, {nd_act_none, 0, 0}},
    {"1x1 planes", 5, 16, 1, 1, 24, ND_3X3, 2, 64, 0, false, false, {nd_act_none, 0, 0}},
    {"2x2 planes, many images", 40, 8, 2, 2, 8, ND_3X3, 4, 64, 0, true, true, {nd_act_none, 0, 0}},
    {"7x7 planes, two images", 3, 24, 7, 7, 50, ND_3X3, 3, 64, 0, true, false, {nd_act_relu, 0, 0}},
    {"stride 2",
     2,
     16,
     9,
     11,
     32,
     {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}},
     3,
     64,
     0,
     true,
     false,
     {nd_act_relu, 0, 0}},
    {"stride 2, T=2",
     1,
     24,
     13,
     20,
     40,
     {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}},
     2,
     64,
     0,
     true,
     false,
     {nd_act_relu, 0, 0}},
    {"strides 2 and 1",
     1,
     24,
     13,
     20,
     40,
     {{3, 3}, {2, 1}, {1, 1}, {1, 1, 1, 1}},
     2,
     64,
     0,
     true,
     false,
     {nd_act_relu, 0, 0}},
    {"strides 1 and 2",
     1,
     24,
     13,
     20,
     40,
     {{3, 3}, {1, 2}, {1, 1}, {1, 1, 1, 1}},
     1,
     64,
     0,
     true,
     false,
     {nd_act_relu, 0, 0}},
    {"stride 3",
     1,
     24,
     13,
     20,
     40,
     {{3, 3}, {3, 3}, {1, 1}, {1, 1, 1, 1}},
     2,
     64,
     0,
     true,
     false,
     {nd_act_relu, 0, 0}},
    {"asymmetric padding",
     1,
     16,
     6,
     5,
     20,
     {{3, 3}, {1, 1}, {1, 1}, {0, 2, 1, 0}},
     2,
     64,
     0,
     true,
     false,
     {nd_act_none, 0, 0}},
    {"no padding, 5x5",
     1,
     8,
     9,
     8,
     16,
     {{5, 5}, {1, 1}, {1, 1}, {0, 0, 0, 0}},
     5,
     64,
     0,
     true,
     false,
     {nd_act_none, 0, 0}},
    {"dilation 2",
     1,
     8,
     8,
     9,
     16,
     {{3, 3}, {1, 1}, {2, 2}, {2, 2, 2, 2}},
     2,
     64,
     0,
     false,
     true,
     {nd_act_relu, 0, 0}},
    {"1x3 window",
     1,
     16,
     4,
     9,
     16,
     {{1, 3}, {1, 1}, {1, 1}, {0, 1, 0, 1}},
     2,
     64,
     0,
     false,
     false,
     {nd_act_none, 0, 0}},
    {"7x7 window, stride 2",
     1,
     8,
     15,
     15,
     8,
     {{7, 7}, {2, 2}, {1, 1}, {3, 3, 3, 3}},
     3,
     64,
     0,
     false,
     false,
     {nd_act_none, 0, 0}},
    {"6 channels: 4-byte copies", 1, 6, 5, 5, 10, ND_3X3, 3, 64, 0, true, true, {nd_act_relu, 0, 0}},
    {"7 channels, 9 outputs: single elements",
     2,
     7,
     5,
     5,
     9,
     ND_3X3,
     3,
     64,
     0,
     true,
     true,
     {nd_act_relu, 0, 0}},
    {"pixels apart", 1, 16, 4, 6, 16, ND_3X3, 2, 64, 8, true, true, {nd_act_clip, -3, 5}},
    {"7x7 plane, one image", 1, 64, 7, 7, 40, ND_3X3, 3, 64, 0, true, true, {nd_act_relu, 0, 0}},
    {"odd outputs, one image", 1, 64, 7, 7, 9, ND_3X3, 3, 64, 0, true, true, {nd_act_relu, 0, 0}},
    {"one row of 200", 1, 8, 1, 200, 16, ND_3X3, 2, 64, 0, true, false, {nd_act_relu, 0, 0}},
};

static std::vector<int32_t> nd_test_ranks(const nd_test_layer &layer) {
    std::vector<int32_t> channel;
    for (int64_t c = 0; c < layer.ni; c++) {
        const bool gap = c >= layer.ni / 4 && c < 3 * layer.ni / 4;
        const int64_t terms = layer.uniform ? layer.uniform : gap ? 0 : c * 7 % 5;
        for (int64_t t = 0; t < terms; t++) channel.push_back((int32_t)c);
    }
    return channel;
}

nd_test_case nd_test_separable_case(const nd_test_layer &layer) {
    nd_test_case test;
    const int64_t oh = nd_window_output(&layer.window, 0, layer.h, false);
    const int64_t ow = nd_window_output(&layer.window, 1, layer.w, false);
    test.work.operation = nd_operation_separable;
    test.work.window = layer.window;
    test.work.x = nd_test_view(layer.n, layer.ni, layer.h, layer.w, layer.spread);
    test.work.y = test.work.x2 = nd_test_view(layer.n, layer.no, oh, ow, layer.spread);
    test.work.residual = layer.residual;
    test.work.activation = layer.activation;
    test.channel = nd_test_ranks(layer);
    test.work.terms = (int64_t)test.channel.size();
    const size_t taps = (size_t)(layer.window.kernel[0] * layer.window.kernel[1]);
    test.depthwise = nd_test_integers(test.channel.size() * taps, -1, 1, 3);
    test.weights = nd_test_integers(test.channel.size() * (size_t)layer.no, -1, 1, 4);
    if (layer.bias) test.bias = nd_test_integers((size_t)layer.no, -4, 4, 5);
    return test;
}

nd_quantized_case nd_test_separable_integers(const nd_test_layer &layer, int64_t variant) {
    static const int32_t zeros[] = {119, 0, 255};
    nd_test_case real = nd_test_separable_case(layer);
    nd_quantized_case test;
    test.work = real.work;
    test.channel = real.channel;
    nd_work &work = test.work;
    const size_t terms = (size_t)work.terms, no = (size_t)layer.no, filters = real.depthwise.size();
    if (work.activation.act == nd_act_none && variant % 2) work.activation = {nd_act_leaky_relu, 0.1f, 0};
    work.x_quant = {0.02f, zeros[variant % 3], false};
    work.middle_quant = {0.04f, zeros[(variant + 1) % 3], false};
    work.x2_quant = {0.03f, 140, false};
    work.y_quant = {0.05f, 77, false};
    if (variant % 2) {
        test.depthwise = nd_test_integers(filters, -128, 127, 3);
        test.depthwise_scales = nd_test_reals(terms, 0.002f, 0.012f, 6);
    } else {
        test.depthwise = nd_test_reals(filters, -1, 1, 3);
    }
    test.weights = nd_test_integers(terms * no, -128, 127, 4);
    test.scales = nd_test_reals(no, 0.0005f, 0.002f, 5);
    if (layer.bias) test.bias = nd_test_reals(no, -2, 2, 7);
    test.own();
    return test;
}

static std::vector<float> nd_test_e4m3(size_t count, uint64_t seed) {
    std::vector<float> numbers = nd_test_reals(count, -1, 1, seed);
    for (float &number : numbers) number = nd_e4m3_to_f32(nd_f32_to_e4m3(number));
    return numbers;
}

nd_quantized_case nd_test_separable_e4m3(const nd_test_layer &layer, int64_t variant) {
    nd_quantized_case test = nd_test_separable_integers(layer, variant);
    nd_work &work = test.work;
    work.x_quant = {0.02f, 0, true};
    work.middle_quant = {0.03f, 0, true};
    work.x2_quant = {0.03f, 0, true};
    work.y_quant = {0.08f, 0, true};
    test.depthwise = nd_test_e4m3(test.depthwise.size(), 3);
    if (variant % 2) test.depthwise_scales = nd_test_reals(test.depthwise_scales.size(), 0.5f, 1.5f, 6);
    test.weights = nd_test_e4m3(test.weights.size(), 4);
    test.scales = nd_test_reals(test.scales.size(), 0.2f, 0.8f, 5);
    test.own();
    return test;
}
