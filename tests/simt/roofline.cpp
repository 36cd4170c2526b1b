/* What separable layers could reach on an H100, layer by layer of VGG16 at batch 32: for every candidate to
 * run them the clocks of each resource of a multiprocessor, by their real tiles, patches and rounds, and
 * which of them binds. Arithmetic, not measurement; what is a guess is called one. */
#include "cuda/separable/separable_pack.h"
#include "cuda/separable/separable_sm90a.h"
#include "tests/simt/compare.h"

#include <fstream>
#include <math.h>
#include <stdio.h>

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

/* Of the device. Per clock and multiprocessor: bytes from L2 (5.5 TB/s; a guess, 5.5 to 7 are seen), bytes of
 * shared memory, instructions. Rates that large products sustain in the library's kernels, flop/s, and
 * bytes/s of memory. */
static const double nd_roof_clock = 1.755e9, nd_roof_l2 = 23.7, nd_roof_bank = 128, nd_roof_issue = 4,
                    nd_roof_memory = 3.0e12;

/* Guesses: what of the binding resource is really had, the others being busy too; ns that starting a kernel
 * takes. */
static const double nd_roof_overlap = 0.9, nd_roof_start = 2000;

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
    double dense;  /* flop/s of the library's products */
    double tensor; /* flop of wgmma a clock and multiprocessor; 0: none */
};

static const nd_roof_type nd_roof_types[] = {{nd_precision_fp16, "11nd_math_f16", 750e12, 4096},
                                             {nd_precision_tf32, "12nd_math_tf32", 410e12, 2048},
                                             {nd_precision_fp32, "12nd_math_fp32", 47e12, 0}};

static double nd_roof_bytes_of(const nd_roof_type &type) {
    return (double)nd_dtype_bytes(nd_precision_storage(type.precision));
}

static int64_t nd_roof_ceil(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Clocks of every resource for a tile, with the instructions that nothing overlaps beside them; and what
 * surrounds it. */
struct nd_roof_tile {
    double l2, shared, issue, tensor, ends;
    double waves;   /* of tiles, one after the other on the busiest multiprocessor */
    double fill;    /* pixels of tiles that are pixels of the layer */
    double join_ns; /* of sums that are left to another kernel */
};

struct nd_roof_result {
    std::string kernel, patch, binds;
    int64_t registers = 0, shared_bytes = 0, blocks = 0;
    nd_roof_tile tile = {};
    double memory_ns = 0, reach_ns = 0;
};

static double nd_roof_pixels(const nd_roof_layer &layer) {
    return (double)(nd_roof_images * layer.size * layer.size);
}

static double nd_roof_memory_ns(const nd_roof_layer &layer, const nd_roof_type &type, double weights) {
    return 1e9 * nd_roof_bytes_of(type) * (nd_roof_pixels(layer) * (double)(layer.ni + layer.no) + weights) /
           nd_roof_memory;
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
    if (t.tensor > most) most = t.tensor, r.binds = "tensor";
    if (t.shared > most) most = t.shared, r.binds = "shared";
    double clocks = most / nd_roof_overlap + t.ends;
    if (t.l2 / nd_roof_overlap > clocks) clocks = t.l2 / nd_roof_overlap, r.binds = "l2";
    r.reach_ns = 1e9 * t.waves * clocks / nd_roof_clock;
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

/* Registers of an sm_90a kernel in the golden file; 0 when it is not there. */
static int64_t nd_roof_registers_of(const char *path, const char *kernel, const nd_roof_type &type,
                                    int64_t tile) {
    const std::string wanted =
        std::string("sm_90a,") + kernel + type.mangled + "Li" + std::to_string(tile) + "E";
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, wanted.size(), wanted)) continue;
        return std::stoll(line.substr(line.find(',', wanted.size()) + 1));
    }
    return 0;
}

/* The kernel of sm_90a. Instructions of a warp, as nvdisasm shows them: a row of pixels with one, two and
 * three terms, the begin of a run, a round beside them (waits, barriers, products) and what every two terms
 * add (filters) and every term of a second slab (products), 32 channels of a pixel finished (of 16 bits, of
 * 32), what a tile and each of its slabs have of their own. */
static const double nd_roof_row[] = {36, 56, 76}, nd_roof_run = 70, nd_roof_round = 81, nd_roof_filters = 9,
                    nd_roof_products = 8, nd_roof_finish[] = {50, 40}, nd_roof_place = 100, nd_roof_slab = 80;

/* Shared memory: of filters neighbouring lanes read the same, which halves every access (documented for
 * sm_70 and sm_75; that later devices do the same is a guess). */
static void nd_roof_wgmma_round(const nd_cuda_hopper &call, const nd_roof_type &type, int terms,
                                nd_roof_tile &t) {
    const double size = nd_roof_bytes_of(type), n = (double)call.layer.tile, channels = nd_hopper_row / size;
    const int64_t *half = call.layer.patch, abreast = nd_hopper_slab / (int64_t)channels,
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
    const double constants = terms * (n * nd_hopper_row + 9 * channels * 4);
    const double reads = warps * 3 * (double)(rows + 2 * runs) * 64 * size,
                 stores = warps * terms * (double)rows * 64 * size;
    const double filters = warps * 9 * 32 * 8 * terms / 2,
                 operands = terms * 2 * slabs * (nd_hopper_slab + n) * nd_hopper_row;
    t.l2 += (constants / (double)call.cluster + patches) / nd_roof_l2;
    t.shared += (operands + constants + patches + reads + stores + filters) / nd_roof_bank;
    t.issue += warps *
               ((double)rows * nd_roof_row[terms - 1] + (double)runs * nd_roof_run + nd_roof_round +
                nd_roof_filters * (double)nd_roof_ceil(terms, 2) + nd_roof_products * (slabs - 1) * terms) /
               nd_roof_issue;
    t.tensor += 2 * 2 * slabs * nd_hopper_slab * n * terms * channels / type.tensor;
}

/* Tiles of the busiest cluster of blocks, which take all in turn, the whole ones first. Sums that are left to
 * the kernel that joins them are written through L2 with nothing beside, as are that kernel's reads. */
static void nd_roof_wgmma_waves(const nd_roof_layer &layer, const nd_roof_type &type,
                                const nd_cuda_hopper &call, int64_t clusters, nd_roof_tile &t) {
    const nd_cuda_separable &l = call.layer;
    const int64_t at_once = nd_roof_multiprocessors / call.cluster, across = nd_roof_ceil(layer.no, l.tile),
                  whole = call.whole * across, all = whole + (clusters - call.whole) * across * l.split;
    const double share = (double)nd_roof_ceil(l.blocks, l.split) / (double)l.blocks;
    const double sums = 2.0 * (double)(nd_hopper_half(l.tile) * l.tile) * 4, leave = sums / nd_roof_l2;
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
    const double rate = nd_roof_l2 * nd_roof_multiprocessors * nd_roof_clock;
    t.join_ns = nd_roof_start +
                1e9 * (left * (double)l.split / rate + left / 4 * nd_roof_bytes_of(type) / nd_roof_memory);
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
    call.resident = nd_roof_multiprocessors;
    if (!type.tensor || !nd_hopper_plan(&call, nd_roof_shared)) return false;
    const int64_t *half = call.layer.patch, slabs = nd_hopper_half(tile) / nd_hopper_slab;
    const int64_t tiles =
        nd_roof_ceil(nd_roof_ceil(nd_roof_images, half[0]) * nd_roof_ceil(layer.size, half[1]) *
                         nd_roof_ceil(layer.size, half[2]),
                     2);
    r.kernel = "wgmma_n" + std::to_string(tile);
    r.patch = "2x " + nd_roof_patch(half);
    r.registers = nd_roof_registers_of(resources, "_Z16nd_hopper_kernelI", type, tile);
    r.shared_bytes = (int64_t)nd_cuda_hopper_shared(&call);
    r.blocks = 1;
    for (int64_t t = 0, rounds = nd_roof_ceil(terms, nd_hopper_terms); t < terms; rounds--) {
        const int64_t count = nd_roof_ceil(terms - t, rounds);
        for (int64_t b = 0; b < blocks; b++) nd_roof_wgmma_round(call, type, (int)count, r.tile);
        t += count;
    }
    r.tile.ends = 8 *
                  ((double)(slabs * tile / 32) * 2 * nd_roof_finish[nd_roof_bytes_of(type) > 2] +
                   (double)slabs * nd_roof_slab + nd_roof_place) /
                  nd_roof_issue;
    r.tile.l2 += 2 * (double)(nd_hopper_half(tile) * tile) * nd_roof_bytes_of(type) / nd_roof_l2;
    nd_roof_wgmma_waves(layer, type, call, nd_roof_ceil(tiles, call.cluster), r.tile);
    r.tile.fill = nd_roof_pixels(layer) / (double)(tiles * 2 * nd_hopper_half(tile));
    r.memory_ns = nd_roof_memory_ns(layer, type, (double)(layer.ni * terms * layer.no));
    nd_roof_settle(r);
    return r.registers > 0;
}

/* The kernel of sm_80, blocks of 32 terms: instructions of its depthwise loops for three pixels of two terms
 * (both of one channel; of two; of two, one after the other), of a copy of 16 bytes, of a product, and the
 * clocks of a tile's ends (a guess). mma.sync has 0.62 of wgmma's rate. */
static const double nd_roof_same = 100, nd_roof_apart = 121, nd_roof_in_turn = 151, nd_roof_copy = 8,
                    nd_roof_product = 1.3, nd_roof_mma_ends = 8500, nd_roof_mma_sync = 0.62;

static int64_t nd_roof_blocks(nd_cuda_separable &call, int64_t terms) {
    const int64_t slots = nd_separable_terms,
                  align = 16 / (int64_t)nd_dtype_bytes(nd_precision_storage(call.precision));
    int64_t blocks = 0, widest = 0;
    for (int64_t first = 0; first < call.channels * terms; blocks++) {
        const int64_t base = first / terms / align * align;
        const int64_t last = first + slots < call.channels * terms ? first + slots : call.channels * terms;
        if ((last - 1) / terms - base + 1 > widest) widest = (last - 1) / terms - base + 1;
        first = last;
    }
    call.chunks = nd_roof_ceil(widest, align);
    return blocks;
}

static bool nd_roof_mma(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                        int64_t terms, int64_t tile, nd_roof_result &r) {
    nd_cuda_separable call = nd_roof_call(layer, type, tile);
    call.blocks = nd_roof_blocks(call, terms);
    const size_t half = (nd_roof_shared + nd_roof_reserved) / 2 - nd_roof_reserved;
    if (tile == 256 || !nd_separable_patch_choose(&call, half, nd_cuda_separable_shared))
        nd_separable_patch_choose(&call, nd_roof_shared, nd_cuda_separable_shared);
    r.kernel = "mma_n" + std::to_string(tile);
    r.patch = nd_roof_patch(call.patch);
    r.registers = nd_roof_registers_of(resources, "_Z19nd_separable_kernelI", type, tile);
    r.shared_bytes = (int64_t)nd_cuda_separable_shared(&call);
    if (!r.registers) return false;
    const int64_t by_registers =
        nd_roof_registers / (nd_roof_ceil(r.registers, 8) * 8 * nd_separable_threads);
    const int64_t by_shared = (nd_roof_shared + nd_roof_reserved) / (r.shared_bytes + nd_roof_reserved);
    r.blocks = by_registers < by_shared ? by_registers : by_shared;
    const double size = nd_roof_bytes_of(type), n = (double)tile, row = 32 * size;
    const double patch =
        (double)(call.patch[0] * (call.patch[1] + 2) * ((call.patch[2] + 2) | 1) * call.chunks * 16);
    const double stage = n * row + patch + 10 * 32 * 4, windows = terms % 2 ? 2 : 1;
    const double loop = terms % 2 ? (tile > 128 ? nd_roof_apart : nd_roof_in_turn) : nd_roof_same;
    const double runs = 128 * 16 / 32 * 1.25; /* rows of pixels that warps make, with the begins of runs */
    const double products = 2 * 128 * n * 32 / (type.tensor ? 4096 * size / 2 : 64);
    nd_roof_tile &t = r.tile;
    t.l2 = (double)call.blocks * stage / nd_roof_l2 + 128 * n * size / nd_roof_l2;
    t.shared = (double)call.blocks * (stage + 8 * (32 + n / 2) * row + 128 * row * 2) / nd_roof_bank +
               (double)call.blocks * runs * 3 * windows;
    t.issue = (double)call.blocks *
              (runs * loop / 3 + stage / 512 * nd_roof_copy + products * nd_roof_product) / nd_roof_issue;
    t.tensor = type.tensor ? (double)call.blocks * 2 * 128 * n * 32 / (type.tensor * nd_roof_mma_sync)
                           : (double)call.blocks * 128 * 32 * (n + 9) / 128;
    /* Two blocks on a multiprocessor hide each other's ends and barriers; one does one half after the other.
     */
    if (r.blocks > 1)
        t.ends = nd_roof_mma_ends / 4;
    else {
        t.issue += t.tensor;
        t.ends = nd_roof_mma_ends;
    }
    const int64_t tiles = nd_separable_tiles(&call);
    t.waves = (double)(nd_roof_ceil(tiles, nd_roof_multiprocessors * r.blocks) * r.blocks);
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

/* Depthwise kernel and the library's GEMM, slices of 1/4 of L2 (50 MB) between: of the shorter of the two
 * halves, half is hidden behind the other. Strict fp32: slices of 1/2, and nothing is hidden, the halves
 * share the pipes. Cut, and tiled, as nd_separable_slice_choose has it; 1 us from slice to slice, in strict
 * fp32 from every launch of the depthwise kernel to the next, which otherwise a GEMM runs beside. A guess
 * throughout. */
static bool nd_roof_chunked(const nd_roof_layer &layer, const nd_roof_type &type, int64_t terms,
                            nd_roof_result &r) {
    const double pixels = nd_roof_pixels(layer), k = (double)(layer.ni * terms),
                 size = nd_roof_bytes_of(type);
    nd_separable_slices cut = {};
    cut.rows = nd_roof_images * layer.size;
    cut.width = layer.size;
    cut.out_channels = layer.no;
    cut.multiprocessors = nd_roof_multiprocessors;
    cut.strict = !type.tensor;
    cut.most = (int64_t)((cut.strict ? 25e6 : 12.5e6) / (k * size * (double)layer.size));
    const int64_t rows = nd_separable_slice_choose(&cut), full = cut.rows / rows, last = cut.rows % rows,
                  slices = nd_roof_ceil(cut.rows, rows);
    const int64_t waves =
        full * nd_separable_slice_waves(&cut, rows) + (last ? nd_separable_slice_waves(&cut, last) : 0);
    const double tile = 2 * nd_separable_slice_pixels * (double)nd_separable_slice_channels(&cut) * k;
    double product = 1e9 * (double)(waves * nd_roof_multiprocessors) * tile / type.dense;
    if (layer.no < 128) product *= (double)layer.no / 128;          /* narrower tiles of the same rate */
    const double clocks = pixels * k / 2 / 32 * 27 / nd_roof_issue; /* 27 instructions a row of two values */
    const double arithmetic = 1e9 * clocks / (nd_roof_multiprocessors * nd_roof_clock);
    const double between = 1e9 * pixels * k * size / (nd_roof_l2 * nd_roof_multiprocessors * nd_roof_clock);
    const double depthwise = fmax(arithmetic, between), gemm = fmax(product, between);
    const double hidden = type.tensor && slices > 1 ? 0.5 * fmin(gemm, depthwise) : 0;
    r.kernel = "chunked";
    r.patch = std::to_string(slices) + " slices";
    r.memory_ns = nd_roof_memory_ns(layer, type, k * (double)layer.no);
    r.binds = gemm > depthwise ? "gemm" : "depthwise";
    r.reach_ns = gemm + depthwise - hidden;
    if (r.memory_ns > r.reach_ns) r.reach_ns = r.memory_ns, r.binds = "memory";
    const int64_t steps = type.tensor ? slices : nd_roof_pieces(cut.rows, rows, layer.size);
    r.reach_ns += nd_roof_start + 1000 * (double)steps;
    return true;
}

static void nd_roof_print(const nd_roof_layer &layer, const nd_roof_type &type, int64_t terms,
                          const nd_roof_result &r) {
    const double us = r.tile.waves / (nd_roof_clock / 1e6), dense = nd_roof_dense_ns(layer, type);
    printf("%s,%s,%d,%s,%s,%d,%d,%d,%.3g,%.3f,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%s,%.1f,%.2f\n", layer.name,
           nd_precision_name(type.precision), (int)terms, r.kernel.c_str(), r.patch.c_str(), (int)r.registers,
           (int)r.shared_bytes, (int)r.blocks, r.tile.waves, r.tile.fill, r.memory_ns / 1e3, us * r.tile.l2,
           us * r.tile.shared, us * r.tile.issue, us * r.tile.tensor, us * r.tile.ends, r.reach_ns / 1e3,
           r.binds.c_str(), dense / 1e3, dense / r.reach_ns);
}

/* All candidates to run the layer, printed; adds the times of the best fused kernel and of the best of all,
 * either of which may be dense. */
static void nd_roof_best(const char *resources, const nd_roof_layer &layer, const nd_roof_type &type,
                         int64_t terms, double &fused, double &all) {
    double best[2] = {nd_roof_dense_ns(layer, type), nd_roof_dense_ns(layer, type)};
    std::vector<nd_roof_result> results;
    const auto take = [&](bool there, const nd_roof_result &r) {
        if (there) results.push_back(r);
    };
    for (int64_t tile : {64, 128, 256}) {
        nd_roof_result mma;
        const bool wanted = tile == 64 ? layer.no <= 64 : tile == 128 ? layer.no > 64 : layer.no > 128;
        if (wanted && (tile < 256 || nd_roof_bytes_of(type) == 2))
            take(nd_roof_mma(resources, layer, type, terms, tile, mma), mma);
    }
    nd_roof_result wgmma, chunked;
    take(nd_roof_wgmma(resources, layer, type, terms, wgmma), wgmma);
    take(nd_roof_chunked(layer, type, terms, chunked), chunked);
    for (const nd_roof_result &r : results) {
        nd_roof_print(layer, type, terms, r);
        if (r.reach_ns < best[0] && r.kernel != "chunked") best[0] = r.reach_ns;
        if (r.reach_ns < best[1]) best[1] = r.reach_ns;
    }
    fused += layer.count * best[0];
    all += layer.count * best[1];
}

int nd_test_roofline(const char *resources) {
    printf("# Predictions, not measured: nothing here has run on a device. H100, VGG16 without its first "
           "convolution, batch "
           "32. Microseconds by resource: each alone, then what is reached and which of them binds it.\n"
           "# Guesses: L2 5.5 TB/s, 0.9 of the binding resource, 2 us to start a kernel, ends of mma tiles, "
           "all of chunked; "
           "neighbouring lanes that read one filter as one. Dense: 750, 410, 47 Tflop/s and 3.0 TB/s.\n"
           "layer,dtype,T,kernel,patch,registers,shared_bytes,blocks_per_sm,waves,pixel_fill,memory_us,l2_us,"
           "shared_us,"
           "issue_us,tensor_us,ends_us,reach_us,binds,dense_us,dense_over_reach\n");
    if (!nd_roof_registers_of(resources, "_Z16nd_hopper_kernelI", nd_roof_types[0], 256)) {
        fprintf(stderr, "%s has no figures for the kernel of sm_90a\n", resources);
        return 1;
    }
    for (const nd_roof_type &type : nd_roof_types)
        for (int64_t terms : {2, 3}) {
            double dense = 0, fused = 0, all = 0;
            for (const nd_roof_layer &layer : nd_roof_layers) {
                dense += layer.count * nd_roof_dense_ns(layer, type);
                nd_roof_best(resources, layer, type, terms, fused, all);
            }
            const char *const name = nd_precision_name(type.precision);
            printf("conv stack,%s,%d,fused or dense,,,,,,,,,,,,,%.1f,,%.1f,%.2f\n", name, (int)terms,
                   fused / 1e3, dense / 1e3, dense / fused);
            printf("conv stack,%s,%d,any or dense,,,,,,,,,,,,,%.1f,,%.1f,%.2f\n", name, (int)terms, all / 1e3,
                   dense / 1e3, dense / all);
        }
    return 0;
}
