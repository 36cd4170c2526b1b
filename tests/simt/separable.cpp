/* The fused separable kernel in every arithmetic, with every width of background copy. */
#include "cuda/separable/separable.cuh"
#include "tests/simt/separable_case.h"

#include <string.h>

/* Packed weights as they are stored. */
static std::vector<unsigned char> nd_test_stored(const float *weights, size_t count, nd_dtype storage) {
    const size_t size = nd_dtype_bytes(storage);
    std::vector<unsigned char> stored(count * size);
    for (size_t i = 0; i < count; i++) {
        const uint16_t half =
            storage == nd_dtype_f16 ? nd_f32_to_f16(weights[i]) : nd_f32_to_bf16(weights[i]);
        const int8_t integer = size == 1 ? (int8_t)weights[i] : (int8_t)0;
        const void *from = &weights[i];
        if (size == 2) from = &half;
        if (size == 1) from = &integer;
        memcpy(&stored[i * size], from, size);
    }
    return stored;
}

nd_status nd_test_fused(const nd_work *work, nd_precision precision, int64_t tile, int64_t split,
                        const void *x, const void *x2, void *y) {
    const nd_dtype storage = nd_precision_storage(precision);
    nd_separable_pack pack;
    ND_TRY(nd_separable_pack_make(work, storage, tile, &pack));
    nd_cuda_separable call = {};
    call.window = work->window;
    call.precision = precision;
    call.images = work->x.dims[0];
    call.channels = work->x.dims[1];
    call.height = work->x.dims[2];
    call.width = work->x.dims[3];
    call.out_channels = work->y.dims[1];
    call.out_height = work->y.dims[2];
    call.out_width = work->y.dims[3];
    call.x_pixel = work->x.strides[3];
    call.x2_pixel = work->x2.strides[3];
    call.y_pixel = work->y.strides[3];
    call.tile = tile;
    call.blocks = pack.blocks;
    call.chunks = pack.chunks;
    call.filters = pack.filters;
    call.base = pack.base;
    call.offset = pack.offset;
    call.bias = work->bias;
    call.activation = work->activation;
    call.x = x;
    call.x2 = work->residual ? x2 : nullptr;
    call.y = y;
    call.integers = nd_test_constants(*work, pack.integers);
    const std::vector<unsigned char> weights =
        nd_test_stored(pack.weights, (size_t)(pack.rows * pack.blocks * nd_separable_terms), storage);
    call.weights = weights.data();
    call.split = split < pack.blocks ? split : pack.blocks;
    std::vector<float> partial(nd_cuda_separable_partial(&call) / sizeof(float), NAN);
    call.partial = partial.data();
    const size_t shared_limit = 99 * 1024; /* of sm_86 */
    nd_status status = nd_separable_patch_choose(&call, shared_limit, nd_cuda_separable_shared)
                           ? nd_cuda_separable_launch(&call)
                           : nd_fail(nd_status_unsupported, "no patch fits shared memory");
    nd_separable_pack_free(&pack);
    return status;
}

static nd_test_case nd_test_separable_of(const nd_test_layer &layer, nd_precision precision, int64_t split) {
    const nd_dtype storage = nd_precision_storage(precision);
    const int64_t tile = layer.tile == 256 && storage == nd_dtype_f32 ? 128 : layer.tile;
    nd_test_case test = nd_test_separable_case(layer);
    test.name = std::string("separable mma ") + nd_precision_name(precision) + ", " + layer.name +
                ", split " + std::to_string(split);
    test.storage = storage;
    test.launch = [=](const nd_test_case &self, const void *x, const void *x2, void *y) {
        return nd_test_fused(&self.work, precision, tile, split, x, x2, y);
    };
    return test;
}

/* Three blocks of terms: places and 2 x 3 rounds and the epilogue's are 8 barriers, 3 waits; of the warps' 4
 * barriers in the epilogue the first follows one of the block. */
static void nd_test_separable_races(nd_precision precision) {
    static const nd_test_layer layer = {
        "races", 1, 32, 9, 17, 64, ND_3X3, 3, 64, 0, true, false, {nd_act_none, 0, 0}};
    nd_test_case test = nd_test_separable_of(layer, precision, 1);
    nd_test_races(test, nd_simt_sync_block, 0, 8);
    nd_test_races(test, nd_simt_sync_copy, 0, 3);
    nd_test_races(test, nd_simt_sync_warp, 1, 4);
}

/* What the planner makes of a 3x3 layer of 512 channels, T = 3, on 132 multiprocessors of two blocks each. */
static int64_t nd_test_split(int64_t images, int64_t size, int64_t blocks) {
    nd_cuda_separable call = {};
    call.images = images;
    call.out_height = call.out_width = size;
    call.patch[0] = 1;
    call.patch[1] = size < 8 ? size : 8;
    call.patch[2] = size < 16 ? size : 16;
    call.out_channels = 512;
    call.tile = 128;
    call.blocks = blocks;
    nd_separable_split_choose(&call, 264);
    return call.split;
}

static void nd_test_splits() {
    const int64_t small = nd_test_split(1, 7, 48), medium = nd_test_split(1, 14, 48);
    nd_test_expect(small > 4 && 4 * small <= 264, "four tiles are split, as far as the device reaches");
    nd_test_expect(medium > 4 && 8 * medium <= 264, "eight tiles are split");
    nd_test_expect(nd_test_split(32, 14, 48) == 1, "a full device is not");
    nd_test_expect(nd_test_split(1, 7, 4) == 1, "nor is a sum so short that joining costs more");
}

/* Rows are permuted as tensor copies and wgmma have it: bits 4 and up of a byte's place, xor bits 7 and up; 1
 * of them for rows of 32 bytes, 2 for rows of 64, 3 for rows of 128. */
static void nd_test_swizzles() {
    bool equal = true;
    for (int row = 0; row < 32; row++)
        for (int chunk = 0; chunk < 8; chunk++) {
            const int wide = row * 128 + chunk * 16, narrow = row * 64 + chunk % 4 * 16;
            equal = equal && row * 128 + nd_swizzle<8>(row, chunk) * 16 == (wide ^ (wide >> 7 & 7) << 4);
            equal =
                equal && row * 64 + nd_swizzle<4>(row, chunk % 4) * 16 == (narrow ^ (narrow >> 7 & 3) << 4);
            const int least = row * 32 + chunk % 2 * 16;
            equal = equal && row * 32 + nd_swizzle<2>(row, chunk % 2) * 16 == (least ^ (least >> 7 & 1) << 4);
        }
    nd_test_expect(equal, "rows are swizzled as the hardware reads them");
}

void nd_test_separable() {
    nd_test_swizzles();
    nd_test_splits();
    for (int i = 0; i < nd_precision_int8; i++) {
        for (const nd_test_layer &layer : nd_test_layers)
            for (int64_t split : {1, 2, 5}) {
                nd_test_case test = nd_test_separable_of(layer, (nd_precision)i, split);
                nd_test_run(test);
            }
        nd_test_separable_races((nd_precision)i);
    }
}
