/* Pools over channels-last images: every tap adds or maximises one run of channels. */
#include "run/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { pool_block = 256 }; /* channels held on the stack at once */

typedef struct pool_kernel {
    nd_kernel base;
    nd_view x, y;
    nd_window window;
    bool maximum, count_include_pad, half;
} pool_kernel;

bool nd_cpu_pool_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return (precision == nd_precision_fp32 || precision == nd_precision_bf16) &&
           nd_cpu_view_channels(&work->x) && nd_cpu_view_channels(&work->y);
}

/* The taps of output `position` that lie in [low, high). */
static void pool_taps(const nd_window *g, int axis, int64_t position, int64_t low, int64_t high,
                      int64_t *begin, int64_t *end) {
    const int64_t origin = position * g->stride[axis] - g->pad[axis];
    *begin = 0;
    *end = g->kernel[axis];
    while (*begin < *end && origin + *begin * g->dilation[axis] < low) (*begin)++;
    while (*end > *begin && origin + (*end - 1) * g->dilation[axis] >= high) --*end;
}

/* What an average divides by along one axis. Taps past the declared padding, which ceil mode reaches, never
 * count. */
static int64_t pool_count(const pool_kernel *k, int axis, int64_t position) {
    const nd_window *g = &k->window;
    const int64_t size = k->x.dims[2 + axis];
    int64_t begin, end;
    pool_taps(g, axis, position, k->count_include_pad ? -g->pad[axis] : 0,
              k->count_include_pad ? size + g->pad[axis + 2] : size, &begin, &end);
    return end - begin;
}

ND_CPU_CLONES static void pool_tap(bool maximum, int64_t n, const float *x, float *restrict sum) {
    if (maximum) {
        for (int64_t c = 0; c < n; c++) sum[c] = x[c] > sum[c] ? x[c] : sum[c];
    } else {
        for (int64_t c = 0; c < n; c++) sum[c] += x[c];
    }
}

/* Channels [first, first + n) of one output pixel. */
static void pool_pixel(const pool_kernel *k, const void *image, void *out, int64_t oy, int64_t ox,
                       int64_t first, int64_t n) {
    const nd_window *g = &k->window;
    float sum[pool_block], wide[pool_block];
    int64_t y0, y1, x0, x1;
    pool_taps(g, 0, oy, 0, k->x.dims[2], &y0, &y1);
    pool_taps(g, 1, ox, 0, k->x.dims[3], &x0, &x1);
    for (int64_t c = 0; c < n; c++) sum[c] = k->maximum ? -INFINITY : 0;
    for (int64_t i = y0; i < y1; i++) {
        for (int64_t j = x0; j < x1; j++) {
            const int64_t at = (oy * g->stride[0] - g->pad[0] + i * g->dilation[0]) * k->x.strides[2] +
                               (ox * g->stride[1] - g->pad[1] + j * g->dilation[1]) * k->x.strides[3] + first;
            if (!k->half) {
                pool_tap(k->maximum, n, (const float *)image + at, sum);
                continue;
            }
            for (int64_t c = 0; c < n; c++) wide[c] = nd_bf16_to_f32(((const uint16_t *)image)[at + c]);
            pool_tap(k->maximum, n, wide, sum);
        }
    }
    if (!k->maximum) {
        const int64_t count = pool_count(k, 0, oy) * pool_count(k, 1, ox);
        for (int64_t c = 0; c < n; c++) sum[c] = count ? sum[c] / (float)count : 0;
    }
    if (!k->half) {
        memcpy((float *)out + first, sum, (size_t)n * sizeof *sum);
        return;
    }
    for (int64_t c = 0; c < n; c++) ((uint16_t *)out)[first + c] = nd_f32_to_bf16(sum[c]);
}

typedef struct pool_job {
    const pool_kernel *kernel;
    const char *x;
    char *y;
} pool_job;

/* Units are (image, output row). */
static void pool_rows(void *context, int64_t begin, int64_t end, int worker) {
    const pool_job *job = context;
    const pool_kernel *k = job->kernel;
    const int64_t element = k->half ? 2 : 4, channels = k->y.dims[1];
    (void)worker;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t image = unit / k->y.dims[2], oy = unit % k->y.dims[2];
        const char *x = job->x + (k->x.offset + image * k->x.strides[0]) * element;
        char *row = job->y + (k->y.offset + image * k->y.strides[0] + oy * k->y.strides[2]) * element;
        for (int64_t ox = 0; ox < k->y.dims[3]; ox++) {
            char *out = row + ox * k->y.strides[3] * element;
            for (int64_t c = 0; c < channels; c += pool_block) {
                pool_pixel(k, x, out, oy, ox, c, channels - c < pool_block ? channels - c : pool_block);
            }
        }
    }
}

static nd_status pool_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const pool_kernel *k = (const pool_kernel *)kernel;
    pool_job job = {k, buffers->x, buffers->y};
    nd_parallel_for(k->y.dims[0] * k->y.dims[2],
                    k->y.dims[3] * k->y.dims[1] * k->window.kernel[0] * k->window.kernel[1], pool_rows, &job);
    return nd_status_ok;
}

static void pool_release(nd_kernel *kernel) {
    free(kernel);
}

nd_status nd_cpu_pool_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    pool_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "pool: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = pool_run, .release = pool_release, .engine = "nd:pool"};
    k->x = work->x;
    k->y = work->y;
    k->window = work->window;
    k->maximum = work->maximum;
    k->count_include_pad = work->count_include_pad;
    k->half = precision == nd_precision_bf16;
    *out = &k->base;
    return nd_status_ok;
}
