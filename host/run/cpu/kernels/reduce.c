/* Operations that mix channels or pixels of channels-last images: the mean over a plane, and LRN. */
#include "run/cpu/cpu.h"

#include <math.h>
#include <stdlib.h>

typedef struct reduce_kernel {
    nd_kernel base;
    nd_view x, y;
    int64_t size;
    float alpha, beta, k;
} reduce_kernel;

typedef struct reduce_job {
    const reduce_kernel *kernel;
    const float *x;
    float *y;
} reduce_job;

static void reduce_release(nd_kernel *kernel) {
    free(kernel);
}

static nd_status reduce_prepare(nd_cpu *cpu, const nd_work *work, const char *engine,
                                nd_status (*run)(nd_kernel *, const nd_cpu_buffers *), nd_kernel **out) {
    reduce_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "%s: no memory for the kernel", engine);
    k->base = (nd_kernel){.cpu = cpu, .run = run, .release = reduce_release};
    for (size_t i = 0; i + 1 < sizeof k->base.engine && engine[i]; i++) k->base.engine[i] = engine[i];
    k->x = work->x;
    k->y = work->y;
    k->size = work->size;
    k->alpha = work->alpha;
    k->beta = work->beta;
    k->k = work->k;
    *out = &k->base;
    return nd_status_ok;
}

bool nd_cpu_mean_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return precision == nd_precision_fp32 && work->reduction == nd_reduction_mean && work->x.rank == 4 &&
           !work->axes[0] && !work->axes[1] && work->axes[2] && work->axes[3] &&
           nd_cpu_view_pixel(&work->x) > 0 && nd_cpu_view_channels(&work->y) && nd_view_count(&work->x) > 0;
}

enum { mean_block = 64 }; /* channels a unit */

/* Units are (image, block of channels); sums in fp64. */
static void mean_units(void *context, int64_t begin, int64_t end, int worker) {
    const reduce_job *job = context;
    const reduce_kernel *k = job->kernel;
    const int64_t channels = k->x.dims[1], pixels = k->x.dims[2] * k->x.dims[3];
    const int64_t step = nd_cpu_view_pixel(&k->x), blocks = (channels + mean_block - 1) / mean_block;
    (void)worker;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t image = unit / blocks, first = unit % blocks * mean_block;
        const int64_t n = channels - first < mean_block ? channels - first : mean_block;
        const float *x = job->x + k->x.offset + image * k->x.strides[0] + first;
        float *y = job->y + k->y.offset + image * k->y.strides[0] + first;
        double sum[mean_block] = {0};
        for (int64_t p = 0; p < pixels; p++) {
            for (int64_t c = 0; c < n; c++) sum[c] += x[p * step + c];
        }
        for (int64_t c = 0; c < n; c++) y[c] = (float)(sum[c] / (double)pixels);
    }
}

static nd_status mean_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const reduce_kernel *k = (const reduce_kernel *)kernel;
    reduce_job job = {k, buffers->x, buffers->y};
    nd_parallel_for(k->x.dims[0] * ((k->x.dims[1] + mean_block - 1) / mean_block),
                    mean_block * k->x.dims[2] * k->x.dims[3], mean_units, &job);
    return nd_status_ok;
}

nd_status nd_cpu_mean_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    (void)precision;
    return reduce_prepare(cpu, work, "nd:mean", mean_run, out);
}

bool nd_cpu_lrn_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return precision == nd_precision_fp32 && nd_cpu_view_pixel(&work->x) > 0 &&
           nd_cpu_view_pixel(&work->y) > 0;
}

/* x^-beta; the usual 0.75 without pow. */
static float lrn_power(float x, float beta) {
    return beta == .75f ? 1 / (sqrtf(x) * sqrtf(sqrtf(x))) : powf(x, -beta);
}

/* Units are pixels of all images. */
static void lrn_units(void *context, int64_t begin, int64_t end, int worker) {
    const reduce_job *job = context;
    const reduce_kernel *k = job->kernel;
    const int64_t channels = k->x.dims[1], pixels = k->x.dims[2] * k->x.dims[3];
    const int64_t below = (k->size - 1) / 2, above = k->size / 2;
    const float alpha = k->alpha / (float)k->size;
    (void)worker;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t image = unit / pixels, pixel = unit % pixels;
        const float *x = job->x + k->x.offset + image * k->x.strides[0] + pixel * nd_cpu_view_pixel(&k->x);
        float *y = job->y + k->y.offset + image * k->y.strides[0] + pixel * nd_cpu_view_pixel(&k->y);
        for (int64_t c = 0; c < channels; c++) {
            const int64_t low = c > below ? c - below : 0;
            const int64_t high = c + above < channels ? c + above : channels - 1;
            float sum = 0;
            for (int64_t i = low; i <= high; i++) sum += x[i] * x[i];
            y[c] = x[c] * lrn_power(k->k + alpha * sum, k->beta);
        }
    }
}

static nd_status lrn_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const reduce_kernel *k = (const reduce_kernel *)kernel;
    reduce_job job = {k, buffers->x, buffers->y};
    nd_parallel_for(k->x.dims[0] * k->x.dims[2] * k->x.dims[3], k->x.dims[1] * (k->size + 8), lrn_units,
                    &job);
    return nd_status_ok;
}

nd_status nd_cpu_lrn_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    (void)precision;
    return reduce_prepare(cpu, work, "nd:lrn", lrn_run, out);
}
