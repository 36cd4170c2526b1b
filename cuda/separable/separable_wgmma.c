/* Preparing the fused kernel of sm_90a: its constants on the device, and a plan for the device's size. */
#include "cuda/separable/separable.h"
#include "cuda/separable/separable_sm90a.h"

#include <stdio.h>
#include <stdlib.h>

static nd_status separable_wgmma_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_work *work = &kernel->work;
    nd_cuda_hopper call = *(const nd_cuda_hopper *)kernel->state;
    call.layer.x = nd_cuda_at(operands->x, &work->x, kernel->precision);
    call.layer.x2 = work->residual ? nd_cuda_at(operands->x2, &work->x2, kernel->precision) : NULL;
    call.layer.y = nd_cuda_at(operands->y, &work->y, kernel->precision);
    call.layer.partial = operands->workspace;
    return nd_cuda_hopper_launch(&call);
}

static void separable_wgmma_release(nd_kernel *kernel) {
    free(kernel->state);
}

static const nd_cuda_functions nd_separable_wgmma_operation = {separable_wgmma_run, separable_wgmma_release};

static nd_status separable_wgmma_constants(nd_kernel *kernel, const nd_work *work, const nd_hopper_pack *pack,
                                           nd_cuda_hopper *call) {
    const void *constant;
    ND_TRY(
        nd_cuda_constant(kernel, pack->table, (size_t)(2 * pack->rounds) * sizeof *pack->table, &constant));
    call->rounds = constant;
    ND_TRY(nd_cuda_constant(kernel, pack->constants, pack->bytes, &call->constants));
    call->constants_bytes = (int64_t)pack->tile_bytes;
    call->layer.blocks = pack->rounds;
    call->terms = pack->terms;
    if (!nd_precision_is_quantised(kernel->precision)) return nd_status_ok;
    return nd_separable_integers_send(kernel, work, &pack->integers, &call->layer.integers);
}

static nd_status separable_wgmma_prepare(nd_kernel *kernel, const nd_work *work) {
    const nd_cuda *cuda = kernel->cuda;
    const int64_t no = work->y.dims[1];
    nd_hopper_pack pack;
    nd_cuda_hopper *call = kernel->state = nd_alloc_array(1, sizeof *call);
    ND_REQUIRE(call, nd_status_memory, "no memory for a separable layer");
    kernel->functions = &nd_separable_wgmma_operation;
    if (!nd_precision_is_quantised(kernel->precision)) ND_TRY(nd_cuda_constant_bias(kernel, work));
    call->layer = nd_separable_call(kernel, work, no > 128 ? 256 : no > 64 ? 128 : 64);
    call->resident = cuda->multiprocessors;
    ND_TRY(nd_hopper_pack_make(work, kernel->precision, call->layer.tile, &pack));
    const nd_status status = separable_wgmma_constants(kernel, work, &pack, call);
    nd_hopper_pack_free(&pack);
    ND_TRY(status);
    ND_REQUIRE(nd_hopper_plan(call, cuda->shared_limit), nd_status_unsupported,
               "not one pixel fits shared memory");
    /* Alignment is part of the plan: buffers are aligned, so the views' offsets decide. */
    call->layer.x2 = work->residual ? nd_cuda_at(NULL, &work->x2, kernel->precision) : NULL;
    call->layer.y = nd_cuda_at(NULL, &work->y, kernel->precision);
    kernel->workspace = nd_cuda_hopper_partial(call);
    const int64_t *half = call->layer.patch;
    snprintf(kernel->engine, sizeof kernel->engine,
             "nd:separable:wgmma_n%lld,half=%lldx%lldx%lld,cluster=%lld,whole=%lld,split=%lld",
             (long long)call->layer.tile, (long long)half[0], (long long)half[1], (long long)half[2],
             (long long)call->cluster, (long long)call->whole, (long long)call->layer.split);
    return nd_status_ok;
}

/* Tensor copies begin on 16 bytes: pixels and the view's start must. */
static bool separable_wgmma_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(precision));
    int64_t pixel;
    return cuda->capability == 90 && nd_cuda_hopper_takes(work, precision) && nd_separable_is_pixels(work) &&
           nd_cuda_view_is_pixels(&work->x, &pixel) && pixel * size % 16 == 0 &&
           work->x.offset * size % 16 == 0;
}

const nd_cuda_implementation nd_separable_wgmma_implementation = {separable_wgmma_supports,
                                                                  separable_wgmma_prepare};
