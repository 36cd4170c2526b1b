/* What separable layers could reach on an H100 and an A100, layer by layer of VGG16 at batch 32: for every
 * candidate to run them the clocks of each resource of a multiprocessor, by their real tiles, patches and
 * rounds, and which of them binds. Arithmetic, not measurement; what is a guess is called one. */
#include "cuda/separable/separable_pack.h"
#include "cuda/separable/separable_sm90a.h"
#include "tests/simt/compare.h"

#include <fstream>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct nd_roof_layer {
    const char *name;
    int64_t ni, no, size;
    int count; /* of the network's convolutions */
};

/* All of VGG16 but the first convolution, which stays dense in any case. */
static const nd_roof_layer nd_roof_layers[] = {
    {"conv1_2", 64, 64, 224, 1},  {"conv2_1", 64, 128, 112, 1}, {"conv2_2", 128, 128, 112, 1},
    {"conv3_1", 128, 256, 56, 1}, {"conv3_2", 256, 256, 56, 2}, {"conv4_1", 256, 512, 28, 1},
    {"conv4_2", 512, 512, 28, 2}, {"conv5_1", 512, 512, 14, 3},
};

/* Guesses: what of the binding resource is really had, the others being busy too; ns that starting a kernel
 * takes, and that memory takes to answer. */
static const double nd_roof_overlap = 0.9, nd_roof_start = 2000, nd_roof_latency = 600;

enum { nd_roof_registers = 65536, nd_roof_reserved = 1024, nd_roof_images = 32, nd_roof_types = 4 };

struct nd_roof_type {
    nd_precision precision;
    const char *math, *element; /* as names of kernels have them */
    double dense;               /* flop/s of the library's products and convolutions */
    double tensor;              /* flop of the tensor cores a clock and multiprocessor; 0: none */
};

/* Per clock and multiprocessor: bytes from L2, bytes of shared memory, instructions, fp32 multiply-adds.
 * Bytes/s of memory, bytes of L2 and of shared memory; the part of the tensor cores' rate that mma.sync
 * reaches. */
struct nd_roof_device {
    const char *name, *arch;
    double multiprocessors, clock, l2, bank, issue, lanes, memory, l2_bytes;
    int64_t shared;
    double mma_sync;
    nd_roof_type types[nd_roof_types];
};

/* Guesses: of L2 5.5 TB/s (5.5 to 7 are seen) and 4.0. Dense strict fp32 on an A100 is fused Winograd,
 * taken as 1.9 of the rate of products. Dense int8 is what a library would do at twice the rate of fp16;
 * whether cuDNN does it for the plugin is not known. */
static const nd_roof_device nd_roof_devices[] = {
    {"H100",
     "sm_90a",
     132,
     1.755e9,
     23.7,
     128,
     4,
     128,
     3.0e12,
     50e6,
     227 * 1024,
     0.62,
     {{nd_precision_fp16, "11nd_math_f16", "6nd_f16", 750e12, 4096},
      {nd_precision_tf32, "12nd_math_tf32", "f", 410e12, 2048},
      {nd_precision_fp32, "12nd_math_fp32", "f", 47e12, 0},
      {nd_precision_int8, "10nd_math_u8", "5nd_u8", 1500e12, 8192}}},
    {"A100",
     "sm_80",
     108,
     1.41e9,
     26.3,
     128,
     4,
     64,
     1.75e12,
     40e6,
     163 * 1024,
     1,
     {{nd_precision_fp16, "11nd_math_f16", "6nd_f16", 250e12, 2048},
      {nd_precision_tf32, "12nd_math_tf32", "f", 125e12, 1024},
      {nd_precision_fp32, "12nd_math_fp32", "f", 32e12, 0},
      {nd_precision_int8, "10nd_math_u8", "5nd_u8", 500e12, 4096}}},
};

/* The device that is looked at. */
static nd_roof_device nd_roof_on;

static double nd_roof_bytes_of(const nd_roof_type &type) {
    return (double)nd_dtype_bytes(nd_precision_storage(type.precision));
}

static int64_t nd_roof_ceil(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Clocks of every resource for a tile, with the instructions that nothing overlaps beside them; and what
 * surrounds it. */
struct nd_roof_tile {
    double l2, shared, issue, ffma, tensor, ends;
    double waves;   /* of tiles, one after the other on the busiest multiprocessor */
    double fill;    /* pixels of tiles that are pixels of the layer */
    double join_ns; /* of sums that are left to another kernel */
};

struct nd_roof_result {
    std::string kernel, patch, binds;
    int64_t registers = 0, shared_bytes = 0, blocks = 0;
    nd_roof_tile tile = {};
    double memory_ns = 0, reach_ns = 0;
    double bound_ns = 0; /* were the binding resource never idle, and ends hidden */
};

static double nd_roof_pixels(const nd_roof_layer &layer) {
    return (double)(nd_roof_images * layer.size * layer.size);
}

static double nd_roof_memory_ns(const nd_roof_layer &layer, const nd_roof_type &type, double weights) {
    return 1e9 * nd_roof_bytes_of(type) * (nd_roof_pixels(layer) * (double)(layer.ni + layer.no) + weights) /
           nd_roof_on.memory;
}

static double nd_roof_dense_ns(const nd_roof_layer &layer, const nd_roof_type &type) {
    const double weights = 9.0 * (double)(layer.ni * layer.no);
    return fmax(1e9 * 2 * nd_roof_pixels(layer) * weights / type.dense,
                nd_roof_memory_ns(layer, type, weights));
}

/* From clocks of a tile to time. L2 also takes what is stored while the next tile begins. */
static void nd_roof_settle(nd_roof_result &r) {
    const nd_roof_tile &t = r.tile;
    double most = t.issue;
    r.binds = "issue";
    if (t.ffma > most) most = t.ffma, r.binds = "ffma";
    if (t.tensor > most) most = t.tensor, r.binds = "tensor";
    if (t.shared > most) most = t.shared, r.binds = "shared";
    double clocks = most / nd_roof_overlap + t.ends;
    if (t.l2 / nd_roof_overlap > clocks) clocks = t.l2 / nd_roof_overlap, r.binds = "l2";
    r.reach_ns = 1e9 * t.waves * clocks / nd_roof_on.clock;
    r.bound_ns =
        fmax(1e9 * t.waves * fmax(most, t.l2) / nd_roof_on.clock, r.memory_ns) + nd_roof_start + t.join_ns;
    if (r.memory_ns > r.reach_ns) r.reach_ns = r.memory_ns, r.binds = "memory";
    r.reach_ns += nd_roof_start + t.join_ns;
}

static nd_cuda_separable nd_roof_call(const nd_roof_layer &layer, const nd_roof_type &type, int64_t tile) {
    nd_cuda_separable call = {};
    call.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    call.precision = type.precision;
    call.images = nd_roof_images;
    call.channels = layer.ni;
    call.out_channels = layer.no;
    call.height = call.width = call.out_height = call.out_width = layer.size;
    call.tile = tile;
    return call;
}

static std::string nd_roof_patch(const int64_t *patch) {
    return std::to_string(patch[0]) + "x" + std::to_string(patch[1]) + "x" + std::to_string(patch[2]);
}

/* Registers of a kernel in the golden file, whose name begins so; 0 when it is not there. */
static int64_t nd_roof_registers_of(const char *path, const std::string &kernel) {
    const std::string wanted = std::string(nd_roof_on.arch) + "," + kernel;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, wanted.size(), wanted)) continue;
        return std::stoll(line.substr(line.find(',', wanted.size()) + 1));
    }
    return 0;
}

static std::string nd_roof_kernel(const char *kernel, const nd_roof_type &type, int64_t tile) {
    return std::string(kernel) + type.math + "Li" + std::to_string(tile) + "E";
}

/* The kernel of sm_90a. Instructions of a warp, as nvdisasm shows them: a row of pixels with one, two and
 * three terms, the begin of a run, a round beside them (waits, barriers, products) and what every two terms
 * add (filters) and every term of a second slab (products), 32 channels of a pixel finished, what a tile and
 * each of its slabs have of their own. Of a row, of one term, the slots of its multiply-adds, of integers
 * with those that convert, a dp4a taken for two (a guess). Bytes of a lane's constants of a term. */
struct nd_roof_half {
    double row[3], run, round, filters, finish, multiplies, constants;
};

static const nd_roof_half nd_roof_bytes = {{52, 88, 124}, 75, 120, 10, 180, 36, 80},
                          nd_roof_halves = {{36, 56, 76}, 70, 81, 9, 50, 18, 72},
                          nd_roof_words = {{36, 56, 76}, 70, 81, 9, 40, 18, 72};
static const double nd_roof_products = 8, nd_roof_place = 100, nd_roof_slab = 80;

static const nd_roof_half &nd_roof_half_of(const nd_roof_type &type) {
    const double size = nd_roof_bytes_of(type);
    return size < 2 ? nd_roof_bytes : size > 2 ? nd_roof_words : nd_roof_halves;
}

/* Shared memory: of filters neighbouring lanes read the same, which halves every access (documented for
 * sm_70 and sm_75; that later devices do the same is a guess). */
static void nd_roof_wgmma_round(const nd_cuda_hopper &call, const nd_roof_type &type, int terms,
                                nd_roof_tile &t) {
    const double size = nd_roof_bytes_of(type), n = (double)call.layer.tile, channels = nd_hopper_row / size;
    const nd_roof_half &own = nd_roof_half_of(type);
    const double each = size < 2 ? 4 : 2; /* channels of a lane */
    const int64_t *half = call.layer.patch, abreast = (int64_t)(32 * each / channels),
                  groups = nd_roof_ceil(half[2], abreast);
    int64_t rows = 0, runs = 0,
            least = INT64_MAX; /* of the busiest of four warps, as nd_hopper_runs has them */
    for (int64_t segments = 1; segments <= half[1]; segments++) {
        const int64_t length = nd_roof_ceil(half[1], segments), used = nd_roof_ceil(half[1], length);
        const int64_t each = nd_roof_ceil(half[0] * groups * used, 4);
        if (each * (length + 2) >= least) continue;
        least = each * (length + 2);
        rows = each * length;
        runs = each;
    }
    const double slabs = (double)(nd_hopper_half(call.layer.tile) / nd_hopper_slab), warps = 8;
    const double patches = 2 * (double)(half[0] * (half[1] + 2) * (half[2] + 2)) * nd_hopper_row;
    const double constants = terms * (n * nd_hopper_row + own.constants / each * channels);
    const double reads = warps * 3 * (double)(rows + 2 * runs) * 32 * each * size,
                 stores = warps * terms * (double)rows * 32 * each * size;
    const double filters = warps * own.constants * 32 * terms / 2,
                 operands = terms * 2 * slabs * (nd_hopper_slab + n) * nd_hopper_row;
    t.l2 += (constants / (double)call.cluster + patches) / nd_roof_on.l2;
    t.shared += (operands + constants + patches + reads + stores + filters) / nd_roof_on.bank;
    t.issue += warps *
               ((double)rows * own.row[terms - 1] + (double)runs * own.run + own.round +
                own.filters * (double)nd_roof_ceil(terms, 2) + nd_roof_products * (slabs - 1) * terms) /
               nd_roof_on.issue;
    t.ffma += warps * (double)rows * terms * own.multiplies * 32 / nd_roof_on.lanes;
    t.tensor += 2 * 2 * slabs * nd_hopper_slab * n * terms * channels / type.tensor;
}

/* Tiles of the busiest cluster of blocks, which take all in turn, the whole ones first. Sums that are left to
 * the kernel that joins them are written through L2 with nothing beside, as are that kernel's reads. */
static void nd_roof_wgmma_waves(const nd_roof_layer &layer, const nd_roof_type &type,
                                const nd_cuda_hopper &call, int64_t clusters, nd_roof_tile &t) {
    const nd_cuda_separable &l = call.layer;
    const int64_t at_once = (int64_t)nd_roof_on.multiprocessors / call.cluster,
                  across = nd_roof_ceil(layer.no, l.tile), whole = call.whole * across,
                  all = whole + (clusters - call.whole) * across * l.split;
    const double share = (double)nd_roof_ceil(l.blocks, l.split) / (double)l.blocks;
    const double sums = 2.0 * (double)(nd_hopper_half(l.tile) * l.tile) * 4, leave = sums / nd_roof_on.l2;
    double ends = 0;
    for (int64_t first = 0; first < at_once && first < all; first++) {
        const int64_t made = first < whole ? nd_roof_ceil(whole - first, at_once) : 0,
                      parts = nd_roof_ceil(all - first, at_once) - made;
        const double waves = (double)made + (double)parts * share;
        if (waves <= t.waves) continue;
        t.waves = waves;
        ends = (double)(made + parts) * t.ends + (double)parts * leave;
    }
    t.ends = ends / t.waves;
    if (all == whole) return;
    const double left = (double)((clusters - call.whole) * across * call.cluster) * sums;
    const double rate = nd_roof_on.l2 * nd_roof_on.multiprocessors * nd_roof_on.clock;
    t.join_ns = nd_roof_start +
                1e9 * (left * (double)l.split / rate + left / 4 * nd_roof_bytes_of(type) / nd_roof_on.memory);
}

static bool nd_roof_wgmma(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                          int64_t terms, nd_roof_result &r) {
    const int64_t tile = layer.no > 128 ? 256 : layer.no > 64 ? 128 : 64;
    const int64_t channels = nd_hopper_row / (int64_t)nd_roof_bytes_of(type),
                  blocks = nd_roof_ceil(layer.ni, channels);
    nd_cuda_hopper call = {};
    call.layer = nd_roof_call(layer, type, tile);
    call.layer.blocks = blocks * nd_roof_ceil(terms, nd_hopper_terms);
    call.terms = nd_roof_ceil(terms, nd_roof_ceil(terms, nd_hopper_terms));
    call.resident = (int64_t)nd_roof_on.multiprocessors;
    if (strcmp(nd_roof_on.arch, "sm_90a") || !type.tensor || !nd_hopper_plan(&call, nd_roof_on.shared))
        return false;
    const int64_t *half = call.layer.patch, slabs = nd_hopper_half(tile) / nd_hopper_slab;
    const int64_t tiles =
        nd_roof_ceil(nd_roof_ceil(nd_roof_images, half[0]) * nd_roof_ceil(layer.size, half[1]) *
                         nd_roof_ceil(layer.size, half[2]),
                     2);
    r.kernel = "wgmma_n" + std::to_string(tile);
    r.patch = "2x " + nd_roof_patch(half);
    r.registers = nd_roof_registers_of(resources, nd_roof_kernel("_Z16nd_hopper_kernelI", type, tile));
    r.shared_bytes = (int64_t)nd_cuda_hopper_shared(&call);
    r.blocks = 1;
    for (int64_t t = 0, rounds = nd_roof_ceil(terms, nd_hopper_terms); t < terms; rounds--) {
        const int64_t count = nd_roof_ceil(terms - t, rounds);
        for (int64_t b = 0; b < blocks; b++) nd_roof_wgmma_round(call, type, (int)count, r.tile);
        t += count;
    }
    r.tile.ends = 8 *
                  ((double)(slabs * tile / 32) * 2 * nd_roof_half_of(type).finish +
                   (double)slabs * nd_roof_slab + nd_roof_place) /
                  nd_roof_on.issue;
    r.tile.l2 += 2 * (double)(nd_hopper_half(tile) * tile) * nd_roof_bytes_of(type) / nd_roof_on.l2;
    nd_roof_wgmma_waves(layer, type, call, nd_roof_ceil(tiles, call.cluster), r.tile);
    r.tile.fill = nd_roof_pixels(layer) / (double)(tiles * 2 * nd_hopper_half(tile));
    r.memory_ns = nd_roof_memory_ns(layer, type, (double)(layer.ni * terms * layer.no));
    nd_roof_settle(r);
    return r.registers > 0;
}

/* The kernel of sm_80, blocks of 32 terms, of real numbers and of integers: instructions of its depthwise
 * loops for three pixels of two terms (both of one channel; of two; of two, one after the other), those of
 * them on the multipliers for one result, and what a warp finishes and stores at once. Of both: a copy of 16
 * bytes, a product. Of a tile: what finds its pixels, 16 pixels of a warp brought to shared memory; and the
 * clocks that its first loads and last barrier take (a guess). */
struct nd_roof_loops {
    double same, apart, in_turn, ffma, ffma_in_turn, wide;
};

static const nd_roof_loops nd_roof_reals = {100, 121, 151, 9, 9, 42},
                           nd_roof_integers = {141, 183, 196, 12.5, 14, 150};
static const double nd_roof_copy = 8, nd_roof_product = 1.3, nd_roof_pixels_found = 600, nd_roof_sums = 50,
                    nd_roof_begin = 1500;

/* Blocks of terms; sets the chunks of channels of the widest, and gives those of all. */
static int64_t nd_roof_blocks(nd_cuda_separable &call, int64_t terms, int64_t &chunks) {
    const int64_t slots = nd_separable_terms,
                  align = 16 / (int64_t)nd_dtype_bytes(nd_precision_storage(call.precision));
    int64_t blocks = 0;
    chunks = 0;
    for (int64_t first = 0; first < call.channels * terms; blocks++) {
        const int64_t base = first / terms / align * align;
        const int64_t last = first + slots < call.channels * terms ? first + slots : call.channels * terms;
        const int64_t wanted = nd_roof_ceil((last - 1) / terms - base + 1, align);
        if (wanted > call.chunks) call.chunks = wanted;
        chunks += wanted;
        first = last;
    }
    return blocks;
}

static bool nd_roof_mma(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                        int64_t terms, int64_t tile, nd_roof_result &r) {
    nd_cuda_separable call = nd_roof_call(layer, type, tile);
    int64_t chunks;
    call.blocks = nd_roof_blocks(call, terms, chunks);
    const size_t half = (nd_roof_on.shared + nd_roof_reserved) / 2 - nd_roof_reserved;
    if (tile == 256 || !nd_separable_patch_choose(&call, half, nd_cuda_separable_shared))
        nd_separable_patch_choose(&call, nd_roof_on.shared, nd_cuda_separable_shared);
    r.kernel = "mma_n" + std::to_string(tile);
    r.patch = nd_roof_patch(call.patch);
    r.registers = nd_roof_registers_of(resources, nd_roof_kernel("_Z19nd_separable_kernelI", type, tile));
    r.shared_bytes = (int64_t)nd_cuda_separable_shared(&call);
    if (!r.registers) return false;
    const int64_t by_registers =
        nd_roof_registers / (nd_roof_ceil(r.registers, 8) * 8 * nd_separable_threads);
    const int64_t by_shared = (nd_roof_on.shared + nd_roof_reserved) / (r.shared_bytes + nd_roof_reserved);
    r.blocks = by_registers < by_shared ? by_registers : by_shared;
    const double size = nd_roof_bytes_of(type), n = (double)tile, row = 32 * size;
    const double patch =
        (double)(call.patch[0] * (call.patch[1] + 2) * ((call.patch[2] + 2) | 1) * chunks * 16) /
        (double)call.blocks;
    const bool integers = size < 2;
    const nd_roof_loops &loops = integers ? nd_roof_integers : nd_roof_reals;
    const double stage = n * row + patch + (integers ? 11 : 10) * 32 * 4, windows = terms % 2 ? 2 : 1;
    const double loop = terms % 2 ? (tile > 128 ? loops.apart : loops.in_turn) : loops.same;
    const double result = terms % 2 ? loops.ffma_in_turn : loops.ffma;
    const double runs = 128 * 16 / 32 * 1.25; /* rows of pixels that warps make, with the begins of runs */
    const double products = 2 * 128 * n * 32 / (type.tensor ? 8192 / size : 64);
    nd_roof_tile &t = r.tile;
    t.l2 = (double)call.blocks * stage / nd_roof_on.l2 + 128 * n * size / nd_roof_on.l2;
    t.shared = (double)call.blocks * (stage + 8 * (32 + n / 2) * row + 128 * row * 2) / nd_roof_on.bank +
               (double)call.blocks * runs * 3 * windows;
    t.issue = (double)call.blocks *
              (runs * loop / 3 + stage / 512 * nd_roof_copy + products * nd_roof_product) / nd_roof_on.issue;
    t.ffma = (double)call.blocks * 128 * 32 * (type.tensor ? result : n + result) / nd_roof_on.lanes;
    if (type.tensor) t.tensor = (double)call.blocks * 2 * 128 * n * 32 / (type.tensor * nd_roof_on.mma_sync);
    const double stores = n / (integers ? 32 : 64 / size); /* of 32 lanes */
    t.ends = nd_roof_begin +
             8 * (nd_roof_pixels_found + 2 * (nd_roof_sums + stores * loops.wide)) / nd_roof_on.issue;
    /* Two blocks on a multiprocessor hide each other's ends and barriers (a quarter is left: a guess); one
     * does one half after the other. */
    if (r.blocks > 1)
        t.ends /= 4;
    else
        t.issue += t.tensor;
    const int64_t tiles = nd_separable_tiles(&call);
    t.waves = (double)(nd_roof_ceil(tiles, (int64_t)nd_roof_on.multiprocessors * r.blocks) * r.blocks);
    t.fill = nd_roof_pixels(layer) / (double)(tiles / nd_roof_ceil(layer.no, tile) * 128);
    r.memory_ns = nd_roof_memory_ns(layer, type, (double)(layer.ni * terms * layer.no));
    nd_roof_settle(r);
    return true;
}

/* Launches of the depthwise kernel: rows of one image, or whole images. */
static int64_t nd_roof_pieces(int64_t all, int64_t slice, int64_t height) {
    int64_t pieces = 0;
    for (int64_t first = 0, end = 0; first < all; pieces++) {
        if (first == end) end = first + slice < all ? first + slice : all;
        const int64_t row = first % height, left = end - first;
        if (row == 0 && left >= height)
            first += left / height * height;
        else
            first += left < height - row ? left : height - row;
    }
    return pieces;
}

/* The depthwise kernel. Instructions of a warp for a pixel of 32 pairs of channels with one, two and three
 * terms (of 16 bits, of 32): as nvdisasm shows them, with what copies x and meets the other warps. */
static const double nd_roof_pair[2][3] = {{50, 66, 90}, {51, 68, 88}};

struct nd_roof_slide {
    int64_t registers, shared, blocks;
    double in_flight, once; /* bytes on their way to a multiprocessor; but those that others ask for too */
    double memory_ns, l2_ns, latency_ns, issue_ns, ffma_ns;
};

/* All stages of a block but the one that it reads are on their way. Six rows are read for four. */
static void nd_roof_slide_of(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                             int64_t terms, nd_roof_slide &r) {
    const nd_roof_device &on = nd_roof_on;
    const double size = nd_roof_bytes_of(type), values = nd_roof_pixels(layer) * (double)layer.ni, halo = 1.5,
                 ahead = size > 2 ? 1.0 / 2 : 2.0 / 3;
    nd_cuda_depthwise call = {};
    call.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    call.storage = nd_precision_storage(type.precision);
    call.channels = layer.ni;
    call.terms = layer.ni * terms;
    call.uniform = terms;
    r.registers = nd_roof_registers_of(resources, std::string("_Z18nd_depthwise_slideI") + type.element +
                                                      "Li3ELi1ELi" + std::to_string(terms) + "E");
    r.shared = (int64_t)nd_cuda_depthwise_shared(&call);
    const int64_t by_registers = nd_roof_registers / (nd_roof_ceil(r.registers, 8) * 8 * 128),
                  by_shared = (on.shared + nd_roof_reserved) / (r.shared + nd_roof_reserved);
    r.blocks = by_registers < by_shared ? by_registers : by_shared;
    r.in_flight = (double)(r.blocks * r.shared) * ahead;
    r.once = r.in_flight / halo;
    const double rows = values / 64, clocks = on.multiprocessors * on.clock / 1e9;
    r.memory_ns = 1e9 * values * size * (double)(1 + terms) / on.memory;
    r.l2_ns = values * size * (halo + (double)terms) / (on.l2 * clocks);
    r.latency_ns = nd_roof_latency * values * size * halo / (r.in_flight * on.multiprocessors);
    r.issue_ns = rows * nd_roof_pair[size > 2][terms - 1] / on.issue / clocks;
    r.ffma_ns = rows * 18 * (double)terms * 32 / on.lanes / clocks;
}

static void nd_roof_print_slide(const nd_roof_layer &layer, const nd_roof_type &type, int64_t terms,
                                const nd_roof_slide &r) {
    const double ns[] = {r.memory_ns, r.l2_ns, r.latency_ns, r.issue_ns, r.ffma_ns};
    const char *const names[] = {"memory", "l2", "latency", "issue", "ffma"};
    int most = 0;
    for (int i = 1; i < 5; i++)
        if (ns[i] > ns[most]) most = i;
    printf("%s,%s,%d,%d,%d,%d,%.0f,%.0f,%.0f,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%s\n", layer.name,
           nd_precision_name(type.precision), (int)terms, (int)r.registers, (int)r.shared, (int)r.blocks,
           r.in_flight, r.once, nd_roof_on.memory / nd_roof_on.multiprocessors * nd_roof_latency / 1e9,
           ns[0] / 1e3, ns[1] / 1e3, ns[2] / 1e3, ns[3] / 1e3, ns[4] / 1e3, ns[most] / 1e3, names[most]);
}

/* flop/s of the library's products: of convolutions too, but for Winograd's. */
static double nd_roof_gemm(const nd_roof_type &type) {
    return type.tensor || !strcmp(nd_roof_on.arch, "sm_90a") ? type.dense : type.dense / 1.9;
}

/* Depthwise kernel and the library's GEMM, slices of 1/4 of L2 between: of the shorter of the two
 * halves, half is hidden behind the other. Strict fp32: slices of 1/2, and nothing is hidden, the halves
 * share the pipes. Cut, and tiled, as nd_separable_slice_choose has it; 1 us from slice to slice, in strict
 * fp32 from every launch of the depthwise kernel to the next, which otherwise a GEMM runs beside. A guess
 * throughout. */
static bool nd_roof_chunked(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                            int64_t terms, nd_roof_result &r) {
    const double pixels = nd_roof_pixels(layer), k = (double)(layer.ni * terms),
                 size = nd_roof_bytes_of(type);
    nd_separable_slices cut = {};
    cut.rows = nd_roof_images * layer.size;
    cut.width = layer.size;
    cut.out_channels = layer.no;
    cut.multiprocessors = (int64_t)nd_roof_on.multiprocessors;
    cut.strict = !type.tensor;
    cut.most = (int64_t)(nd_roof_on.l2_bytes / (cut.strict ? 2 : 4) / (k * size * (double)layer.size));
    const int64_t rows = nd_separable_slice_choose(&cut), full = cut.rows / rows, last = cut.rows % rows,
                  slices = nd_roof_ceil(cut.rows, rows);
    const int64_t waves =
        full * nd_separable_slice_waves(&cut, rows) + (last ? nd_separable_slice_waves(&cut, last) : 0);
    const double tile = 2 * nd_separable_slice_pixels * (double)nd_separable_slice_channels(&cut) * k;
    double product = 1e9 * (double)waves * nd_roof_on.multiprocessors * tile / nd_roof_gemm(type);
    if (layer.no < 128) product *= (double)layer.no / 128; /* narrower tiles of the same rate */
    const double between =
        1e9 * pixels * k * size / (nd_roof_on.l2 * nd_roof_on.multiprocessors * nd_roof_on.clock);
    nd_roof_slide slide;
    nd_roof_slide_of(resources, layer, type, terms, slide);
    const double depthwise = fmax(fmax(slide.issue_ns, slide.ffma_ns), fmax(slide.l2_ns, slide.latency_ns)),
                 gemm = fmax(product, between);
    const double hidden = type.tensor && slices > 1 ? 0.5 * fmin(gemm, depthwise) : 0;
    r.kernel = "chunked";
    r.patch = std::to_string(slices) + " slices";
    r.memory_ns = nd_roof_memory_ns(layer, type, k * (double)layer.no);
    r.binds = gemm > depthwise ? "gemm" : "depthwise";
    r.reach_ns = gemm + depthwise - hidden;
    if (r.memory_ns > r.reach_ns) r.reach_ns = r.memory_ns, r.binds = "memory";
    const int64_t steps = type.tensor ? slices : nd_roof_pieces(cut.rows, rows, layer.size);
    r.reach_ns += nd_roof_start + 1000 * (double)steps;
    r.bound_ns = r.reach_ns;
    return true;
}

static void nd_roof_print(const nd_roof_layer &layer, const nd_roof_type &type, int64_t terms,
                          const nd_roof_result &r) {
    const double us = r.tile.waves / (nd_roof_on.clock / 1e6), dense = nd_roof_dense_ns(layer, type);
    printf("%s,%s,%d,%s,%s,%d,%d,%d,%.3g,%.3f,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%s,%.1f,%.2f\n",
           layer.name, nd_precision_name(type.precision), (int)terms, r.kernel.c_str(), r.patch.c_str(),
           (int)r.registers, (int)r.shared_bytes, (int)r.blocks, r.tile.waves, r.tile.fill, r.memory_ns / 1e3,
           us * r.tile.l2, us * r.tile.shared, us * r.tile.issue, us * r.tile.ffma, us * r.tile.tensor,
           us * r.tile.ends, r.reach_ns / 1e3, r.binds.c_str(), dense / 1e3, dense / r.reach_ns);
}

/* Times of a stack, each layer run by the best of its candidates, dense among them: of fused kernels, of
 * all; and of all were they bound by nothing but one resource.
 *   The last is the most that warps of their own for the producing half of the sm_90a kernel could
 * bring. They move the same bytes and issue the same instructions, beside products that already run in
 * the background, so all that they can hide is ends and what the binding resource idles, which is taken
 * as a tenth: in fp16 2.29 instead of 2.01 at T = 2 and 1.86 instead of 1.62 at T = 3. Of the 65536
 * registers two warpgroups with 128 sums a thread hold 168 each; beside them and the thread that copies,
 * 256 producers would have 68, where three terms take 78 for filters, window and sums alone. One
 * warpgroup would have 136, and half of the warps that hide the latency of shared memory today. Whether
 * the tenth is there to be had only a device can tell, so the kernel stays as it is until one has. */
struct nd_roof_sum {
    double dense = 0, fused = 0, all = 0, bound = 0;
};

/* All candidates to run the layer, printed and added. */
static void nd_roof_best(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                         int64_t terms, nd_roof_sum &sum) {
    const double dense = nd_roof_dense_ns(layer, type);
    double fused = dense, all = dense, bound = dense;
    std::vector<nd_roof_result> results;
    const auto take = [&](bool there, const nd_roof_result &r) {
        if (there) results.push_back(r);
    };
    for (int64_t tile : {64, 128, 256}) {
        nd_roof_result mma;
        const bool wanted = tile == 64 ? layer.no <= 64 : tile == 128 ? layer.no > 64 : layer.no > 128;
        if (wanted && (tile < 256 || nd_roof_bytes_of(type) <= 2))
            take(nd_roof_mma(resources, layer, type, terms, tile, mma), mma);
    }
    nd_roof_result wgmma, chunked;
    take(nd_roof_wgmma(resources, layer, type, terms, wgmma), wgmma);
    if (nd_roof_bytes_of(type) > 1) take(nd_roof_chunked(resources, layer, type, terms, chunked), chunked);
    for (const nd_roof_result &r : results) {
        nd_roof_print(layer, type, terms, r);
        if (r.kernel != "chunked") fused = fmin(fused, r.reach_ns);
        all = fmin(all, r.reach_ns);
        bound = fmin(bound, r.bound_ns);
    }
    sum.dense += layer.count * dense;
    sum.fused += layer.count * fused;
    sum.all += layer.count * all;
    sum.bound += layer.count * bound;
}

static void nd_roof_stack(const char *resources) {
    printf("# %s: L2 %.1f TB/s (a guess), memory %.2f TB/s; dense %.0f, %.0f, %.0f Tflop/s, int8 %.0f (a "
           "guess).\n",
           nd_roof_on.name, nd_roof_on.l2 * nd_roof_on.multiprocessors * nd_roof_on.clock / 1e12,
           nd_roof_on.memory / 1e12, nd_roof_on.types[0].dense / 1e12, nd_roof_on.types[1].dense / 1e12,
           nd_roof_on.types[2].dense / 1e12, nd_roof_on.types[3].dense / 1e12);
    printf("layer,dtype,T,kernel,patch,registers,shared_bytes,blocks_per_sm,waves,pixel_fill,memory_us,l2_us,"
           "shared_us,issue_us,ffma_us,tensor_us,ends_us,reach_us,binds,dense_us,dense_over_reach\n");
    for (const nd_roof_type &type : nd_roof_on.types)
        for (int64_t terms : {2, 3}) {
            nd_roof_sum sum;
            for (const nd_roof_layer &layer : nd_roof_layers)
                nd_roof_best(resources, layer, type, terms, sum);
            const char *const names[] = {"fused or dense", "any or dense", "any were all hidden"};
            const double times[] = {sum.fused, sum.all, sum.bound};
            for (int i = 0; i < 3; i++)
                printf("conv stack,%s,%d,%s,,,,,,,,,,,,,,%.1f,,%.1f,%.2f\n",
                       nd_precision_name(type.precision), (int)terms, names[i], times[i] / 1e3,
                       sum.dense / 1e3, sum.dense / times[i]);
        }
}

static void nd_roof_depthwise(const char *resources) {
    printf(
        "# %s, the depthwise kernel alone: bytes of x on their way to a multiprocessor, those of them that "
        "no "
        "other block asks for, and those that the memory's rate takes at %.0f ns.\n"
        "layer,dtype,T,registers,shared_bytes,blocks_per_sm,in_flight,in_flight_once,wanted,memory_us,l2_us,"
        "latency_us,issue_us,ffma_us,reach_us,binds\n",
        nd_roof_on.name, nd_roof_latency);
    for (const nd_roof_type &type : {nd_roof_on.types[0], nd_roof_on.types[2]})
        for (int64_t terms : {1, 2, 3})
            for (const nd_roof_layer &layer : nd_roof_layers) {
                nd_roof_slide slide;
                nd_roof_slide_of(resources, layer, type, terms, slide);
                nd_roof_print_slide(layer, type, terms, slide);
            }
}

int nd_test_roofline(const char *resources) {
    printf(
        "# Predictions, not measured: nothing here has run on a device. VGG16 without its first convolution, "
        "batch 32. Microseconds by resource: each alone, then what is reached and which of them binds it.\n"
        "# Guesses: 0.9 of the binding resource, 2 us to start a kernel, begins of mma tiles, all of "
        "chunked; "
        "neighbouring lanes that read one filter as one.\n");
    for (const nd_roof_device &device : nd_roof_devices) {
        nd_roof_on = device;
        const std::string first = nd_roof_kernel("_Z19nd_separable_kernelI", device.types[0], 128);
        if (!nd_roof_registers_of(resources, first)) {
            fprintf(stderr, "%s has no figures for %s\n", resources, device.arch);
            return 1;
        }
        nd_roof_stack(resources);
        nd_roof_depthwise(resources);
    }
    return 0;
}
