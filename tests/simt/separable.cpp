/* The fused separable kernel in every arithmetic, over shapes that hit its edges: channels and outputs that
 * fill no tile, planes from 1x1 up, several images in one tile, strides, asymmetric padding, dilation,
 * adaptive ranks with channels left out, every width of background copy. */
#include "cuda/separable/separable.cuh"
#include "cuda/separable/separable_sm90a.h"
#include "tests/simt/compare.h"

#include <string.h>

struct nd_test_layer {
    const char *name;
    int64_t n, ni, h, w, no;
    nd_geometry geometry;
    int64_t uniform; /* terms of every channel; 0: adaptive, 0 to 4, a long gap in the middle */
    int64_t tile, spread;
    bool bias, residual;
    nd_activation activation;
};

#define ND_3X3                                                                                               \
    {                                                                                                        \
        {3, 3}, {1, 1}, {1, 1}, {                                                                            \
            1, 1, 1, 1                                                                                       \
        }                                                                                                    \
    }

static const nd_test_layer nd_test_layers[] = {
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

static int64_t nd_test_out(const nd_geometry &g, int axis, int64_t size) {
    return (size + g.pad[axis] + g.pad[2 + axis] - g.dilation[axis] * (g.kernel[axis] - 1) - 1) /
               g.stride[axis] +
           1;
}

static nd_test_case nd_test_separable_case(const nd_test_layer &layer) {
    nd_test_case test;
    const int64_t oh = nd_test_out(layer.geometry, 0, layer.h), ow = nd_test_out(layer.geometry, 1, layer.w);
    test.work.operation = nd_operation_separable;
    test.work.geometry = layer.geometry;
    test.work.x = nd_test_view(layer.n, layer.ni, layer.h, layer.w, layer.spread);
    test.work.y = test.work.x2 = nd_test_view(layer.n, layer.no, oh, ow, layer.spread);
    test.work.residual = layer.residual;
    test.work.activation = layer.activation;
    test.channel = nd_test_ranks(layer);
    test.work.terms = (int64_t)test.channel.size();
    const size_t taps = (size_t)(layer.geometry.kernel[0] * layer.geometry.kernel[1]);
    test.depthwise = nd_test_integers(test.channel.size() * taps, -1, 1, 3);
    test.weights = nd_test_integers(test.channel.size() * (size_t)layer.no, -1, 1, 4);
    if (layer.bias) test.bias = nd_test_integers((size_t)layer.no, -4, 4, 5);
    return test;
}

/* One of the kernels that take packed terms. */
struct nd_test_engine {
    const char *name;
    nd_status (*launch)(const nd_cuda_separable *call);
    nd_separable_shared *shared;
    size_t shared_limit; /* of sm_86 and sm_90 */
    bool whole;          /* patches of as many channels as a block has terms */
};

static const nd_test_engine nd_test_mma = {"mma", nd_cuda_separable_launch, nd_cuda_separable_shared,
                                           99 * 1024, false},
                            nd_test_wgmma = {"wgmma", nd_cuda_separable_sm90a_launch,
                                             nd_cuda_separable_sm90a_shared, 227 * 1024, true};

/* Packs and launches as the plugin does. */
static nd_status nd_test_fused(const nd_test_case &test, const nd_test_engine &engine, nd_precision precision,
                               int64_t tile, int64_t split, const void *x, const void *x2, void *y) {
    const nd_work *work = &test.work;
    nd_separable_pack pack;
    ND_TRY(nd_separable_pack_make(work, test.storage, tile, &pack));
    nd_cuda_separable call = {};
    call.geometry = work->geometry;
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
    call.chunks =
        engine.whole ? nd_separable_terms * (int64_t)nd_dtype_bytes(test.storage) / 16 : pack.chunks;
    call.filters = pack.filters;
    call.base = pack.base;
    call.offset = pack.offset;
    call.bias = work->bias;
    call.activation = work->activation;
    call.x = x;
    call.x2 = work->residual ? x2 : nullptr;
    call.y = y;
    const size_t count = (size_t)(pack.rows * pack.blocks * nd_separable_terms),
                 size = nd_dtype_bytes(test.storage);
    unsigned char *weights = static_cast<unsigned char *>(nd_alloc_array(count, size));
    for (size_t i = 0; i < count; i++) {
        const uint16_t half =
            test.storage == nd_dtype_f16 ? nd_f32_to_f16(pack.weights[i]) : nd_f32_to_bf16(pack.weights[i]);
        memcpy(weights + i * size, size == 4 ? static_cast<const void *>(&pack.weights[i]) : &half, size);
    }
    call.weights = weights;
    call.split = split < pack.blocks ? split : pack.blocks;
    std::vector<float> partial(nd_cuda_separable_partial(&call) / sizeof(float), NAN);
    call.partial = partial.data();
    nd_status status = nd_separable_patch_choose(&call, engine.shared_limit, engine.shared)
                           ? engine.launch(&call)
                           : nd_fail(nd_status_unsupported, "no patch fits shared memory");
    free(weights);
    nd_separable_pack_free(&pack);
    return status;
}

static nd_test_case nd_test_separable_of(const nd_test_layer &layer, const nd_test_engine &engine,
                                         nd_precision precision, int64_t split) {
    const nd_dtype storage = nd_precision_storage(precision);
    const bool wgmma = &engine == &nd_test_wgmma, narrow = layer.tile == 256 && storage == nd_dtype_f32;
    const int64_t tile = wgmma ? (layer.no > 128 ? 256 : 128) : narrow ? 128 : layer.tile;
    nd_test_case test = nd_test_separable_case(layer);
    test.name = std::string("separable ") + engine.name + " " + nd_precision_name(precision) + ", " +
                layer.name + ", split " + std::to_string(split);
    test.storage = storage;
    test.launch = [=, &engine](const nd_test_case &self, const void *x, const void *x2, void *y) {
        return nd_test_fused(self, engine, precision, tile, split, x, x2, y);
    };
    return test;
}

/* Tensor copies want pixels that begin on 16 bytes. */
static bool nd_test_wgmma_takes(const nd_test_layer &layer, nd_precision precision) {
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(precision));
    return precision != nd_precision_fp32 && (layer.ni + layer.spread) * size % 16 == 0;
}

/* Three blocks of terms: places and 2 x 3 rounds and the epilogue's are 8 barriers, 3 waits; of the warps' 4
 * barriers in the epilogue the first follows one of the block. */
static void nd_test_separable_races(nd_precision precision) {
    static const nd_test_layer layer = {
        "races", 1, 32, 9, 17, 64, ND_3X3, 3, 64, 0, true, false, {nd_act_none, 0, 0}};
    nd_test_case test = nd_test_separable_of(layer, nd_test_mma, precision, 1);
    nd_test_races(test, nd_simt_sync_block, 0, 8);
    nd_test_races(test, nd_simt_sync_copy, 0, 3);
    nd_test_races(test, nd_simt_sync_warp, 1, 4);
}

/* Six blocks of terms: a barrier of the block at the start, one a round and one before the epilogue; an
 * mbarrier wait and a fence a round. The wait for products of round b keeps those of b - 1 from the copies
 * that round b + 1 asks for: from round 1 on, while there is something to ask for; the last one is for the
 * sums. */
static void nd_test_wgmma_races(nd_precision precision) {
    static const nd_test_layer layer = {
        "races", 1, 64, 5, 9, 64, ND_3X3, 3, 128, 0, true, false, {nd_act_none, 0, 0}};
    enum { blocks = 6 };
    nd_test_case test = nd_test_separable_of(layer, nd_test_wgmma, precision, 1);
    nd_test_races(test, nd_simt_sync_block, 0, blocks + 2);
    nd_test_races(test, nd_simt_sync_barrier, 0, blocks);
    nd_test_races(test, nd_simt_sync_fence, 0, blocks);
    nd_test_races(test, nd_simt_sync_product, 1, blocks - 3);
    nd_test_races(test, nd_simt_sync_product, blocks, blocks + 1);
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

/* Rows are permuted as tensor copies and wgmma have it: bits 4 and up of a byte's place, xor bits 7 and up; 2
 * of them for rows of 64 bytes, 3 for rows of 128. */
static void nd_test_swizzles() {
    bool equal = true;
    for (int row = 0; row < 32; row++)
        for (int chunk = 0; chunk < 8; chunk++) {
            const int wide = row * 128 + chunk * 16, narrow = row * 64 + chunk % 4 * 16;
            equal = equal && row * 128 + nd_swizzle<8>(row, chunk) * 16 == (wide ^ (wide >> 7 & 7) << 4);
            equal =
                equal && row * 64 + nd_swizzle<4>(row, chunk % 4) * 16 == (narrow ^ (narrow >> 7 & 3) << 4);
        }
    nd_test_expect(equal, "rows are swizzled as the hardware reads them");
}

void nd_test_separable() {
    nd_test_swizzles();
    nd_test_splits();
    for (int i = 0; i < nd_precision_count; i++) {
        for (const nd_test_layer &layer : nd_test_layers)
            for (int64_t split : {1, 2, 5}) {
                nd_test_case test = nd_test_separable_of(layer, nd_test_mma, (nd_precision)i, split);
                nd_test_run(test);
                if (!nd_test_wgmma_takes(layer, (nd_precision)i)) continue;
                nd_test_case hopper = nd_test_separable_of(layer, nd_test_wgmma, (nd_precision)i, split);
                nd_test_run(hopper);
            }
        nd_test_separable_races((nd_precision)i);
        if (i != nd_precision_fp32) nd_test_wgmma_races((nd_precision)i);
    }
}
