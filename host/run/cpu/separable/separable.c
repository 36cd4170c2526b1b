/* Our fused depthwise + pointwise kernel: the driver, for every precision and instruction set but AMX. The
 * templates hold the arithmetic; here elements are bytes.
 *
 * The output pixels of an image are cut into tiles of at most mr. A worker takes a run of tiles, writes the
 * depthwise results of a chunk of them into its panel (kept in L2), then multiplies the panel by one block
 * of pointwise weights after the other, each output leaving the registers once, finished. Threads split the
 * tiles of all images; where there are fewer tiles than threads they split the output channels as well, and
 * the depthwise part, 9 FMAs a term against the channels' count, is done again by each.
 *
 * Every output is one chain of FMAs over the terms in packed order, whatever the tile, chunk or thread: the
 * result has the same bits for any number of threads and any batch. */
#include "run/cpu/depthwise.h"
#include "run/cpu/separable/separable_pointwise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* A panel that stays in L1 is best while the weights, read once a chunk, come from L2. */
    sep_panel_l1_bytes = 16 << 10,
    sep_panel_l2_bytes = 256 << 10,
    sep_weights_bytes = 1 << 20,
    sep_stream_bytes = 4 << 20, /* outputs from here on leave L2 before anyone reads them */
};

typedef struct sep_kernel {
    nd_kernel base;
    const nd_sep_isa *isa;
    nd_sep_terms terms;
    nd_sep_pointwise pointwise; /* weights [blocks][groups * lanes / pack][nr][pack] */
    nd_view x, x2, y;
    bool residual;
    nd_activation activation;
    int64_t y_element; /* bytes */
    bool clamped;      /* the microkernel applies the activation */
    nd_sep_gemm gemm;  /* what all tiles share */
    int64_t blocks, tiles, chunk, splits;
    size_t panel_bytes; /* of one worker */
} sep_kernel;

bool nd_cpu_separable_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    return nd_cpu_sep_isa(cpu, precision) && nd_sep_pointwise_supports(work, precision);
}

static int64_t sep_depth(const sep_kernel *k) {
    return k->terms.groups * k->isa->lanes;
}

/* Element of the packed pointwise weights for a term's place and an output channel. */
static int64_t sep_packed(const sep_kernel *k, int64_t place, int64_t o) {
    const int64_t nr = k->isa->nr, pack = k->isa->pack;
    return ((o / nr * (sep_depth(k) / pack) + place / pack) * nr + o % nr) * pack + place % pack;
}

static nd_status sep_pack(sep_kernel *k, const nd_work *work, nd_precision precision) {
    const nd_sep_isa *isa = k->isa;
    const int64_t no = work->y.dims[1], terms = work->terms;
    ND_TRY(nd_sep_terms_build(work, isa->lanes, isa->deal, &k->terms));
    k->blocks = (no + isa->nr - 1) / isa->nr;
    ND_TRY(nd_sep_pointwise_new(work, precision, k->blocks * isa->nr, sep_depth(k), &k->terms, &k->gemm,
                                &k->pointwise));
    for (int64_t o = 0; o < no; o++) {
        for (int64_t t = 0; t < terms; t++) {
            nd_sep_store_weight(isa->element,
                                k->pointwise.weights + sep_packed(k, k->terms.place[t], o) * isa->element,
                                work->weights[o * terms + t]);
        }
    }
    return nd_status_ok;
}

static void sep_plan_tiles(sep_kernel *k) {
    const int64_t pixels = k->y.dims[2] * k->y.dims[3];
    const int mr = k->isa->mr;
    k->tiles = (pixels + mr - 1) / mr;
    const int64_t tile_bytes = mr * sep_depth(k) * k->isa->element;
    const int64_t weights_bytes = k->blocks * k->isa->nr * sep_depth(k) * k->isa->element;
    k->chunk = (weights_bytes > sep_weights_bytes ? sep_panel_l2_bytes : sep_panel_l1_bytes) / tile_bytes;
    if (k->chunk < 1) k->chunk = 1;
    if (k->chunk > k->tiles) k->chunk = k->tiles;
    k->panel_bytes = nd_cpu_round((size_t)(k->chunk * tile_bytes));
    const int64_t tiles = k->tiles * k->y.dims[0];
    k->splits = 1;
    while (k->splits < k->blocks && tiles * k->splits < k->base.cpu->threads) k->splits++;
}

/* First pixel of a tile: tiles differ by at most one pixel. */
static int64_t sep_tile_begin(const sep_kernel *k, int64_t tile) {
    return tile * (k->y.dims[2] * k->y.dims[3]) / k->tiles;
}

typedef struct sep_job {
    const sep_kernel *kernel;
    const char *x, *x2;
    char *y;
    char *panels;
} sep_job;

/* Where the GEMM of a block shall prefetch: the input rows that `tile`, of the next chunk, is the first to
 * read. Waiting for them in the depthwise half costs more than its arithmetic on planes that do not fit in
 * L2; asked for in a burst they hold the fill buffers that the weights need. So they are spread over as many
 * blocks as it takes, at least the latter half: what comes earlier may be gone from L2 by then. Rows that are
 * new to a tile: as many as the stride; in raster order a tile's part of a row is contiguous. */
static void sep_look_ahead(const sep_kernel *k, const char *image, int64_t tile, int64_t block,
                           int64_t block_end, nd_sep_gemm *gemm) {
    const nd_window *g = &k->terms.window;
    const int64_t stride = g->stride[0], begin = sep_tile_begin(k, tile), width = k->y.dims[3];
    const int64_t words = k->isa->lanes / k->isa->pack, element = k->isa->element;
    const int64_t slots =
        k->terms.groups * (words >= nd_sep_ahead_depth ? words / nd_sep_ahead_depth : 1); /* of one block */
    gemm->ahead = gemm->weights;
    gemm->ahead_step = 0;
    if (tile >= k->tiles || slots == 0) return;
    const int64_t pixels = (sep_tile_begin(k, tile + 1) - begin) * g->stride[1];
    const int64_t bytes = pixels * k->x.strides[3] * element;
    int64_t blocks = (bytes + slots * nd_alignment - 1) / (slots * nd_alignment); /* for one row */
    if (blocks * stride < block_end / 2) blocks = block_end / 2 / stride;
    const int64_t first = block_end - blocks * stride, turn = block - (first > 0 ? first : 0);
    if (turn < 0) return;
    const int64_t row =
        begin / width * stride - g->pad[0] + (g->kernel[0] - 1) * g->dilation[0] - turn / blocks;
    if (row < 0 || row >= k->x.dims[2]) return;
    const int64_t column = begin % width * g->stride[1];
    const int64_t step = (bytes + blocks * slots - 1) / (blocks * slots);
    gemm->ahead =
        image + (row * k->x.strides[2] + column * k->x.strides[3]) * element + turn % blocks * slots * step;
    gemm->ahead_step = step;
}

/* Tiles [begin, end) of one image, output blocks [block_begin, block_end). */
static void sep_chunk(const sep_job *job, int64_t image, int64_t begin, int64_t end, int64_t block_begin,
                      int64_t block_end, char *panel) {
    const sep_kernel *k = job->kernel;
    const nd_sep_isa *isa = k->isa;
    const int64_t element = isa->element, pixel_bytes = sep_depth(k) * element;
    const int64_t base = sep_tile_begin(k, begin);
    const char *x = job->x + image * k->x.strides[0] * element;
    for (int64_t tile = begin; tile < end; tile++) {
        nd_sep_segment segments[nd_sep_mr_max];
        const int64_t from = sep_tile_begin(k, tile), to = sep_tile_begin(k, tile + 1);
        const int n = nd_sep_segments(&k->terms, from, to, segments);
        isa->depthwise(&k->terms.depthwise, segments, n, x, panel + (from - base) * pixel_bytes, isa->lanes,
                       (to - from) * isa->lanes);
    }
    nd_sep_gemm gemm = k->gemm;
    for (int64_t block = block_begin; block < block_end; block++) {
        const int64_t channel = block * isa->nr, left = k->y.dims[1] - channel;
        gemm.columns = (int)(left < isa->nr ? left : isa->nr);
        gemm.weights = k->pointwise.weights + channel * pixel_bytes;
        nd_sep_pointwise_at(&k->pointwise, channel, &gemm);
        for (int64_t tile = begin; tile < end; tile++) {
            const int64_t from = sep_tile_begin(k, tile), to = sep_tile_begin(k, tile + 1);
            const int64_t next = tile + end - begin;
            const int64_t at = image * k->y.strides[0] + from * gemm.y_pixel + channel;
            sep_look_ahead(k, x, next, block - block_begin, block_end - block_begin, &gemm);
            gemm.panel = panel + (from - base) * pixel_bytes;
            gemm.y = job->y + at * k->y_element;
            if (job->x2) {
                gemm.x2 = job->x2 + (image * k->x2.strides[0] + from * gemm.x2_pixel + channel) * element;
            }
            isa->multiply(&gemm, (int)(to - from));
            for (int64_t p = 0; !k->clamped && p < to - from; p++) {
                nd_cpu_activate(k->activation, gemm.columns, (float *)gemm.y + p * gemm.y_pixel);
            }
        }
    }
}

/* Units are (split, image, tile), tile fastest. */
static void sep_body(void *context, int64_t begin, int64_t end, int worker) {
    const sep_job *job = context;
    const sep_kernel *k = job->kernel;
    char *panel = job->panels + (size_t)worker * k->panel_bytes;
    for (int64_t unit = begin; unit < end;) {
        const int64_t tile = unit % k->tiles, image = unit / k->tiles % k->y.dims[0];
        const int64_t split = unit / k->tiles / k->y.dims[0];
        int64_t count = k->tiles - tile < end - unit ? k->tiles - tile : end - unit;
        /* Equal chunks, none above the limit. */
        const int64_t chunks = (count + k->chunk - 1) / k->chunk;
        count = (count + chunks - 1) / chunks;
        sep_chunk(job, image, tile, tile + count, split * k->blocks / k->splits,
                  (split + 1) * k->blocks / k->splits, panel);
        unit += count;
    }
}

/* Writing past the caches spares reading the output's lines first. It needs whole aligned registers, and
 * nobody to touch the output again. */
static bool sep_can_stream(const sep_kernel *k, const char *y) {
    const int64_t element = k->isa->element, register_bytes = k->isa->lanes * element;
    const int64_t plane_bytes = k->y.dims[2] * k->y.dims[3] * k->gemm.y_pixel * element;
    return k->clamped && !k->gemm.real && plane_bytes * k->y.dims[0] >= sep_stream_bytes &&
           (uintptr_t)y % (uintptr_t)register_bytes == 0 && k->gemm.y_pixel % k->isa->lanes == 0 &&
           k->y.strides[0] % k->isa->lanes == 0;
}

static nd_status sep_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    sep_kernel *k = (sep_kernel *)kernel;
    const int64_t element = k->isa->element;
    const sep_job job = {
        .kernel = k,
        .x = (const char *)buffers->x + k->x.offset * element,
        .x2 = k->residual ? (const char *)buffers->x2 + k->x2.offset * element : NULL,
        .y = (char *)buffers->y + k->y.offset * k->y_element,
        .panels = buffers->workspace,
    };
    k->gemm.stream = sep_can_stream(k, job.y);
    /* Products of a tile; those of its depthwise part are fewer. */
    const int64_t cost = k->isa->mr * sep_depth(k) * (k->blocks / k->splits) * k->isa->nr;
    nd_parallel_for(k->splits * k->y.dims[0] * k->tiles, cost, sep_body, (void *)&job);
    return nd_status_ok;
}

static void sep_release(nd_kernel *kernel) {
    sep_kernel *k = (sep_kernel *)kernel;
    nd_sep_terms_free(&k->terms);
    nd_sep_pointwise_free(&k->pointwise);
    free(k);
}

nd_status nd_cpu_separable_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                   nd_kernel **out) {
    nd_status status = nd_status_ok;
    sep_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "separable: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = sep_run, .release = sep_release};
    k->isa = nd_cpu_sep_isa(cpu, precision);
    k->x = work->x;
    k->x2 = work->x2;
    k->y = work->y;
    k->residual = work->residual;
    ND_TRY_DONE(sep_pack(k, work, precision));
    sep_plan_tiles(k);
    k->activation = work->activation;
    k->clamped = precision != nd_precision_fp32 || work->activation.act == nd_act_none ||
                 work->activation.act == nd_act_relu || work->activation.act == nd_act_clip;
    k->y_element = k->gemm.real ? (int64_t)sizeof(float) : k->isa->element;
    k->gemm.groups = k->terms.groups;
    k->gemm.y_pixel = nd_cpu_view_pixel(&k->y);
    k->gemm.x2_pixel = k->residual ? nd_cpu_view_pixel(&k->x2) : 0;
    k->base.workspace_bytes = k->panel_bytes * (size_t)cpu->threads;
    snprintf(k->base.engine, sizeof k->base.engine, "nd:separable:%s", k->isa->name);
    *out = &k->base;
done:
    if (status) sep_release(&k->base);
    return status;
}
