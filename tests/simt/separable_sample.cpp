/* The layer with random weights that candidates are timed and checked on: what ref makes of it, on the
 * operands that the device is given, spreads over the range of its outputs. */
#include "cuda/separable/separable_sample.h"
#include "cuda/tune/noise.h"
#include "tests/simt/separable_case.h"

#include <math.h>

extern "C" {
#include "run/plugins.h"
}

/* Outputs in units of their scale, less their zero; the share of those at the ends of their range. */
struct nd_test_spread {
    double mean, deviation, clipped;
};

static nd_test_spread nd_test_spread_of(const std::vector<double> &y, double low, double high) {
    double sum = 0, square = 0, clipped = 0;
    for (double value : y) {
        sum += value;
        square += value * value;
        clipped += value <= low || value >= high;
    }
    const double count = (double)y.size(), mean = sum / count;
    return {mean, sqrt(square / count - mean * mean), clipped / count};
}

/* 3 terms a channel, 32 channels to 40, without an activation. */
static nd_test_case nd_test_sampled(bool bias, bool residual) {
    nd_test_case test = nd_test_separable_case(
        {"sample", 1, 32, 9, 17, 40, ND_3X3, 3, 64, 0, true, residual, {nd_act_none, 0, 0}});
    test.work.channel = test.channel.data();
    test.work.bias = bias ? test.bias.data() : nullptr;
    return test;
}

static std::vector<double> nd_test_integer_outputs(const nd_work &work) {
    const bool real = !(work.y_quant.scale > 0);
    const size_t count = (size_t)nd_view_count(&work.y);
    std::vector<unsigned char> x((size_t)nd_view_count(&work.x)), x2(count), y(count * (real ? 4 : 1));
    for (size_t i = 0; i < x.size(); i++) x[i] = nd_noise_integer(0, i);
    for (size_t i = 0; i < x2.size(); i++) x2[i] = nd_noise_integer(1, i);
    nd_test_expect(nd_quantized_agrees(&work, nd_precision_int8) &&
                       !nd_ref_run_quantized(&work, x.data(), x2.data(), y.data()),
                   "the reference takes the sample");
    std::vector<double> outputs(count);
    for (size_t i = 0; i < count; i++)
        outputs[i] = real ? (double)reinterpret_cast<const float *>(y.data())[i]
                          : (double)nd_dequantize(work.y_quant, y[i]);
    return outputs;
}

/* Whatever the layer's own weights and scales are; its channels, and what of it is there, stay. */
static void nd_test_integer_sample(bool filters, bool real, bool bias, bool residual) {
    nd_test_case test = nd_test_sampled(bias, residual);
    const std::vector<float> scales(96, 5.0f);
    nd_separable_sample sample;
    test.work.weights_scale = scales.data();
    test.work.depthwise_scale = filters ? scales.data() : nullptr;
    test.work.x_quant = test.work.x2_quant = test.work.middle_quant = {9.0f, 0, false};
    if (!real) test.work.y_quant = {1e-6f, 255, false};
    nd_test_expect(!nd_separable_sample_make(&test.work, nd_precision_int8, 10, &sample), "a sample is made");
    const nd_quant quant = sample.work.y_quant;
    nd_test_expect((quant.scale > 0) == !real && !sample.work.depthwise_scale == !filters &&
                       !sample.work.bias == !bias,
                   "the sample is of the layer's kind");
    const double low = real ? -INFINITY : (double)nd_dequantize(quant, 0),
                 high = real ? INFINITY : (double)nd_dequantize(quant, 255);
    const nd_test_spread spread = nd_test_spread_of(nd_test_integer_outputs(sample.work), low, high);
    const double expected = sqrt(1.0 + bias + residual);
    nd_test_expect(fabs(spread.mean) < 0.5 && fabs(spread.deviation / expected - 1) < 0.25,
                   "outputs of integers are as wide as the sample says");
    nd_test_expect(spread.clipped < 0.05, "few outputs of integers are at the ends of their range");
    nd_separable_sample_free(&sample);
}

static void nd_test_real_sample() {
    nd_test_case test = nd_test_sampled(true, true);
    nd_separable_sample sample;
    nd_test_expect(!nd_separable_sample_make(&test.work, nd_precision_fp16, 10, &sample), "a sample is made");
    std::vector<float> x((size_t)nd_view_count(&sample.work.x)), x2((size_t)nd_view_count(&sample.work.y)),
        y(x2.size());
    for (size_t i = 0; i < x.size(); i++) x[i] = nd_noise(0, i);
    for (size_t i = 0; i < x2.size(); i++) x2[i] = nd_noise(1, i);
    nd_test_expect(!nd_ref_run(&sample.work, x.data(), x2.data(), y.data()),
                   "the reference takes the sample");
    const nd_test_spread spread =
        nd_test_spread_of(std::vector<double>(y.begin(), y.end()), -INFINITY, INFINITY);
    nd_test_expect(fabs(spread.mean) < 0.5 && fabs(spread.deviation / sqrt(3.0) - 1) < 0.25,
                   "outputs are as wide as the sample says");
    nd_separable_sample_free(&sample);
}

void nd_test_sample() {
    for (int kind = 0; kind < 16; kind++) nd_test_integer_sample(kind & 1, kind & 2, kind & 4, kind & 8);
    nd_test_real_sample();
}
