/* What every prepared kernel has: constants on the device, an operation to run, a name; and those that
 * are one launch. */
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_cuda_constant(nd_kernel *kernel, const void *data, size_t bytes, const void **out) {
    *out = NULL;
    ND_REQUIRE(kernel->n_blocks < nd_cuda_blocks_max, nd_status_internal,
               "a kernel with more than %d constants", (int)nd_cuda_blocks_max);
    void **block = &kernel->blocks[kernel->n_blocks];
    ND_TRY(nd_cuda_allocate(bytes, block));
    kernel->n_blocks++;
    ND_TRY(nd_cuda_send(kernel->cuda, data, bytes, *block));
    *out = *block;
    return nd_status_ok;
}

/* tf32 keeps 10 bits of the mantissa; the tensor cores would cut the rest off, so it is rounded here, ties
 * away from zero as cvt.rna does. */
static float cuda_round_tf32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & ~0x1fffu;
    memcpy(&value, &bits, sizeof value);
    return value;
}

nd_status nd_cuda_constant_stored(nd_kernel *kernel, const float *data, size_t count, const void **out) {
    const nd_dtype storage = nd_precision_storage(kernel->precision);
    const size_t size = nd_dtype_bytes(storage);
    if (kernel->precision == nd_precision_fp32) return nd_cuda_constant(kernel, data, count * size, out);
    void *stored = nd_alloc_array(count, size);
    ND_REQUIRE(stored, nd_status_memory, "no memory for %zu weights", count);
    for (size_t i = 0; i < count; i++) {
        if (storage == nd_dtype_f32)
            ((float *)stored)[i] = cuda_round_tf32(data[i]);
        else if (storage == nd_dtype_u8)
            ((int8_t *)stored)[i] = (int8_t)data[i];
        else
            ((uint16_t *)stored)[i] =
                storage == nd_dtype_f16 ? nd_f32_to_f16(data[i]) : nd_f32_to_bf16(data[i]);
    }
    nd_status status = nd_cuda_constant(kernel, stored, count * size, out);
    free(stored);
    return status;
}

nd_status nd_cuda_constant_bias(nd_kernel *kernel, const nd_work *work) {
    if (!work->bias) return nd_status_ok;
    const void *bias;
    ND_TRY(nd_cuda_constant(kernel, work->bias, (size_t)work->y.dims[1] * sizeof(float), &bias));
    kernel->bias = bias;
    return nd_status_ok;
}

nd_status nd_cuda_constant_bias_stored(nd_kernel *kernel, const nd_work *work, const void **out) {
    const size_t count = (size_t)work->y.dims[1];
    *out = NULL;
    if (!work->bias) return nd_status_ok;
    if (nd_precision_storage(kernel->precision) == nd_dtype_f32)
        return nd_cuda_constant(kernel, work->bias, count * sizeof *work->bias, out);
    return nd_cuda_constant_stored(kernel, work->bias, count, out);
}

bool nd_cuda_view_is_pixels(const nd_view *view, int64_t *distance) {
    if (view->rank != 4) return false;
    const int64_t n = view->dims[0], c = view->dims[1], h = view->dims[2], w = view->dims[3];
    if (c > 1 && view->strides[1] != 1) return false;
    /* Axes of one element may have any stride: the distance comes from the innermost axis that has more. */
    int64_t pixel = c;
    if (w > 1)
        pixel = view->strides[3];
    else if (h > 1)
        pixel = view->strides[2];
    else if (n > 1)
        pixel = view->strides[0];
    if (pixel < c) return false;
    if (h > 1 && view->strides[2] != w * pixel) return false;
    if (n > 1 && view->strides[0] != h * w * pixel) return false;
    *distance = pixel;
    return nd_view_count(view) / (c ? c : 1) < INT32_MAX / 2;
}

void *nd_cuda_at(const void *start, const nd_view *view, nd_precision precision) {
    const size_t size = nd_dtype_bytes(nd_precision_storage(precision));
    return (char *)(uintptr_t)start + (size_t)view->offset * size;
}

nd_status nd_cuda_kernel_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    return kernel->functions->run(kernel, operands);
}

void nd_cuda_kernel_release(nd_kernel *kernel) {
    if (!kernel) return;
    if (kernel->functions && kernel->functions->release) kernel->functions->release(kernel);
    for (int i = 0; i < kernel->n_blocks; i++) (void)cudaFree(kernel->blocks[i]);
    free(kernel);
}

nd_status nd_cuda_kernel_make(nd_cuda *cuda, const nd_cuda_implementation *implementation,
                              const nd_work *work, nd_precision precision, nd_kernel **out) {
    *out = NULL;
    nd_kernel *kernel = nd_alloc_array(1, sizeof *kernel);
    ND_REQUIRE(kernel, nd_status_memory, "no memory for a kernel");
    kernel->cuda = cuda;
    kernel->work = *work;
    kernel->work.weights = kernel->work.bias = kernel->work.depthwise = NULL;
    kernel->work.channel = NULL;
    kernel->work.weights_scale = kernel->work.depthwise_scale = NULL;
    kernel->precision = precision;
    nd_status status = implementation->prepare(kernel, work);
    if (status) {
        nd_cuda_kernel_release(kernel);
        return nd_fail_in(status, "preparing %s on cuda", nd_operation_name(work->operation));
    }
    *out = kernel;
    return nd_status_ok;
}

static nd_status cuda_simple_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_cuda_call call = {
        .work = &kernel->work,
        .storage = nd_precision_storage(kernel->precision),
        .x = operands->x,
        .x2 = operands->x2,
        .y = operands->y,
        .weights = kernel->weights,
        .bias = kernel->bias,
        .channel = kernel->channel,
        .stream = kernel->cuda->stream,
    };
    return kernel->launch(&call);
}

const nd_cuda_functions nd_cuda_simple_functions = {.run = cuda_simple_run};

static nd_cuda_launch *const nd_cuda_launches[nd_operation_count] = {
    [nd_operation_pool] = nd_cuda_pool_launch,
    [nd_operation_binary] = nd_cuda_binary_launch,
    [nd_operation_activation] = nd_cuda_activation_launch,
    [nd_operation_affine] = nd_cuda_affine_launch,
    [nd_operation_softmax] = nd_cuda_softmax_launch,
    [nd_operation_lrn] = nd_cuda_lrn_launch,
    [nd_operation_reduce] = nd_cuda_reduce_launch,
    [nd_operation_gather] = nd_cuda_gather_launch,
    [nd_operation_copy] = nd_cuda_copy_launch,
    [nd_operation_fill] = nd_cuda_fill_launch,
};

/* The last function that every kernel's epilogue has (cuda/kernels/number.cuh). */
static const nd_act nd_cuda_act_last = nd_act_hard_swish;

static nd_cuda_launch *cuda_launch_of(const nd_work *work) {
    if (work->operation == nd_operation_activation && work->activation.act > nd_cuda_act_last)
        return nd_cuda_function_launch;
    if (work->operation == nd_operation_binary && work->pairing == nd_pairing_pow)
        return nd_cuda_power_launch;
    return nd_cuda_launches[work->operation];
}

bool nd_cuda_has_function(const nd_work *work) {
    if (work->operation == nd_operation_binary && work->pairing > nd_pairing_drop) return false;
    return work->activation.act <= nd_cuda_act_last || work->operation == nd_operation_activation;
}

/* Any strides and sizes: the launchers split what is too large for one grid. */
static bool cuda_simple_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    (void)precision;
    if (!nd_cuda_launches[work->operation]) return false;
    /* Its largest number would have to be found first. */
    if (work->operation == nd_operation_reduce && work->reduction == nd_reduction_log_sum_exp) return false;
    for (int i = 0; i < work->y.rank; i++)
        if (work->y.dims[i] > INT32_MAX) return false;
    return true;
}

static nd_status cuda_simple_prepare(nd_kernel *kernel, const nd_work *work) {
    const void *constant = NULL;
    kernel->functions = &nd_cuda_simple_functions;
    kernel->launch = cuda_launch_of(work);
    snprintf(kernel->engine, sizeof kernel->engine, "nd:%s", nd_operation_name(work->operation));
    if (work->operation == nd_operation_affine) {
        ND_TRY(nd_cuda_constant(kernel, work->weights, (size_t)work->y.dims[1] * sizeof(float), &constant));
        kernel->weights = constant;
        ND_TRY(nd_cuda_constant_bias(kernel, work));
    }
    if (work->operation == nd_operation_gather) {
        ND_TRY(
            nd_cuda_constant(kernel, work->channel, (size_t)work->terms * sizeof *work->channel, &constant));
        kernel->channel = constant;
    }
    return nd_status_ok;
}

const nd_cuda_implementation nd_cuda_simple_implementation = {cuda_simple_supports, cuda_simple_prepare};
