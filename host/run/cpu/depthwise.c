/* Grouped convolutions whose groups have one input or one output channel, on the depthwise half of the
 * separable kernel. oneDNN has fast kernels only for one input *and* one output.
 *   spread  one input channel a group, T outputs: the merged DW of a dwpw pair;
 *   reduce  T input channels a group, one output: the merged DW of a pwdw pair. Every input channel is one
 *           term; the terms of a group are summed when the tile is written.
 * In int8 an image at a time is centred into fp32, where the sums of integers are as exact.
 * Also the depthwise half alone for the unfused separable plan (separable_alt.c), in whatever order of terms
 * is fastest. */
#include "run/cpu/depthwise.h"

#include "run/quantized.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const nd_sep_isa *nd_cpu_sep_isa(const nd_cpu *cpu, nd_precision precision) {
#if defined(__x86_64__)
    const nd_cpu_level level = cpu->level;
    if (precision == nd_precision_bf16) {
        return level >= nd_cpu_level_avx512_bf16 ? &nd_sep_avx512_bf16 : NULL;
    }
    if (precision == nd_precision_int8) {
        if (level >= nd_cpu_level_avx512_vnni) return &nd_sep_avx512_vnni;
        return level == nd_cpu_level_avx2_vnni ? &nd_sep_avx2_vnni : &nd_sep_scalar_int8;
    }
    if (precision != nd_precision_fp32) return NULL;
    if (level >= nd_cpu_level_avx512) return &nd_sep_avx512;
    return level >= nd_cpu_level_avx2 ? &nd_sep_avx2 : &nd_sep_scalar;
#else
    (void)cpu;
    if (precision == nd_precision_int8) return &nd_sep_scalar_int8;
    return precision == nd_precision_fp32 ? &nd_sep_scalar : NULL;
#endif
}

typedef struct dw_kernel {
    nd_kernel base;
    const nd_sep_isa *isa;
    nd_sep_terms terms;
    nd_view x, x2, y;
    bool residual;
    float *bias;  /* int8: the shift */
    int64_t fold; /* terms summed into one output channel */
    /* int8 (run/quantized.h) */
    bool integers, real; /* y is fp32 */
    nd_requant requant;
    float *factor;
    int32_t x_zero;
    size_t image_bytes; /* of the centred image, before the panels */
    nd_activation activation;
    int64_t tiles;
    size_t panel_bytes;
} dw_kernel;

static bool dw_spread(const nd_work *work) {
    return work->groups == work->x.dims[1];
}

bool nd_cpu_conv_depthwise_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    if (precision == nd_precision_int8) {
        /* 255 * 128 of each product: together no more than fp32 counts exactly. */
        const int64_t products =
            work->x.dims[1] / work->groups * work->window.kernel[0] * work->window.kernel[1];
        if (!nd_quantized_agrees(work, precision) || products > (1 << 24) / (255 * 128)) return false;
    } else if (precision != nd_precision_fp32) {
        return false;
    }
    if (work->groups < 2) return false;
    const bool reduce = work->groups == work->y.dims[1];
    /* Plain depthwise is the library's own ground. */
    if (dw_spread(work) == reduce) return false;
    return nd_cpu_view_channels(&work->x) && nd_cpu_view_pixel(&work->y) > 0 &&
           (!work->residual || nd_cpu_view_pixel(&work->x2) > 0);
}

typedef struct dw_job {
    const dw_kernel *kernel;
    const float *x;
    const char *x2;
    char *y;
    char *panels;
} dw_job;

/* One pixel from its panel row [terms] to y. */
static void dw_write(const dw_kernel *k, const float *panel, const float *x2, float *y) {
    const int64_t no = k->y.dims[1], fold = k->fold;
    if (fold == 1) {
        for (int64_t o = 0; o < no; o++) y[o] = panel[o] + k->bias[o];
    } else if (fold == 2) {
        for (int64_t o = 0; o < no; o++) y[o] = panel[2 * o] + panel[2 * o + 1] + k->bias[o];
    } else {
        for (int64_t o = 0; o < no; o++) {
            float sum = panel[o * fold];
            for (int64_t t = 1; t < fold; t++) sum += panel[o * fold + t];
            y[o] = sum + k->bias[o];
        }
    }
    for (int64_t o = 0; x2 && o < no; o++) y[o] += x2[o];
    nd_cpu_activate(k->activation, no, y);
}

/* The same from sums of integers in fp32; the panel is overwritten. */
ND_CLONES static void dw_requantise(const dw_kernel *k, float *panel, const uint8_t *x2, void *y) {
    const int64_t no = k->y.dims[1], fold = k->fold;
    const nd_requant r = k->requant;
    for (int64_t o = 0; fold > 1 && o < no; o++) {
        float sum = 0;
        for (int64_t t = 0; t < fold; t++) sum += panel[o * fold + t];
        panel[o] = sum;
    }
    for (int64_t o = 0; o < no; o++) panel[o] = fmaf(panel[o], k->factor[o], k->bias[o]);
    for (int64_t o = 0; x2 && o < no; o++) panel[o] = fmaf((float)x2[o], r.x2_factor, panel[o]);
    for (int64_t o = 0; r.leaky && o < no; o++) panel[o] = panel[o] < 0 ? panel[o] * r.slope : panel[o];
    for (int64_t o = 0; o < no; o++) {
        float t = panel[o] + r.zero;
        t = t > r.low ? t : r.low;
        panel[o] = t < r.high ? t : r.high;
    }
    if (k->real) {
        memcpy(y, panel, (size_t)no * sizeof *panel);
    } else {
        for (int64_t o = 0; o < no; o++) ((uint8_t *)y)[o] = (uint8_t)(int32_t)nearbyintf(panel[o]);
    }
}

ND_CLONES static void dw_centre(int64_t n, const uint8_t *from, int32_t zero, float *to) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)(from[i] - zero);
}

typedef struct dw_centre_job {
    const dw_kernel *kernel;
    const uint8_t *x;
    float *centred;
} dw_centre_job;

/* Units are rows of one image. */
static void dw_centre_rows(void *context, int64_t begin, int64_t end, int worker) {
    const dw_centre_job *job = context;
    const dw_kernel *k = job->kernel;
    const int64_t width = k->x.dims[3], channels = k->x.dims[1], step = k->x.strides[3];
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        const uint8_t *x = job->x + row * k->x.strides[2];
        float *to = job->centred + row * width * channels;
        if (step == channels) {
            dw_centre(width * channels, x, k->x_zero, to);
        } else {
            for (int64_t i = 0; i < width; i++)
                dw_centre(channels, x + i * step, k->x_zero, to + i * channels);
        }
    }
}

/* Units are (image, tile). */
static void dw_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const dw_job *job = context;
    const dw_kernel *k = job->kernel;
    const int64_t pixels = k->y.dims[2] * k->y.dims[3], lanes = k->isa->lanes;
    const int64_t depth = k->terms.groups * lanes;
    const int64_t y_pixel = nd_cpu_view_pixel(&k->y), x2_pixel = nd_cpu_view_pixel(&k->x2);
    const int64_t x2_bytes = k->integers ? 1 : sizeof(float),
                  y_bytes = k->integers && !k->real ? 1 : sizeof(float);
    float *panel = (float *)(job->panels + (size_t)worker * k->panel_bytes);
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t image = unit / k->tiles, tile = unit % k->tiles;
        const int64_t from = tile * pixels / k->tiles, to = (tile + 1) * pixels / k->tiles;
        nd_sep_segment segments[nd_sep_mr_max];
        const int n = nd_sep_segments(&k->terms, from, to, segments);
        k->isa->depthwise(&k->terms.depthwise, segments, n, job->x + image * k->terms.x.strides[0], panel,
                          depth, lanes);
        for (int64_t p = from; p < to; p++) {
            float *sums = panel + (p - from) * depth;
            void *y = job->y + (image * k->y.strides[0] + p * y_pixel) * y_bytes;
            const void *x2 = job->x2 ? job->x2 + (image * k->x2.strides[0] + p * x2_pixel) * x2_bytes : NULL;
            if (k->integers)
                dw_requantise(k, sums, x2, y);
            else
                dw_write(k, sums, x2, y);
        }
    }
}

static void dw_run_images(const dw_job *job, int64_t images) {
    const dw_kernel *k = job->kernel;
    const nd_window *g = &k->terms.window;
    nd_parallel_for(images * k->tiles,
                    (int64_t)(k->panel_bytes / sizeof(float)) * g->kernel[0] * g->kernel[1], dw_tiles,
                    (void *)job);
}

static nd_status dw_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const dw_kernel *k = (const dw_kernel *)kernel;
    dw_job job = {.kernel = k,
                  .x = (const float *)buffers->x + k->x.offset,
                  .x2 = k->residual ? (const char *)((const float *)buffers->x2 + k->x2.offset) : NULL,
                  .y = (char *)((float *)buffers->y + k->y.offset),
                  .panels = buffers->workspace};
    dw_run_images(&job, k->y.dims[0]);
    return nd_status_ok;
}

static nd_status dw_run_integers(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const dw_kernel *k = (const dw_kernel *)kernel;
    const int64_t y_bytes = k->real ? sizeof(float) : 1;
    float *centred = buffers->workspace;
    for (int64_t image = 0; image < k->y.dims[0]; image++) {
        dw_centre_job centre = {k, (const uint8_t *)buffers->x + k->x.offset + image * k->x.strides[0],
                                centred};
        nd_parallel_for(k->x.dims[2], k->x.dims[3] * k->x.dims[1], dw_centre_rows, &centre);
        dw_job job = {.kernel = k,
                      .x = centred,
                      .y = (char *)buffers->y + (k->y.offset + image * k->y.strides[0]) * y_bytes,
                      .panels = (char *)buffers->workspace + k->image_bytes};
        if (k->residual) job.x2 = (const char *)buffers->x2 + k->x2.offset + image * k->x2.strides[0];
        dw_run_images(&job, 1);
    }
    return nd_status_ok;
}

static void dw_release(nd_kernel *kernel) {
    dw_kernel *k = (dw_kernel *)kernel;
    nd_sep_terms_free(&k->terms);
    free(k->bias);
    free(k->factor);
    free(k);
}

/* The grouped convolution as terms: one a pair of (input, output) channels, in the order of the weights. */
static nd_status dw_terms(dw_kernel *k, const nd_work *work) {
    const bool spread = dw_spread(work);
    const int64_t terms = spread ? work->y.dims[1] : work->x.dims[1];
    const int64_t each = spread ? terms / work->groups : 1;
    int32_t *channel = nd_alloc_array((size_t)terms, sizeof *channel);
    ND_REQUIRE(channel, nd_status_memory, "conv: no memory for %lld channels", (long long)terms);
    for (int64_t t = 0; t < terms; t++) channel[t] = (int32_t)(t / each);
    nd_work separable = *work;
    separable.terms = terms;
    separable.channel = channel;
    separable.depthwise = work->weights;
    separable.depthwise_scale = NULL; /* the kernel computes in fp32 */
    if (k->integers) separable.x = nd_view_channels_last(4, work->x.dims);
    const nd_status status = nd_sep_terms_build(&separable, k->isa->lanes, nd_sep_in_order, &k->terms);
    free(channel);
    return status;
}

/* What int8 has beside: the image in fp32 and the epilogue. */
static nd_status dw_quantise(dw_kernel *k, const nd_work *work) {
    k->base.run = dw_run_integers;
    k->real = !(work->y_quant.scale > 0);
    k->x_zero = work->x_quant.zero;
    k->image_bytes =
        nd_cpu_round((size_t)(work->x.dims[1] * work->x.dims[2] * work->x.dims[3]) * sizeof(float));
    k->factor = nd_alloc_array((size_t)work->y.dims[1], sizeof *k->factor);
    ND_REQUIRE(k->factor, nd_status_memory, "conv: no memory for the scales");
    k->requant = nd_requant_of(work, k->factor, k->bias, NULL);
    k->base.workspace_bytes += k->image_bytes;
    return nd_status_ok;
}

nd_status nd_cpu_conv_depthwise_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                        nd_kernel **out) {
    nd_status status = nd_status_ok;
    const int64_t no = work->y.dims[1], pixels = work->y.dims[2] * work->y.dims[3];
    dw_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "conv: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = dw_run, .release = dw_release};
    k->isa = nd_cpu_sep_isa(cpu, nd_precision_fp32);
    k->integers = precision == nd_precision_int8;
    k->x = work->x;
    k->x2 = work->residual ? work->x2 : work->y;
    k->y = work->y;
    k->residual = work->residual;
    k->activation = work->activation;
    k->fold = dw_spread(work) ? 1 : work->x.dims[1] / work->groups;
    ND_TRY_DONE(dw_terms(k, work));
    k->bias = nd_alloc_array((size_t)no, sizeof *k->bias);
    ND_REQUIRE_DONE(k->bias, nd_status_memory, "conv: no memory for the bias");
    if (work->bias) memcpy(k->bias, work->bias, (size_t)no * sizeof *k->bias);
    k->tiles = (pixels + k->isa->mr - 1) / k->isa->mr;
    k->panel_bytes = nd_cpu_round((size_t)(k->isa->mr * k->terms.groups * k->isa->lanes) * sizeof(float));
    k->base.workspace_bytes = k->panel_bytes * (size_t)cpu->threads;
    if (k->integers) ND_TRY_DONE(dw_quantise(k, work));
    snprintf(k->base.engine, sizeof k->base.engine, "nd:depthwise:%s", k->isa->name);
    *out = &k->base;
done:
    if (status) dw_release(&k->base);
    return status;
}

typedef struct dw_image_job {
    const nd_sep_isa *isa;
    const nd_sep_terms *terms;
    const float *x;
    float *y;
    int64_t tiles;
} dw_image_job;

static void dw_image_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const dw_image_job *job = context;
    const nd_sep_terms *terms = job->terms;
    const int64_t pixels = terms->height * terms->width, depth = terms->groups * terms->lanes;
    (void)worker;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t image = unit / job->tiles, tile = unit % job->tiles;
        const int64_t from = tile * pixels / job->tiles, to = (tile + 1) * pixels / job->tiles;
        nd_sep_segment segments[nd_sep_mr_max];
        const int n = nd_sep_segments(terms, from, to, segments);
        job->isa->depthwise(&terms->depthwise, segments, n, job->x + image * terms->x.strides[0],
                            job->y + (image * pixels + from) * depth, depth, terms->lanes);
    }
}

void nd_cpu_depthwise_images(const nd_sep_isa *isa, const nd_sep_terms *terms, const float *x, float *y) {
    const int64_t pixels = terms->height * terms->width;
    dw_image_job job = {isa, terms, x, y, (pixels + isa->mr - 1) / isa->mr};
    const int64_t taps = terms->window.kernel[0] * terms->window.kernel[1];
    nd_parallel_for(terms->x.dims[0] * job.tiles, isa->mr * terms->groups * terms->lanes * taps,
                    dw_image_tiles, &job);
}
