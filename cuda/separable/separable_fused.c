/* Preparing the fused kernel: packed terms on the device, a tile and a patch. */
#include "cuda/separable/separable.h"
#include "cuda/separable/separable_pack.h"

#include <stdio.h>
#include <stdlib.h>

static nd_status separable_fused_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_work *work = &kernel->work;
    nd_cuda_separable call = *(const nd_cuda_separable *)kernel->state;
    call.x = nd_cuda_at(operands->x, &work->x, kernel->precision);
    call.x2 = work->residual ? nd_cuda_at(operands->x2, &work->x2, kernel->precision) : NULL;
    call.y = nd_cuda_at(operands->y, &work->y, kernel->precision);
    call.partial = operands->workspace;
    return nd_cuda_separable_launch(&call);
}

static void separable_fused_release(nd_kernel *kernel) {
    free(kernel->state);
}

static const nd_cuda_functions nd_separable_fused_functions = {separable_fused_run, separable_fused_release};

nd_status nd_separable_integers_send(nd_kernel *kernel, const nd_work *work,
                                     const nd_separable_integers *host, nd_cuda_integers *integers) {
    const size_t rows = (size_t)host->rows;
    const void *constant;
    integers->requant = host->requant;
    integers->x_zero = work->x_quant.zero;
    integers->middle_zero = work->middle_quant.zero;
    ND_TRY(nd_cuda_constant(kernel, host->start, rows * sizeof *host->start, &constant));
    integers->start = constant;
    ND_TRY(nd_cuda_constant(kernel, host->factor, rows * sizeof *host->factor, &constant));
    integers->factor = constant;
    ND_TRY(nd_cuda_constant(kernel, host->shift, rows * sizeof *host->shift, &constant));
    integers->shift = constant;
    return nd_status_ok;
}

static nd_status separable_fused_constants(nd_kernel *kernel, const nd_separable_pack *pack,
                                           nd_cuda_separable *call) {
    const size_t slots = (size_t)(pack->blocks * nd_separable_terms);
    const void *constant;
    ND_TRY(nd_cuda_constant_stored(kernel, pack->weights, (size_t)pack->rows * slots, &call->weights));
    ND_TRY(nd_cuda_constant(kernel, pack->filters, slots * (size_t)pack->constants * sizeof *pack->filters,
                            &constant));
    call->filters = constant;
    ND_TRY(nd_cuda_constant(kernel, pack->base, (size_t)(2 * pack->blocks) * sizeof *pack->base, &constant));
    call->base = constant;
    ND_TRY(nd_cuda_constant(kernel, pack->offset, slots * sizeof *pack->offset, &constant));
    call->offset = constant;
    return nd_status_ok;
}

/* Two blocks on a multiprocessor hide each other's barriers, so a patch that lets two fit is preferred; with
 * tiles of 256 channels the registers are one block's. */
static bool separable_fused_patch(const nd_cuda *cuda, nd_cuda_separable *call) {
    const size_t reserved = 1024; /* bytes the system keeps of every block's shared memory */
    const size_t half = (cuda->shared_limit + reserved) / 2 - reserved;
    return (call->tile < 256 && nd_separable_patch_choose(call, half, nd_cuda_separable_shared)) ||
           nd_separable_patch_choose(call, cuda->shared_limit, nd_cuda_separable_shared);
}

nd_cuda_separable nd_separable_call(const nd_kernel *kernel, const nd_work *work, int64_t tile) {
    nd_cuda_separable call = {
        .window = work->window,
        .precision = kernel->precision,
        .images = work->x.dims[0],
        .channels = work->x.dims[1],
        .height = work->x.dims[2],
        .width = work->x.dims[3],
        .out_channels = work->y.dims[1],
        .out_height = work->y.dims[2],
        .out_width = work->y.dims[3],
        .tile = tile,
        .activation = work->activation,
        .bias = kernel->bias,
        .stream = kernel->cuda->stream,
    };
    (void)nd_cuda_view_is_pixels(&work->x, &call.x_pixel);
    (void)nd_cuda_view_is_pixels(&work->y, &call.y_pixel);
    if (work->residual) (void)nd_cuda_view_is_pixels(&work->x2, &call.x2_pixel);
    return call;
}

static nd_status separable_fused_prepare(nd_kernel *kernel, const nd_work *work, int64_t tile) {
    nd_separable_pack pack = {0};
    nd_status status = nd_status_ok;
    nd_cuda_separable *call = kernel->state = nd_alloc_array(1, sizeof *call);
    ND_REQUIRE(call, nd_status_memory, "no memory for a separable layer");
    kernel->functions = &nd_separable_fused_functions;
    const bool integers = kernel->precision == nd_precision_int8;
    if (!integers) ND_TRY(nd_cuda_constant_bias(kernel, work));
    *call = nd_separable_call(kernel, work, tile);
    ND_TRY_DONE(nd_separable_pack_make(work, nd_precision_storage(kernel->precision), tile, &pack));
    call->blocks = pack.blocks;
    call->chunks = pack.chunks;
    ND_REQUIRE_DONE(separable_fused_patch(kernel->cuda, call), nd_status_unsupported,
                    "a window of %lldx%lld does not fit shared memory", (long long)work->window.kernel[0],
                    (long long)work->window.kernel[1]);
    ND_TRY_DONE(separable_fused_constants(kernel, &pack, call));
    if (integers) ND_TRY_DONE(nd_separable_integers_send(kernel, work, &pack.integers, &call->integers));
    nd_separable_split_choose(call, kernel->cuda->multiprocessors * (tile < 256 ? 2 : 1));
    kernel->workspace = nd_cuda_separable_partial(call);
    snprintf(kernel->engine, sizeof kernel->engine, "nd:separable:mma_n%lld,patch=%lldx%lldx%lld,split=%lld",
             (long long)tile, (long long)call->patch[0], (long long)call->patch[1], (long long)call->patch[2],
             (long long)call->split);
done:
    nd_separable_pack_free(&pack);
    return status;
}

static nd_status separable_mma_64(nd_kernel *kernel, const nd_work *work) {
    return separable_fused_prepare(kernel, work, 64);
}

static nd_status separable_mma_128(nd_kernel *kernel, const nd_work *work) {
    return separable_fused_prepare(kernel, work, 128);
}

static nd_status separable_mma_256(nd_kernel *kernel, const nd_work *work) {
    return separable_fused_prepare(kernel, work, 256);
}

static bool separable_mma_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    if (precision == nd_precision_e4m3) return false; /* mma.sync has it from sm_89 on: not written */
    if (precision == nd_precision_int8 && !(nd_quantized_agrees(work, precision) && work->y_quant.scale > 0))
        return false;
    return nd_separable_is_pixels(work);
}

/* 256 accumulated channels fit the registers beside operands of 8 or 16 bits alone. */
static bool separable_mma_256_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    return nd_dtype_bytes(nd_precision_storage(precision)) <= 2 && work->y.dims[1] > 128 &&
           separable_mma_supports(cuda, work, precision);
}

const nd_cuda_implementation nd_separable_fused_implementations[3] = {
    {separable_mma_supports, separable_mma_64},
    {separable_mma_supports, separable_mma_128},
    {separable_mma_256_supports, separable_mma_256},
};
