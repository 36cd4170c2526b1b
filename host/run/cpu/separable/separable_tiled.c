/* The fused separable kernel on AMX, in bf16 and int8: the driver. As separable.c, with the tile's result
 * passing through 4 KiB of sums on its way to y. A product takes the tiles far longer than its instructions
 * take the processor: meanwhile the block before it is finished, and the next tile's depthwise half runs. */
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
    size_t worker_bytes; /* panel and result of one worker */
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
    ND_TRY(nd_sep_terms_build(work, 16, k->amx->wide ? nd_sep_wide_blocks : nd_sep_blocks, &k->terms));
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
    char *workspace;
} tiled_job;

/* A block whose product is in the tiles. */
typedef struct tiled_pending {
    nd_sep_gemm gemm;
    int pixels; /* 0: none */
} tiled_pending;

/* Starts the next product, where there is one, as soon as the tiles are free, and finishes the block before
 * it. */
static void tiled_next(const tiled_kernel *k, const char *panel, const char *weights, void *out,
                       tiled_pending *before, const tiled_pending *next) {
    const tiled_pending last = *before;
    if (last.pixels) k->amx->store(out);
    if (next) k->amx->multiply(panel, k->panel_pixel, weights, k->steps);
    if (last.pixels) k->amx->finish(&last.gemm, last.pixels, out);
    *before = next ? *next : (tiled_pending){0};
}

static void tiled_tile(const tiled_job *job, int64_t image, int64_t tile, char *panel, void *out,
                       tiled_pending *pending) {
    const tiled_kernel *k = job->kernel;
    const int64_t pixels = k->y.dims[2] * k->y.dims[3], element = k->amx->element;
    const int64_t from = tile * pixels / k->tiles, to = (tile + 1) * pixels / k->tiles;
    nd_sep_segment segments[nd_sep_mr_max];
    const int n = nd_sep_segments(&k->terms, from, to, segments);
    k->amx->depthwise(&k->terms.depthwise, segments, n, job->x + image * k->x.strides[0] * element, panel,
                      k->panel_pixel, 16);
    tiled_pending next = {k->gemm, (int)(to - from)};
    nd_sep_gemm *gemm = &next.gemm;
    for (int64_t block = 0; block < k->blocks; block++) {
        const int64_t channel = block * nd_sep_amx_columns, left = k->y.dims[1] - channel;
        gemm->columns = (int)(left < nd_sep_amx_columns ? left : nd_sep_amx_columns);
        nd_sep_pointwise_at(&k->pointwise, channel, gemm);
        const int64_t at = image * k->y.strides[0] + from * gemm->y_pixel + channel;
        gemm->y = job->y + at * element;
        if (job->x2) {
            gemm->x2 = job->x2 + (image * k->x2.strides[0] + from * gemm->x2_pixel + channel) * element;
        }
        tiled_next(k, panel, k->pointwise.weights + block * k->steps * 2 * tiled_tile_bytes, out, pending,
                   &next);
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
    tiled_pending pending = {0};
    k->amx->begin();
    for (int64_t unit = begin; unit < end; unit++) {
        tiled_tile(job, unit / k->tiles, unit % k->tiles, panel, own, &pending);
    }
    tiled_next(k, NULL, NULL, own, &pending, NULL);
    k->amx->end();
}

static nd_status tiled_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const tiled_kernel *k = (const tiled_kernel *)kernel;
    const int64_t element = k->amx->element;
    tiled_job job = {.kernel = k,
                     .x = (const char *)buffers->x + k->x.offset * element,
                     .x2 = k->residual ? (const char *)buffers->x2 + k->x2.offset * element : NULL,
                     .y = (char *)buffers->y + k->y.offset * element,
                     .workspace = buffers->workspace};
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

nd_status nd_cpu_separable_tiled_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                         nd_kernel **out) {
    nd_status status = nd_status_ok;
    tiled_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "separable: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = tiled_run, .release = tiled_release};
    k->amx = tiled_amx(cpu, precision);
    k->x = work->x;
    k->x2 = work->x2;
    k->y = work->y;
    k->residual = work->residual;
    ND_TRY_DONE(tiled_pack(k, work, precision));
    k->gemm.y_pixel = nd_cpu_view_pixel(&k->y);
    k->gemm.x2_pixel = k->residual ? nd_cpu_view_pixel(&k->x2) : 0;
    k->tiles = (k->y.dims[2] * k->y.dims[3] + nd_sep_amx_pixels - 1) / nd_sep_amx_pixels;
    k->panel_pixel = k->steps * k->amx->depth + 64 / k->amx->element;
    k->worker_bytes =
        tiled_out_bytes + nd_cpu_round((size_t)(nd_sep_amx_pixels * k->panel_pixel * k->amx->element));
    k->base.workspace_bytes = k->worker_bytes * (size_t)cpu->threads;
    snprintf(k->base.engine, sizeof k->base.engine, "nd:separable:amx");
    *out = &k->base;
done:
    if (status) tiled_release(&k->base);
    return status;
}
