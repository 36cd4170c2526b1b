/* The fused separable kernel in bf16 on AMX: the driver. As separable.c, with the tile's result passing
 * through 4 KiB of fp32 on its way to y. */
#include "run/cpu/separable/separable_terms.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { bf16_out_bytes = nd_sep_amx_pixels * nd_sep_amx_columns * sizeof(float) };

typedef struct bf16_kernel {
    nd_kernel base;
    nd_sep_terms terms;
    uint16_t *pointwise;
    float *bias;
    nd_view x, x2, y;
    bool residual;
    nd_sep_gemm gemm;
    int64_t steps, blocks, tiles;
    int64_t panel_pixel; /* elements; off powers of two, so that rows spread over the sets of L1 */
    size_t worker_bytes; /* panel and result of one worker */
} bf16_kernel;

static bool bf16_clamp(nd_activation activation, float *low, float *high) {
    *low = activation.act == nd_act_relu ? 0 : -INFINITY;
    *high = INFINITY;
    if (activation.act == nd_act_clip) {
        *low = activation.a;
        *high = activation.b;
    }
    return activation.act == nd_act_none || activation.act == nd_act_relu || activation.act == nd_act_clip;
}

bool nd_cpu_separable_bf16_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    float low, high;
    return precision == nd_precision_bf16 && cpu->level == nd_cpu_level_amx && work->terms > 0 &&
           bf16_clamp(work->activation, &low, &high) && nd_cpu_view_channels(&work->x) &&
           nd_cpu_view_pixel(&work->y) > 0 && (!work->residual || nd_cpu_view_pixel(&work->x2) > 0);
}

/* Element of the packed pointwise weights for a term's place and an output channel. */
static int64_t bf16_packed(const bf16_kernel *k, int64_t place, int64_t o) {
    const int64_t block = o / nd_sep_amx_columns, column = o % nd_sep_amx_columns;
    const int64_t step = place / nd_sep_amx_depth, term = place % nd_sep_amx_depth;
    const int64_t tile = ((block * k->steps + step) * 2 + column / 16) * 512;
    return tile + term / 2 * 32 + column % 16 * 2 + term % 2;
}

static nd_status bf16_pack(bf16_kernel *k, const nd_work *work) {
    const int64_t no = work->y.dims[1], terms = work->terms;
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    ND_TRY(nd_sep_terms_build(work, 16, false, &k->terms));
    for (int64_t i = 0; i < k->terms.groups * 16 * taps; i++) {
        k->terms.weights[i] = nd_bf16_to_f32(nd_f32_to_bf16(k->terms.weights[i]));
    }
    k->steps = (k->terms.groups * 16 + nd_sep_amx_depth - 1) / nd_sep_amx_depth;
    k->blocks = (no + nd_sep_amx_columns - 1) / nd_sep_amx_columns;
    const size_t columns = (size_t)(k->blocks * nd_sep_amx_columns);
    k->pointwise = nd_cpu_alloc(columns, (size_t)(k->steps * nd_sep_amx_depth) * sizeof *k->pointwise);
    k->bias = nd_alloc_array(columns, sizeof *k->bias);
    ND_REQUIRE(k->pointwise && k->bias, nd_status_memory, "separable: no memory for %lldx%lld weights",
               (long long)no, (long long)terms);
    for (int64_t o = 0; o < no; o++) {
        for (int64_t t = 0; t < terms; t++) {
            k->pointwise[bf16_packed(k, k->terms.place[t], o)] = nd_f32_to_bf16(work->weights[o * terms + t]);
        }
    }
    if (work->bias) memcpy(k->bias, work->bias, (size_t)no * sizeof *k->bias);
    return nd_status_ok;
}

typedef struct bf16_job {
    const bf16_kernel *kernel;
    const uint16_t *x, *x2;
    uint16_t *y;
    char *workspace;
} bf16_job;

static void bf16_tile(const bf16_job *job, int64_t image, int64_t tile, uint16_t *panel, float *out) {
    const bf16_kernel *k = job->kernel;
    const int64_t pixels = k->y.dims[2] * k->y.dims[3];
    const int64_t from = tile * pixels / k->tiles, to = (tile + 1) * pixels / k->tiles;
    nd_sep_segment segments[nd_sep_mr_max];
    const int n = nd_sep_segments(&k->terms, from, to, segments);
    nd_sep_amx_bf16.depthwise(&k->terms.depthwise, segments, n, job->x + image * k->x.strides[0], panel,
                              k->panel_pixel, 16);
    nd_sep_gemm gemm = k->gemm;
    for (int64_t block = 0; block < k->blocks; block++) {
        const int64_t channel = block * nd_sep_amx_columns, left = k->y.dims[1] - channel;
        gemm.columns = (int)(left < nd_sep_amx_columns ? left : nd_sep_amx_columns);
        gemm.bias = k->bias + channel;
        nd_sep_amx_bf16.multiply(panel, k->panel_pixel, k->pointwise + channel * k->steps * nd_sep_amx_depth,
                                 k->steps, out);
        const int64_t at = image * k->y.strides[0] + from * gemm.y_pixel + channel;
        const uint16_t *x2 =
            job->x2 ? job->x2 + image * k->x2.strides[0] + from * gemm.x2_pixel + channel : NULL;
        nd_sep_amx_bf16.finish(&gemm, (int)(to - from), out, x2, job->y + at);
    }
}

/* Units are (image, tile). */
static void bf16_body(void *context, int64_t begin, int64_t end, int worker) {
    const bf16_job *job = context;
    const bf16_kernel *k = job->kernel;
    char *own = job->workspace + (size_t)worker * k->worker_bytes;
    uint16_t *panel = (uint16_t *)(own + bf16_out_bytes);
    /* Rows past a tile's pixels and terms past the last group are multiplied, the first into results nobody
     * reads, the second by zero weights: they only have to be numbers. */
    memset(panel, 0, k->worker_bytes - bf16_out_bytes);
    nd_sep_amx_bf16.begin();
    for (int64_t unit = begin; unit < end; unit++) {
        bf16_tile(job, unit / k->tiles, unit % k->tiles, panel, (float *)own);
    }
    nd_sep_amx_bf16.end();
}

static nd_status bf16_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const bf16_kernel *k = (const bf16_kernel *)kernel;
    bf16_job job = {.kernel = k,
                    .x = (const uint16_t *)buffers->x + k->x.offset,
                    .x2 = k->residual ? (const uint16_t *)buffers->x2 + k->x2.offset : NULL,
                    .y = (uint16_t *)buffers->y + k->y.offset,
                    .workspace = buffers->workspace};
    const int64_t cost = nd_sep_amx_columns * nd_sep_amx_depth * k->blocks * k->steps * 32;
    nd_parallel_for(k->y.dims[0] * k->tiles, cost, bf16_body, &job);
    return nd_status_ok;
}

static void bf16_release(nd_kernel *kernel) {
    bf16_kernel *k = (bf16_kernel *)kernel;
    nd_sep_terms_free(&k->terms);
    free(k->pointwise);
    free(k->bias);
    free(k);
}

nd_status nd_cpu_separable_bf16_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                        nd_kernel **out) {
    nd_status status = nd_status_ok;
    bf16_kernel *k = nd_alloc_array(1, sizeof *k);
    (void)precision;
    ND_REQUIRE(k, nd_status_memory, "separable: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = bf16_run, .release = bf16_release};
    k->x = work->x;
    k->x2 = work->x2;
    k->y = work->y;
    k->residual = work->residual;
    ND_TRY_DONE(bf16_pack(k, work));
    bf16_clamp(work->activation, &k->gemm.low, &k->gemm.high);
    k->gemm.y_pixel = nd_cpu_view_pixel(&k->y);
    k->gemm.x2_pixel = k->residual ? nd_cpu_view_pixel(&k->x2) : 0;
    k->tiles = (k->y.dims[2] * k->y.dims[3] + nd_sep_amx_pixels - 1) / nd_sep_amx_pixels;
    k->panel_pixel = k->steps * nd_sep_amx_depth + nd_sep_amx_depth;
    k->worker_bytes =
        bf16_out_bytes + nd_cpu_round((size_t)(nd_sep_amx_pixels * k->panel_pixel) * sizeof(uint16_t));
    k->base.workspace_bytes = k->worker_bytes * (size_t)cpu->threads;
    snprintf(k->base.engine, sizeof k->base.engine, "nd:separable:amx");
    *out = &k->base;
done:
    if (status) bf16_release(&k->base);
    return status;
}
