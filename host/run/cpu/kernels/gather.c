/* Gather of channels, channels adjacent: every pixel of y picks from the same pixel of x. Nothing is
 * computed, so both precisions copy bits. */
#include "run/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct gather_kernel {
    nd_kernel base;
    nd_view x, y;
    int32_t *channel; /* owned, one for each channel of y */
    bool half;
} gather_kernel;

bool nd_cpu_gather_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return (precision == nd_precision_fp32 || precision == nd_precision_bf16) && work->y.rank == 4 &&
           nd_cpu_view_channels(&work->x) && nd_cpu_view_channels(&work->y);
}

typedef struct gather_job {
    const gather_kernel *kernel;
    const char *x;
    char *y;
} gather_job;

/* Rows of pixels [begin, end), counted over images and heights. */
static void gather_rows(void *context, int64_t begin, int64_t end, int worker) {
    const gather_job *job = context;
    const gather_kernel *k = job->kernel;
    const int64_t channels = k->y.dims[1], size = k->half ? 2 : 4;
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        const int64_t n = row / k->y.dims[2], h = row % k->y.dims[2];
        const char *x = job->x + (k->x.offset + n * k->x.strides[0] + h * k->x.strides[2]) * size;
        char *y = job->y + (k->y.offset + n * k->y.strides[0] + h * k->y.strides[2]) * size;
        for (int64_t w = 0; w < k->y.dims[3]; w++) {
            if (k->half) {
                const uint16_t *from = (const uint16_t *)x;
                uint16_t *to = (uint16_t *)y;
                for (int64_t c = 0; c < channels; c++) to[c] = from[k->channel[c]];
            } else {
                const float *from = (const float *)x;
                float *to = (float *)y;
                for (int64_t c = 0; c < channels; c++) to[c] = from[k->channel[c]];
            }
            x += k->x.strides[3] * size;
            y += k->y.strides[3] * size;
        }
    }
}

static nd_status gather_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const gather_kernel *k = (const gather_kernel *)kernel;
    gather_job job = {.kernel = k, .x = buffers->x, .y = buffers->y};
    nd_parallel_for(k->y.dims[0] * k->y.dims[2], k->y.dims[1] * k->y.dims[3], gather_rows, &job);
    return nd_status_ok;
}

static void gather_release(nd_kernel *kernel) {
    gather_kernel *k = (gather_kernel *)kernel;
    free(k->channel);
    free(k);
}

nd_status nd_cpu_gather_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    const size_t channels = (size_t)work->y.dims[1];
    gather_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "gather: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = gather_run, .release = gather_release};
    k->x = work->x;
    k->y = work->y;
    k->half = precision == nd_precision_bf16;
    k->channel = nd_alloc_array(channels, sizeof *k->channel);
    if (!k->channel) {
        gather_release(&k->base);
        return nd_fail(nd_status_memory, "gather: no memory for the channels");
    }
    memcpy(k->channel, work->channel, channels * sizeof *k->channel);
    snprintf(k->base.engine, sizeof k->base.engine, "nd:gather");
    *out = &k->base;
    return nd_status_ok;
}
