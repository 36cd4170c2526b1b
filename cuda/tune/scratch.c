#include "cuda/scratch.h"
#include "base/log.h"
#include "cuda/tune/agree.h"
#include "cuda/tune/bound.h"
#include "cuda/tune/noise.h"

#include <math.h>
#include <stdio.h>

/* The blocks of a scratch; also the seeds of their numbers. */
typedef enum nd_scratch_block {
    nd_scratch_block_x,
    nd_scratch_block_x2,
    nd_scratch_block_y,
    nd_scratch_block_workspace,
    nd_scratch_block_weights,
    nd_scratch_block_bias,
    nd_scratch_block_bias_stored,
    nd_scratch_block_expected,
    nd_scratch_block_errors,
} nd_scratch_block;

static size_t scratch_size(const nd_scratch *scratch) {
    return nd_dtype_bytes(nd_precision_storage(scratch->precision));
}

static int64_t scratch_reach(const nd_view *view) {
    int64_t last = view->offset;
    for (int i = 0; i < view->rank; i++) last += (view->dims[i] - 1) * view->strides[i];
    return last + 1;
}

static nd_status scratch_numbers(nd_scratch *scratch, nd_scratch_block block, int64_t count, float scale) {
    ND_TRY(nd_cuda_allocate((size_t)count * scratch_size(scratch), &scratch->blocks[block]));
    return nd_cuda_noise_launch(block, scale, nd_precision_storage(scratch->precision), count,
                                scratch->blocks[block], scratch->cuda->stream);
}

nd_status nd_scratch_make(nd_cuda *cuda, const nd_work *work, nd_precision precision, nd_scratch *scratch) {
    nd_status status = nd_status_ok;
    *scratch = (nd_scratch){.cuda = cuda, .work = *work, .precision = precision};
    ND_TRY_DONE(scratch_numbers(scratch, nd_scratch_block_x, scratch_reach(&work->x), 1));
    if (work->residual)
        ND_TRY_DONE(scratch_numbers(scratch, nd_scratch_block_x2, scratch_reach(&work->x2), 1));
    scratch->y_bytes = (size_t)scratch_reach(&work->y) * scratch_size(scratch);
    ND_TRY_DONE(nd_cuda_allocate(scratch->y_bytes, &scratch->blocks[nd_scratch_block_y]));
    scratch->operands.x = scratch->blocks[nd_scratch_block_x];
    scratch->operands.x2 = scratch->blocks[nd_scratch_block_x2];
    scratch->operands.y = scratch->blocks[nd_scratch_block_y];
done:
    if (status) nd_scratch_free(scratch);
    return status;
}

static void scratch_drop(nd_scratch *scratch, nd_scratch_block block) {
    (void)cudaFree(scratch->blocks[block]);
    scratch->blocks[block] = NULL;
}

const char *nd_scratch_text(const nd_scratch *scratch, char *text, size_t size) {
    const nd_work *work = &scratch->work;
    const int64_t *x = work->x.dims, *y = work->y.dims, *kernel = work->geometry.kernel;
    snprintf(text, size, "%s %lldx%lldx%lld to %lldx%lldx%lld, %lldx%lld, batch %lld, %s",
             nd_kind_name(work->kind), (long long)x[1], (long long)x[2], (long long)x[3], (long long)y[1],
             (long long)y[2], (long long)y[3], (long long)kernel[0], (long long)kernel[1], (long long)x[0],
             nd_precision_name(scratch->precision));
    return text;
}

void nd_scratch_uncheck(nd_scratch *scratch) {
    char text[160];
    nd_log(nd_log_warn, "%s: no room to check what is timed", nd_scratch_text(scratch, text, sizeof text));
    scratch_drop(scratch, nd_scratch_block_expected);
    scratch_drop(scratch, nd_scratch_block_errors);
    scratch->expected = NULL;
}

/* Every storage type's NaN. */
static nd_status scratch_blank(const nd_scratch *scratch, void *y) {
    ND_CUDA_TRY(cudaMemsetAsync(y, 0xff, scratch->y_bytes, scratch->cuda->stream));
    return nd_status_ok;
}

nd_status nd_scratch_spoil(const nd_scratch *scratch) {
    return scratch_blank(scratch, scratch->operands.y);
}

static nd_status scratch_expect(nd_scratch *scratch, nd_scratch_run *run, void *context) {
    nd_cuda_operands operands = scratch->operands;
    void **expected = &scratch->blocks[nd_scratch_block_expected];
    ND_TRY(nd_cuda_allocate(scratch->y_bytes, expected));
    ND_TRY(nd_cuda_allocate(nd_agree_blocks * sizeof(float), &scratch->blocks[nd_scratch_block_errors]));
    ND_TRY(scratch_blank(scratch, *expected));
    operands.y = *expected;
    ND_TRY(run(context, &operands));
    scratch->expected = *expected;
    return nd_status_ok;
}

nd_status nd_scratch_refer(nd_scratch *scratch, nd_scratch_run *run, void *context) {
    const nd_status status = scratch_expect(scratch, run, context);
    if (status != nd_status_memory) return status;
    nd_scratch_uncheck(scratch);
    return nd_status_ok;
}

nd_status nd_scratch_compare(const nd_scratch *scratch, bool transformed, double *times) {
    const nd_bound bound = nd_bound_of(&scratch->work, scratch->precision, transformed);
    float worst[nd_agree_blocks] = {0};
    const nd_cuda_agree call = {
        .storage = nd_precision_storage(scratch->precision),
        .count = (int64_t)(scratch->y_bytes / scratch_size(scratch)),
        .got = scratch->operands.y,
        .expected = scratch->expected,
        .absolute = bound.absolute,
        .relative = bound.relative,
        .worst = scratch->blocks[nd_scratch_block_errors],
        .stream = scratch->cuda->stream,
    };
    ND_TRY(nd_cuda_agree_launch(&call));
    ND_CUDA_TRY(cudaMemcpyAsync(worst, call.worst, sizeof worst, cudaMemcpyDeviceToHost, call.stream));
    ND_CUDA_TRY(cudaStreamSynchronize(call.stream));
    *times = 0;
    for (int i = 0; i < nd_agree_blocks; i++) *times = fmax(*times, worst[i]);
    return nd_status_ok;
}

/* The direct kernel on the same weights, transposed as it wants them. */
typedef struct nd_scratch_direct {
    const nd_scratch *scratch;
    const nd_view *filter;
    void *transposed;
} nd_scratch_direct;

static nd_status scratch_run_direct(void *context, const nd_cuda_operands *operands) {
    nd_scratch_direct *direct = context;
    const nd_scratch *scratch = direct->scratch;
    const int64_t *dims = direct->filter->dims, taps = dims[2] * dims[3];
    const nd_dtype storage = nd_precision_storage(scratch->precision);
    nd_view view = nd_view_row_major(4, dims);
    view.strides[0] = 1;
    view.strides[1] = taps * dims[0];
    view.strides[2] = dims[3] * dims[0];
    view.strides[3] = dims[0];
    ND_TRY(nd_cuda_allocate((size_t)nd_view_count(&view) * sizeof(float), &direct->transposed));
    ND_TRY(nd_cuda_convert_launch(storage, direct->filter, scratch->weights, nd_dtype_f32, &view,
                                  direct->transposed, scratch->cuda->stream));
    const nd_cuda_call call = {
        .work = &scratch->work,
        .storage = storage,
        .x = operands->x,
        .x2 = operands->x2,
        .y = operands->y,
        .weights = direct->transposed,
        .bias = scratch->bias,
        .stream = scratch->cuda->stream,
    };
    return nd_cuda_conv_launch(&call);
}

static nd_status scratch_bias(nd_scratch *scratch, const int64_t *channels) {
    const nd_view view = nd_view_row_major(1, channels);
    void **bias = &scratch->blocks[nd_scratch_block_bias];
    ND_TRY(scratch_numbers(scratch, nd_scratch_block_bias_stored, *channels, 1));
    scratch->bias_stored = scratch->blocks[nd_scratch_block_bias_stored];
    ND_TRY(nd_cuda_allocate((size_t)*channels * sizeof(float), bias));
    scratch->bias = *bias;
    return nd_cuda_convert_launch(nd_precision_storage(scratch->precision), &view, scratch->bias_stored,
                                  nd_dtype_f32, &view, *bias, scratch->cuda->stream);
}

nd_status nd_scratch_weigh(nd_scratch *scratch, const nd_view *filter, bool biased) {
    const float scale = (float)(1 / sqrt((double)nd_bound_length(&scratch->work)));
    nd_scratch_direct direct = {.scratch = scratch, .filter = filter};
    ND_TRY(scratch_numbers(scratch, nd_scratch_block_weights, scratch_reach(filter), scale));
    scratch->weights = scratch->blocks[nd_scratch_block_weights];
    if (biased) ND_TRY(scratch_bias(scratch, &scratch->work.y.dims[1]));
    const nd_status status = nd_scratch_refer(scratch, scratch_run_direct, &direct);
    (void)cudaStreamSynchronize(scratch->cuda->stream);
    (void)cudaFree(direct.transposed);
    return status;
}

static nd_status scratch_workspace(nd_scratch *scratch, size_t bytes) {
    scratch_drop(scratch, nd_scratch_block_workspace);
    scratch->operands.workspace = NULL;
    scratch->workspace_bytes = 0;
    ND_TRY(nd_cuda_allocate(bytes, &scratch->blocks[nd_scratch_block_workspace]));
    scratch->operands.workspace = scratch->blocks[nd_scratch_block_workspace];
    scratch->workspace_bytes = bytes;
    return nd_status_ok;
}

nd_status nd_scratch_grow(nd_scratch *scratch, size_t workspace_bytes) {
    if (workspace_bytes <= scratch->workspace_bytes) return nd_status_ok;
    const nd_status status = scratch_workspace(scratch, workspace_bytes);
    if (status != nd_status_memory || !scratch->expected) return status;
    nd_scratch_uncheck(scratch);
    return scratch_workspace(scratch, workspace_bytes);
}

void nd_scratch_free(nd_scratch *scratch) {
    (void)cudaStreamSynchronize(scratch->cuda->stream);
    for (int i = 0; i < nd_scratch_blocks; i++) (void)cudaFree(scratch->blocks[i]);
    *scratch = (nd_scratch){.cuda = scratch->cuda};
}
