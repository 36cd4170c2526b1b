/* The fused separable kernel on 8-bit integers, equal to ref's sums to the bit. */
#include "tests/simt/separable_case.h"

static nd_quantized_case nd_test_integers_of(const nd_test_layer &layer, int64_t variant, int64_t split) {
    nd_quantized_case test = nd_test_separable_integers(layer, variant);
    test.name = std::string("separable mma int8, ") + layer.name + ", variant " + std::to_string(variant) +
                ", split " + std::to_string(split);
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
