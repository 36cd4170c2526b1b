/* The fused separable kernel on 8-bit integers, equal to ref's sums to the bit. */
#include "tests/simt/quantized_case.h"
#include "tests/simt/separable_case.h"

/* Scales that spread depthwise results and outputs over their range, and past it. Zeros are at the ends and
 * between; filters are real numbers, or integers of scales of their own; where a layer has no activation,
 * every second time it is a leaky ReLU. */
static nd_quantized_case nd_test_integers_of(const nd_test_layer &layer, int64_t variant, int64_t split) {
    static const int32_t zeros[] = {119, 0, 255};
    nd_test_case real = nd_test_separable_case(layer);
    nd_quantized_case test;
    test.name = std::string("separable mma int8, ") + layer.name + ", variant " + std::to_string(variant) +
                ", split " + std::to_string(split);
    test.work = real.work;
    test.channel = real.channel;
    nd_work &work = test.work;
    const size_t terms = (size_t)work.terms, no = (size_t)layer.no, filters = real.depthwise.size();
    if (work.activation.act == nd_act_none && variant % 2) work.activation = {nd_act_leaky_relu, 0.1f, 0};
    work.x_quant = {0.02f, zeros[variant % 3]};
    work.middle_quant = {0.04f, zeros[(variant + 1) % 3]};
    work.x2_quant = {0.03f, 140};
    work.y_quant = {0.05f, 77};
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
    test.launch = [tile = layer.tile, split](const nd_work &of, const void *x, const void *x2, void *y) {
        return nd_test_fused(&of, nd_precision_int8, tile, split, x, x2, y);
    };
    return test;
}

/* As nd_test_separable_races; of one term a channel, so that two threads read the 32 bytes of a pixel that a
 * block of terms takes, of which only one has found the pixel. */
static void nd_test_integer_races() {
    static const nd_test_layer layer = {
        "races", 1, 96, 9, 17, 64, ND_3X3, 1, 64, 0, true, false, {nd_act_none, 0, 0}};
    const nd_quantized_case test = nd_test_integers_of(layer, 0, 1);
    nd_test_integers_races(test, nd_simt_sync_block, 0, 8);
    nd_test_integers_races(test, nd_simt_sync_copy, 0, 3);
    nd_test_integers_races(test, nd_simt_sync_warp, 1, 4);
}

void nd_test_separable_u8() {
    int64_t variant = 0;
    for (const nd_test_layer &layer : nd_test_layers)
        for (int64_t split : {1, 2, 5}) nd_test_integers_alike(nd_test_integers_of(layer, variant++, split));
    nd_test_integer_races();
}
