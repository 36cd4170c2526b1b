/* The fused separable kernel on AMX, in bf16 and int8: the driver. As separable.c, with the tile's result
 * passing through 4 KiB of sums on its way to y. A product takes the tiles far longer than its instructions
 * take the processor: meanwhile the block before it is finished, and the next tile's depthwise half runs.
 *
 * The same with patches of the image in the panel is a regular convolution: those of few input channels, the
 * first ones of networks, where oneDNN multiplies mostly zeros. The image is copied into a frame of its
 * padding first, so that a row of a patch is adjacent and always there. */
#include "run/cpu/separable/separable_pointwise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { tiled_out_bytes = nd_sep_amx_pixels * nd_sep_amx_columns * sizeof(float), tiled_tile_bytes = 1024 };

typedef struct tiled_kernel {
    nd_kernel base;
    const nd_sep_amx *amx;
    nd_sep_terms terms;
    nd_sep_pointwise pointwise;
    nd_view x, x2, y;
    bool residual;
    nd_sep_gemm gemm;
    int64_t steps, blocks, tiles;
    int64_t panel_pixel; /* elements; off powers of two, so that rows spread over the sets of L1 */
    int64_t y_element;   /* bytes */
    size_t worker_bytes; /* panel and result of one worker */
    /* Convolutions by patches: the frames, [image][height][width][channels], come after the workers' own. */
    bool by_patches;
    nd_sep_patches patches;
    nd_window window;
    int64_t frame_height, frame_width;
    int frame_zero; /* a byte of the padding */
} tiled_kernel;

static const nd_sep_amx *tiled_amx(const nd_cpu *cpu, nd_precision precision) {
    if (cpu->level != nd_cpu_level_amx) return NULL;
    if (precision == nd_precision_int8) return &nd_sep_amx_int8;
    return precision == nd_precision_bf16 ? &nd_sep_amx_bf16 : NULL;
}

bool nd_cpu_separable_tiled_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    return tiled_amx(cpu, precision) && nd_sep_pointwise_supports(work, precision);
}

/* Byte of the packed pointwise weights for a term's place and an output channel. */
static int64_t tiled_packed(const tiled_kernel *k, int64_t place, int64_t o) {
    const int64_t block = o / nd_sep_amx_columns, column = o % nd_sep_amx_columns;
    const int64_t depth = k->amx->depth, pack = 4 / k->amx->element;
    const int64_t step = place / depth, term = place % depth;
    const int64_t tile = ((block * k->steps + step) * 2 + column / 16) * tiled_tile_bytes;
    return tile + (term / pack * 16 * pack + column % 16 * pack + term % pack) * k->amx->element;
}

static nd_status tiled_pack(tiled_kernel *k, const nd_work *work, nd_precision precision) {
    const int64_t no = work->y.dims[1], terms = work->terms, depth = k->amx->depth;
    ND_TRY(nd_sep_terms_build(work, 16, k->amx->deal, &k->terms));
    k->steps = (k->terms.groups * 16 + depth - 1) / depth;
    k->blocks = (no + nd_sep_amx_columns - 1) / nd_sep_amx_columns;
    ND_TRY(nd_sep_pointwise_new(work, precision, k->blocks * nd_sep_amx_columns, k->steps * depth, &k->terms,
                                &k->gemm, &k->pointwise));
    for (int64_t o = 0; o < no; o++) {
        for (int64_t t = 0; t < terms; t++) {
            nd_sep_store_weight(k->amx->element, k->pointwise.weights + tiled_packed(k, k->terms.place[t], o),
                                work->weights[o * terms + t]);
        }
    }
    return nd_status_ok;
}

typedef struct tiled_job {
    const tiled_kernel *kernel;
    const char *x, *x2;
    char *y;
    char *workspace, *frames;
} tiled_job;

static int64_t tiled_frame_row(const tiled_kernel *k) {
    return k->frame_width * k->x.dims[1] * k->amx->element;
}

/* Units are rows of the frames of all images. */
static void tiled_frame_rows(void *context, int64_t begin, int64_t end, int worker) {
    const tiled_job *job = context;
    const tiled_kernel *k = job->kernel;
    const int64_t element = k->amx->element, pixel = k->x.dims[1] * element, row_bytes = tiled_frame_row(k);
    const int64_t left = k->window.pad[1], room = k->frame_width - left;
    const int64_t count = k->x.dims[3] < room ? k->x.dims[3] : room;
    (void)worker;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t image = unit / k->frame_height, row = unit % k->frame_height - k->window.pad[0];
        char *to = job->frames + unit * row_bytes;
        const bool inside = row >= 0 && row < k->x.dims[2] && count > 0;
        memset(to, k->frame_zero, (size_t)(inside ? left * pixel : row_bytes));
        if (!inside) continue;
        to += left * pixel;
        const char *x = job->x + (image * k->x.strides[0] + row * k->x.strides[2]) * element;
        if (k->x.strides[3] == k->x.dims[1]) memcpy(to, x, (size_t)(count * pixel));
        for (int64_t i = 0; i < count && k->x.strides[3] != k->x.dims[1]; i++)
            memcpy(to + i * pixel, x + i * k->x.strides[3] * element, (size_t)pixel);
        memset(to + count * pixel, k->frame_zero, (size_t)((room - count) * pixel));
    }
}

/* The patches of output pixels [from, to) in raster order. */
static void tiled_patches(const tiled_job *job, int64_t image, int64_t from, int64_t to, char *panel) {
    const tiled_kernel *k = job->kernel;
    const int64_t width = k->y.dims[3], row_bytes = tiled_frame_row(k);
    for (int64_t p = from; p < to;) {
        const int64_t row = p / width, column = p % width;
        const int64_t count = width - column < to - p ? width - column : to - p;
        const char *frame = job->frames + (image * k->frame_height + row * k->window.stride[0]) * row_bytes;
        k->amx->patches(&k->patches, count, frame + column * k->patches.pixel_step,
                        panel + (p - from) * k->patches.panel_pixel);
        p += count;
    }
}

/* A block whose product is in the tiles. */
typedef struct tiled_pending {
    nd_sep_gemm gemm;
    int pixels; /* 0: none */
} tiled_pending;

/* The block that is in the tiles and the one that comes next take turns: a copy of either would wait for its
 * fields to be stored. */
typedef struct tiled_turns {
    tiled_pending block[2];
    int next;
} tiled_turns;

static tiled_pending *tiled_take_turn(tiled_turns *turns) {
    tiled_pending *block = &turns->block[turns->next];
    turns->next = 1 - turns->next;
    return block;
}

/* Starts the next product, where there are weights, as soon as the tiles are free, and finishes the block
 * before it. */
static void tiled_next(const tiled_kernel *k, const char *panel, const char *weights, void *out,
                       tiled_pending *before) {
    if (before->pixels) k->amx->store(out);
    if (weights) k->amx->multiply(panel, k->panel_pixel, weights, k->steps);
    if (before->pixels) k->amx->finish(&before->gemm, before->pixels, out);
    before->pixels = 0;
}

static void tiled_fill(const tiled_job *job, int64_t image, int64_t from, int64_t to, char *panel) {
    const tiled_kernel *k = job->kernel;
    nd_sep_segment segments[nd_sep_mr_max];
    if (k->by_patches) {
        tiled_patches(job, image, from, to, panel);
        return;
    }
    const int n = nd_sep_segments(&k->terms, from, to, segments);
    k->amx->depthwise(&k->terms.depthwise, segments, n, job->x + image * k->x.strides[0] * k->amx->element,
                      panel, k->panel_pixel, 16);
}

static void tiled_tile(const tiled_job *job, int64_t image, int64_t tile, char *panel, void *out,
                       tiled_turns *turns) {
    const tiled_kernel *k = job->kernel;
    const int64_t pixels = k->y.dims[2] * k->y.dims[3], element = k->amx->element;
    const int64_t from = tile * pixels / k->tiles, to = (tile + 1) * pixels / k->tiles;
    tiled_fill(job, image, from, to, panel);
    for (int64_t block = 0; block < k->blocks; block++) {
        const int64_t channel = block * nd_sep_amx_columns, left = k->y.dims[1] - channel;
        tiled_pending *next = tiled_take_turn(turns), *before = &turns->block[turns->next];
        nd_sep_gemm *gemm = &next->gemm;
        gemm->columns = (int)(left < nd_sep_amx_columns ? left : nd_sep_amx_columns);
        nd_sep_pointwise_at(&k->pointwise, channel, gemm);
        const int64_t at = image * k->y.strides[0] + from * gemm->y_pixel + channel;
        gemm->y = job->y + at * k->y_element;
        if (job->x2) {
            gemm->x2 = job->x2 + (image * k->x2.strides[0] + from * gemm->x2_pixel + channel) * element;
        }
        next->pixels = (int)(to - from);
        tiled_next(k, panel, k->pointwise.weights + block * k->steps * 2 * tiled_tile_bytes, out, before);
    }
}

/* Units are (image, tile). */
static void tiled_body(void *context, int64_t begin, int64_t end, int worker) {
    const tiled_job *job = context;
    const tiled_kernel *k = job->kernel;
    char *own = job->workspace + (size_t)worker * k->worker_bytes, *panel = own + tiled_out_bytes;
    /* Rows past a tile's pixels and terms past the last group are multiplied, the first into results nobody
     * reads, the second by zero weights: they only have to be numbers. */
    memset(panel, 0, k->worker_bytes - tiled_out_bytes);
    tiled_turns turns = {.block = {{k->gemm, 0}, {k->gemm, 0}}};
    k->amx->begin();
    for (int64_t unit = begin; unit < end; unit++) {
        tiled_tile(job, unit / k->tiles, unit % k->tiles, panel, own, &turns);
    }
    tiled_next(k, NULL, NULL, own, &turns.block[1 - turns.next]);
    k->amx->end();
}

static nd_status tiled_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const tiled_kernel *k = (const tiled_kernel *)kernel;
    const int64_t element = k->amx->element;
    tiled_job job = {.kernel = k,
                     .x = (const char *)buffers->x + k->x.offset * element,
                     .x2 = k->residual ? (const char *)buffers->x2 + k->x2.offset * element : NULL,
                     .y = (char *)buffers->y + k->y.offset * k->y_element,
                     .workspace = buffers->workspace};
    if (k->by_patches) {
        job.frames = job.workspace + k->worker_bytes * (size_t)k->base.cpu->threads;
        nd_parallel_for(k->y.dims[0] * k->frame_height, tiled_frame_row(k), tiled_frame_rows, &job);
    }
    const int64_t cost = nd_sep_amx_columns * k->amx->depth * k->blocks * k->steps * nd_sep_amx_pixels;
    nd_parallel_for(k->y.dims[0] * k->tiles, cost, tiled_body, &job);
    return nd_status_ok;
}

static void tiled_release(nd_kernel *kernel) {
    tiled_kernel *k = (tiled_kernel *)kernel;
    nd_sep_terms_free(&k->terms);
    nd_sep_pointwise_free(&k->pointwise);
    free(k);
}

/* The kernel for a work, before its weights are packed. */
static tiled_kernel *tiled_new(nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    tiled_kernel *k = nd_alloc_array(1, sizeof *k);
    if (!k) return NULL;
    k->base = (nd_kernel){.cpu = cpu, .run = tiled_run, .release = tiled_release};
    k->amx = tiled_amx(cpu, precision);
    k->x = work->x;
    k->x2 = work->x2;
    k->y = work->y;
    k->residual = work->residual;
    k->tiles = (k->y.dims[2] * k->y.dims[3] + nd_sep_amx_pixels - 1) / nd_sep_amx_pixels;
    return k;
}

/* What follows from how many steps its weights have. */
static void tiled_finish(tiled_kernel *k) {
    k->y_element = k->gemm.real ? (int64_t)sizeof(float) : k->amx->element;
    k->gemm.y_pixel = nd_cpu_view_pixel(&k->y);
    k->gemm.x2_pixel = k->residual ? nd_cpu_view_pixel(&k->x2) : 0;
    k->panel_pixel = k->steps * k->amx->depth + 64 / k->amx->element;
    k->worker_bytes =
        tiled_out_bytes + nd_cpu_round((size_t)(nd_sep_amx_pixels * k->panel_pixel * k->amx->element));
    k->base.workspace_bytes = k->worker_bytes * (size_t)k->base.cpu->threads;
}

/* Above, oneDNN has whole registers of input channels. */
enum { tiled_patch_channels = 8 };

bool nd_cpu_conv_tiled_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    const bool integers = precision == nd_precision_int8;
    if (!tiled_amx(cpu, precision) || work->groups != 1 || work->x.dims[1] > tiled_patch_channels)
        return false;
    if (integers && !(nd_quantized_agrees(work, precision) && work->y_quant.scale > 0)) return false;
    return work->x.rank == 4 && work->window.dilation[1] == 1 && !work->residual &&
           work->window.pad[0] >= 0 && work->window.pad[1] >= 0 &&
           nd_sep_pointwise_takes(work->activation, precision) && nd_cpu_view_channels(&work->x) &&
           nd_cpu_view_pixel(&work->y) > 0;
}

/* Weights [no][ni][kh][kw] in the order of a patch: rows, columns, channels. */
static nd_status tiled_pack_patches(tiled_kernel *k, const nd_work *work, nd_precision precision) {
    const int64_t no = work->y.dims[1], ni = work->x.dims[1], depth = k->amx->depth;
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    k->steps = (taps * ni + depth - 1) / depth;
    k->blocks = (no + nd_sep_amx_columns - 1) / nd_sep_amx_columns;
    ND_TRY(nd_sep_pointwise_of_patches(work, precision, k->blocks * nd_sep_amx_columns, k->steps * depth,
                                       &k->gemm, &k->pointwise));
    for (int64_t o = 0; o < no; o++) {
        for (int64_t i = 0; i < ni * taps; i++) {
            const int64_t place = i % taps * ni + i / taps;
            nd_sep_store_weight(k->amx->element, k->pointwise.weights + tiled_packed(k, place, o),
                                work->weights[o * ni * taps + i]);
        }
    }
    return nd_status_ok;
}

static void tiled_frame(tiled_kernel *k, const nd_work *work) {
    const nd_window *g = &work->window;
    const int64_t pixel = k->x.dims[1] * k->amx->element;
    k->by_patches = true;
    k->window = *g;
    k->frame_height = (k->y.dims[2] - 1) * g->stride[0] + (g->kernel[0] - 1) * g->dilation[0] + 1;
    k->frame_width = (k->y.dims[3] - 1) * g->stride[1] + g->kernel[1];
    k->frame_zero = work->x_quant.zero;
    k->patches = (nd_sep_patches){.rows = g->kernel[0],
                                  .row_bytes = g->kernel[1] * pixel,
                                  .row_step = g->dilation[0] * tiled_frame_row(k),
                                  .pixel_step = g->stride[1] * pixel,
                                  .panel_pixel = k->panel_pixel * k->amx->element};
    k->base.workspace_bytes += (size_t)(k->y.dims[0] * k->frame_height * tiled_frame_row(k));
}

static nd_status tiled_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, bool by_patches,
                               nd_kernel **out) {
    nd_status status = nd_status_ok;
    tiled_kernel *k = tiled_new(cpu, work, precision);
    ND_REQUIRE(k, nd_status_memory, "%s: no memory for the kernel", by_patches ? "conv" : "separable");
    ND_TRY_DONE((by_patches ? tiled_pack_patches : tiled_pack)(k, work, precision));
    tiled_finish(k);
    if (by_patches) tiled_frame(k, work);
    snprintf(k->base.engine, sizeof k->base.engine, by_patches ? "nd:patches:amx" : "nd:separable:amx");
    *out = &k->base;
done:
    if (status) tiled_release(&k->base);
    return status;
}

nd_status nd_cpu_separable_tiled_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                         nd_kernel **out) {
    return tiled_prepare(cpu, work, precision, false, out);
}

nd_status nd_cpu_conv_tiled_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                    nd_kernel **out) {
    return tiled_prepare(cpu, work, precision, true, out);
}
