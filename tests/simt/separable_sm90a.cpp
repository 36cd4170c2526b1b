/* The fused separable kernel of sm_90a over the same layers as separable.cpp, alone and in clusters of two,
 * on a device of few multiprocessors so that every block makes several tiles. */
#include "cuda/separable/separable_sm90a.h"
#include "tests/simt/separable_case.h"

struct nd_test_hopper {
    nd_precision precision;
    int64_t tile, split, cluster, resident, whole;
};

/* Packs and launches as the plugin does; cluster and split are the test's. `whole` clusters are not
 * split, or fewer. */
static nd_status nd_test_launch(const nd_work *work, const nd_test_hopper &how, const void *x, const void *x2,
                                void *y) {
    nd_hopper_pack pack;
    ND_TRY(nd_hopper_pack_make(work, how.precision, how.tile, &pack));
    nd_cuda_hopper call = {};
    nd_cuda_separable &layer = call.layer;
    layer.window = work->window;
    layer.precision = how.precision;
    layer.images = work->x.dims[0];
    layer.channels = work->x.dims[1];
    layer.height = work->x.dims[2];
    layer.width = work->x.dims[3];
    layer.out_channels = work->y.dims[1];
    layer.out_height = work->y.dims[2];
    layer.out_width = work->y.dims[3];
    layer.x_pixel = work->x.strides[3];
    layer.x2_pixel = work->x2.strides[3];
    layer.y_pixel = work->y.strides[3];
    layer.tile = how.tile;
    layer.blocks = pack.rounds;
    if (nd_precision_is_quantised(how.precision))
        layer.integers = nd_test_constants(*work, pack.integers);
    else
        layer.bias = work->bias;
    layer.activation = work->activation;
    layer.x = x;
    layer.x2 = work->residual ? x2 : nullptr;
    layer.y = y;
    call.terms = pack.terms;
    call.resident = how.resident;
    call.rounds = pack.table;
    call.constants = pack.constants;
    call.constants_bytes = (int64_t)pack.tile_bytes;
    nd_status status = nd_hopper_plan(&call, 227 * 1024)
                           ? nd_status_ok
                           : nd_fail(nd_status_unsupported, "no patch fits shared memory");
    call.cluster = how.cluster;
    layer.split = how.split < pack.rounds ? how.split : pack.rounds;
    call.whole = how.split > 1 ? nd_hopper_whole(&call, how.whole) : INT64_MAX;
    std::vector<float> partial(nd_cuda_hopper_partial(&call) / sizeof(float), NAN);
    layer.partial = partial.data();
    if (!status) status = nd_cuda_hopper_launch(&call);
    nd_hopper_pack_free(&pack);
    return status;
}

static std::string nd_test_hopper_name(const nd_test_layer &layer, const nd_test_hopper &how) {
    return std::string("separable wgmma ") + nd_precision_name(how.precision) + ", " + layer.name +
           ", tile " + std::to_string(how.tile) + ", split " + std::to_string(how.split) + ", cluster " +
           std::to_string(how.cluster) + ", whole " + std::to_string(how.whole);
}

static nd_test_case nd_test_hopper_of(const nd_test_layer &layer, const nd_test_hopper &how) {
    nd_test_case test = nd_test_separable_case(layer);
    test.name = nd_test_hopper_name(layer, how);
    test.storage = nd_precision_storage(how.precision);
    test.launch = [=](const nd_test_case &self, const void *x, const void *x2, void *y) {
        return nd_test_launch(&self.work, how, x, x2, y);
    };
    return test;
}

/* Filters are integers in odd variants. */
static nd_quantized_case nd_test_hopper_integers_of(const nd_test_layer &layer, int64_t variant,
                                                    const nd_test_hopper &how) {
    const bool e4m3 = how.precision == nd_precision_e4m3;
    nd_quantized_case test =
        e4m3 ? nd_test_separable_e4m3(layer, variant) : nd_test_separable_integers(layer, variant);
    test.name = nd_test_hopper_name(layer, how) + ", variant " + std::to_string(variant);
    test.launch = [=](const nd_work &work, const void *x, const void *x2, void *y) {
        return nd_test_launch(&work, how, x, x2, y);
    };
    return test;
}

/* Tensor copies want pixels that begin on 16 bytes. */
static bool nd_test_takes(const nd_test_layer &layer, nd_precision precision) {
    const nd_test_case test = nd_test_separable_case(layer);
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(precision));
    return nd_cuda_hopper_takes(&test.work, precision) && (layer.ni + layer.spread) * size % 16 == 0;
}

/* Two tiles of the one cluster that there is, four rounds each of 16-bit channels (T = 4: twice two terms;
 * eight of tf32). A wait is each thread's own: the copy warp's are for free stages, from the second use
 * on. */
static void nd_test_hopper_races(nd_precision precision) {
    static const nd_test_layer layer = {
        "races", 3, 64, 13, 17, 64, ND_3X3, 4, 64, 0, true, false, {nd_act_none, 0, 0}};
    nd_test_case test = nd_test_hopper_of(layer, {precision, 64, 1, 2, 2, 0});
    const int rounds = precision == nd_precision_tf32 ? 8 : 4;
    nd_test_case alone = nd_test_hopper_of(layer, {precision, 64, 1, 1, 2, 0});
    nd_test_races(alone, nd_simt_sync_block, 0, 1);       /* tables and barriers before they are used */
    nd_test_races(test, nd_simt_sync_cluster, 0, 2);      /* those of the other block; its end */
    nd_test_races(test, nd_simt_sync_barrier, 0, rounds); /* full stages of the first tile */
    nd_test_races(test, nd_simt_sync_fence, 0, 2 * rounds);
    nd_test_races(test, nd_simt_sync_part, 0, 2 * rounds);
    nd_test_races(test, nd_simt_sync_multicast, 0, 2 * rounds);
    nd_test_races(test, nd_simt_sync_arrival, 0, 2 * rounds - 5); /* what no copy waits for is not missed */
    nd_test_races(test, nd_simt_sync_product, rounds - 1,
                  rounds); /* of a whole tile, before it is finished */
}

/* The same of integers, two rounds a block of 64 channels. A warpgroup also meets when it has mended the
 * edges of its patch: all of the halves have some, and zero is not 0. */
static void nd_test_hopper_integer_races() {
    static const nd_test_layer layer = {
        "races", 3, 128, 13, 17, 64, ND_3X3, 4, 64, 0, true, false, {nd_act_none, 0, 0}};
    const nd_quantized_case test = nd_test_hopper_integers_of(layer, 3, {nd_precision_int8, 64, 1, 2, 2, 0});
    nd_test_integers_races(test, nd_simt_sync_barrier, 0, 4);
    nd_test_integers_races(test, nd_simt_sync_fence, 0, 8);
    nd_test_integers_races(test, nd_simt_sync_part, 0, 16);
    nd_test_integers_races(test, nd_simt_sync_multicast, 0, 8);
    nd_test_integers_races(test, nd_simt_sync_product, 3, 4);
}

static int64_t nd_test_tile(const nd_test_layer &layer) {
    return layer.no > 128 ? 256 : layer.no > 64 ? 128 : 64;
}

/* All of it whole; all of it in parts; some of both, where it has more than one row of halves. */
static const int64_t nd_test_splits[][2] = {{1, 0}, {3, 0}, {3, 2}};

static bool nd_test_takes_integers(const nd_test_layer &layer, int64_t variant) {
    const nd_quantized_case test = nd_test_separable_integers(layer, variant);
    return nd_cuda_hopper_takes(&test.work, nd_precision_int8);
}

/* Layers whose channels are made to divide by 16, and whose outputs do or do not. */
static void nd_test_hopper_quantised(nd_precision precision) {
    const auto sixteens = [](int64_t count) { return (count + 15) / 16 * 16; };
    int64_t variant = 1;
    for (nd_test_layer layer : nd_test_layers)
        for (int64_t no : {layer.no, sixteens(layer.no)}) {
            layer.ni = sixteens(layer.ni);
            layer.spread = sixteens(layer.spread);
            layer.no = no;
            if (!nd_test_takes_integers(layer, variant)) continue; /* the same of e4m3 */
            for (const auto &split : nd_test_splits)
                for (int64_t cluster : {1, 2})
                    nd_test_integers_alike(nd_test_hopper_integers_of(
                        layer, variant += 2,
                        {precision, nd_test_tile(layer), split[0], cluster, 2, split[1]}));
        }
}

static void nd_test_hopper_integers() {
    nd_test_hopper_quantised(nd_precision_int8);
    nd_test_hopper_quantised(nd_precision_e4m3);
    nd_test_expect(!nd_test_takes_integers(nd_test_layers[0], 0),
                   "separable wgmma int8: filters that are real numbers are left to others");
    nd_test_hopper_integer_races();
}

void nd_test_separable_sm90a() {
    for (nd_precision precision : {nd_precision_tf32, nd_precision_fp16, nd_precision_bf16}) {
        for (const nd_test_layer &layer : nd_test_layers) {
            if (!nd_test_takes(layer, precision)) continue;
            for (const auto &split : nd_test_splits)
                for (int64_t cluster : {1, 2}) {
                    nd_test_case test = nd_test_hopper_of(
                        layer, {precision, nd_test_tile(layer), split[0], cluster, 2, split[1]});
                    nd_test_run(test);
                }
        }
        nd_test_hopper_races(precision);
    }
    nd_test_hopper_integers();
}
