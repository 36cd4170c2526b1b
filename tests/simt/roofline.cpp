/* What the fused kernels could reach on an H100, layer by layer of VGG16 at batch 32: their real tiles,
 * patches and shared memory, their registers from the golden file, and the roofs of the device. Arithmetic,
 * not measurement. */
#include "cuda/separable/separable_pack.h"
#include "cuda/separable/separable_sm90a.h"
#include "tests/simt/compare.h"

#include <fstream>
#include <stdio.h>

struct nd_roof_layer {
    const char *name;
    int64_t ni, no, size;
};

static const nd_roof_layer nd_roof_layers[] = {
    {"conv1_2", 64, 64, 224},  {"conv2_1", 64, 128, 112}, {"conv2_2", 128, 128, 112},
    {"conv3_1", 128, 256, 56}, {"conv3_2", 256, 256, 56}, {"conv4_1", 256, 512, 28},
    {"conv4_2", 512, 512, 28}, {"conv5_1", 512, 512, 14},
};

/* Rates that large problems sustain: what mma.sync has of wgmma's flop/s, bytes/s of memory. */
static const double nd_roof_mma_sync = 0.62, nd_roof_memory = 3.0e12, nd_roof_clock = 1.755e9;

/* Of the depthwise half, issue is the roof: instructions that the inner loops of depthwise_run have in sm_90a
 * code for three pixels of two terms: both of one channel; of two; of two, one after the other. A
 * multiprocessor issues 4 a clock, for 32 lanes each. */
static const double nd_roof_same = 100, nd_roof_apart = 121, nd_roof_in_turn = 151;

enum {
    nd_roof_multiprocessors = 132,
    nd_roof_registers = 65536,
    nd_roof_shared = 227 * 1024,
    nd_roof_reserved = 1024,
    nd_roof_images = 32,
};

struct nd_roof_type {
    nd_precision precision;
    const char *mangled;
    double wgmma; /* flop/s */
};

struct nd_roof_engine {
    const char *name, *mangled;
    nd_separable_shared *shared;
    bool wgmma; /* multiplies in the background, patches of as many channels as a block has terms */
};

static const nd_roof_engine nd_roof_mma = {"mma", "_Z19nd_separable_kernelI", nd_cuda_separable_shared,
                                           false},
                            nd_roof_wgmma = {"wgmma", "_Z16nd_hopper_kernelI", nd_cuda_separable_sm90a_shared,
                                             true};

static const nd_roof_type nd_roof_types[] = {{nd_precision_fp16, "11nd_math_f16", 750e12},
                                             {nd_precision_tf32, "12nd_math_tf32", 410e12}};

/* Registers of an sm_90a kernel in the golden file; 0 when it is not there. */
static int64_t nd_roof_registers_of(const char *path, const nd_roof_engine &engine, const nd_roof_type &type,
                                    int64_t tile) {
    const std::string wanted =
        std::string("sm_90a,") + engine.mangled + type.mangled + "Li" + std::to_string(tile) + "E";
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, wanted.size(), wanted)) continue;
        return std::stoll(line.substr(line.find(',', wanted.size()) + 1));
    }
    return 0;
}

static int64_t nd_roof_ceil(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Blocks of terms and the channels they span, from the plugin's own packing; weights do not matter. */
static void nd_roof_pack(nd_cuda_separable &call, int64_t terms) {
    std::vector<int32_t> channel;
    for (int64_t r = 0; r < call.channels * terms; r++) channel.push_back((int32_t)(r / terms));
    const std::vector<float> depthwise(channel.size() * 9), weights(channel.size());
    nd_work work = {};
    work.operation = nd_operation_separable;
    work.geometry = call.geometry;
    work.terms = (int64_t)channel.size();
    work.channel = channel.data();
    work.depthwise = depthwise.data();
    work.weights = weights.data();
    work.y = nd_test_view(1, 1, 1, 1);
    nd_separable_pack pack;
    if (nd_separable_pack_make(&work, nd_precision_storage(call.precision), call.tile, &pack)) return;
    call.blocks = pack.blocks;
    call.chunks = pack.chunks;
    nd_separable_pack_free(&pack);
}

struct nd_roof_candidate {
    const nd_roof_engine *engine;
    int64_t tile;
};

/* Candidates of the plugin's planner; the first is the one it takes without a measurement. */
static std::vector<nd_roof_candidate> nd_roof_candidates(const nd_roof_layer &layer,
                                                         const nd_roof_type &type) {
    const bool wide = layer.no > 128 && nd_dtype_bytes(nd_precision_storage(type.precision)) == 2;
    std::vector<nd_roof_candidate> candidates = {{&nd_roof_mma, layer.no > 64 ? 128 : 64}};
    if (wide) candidates.push_back({&nd_roof_mma, 256});
    candidates.push_back({&nd_roof_wgmma, layer.no > 128 ? 256 : 128});
    return candidates;
}

/* Patches as the plugin chooses them: two blocks on a multiprocessor where the tile lets them. */
static nd_cuda_separable nd_roof_call(const nd_roof_layer &layer, const nd_roof_type &type, int64_t terms,
                                      const nd_roof_candidate &candidate) {
    nd_cuda_separable call = {};
    call.geometry = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    call.precision = type.precision;
    call.images = nd_roof_images;
    call.channels = layer.ni;
    call.out_channels = layer.no;
    call.height = call.width = call.out_height = call.out_width = layer.size;
    call.tile = candidate.tile;
    nd_roof_pack(call, terms);
    if (candidate.engine->wgmma)
        call.chunks = nd_separable_terms * (int64_t)nd_dtype_bytes(nd_precision_storage(type.precision)) / 16;
    const size_t half = (nd_roof_shared + nd_roof_reserved) / 2 - nd_roof_reserved;
    if (call.tile == 256 || !nd_separable_patch_choose(&call, half, candidate.engine->shared))
        nd_separable_patch_choose(&call, nd_roof_shared, candidate.engine->shared);
    nd_separable_split_choose(&call, nd_roof_multiprocessors * (call.tile == 256 ? 1 : 2));
    return call;
}

static bool nd_roof_row(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                        int64_t terms, const nd_roof_candidate &candidate) {
    const nd_cuda_separable call = nd_roof_call(layer, type, terms, candidate);
    const int64_t registers = nd_roof_registers_of(resources, *candidate.engine, type, call.tile);
    const int64_t shared = (int64_t)candidate.engine->shared(&call), threads = nd_separable_threads;
    if (!registers || !call.blocks) return false;
    const int64_t by_registers = nd_roof_registers / (nd_roof_ceil(registers, 8) * 8 * threads);
    const int64_t by_shared = (nd_roof_shared + nd_roof_reserved) / (shared + nd_roof_reserved);
    const int64_t resident = by_registers < by_shared ? by_registers : by_shared;

    const double pixels = (double)(nd_roof_images * layer.size * layer.size);
    const double size = (double)nd_dtype_bytes(nd_precision_storage(type.precision));
    const double k = (double)(layer.ni * terms);
    const double bytes = size * (pixels * (double)(layer.ni + layer.no) + k * (double)layer.no);
    const double pointwise = 2 * pixels * k * (double)layer.no;
    const double depthwise = 18 * pixels * k * (double)nd_roof_ceil(layer.no, call.tile);
    const double dense = 18 * pixels * (double)(layer.ni * layer.no);

    /* Tiles that are not full of pixels and a last wave that is not full of tiles cost what they hold. */
    const int64_t tiles = nd_separable_tiles(&call), at_once = resident * nd_roof_multiprocessors;
    const double held = (double)(tiles * nd_separable_pixels * call.tile);
    const double fill = pixels * (double)layer.no / held;
    const double wave = (double)tiles / (double)(nd_roof_ceil(tiles, at_once) * at_once);
    const double flops_a_loop = 3 * 2 * 18 * 32, issued = 4 * nd_roof_multiprocessors * nd_roof_clock;
    const double apart = call.tile > 128 ? nd_roof_apart : nd_roof_in_turn;
    const double dw_rate = flops_a_loop * issued / (terms % 2 ? apart : nd_roof_same);
    const double mma_ns = 1e9 * pointwise / (type.wgmma * (candidate.engine->wgmma ? 1 : nd_roof_mma_sync)),
                 dw_ns = 1e9 * depthwise / dw_rate, memory_ns = 1e9 * bytes / nd_roof_memory;
    /* One block on a multiprocessor does the one, then the other, unless it multiplies in the background; two
     * overlap them. */
    const bool overlaps = resident > 1 || candidate.engine->wgmma;
    const double work_ns = (overlaps ? fmax(mma_ns, dw_ns) : mma_ns + dw_ns) / (fill * wave);
    const double reach_ns = fmax(work_ns, memory_ns);
    const double dense_bytes =
        size * (pixels * (double)(layer.ni + layer.no) + 9.0 * (double)(layer.ni * layer.no));
    const double dense_ns = 1e9 * fmax(dense / type.wgmma, dense_bytes / nd_roof_memory);
    printf("%s,%s,%d,%s,%d,%dx%dx%d,%d,%d,%d,%d,%.3f,%.3f,%.1f,%.2f,%.2f,%.1f,%.1f,%.1f,%.1f,%.1f,%.2f\n",
           layer.name, nd_precision_name(type.precision), (int)terms, candidate.engine->name, (int)call.tile,
           (int)call.patch[0], (int)call.patch[1], (int)call.patch[2], (int)registers, (int)shared,
           (int)resident, (int)tiles, fill, wave, bytes / 1e6, pointwise / 1e9, depthwise / 1e9,
           memory_ns / 1e3, mma_ns / 1e3, dw_ns / 1e3, reach_ns / 1e3, dense_ns / 1e3, dense_ns / reach_ns);
    return true;
}

int nd_test_roofline(const char *resources) {
    printf("# Arithmetic, not measured: nothing here has run on a device. H100, VGG16, batch 32, fused "
           "kernels.\n"
           "# Roofs: wgmma 750 (fp16) and 410 (tf32) Tflop/s, mma.sync 0.62 of it, depthwise by the "
           "instructions of its inner loop at 1.755 GHz (32.0 Tflop/s; odd T 26.5, tiles up to 128 21.2), "
           "memory 3.0 TB/s.\n"
           "layer,dtype,T,kernel,tile,patch,registers,shared_bytes,blocks_per_sm,tiles,pixel_fill,wave_fill,"
           "mbytes,"
           "pointwise_gflop,depthwise_gflop,memory_us,mma_us,depthwise_us,reach_us,dense_roof_us,dense_over_"
           "reach\n");
    for (const nd_roof_type &type : nd_roof_types)
        for (const nd_roof_layer &layer : nd_roof_layers)
            for (int64_t terms : {2, 3})
                for (const nd_roof_candidate &candidate : nd_roof_candidates(layer, type)) {
                    if (nd_roof_row(resources, layer, type, terms, candidate)) continue;
                    fprintf(stderr, "%s has no figures for %s\n", resources,
                            nd_precision_name(type.precision));
                    return 1;
                }
    return 0;
}
