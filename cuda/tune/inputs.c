#include "cuda/tune/inputs.h"
#include "base/log.h"
#include "cuda/tune/bound.h"
#include "cuda/tune/noise.h"
#include "cuda/tune/verify.h"

#include <math.h>
#include <stdio.h>

/* The blocks of inputs; also the seeds of their numbers. */
typedef enum nd_inputs_block {
    nd_inputs_block_x,
    nd_inputs_block_x2,
    nd_inputs_block_y,
    nd_inputs_block_workspace,
    nd_inputs_block_weights,
    nd_inputs_block_bias,
    nd_inputs_block_bias_stored,
    nd_inputs_block_expected, /* and the next: one for each poison */
    nd_inputs_block_expected_again,
    nd_inputs_block_errors,
} nd_inputs_block;

/* A byte for each poison: every storage type's NaN, and another for integers. */
static const unsigned char nd_inputs_poison_bytes[] = {0xff, 0x00};

static size_t inputs_size(const nd_inputs *inputs) {
    return nd_dtype_bytes(nd_precision_storage(inputs->precision));
}

/* Of y: a quantised layer may end in real numbers. */
static nd_dtype inputs_storage_y(const nd_inputs *inputs) {
    return nd_precision_storage(nd_precision_stored(inputs->precision, inputs->work.y_quant));
}

static int64_t inputs_reach(const nd_view *view) {
    int64_t last = view->offset;
    for (int i = 0; i < view->rank; i++) last += (view->dims[i] - 1) * view->strides[i];
    return last + 1;
}

static nd_status inputs_numbers(nd_inputs *inputs, nd_inputs_block block, int64_t count, float scale) {
    ND_TRY(nd_cuda_allocate((size_t)count * inputs_size(inputs), &inputs->blocks[block]));
    return nd_cuda_noise_launch(block, scale, nd_precision_storage(inputs->precision), count,
                                inputs->blocks[block], inputs->cuda->stream);
}

nd_status nd_inputs_make(nd_cuda *cuda, const nd_work *work, nd_precision precision, nd_inputs *inputs) {
    nd_status status = nd_status_ok;
    *inputs = (nd_inputs){.cuda = cuda, .work = *work, .precision = precision};
    ND_TRY_DONE(inputs_numbers(inputs, nd_inputs_block_x, inputs_reach(&work->x), 1));
    if (work->residual) ND_TRY_DONE(inputs_numbers(inputs, nd_inputs_block_x2, inputs_reach(&work->x2), 1));
    inputs->y_bytes = (size_t)inputs_reach(&work->y) * nd_dtype_bytes(inputs_storage_y(inputs));
    ND_TRY_DONE(nd_cuda_allocate(inputs->y_bytes, &inputs->blocks[nd_inputs_block_y]));
    inputs->operands.x = inputs->blocks[nd_inputs_block_x];
    inputs->operands.x2 = inputs->blocks[nd_inputs_block_x2];
    inputs->operands.y = inputs->blocks[nd_inputs_block_y];
done:
    if (status) nd_inputs_free(inputs);
    return status;
}

static void inputs_drop(nd_inputs *inputs, nd_inputs_block block) {
    (void)cudaFree(inputs->blocks[block]);
    inputs->blocks[block] = NULL;
}

const char *nd_inputs_text(const nd_inputs *inputs, char *text, size_t size) {
    const nd_work *work = &inputs->work;
    const int64_t *x = work->x.dims, *y = work->y.dims, *kernel = work->window.kernel;
    snprintf(text, size, "%s %lldx%lldx%lld to %lldx%lldx%lld, %lldx%lld, batch %lld, %s",
             nd_operation_name(work->operation), (long long)x[1], (long long)x[2], (long long)x[3],
             (long long)y[1], (long long)y[2], (long long)y[3], (long long)kernel[0], (long long)kernel[1],
             (long long)x[0], nd_precision_name(inputs->precision));
    return text;
}

void nd_inputs_drop_reference(nd_inputs *inputs) {
    char text[160];
    nd_log(nd_log_warn, "%s: no room to check what is timed", nd_inputs_text(inputs, text, sizeof text));
    inputs_drop(inputs, nd_inputs_block_expected);
    inputs_drop(inputs, nd_inputs_block_expected_again);
    inputs_drop(inputs, nd_inputs_block_errors);
    inputs->expected = NULL;
}

int nd_inputs_poisons(const nd_inputs *inputs) {
    return inputs_storage_y(inputs) == nd_dtype_u8 ? 2 : 1;
}

static nd_status inputs_poison(const nd_inputs *inputs, int poison, void *y) {
    ND_CUDA_TRY(cudaMemsetAsync(y, nd_inputs_poison_bytes[poison], inputs->y_bytes, inputs->cuda->stream));
    return nd_status_ok;
}

nd_status nd_inputs_poison(const nd_inputs *inputs, int poison) {
    return inputs_poison(inputs, poison, inputs->operands.y);
}

static nd_status inputs_expect(nd_inputs *inputs, nd_inputs_run *run, void *context) {
    nd_cuda_operands operands = inputs->operands;
    void **expected = &inputs->blocks[nd_inputs_block_expected];
    ND_TRY(nd_cuda_allocate(nd_verify_blocks * sizeof(float), &inputs->blocks[nd_inputs_block_errors]));
    for (int i = 0; i < nd_inputs_poisons(inputs); i++) {
        ND_TRY(nd_cuda_allocate(inputs->y_bytes, &expected[i]));
        ND_TRY(inputs_poison(inputs, i, expected[i]));
        operands.y = expected[i];
        ND_TRY(run(context, &operands));
    }
    inputs->expected = *expected;
    return nd_status_ok;
}

nd_status nd_inputs_reference(nd_inputs *inputs, nd_inputs_run *run, void *context) {
    const nd_status status = inputs_expect(inputs, run, context);
    if (status != nd_status_memory) return status;
    nd_inputs_drop_reference(inputs);
    return nd_status_ok;
}

nd_status nd_inputs_verify(const nd_inputs *inputs, int poison, bool transformed, double *times) {
    const nd_bound bound = nd_bound_of(&inputs->work, inputs->precision, transformed);
    const nd_dtype storage = inputs_storage_y(inputs);
    float worst[nd_verify_blocks] = {0};
    const nd_cuda_verify call = {
        .storage = storage,
        .count = (int64_t)(inputs->y_bytes / nd_dtype_bytes(storage)),
        .got = inputs->operands.y,
        .expected = inputs->blocks[nd_inputs_block_expected + poison],
        .absolute = bound.absolute,
        .relative = bound.relative,
        .worst = inputs->blocks[nd_inputs_block_errors],
        .stream = inputs->cuda->stream,
    };
    ND_TRY(nd_cuda_verify_launch(&call));
    ND_CUDA_TRY(cudaMemcpyAsync(worst, call.worst, sizeof worst, cudaMemcpyDeviceToHost, call.stream));
    ND_CUDA_TRY(cudaStreamSynchronize(call.stream));
    *times = 0;
    for (int i = 0; i < nd_verify_blocks; i++) *times = fmax(*times, worst[i]);
    return nd_status_ok;
}

/* The direct kernel on the same weights, transposed as it wants them. */
typedef struct nd_inputs_direct {
    const nd_inputs *inputs;
    const nd_view *filter;
    void *transposed;
} nd_inputs_direct;

static nd_status inputs_run_direct(void *context, const nd_cuda_operands *operands) {
    nd_inputs_direct *direct = context;
    const nd_inputs *inputs = direct->inputs;
    const int64_t *dims = direct->filter->dims, taps = dims[2] * dims[3];
    const nd_dtype storage = nd_precision_storage(inputs->precision);
    nd_view view = nd_view_row_major(4, dims);
    view.strides[0] = 1;
    view.strides[1] = taps * dims[0];
    view.strides[2] = dims[3] * dims[0];
    view.strides[3] = dims[0];
    ND_TRY(nd_cuda_allocate((size_t)nd_view_count(&view) * sizeof(float), &direct->transposed));
    ND_TRY(nd_cuda_convert_launch(storage, direct->filter, inputs->weights, nd_dtype_f32, &view,
                                  direct->transposed, inputs->cuda->stream));
    const nd_cuda_call call = {
        .work = &inputs->work,
        .storage = storage,
        .x = operands->x,
        .x2 = operands->x2,
        .y = operands->y,
        .weights = direct->transposed,
        .bias = inputs->bias,
        .stream = inputs->cuda->stream,
    };
    return nd_cuda_conv_launch(&call);
}

static nd_status inputs_bias(nd_inputs *inputs, const int64_t *channels) {
    const nd_view view = nd_view_row_major(1, channels);
    void **bias = &inputs->blocks[nd_inputs_block_bias];
    ND_TRY(inputs_numbers(inputs, nd_inputs_block_bias_stored, *channels, 1));
    inputs->bias_stored = inputs->blocks[nd_inputs_block_bias_stored];
    ND_TRY(nd_cuda_allocate((size_t)*channels * sizeof(float), bias));
    inputs->bias = *bias;
    return nd_cuda_convert_launch(nd_precision_storage(inputs->precision), &view, inputs->bias_stored,
                                  nd_dtype_f32, &view, *bias, inputs->cuda->stream);
}

nd_status nd_inputs_add_weights(nd_inputs *inputs, const nd_view *filter, bool biased) {
    const float scale = (float)(1 / sqrt((double)nd_bound_length(&inputs->work)));
    nd_inputs_direct direct = {.inputs = inputs, .filter = filter};
    ND_TRY(inputs_numbers(inputs, nd_inputs_block_weights, inputs_reach(filter), scale));
    inputs->weights = inputs->blocks[nd_inputs_block_weights];
    if (biased) ND_TRY(inputs_bias(inputs, &inputs->work.y.dims[1]));
    const nd_status status = nd_inputs_reference(inputs, inputs_run_direct, &direct);
    (void)cudaStreamSynchronize(inputs->cuda->stream);
    (void)cudaFree(direct.transposed);
    return status;
}

static nd_status inputs_workspace(nd_inputs *inputs, size_t bytes) {
    inputs_drop(inputs, nd_inputs_block_workspace);
    inputs->operands.workspace = NULL;
    inputs->workspace_bytes = 0;
    ND_TRY(nd_cuda_allocate(bytes, &inputs->blocks[nd_inputs_block_workspace]));
    inputs->operands.workspace = inputs->blocks[nd_inputs_block_workspace];
    inputs->workspace_bytes = bytes;
    return nd_status_ok;
}

nd_status nd_inputs_grow(nd_inputs *inputs, size_t workspace_bytes) {
    if (workspace_bytes <= inputs->workspace_bytes) return nd_status_ok;
    const nd_status status = inputs_workspace(inputs, workspace_bytes);
    if (status != nd_status_memory || !inputs->expected) return status;
    nd_inputs_drop_reference(inputs);
    return inputs_workspace(inputs, workspace_bytes);
}

void nd_inputs_free(nd_inputs *inputs) {
    (void)cudaStreamSynchronize(inputs->cuda->stream);
    for (int i = 0; i < nd_inputs_blocks; i++) (void)cudaFree(inputs->blocks[i]);
    *inputs = (nd_inputs){.cuda = inputs->cuda};
}
