#include "run/backend.h"

#include <string.h>

static const char *const nd_operation_names[nd_operation_count] = {
    [nd_operation_conv] = "conv",
    [nd_operation_separable] = "separable",
    [nd_operation_gemm] = "gemm",
    [nd_operation_pool] = "pool",
    [nd_operation_binary] = "binary",
    [nd_operation_activation] = "activation",
    [nd_operation_affine] = "affine",
    [nd_operation_softmax] = "softmax",
    [nd_operation_lrn] = "lrn",
    [nd_operation_reduce] = "reduce",
    [nd_operation_normalize] = "normalize",
    [nd_operation_product] = "product",
    [nd_operation_resample] = "resample",
    [nd_operation_gather] = "gather",
    [nd_operation_copy] = "copy",
    [nd_operation_fill] = "fill",
    [nd_operation_quantize] = "quantize",
    [nd_operation_dequantize] = "dequantize",
};

const char *nd_operation_name(nd_operation operation) {
    return nd_operation_names[operation];
}

static const struct {
    const char *name;
    nd_dtype storage;
} nd_precision_table[nd_precision_count] = {
    [nd_precision_fp32] = {"fp32", nd_dtype_f32}, [nd_precision_tf32] = {"tf32", nd_dtype_f32},
    [nd_precision_fp16] = {"fp16", nd_dtype_f16}, [nd_precision_bf16] = {"bf16", nd_dtype_bf16},
    [nd_precision_int8] = {"int8", nd_dtype_u8},  [nd_precision_e4m3] = {"e4m3", nd_dtype_e4m3},
};

const char *nd_precision_name(nd_precision precision) {
    return nd_precision_table[precision].name;
}

bool nd_precision_find(const char *name, nd_precision *out) {
    for (int i = 0; i < nd_precision_count; i++) {
        if (strcmp(nd_precision_table[i].name, name)) continue;
        *out = (nd_precision)i;
        return true;
    }
    return false;
}

bool nd_precision_is_quantised(nd_precision precision) {
    return precision == nd_precision_int8 || precision == nd_precision_e4m3;
}

nd_dtype nd_precision_storage(nd_precision precision) {
    return nd_precision_table[precision].storage;
}

nd_precision nd_precision_stored(nd_precision precision, nd_quant quant) {
    return nd_precision_is_quantised(precision) && !(quant.scale > 0) ? nd_precision_fp32 : precision;
}

static bool work_images(const nd_work *work) {
    return work->x.rank == 4 && work->y.rank == 4 && work->x.dims[0] == work->y.dims[0];
}

/* The first window must start inside the input or its leading padding, and sizes must be sane. */
static bool work_window(const nd_work *work) {
    const nd_window *g = &work->window;
    for (int i = 0; i < 2; i++)
        if (g->kernel[i] < 1 || g->stride[i] < 1 || g->dilation[i] < 1 || g->pad[i] < 0) return false;
    return true;
}

static bool work_conv_agrees(const nd_work *work) {
    const int64_t ni = work->x.dims[1], no = work->y.dims[1], groups = work->groups;
    return work_images(work) && work_window(work) && work->weights && groups >= 1 && ni % groups == 0 &&
           no % groups == 0;
}

static bool work_channels_agree(const nd_work *work, int64_t limit) {
    if (work->terms < 1 || !work->channel) return false;
    for (int64_t i = 0; i < work->terms; i++)
        if (work->channel[i] < 0 || work->channel[i] >= limit) return false;
    return true;
}

static bool work_separable_agrees(const nd_work *work) {
    if (!work_images(work) || !work_window(work) || !work->weights || !work->depthwise) return false;
    if (!work_channels_agree(work, work->x.dims[1])) return false;
    for (int64_t i = 1; i < work->terms; i++)
        if (work->channel[i] < work->channel[i - 1]) return false;
    return true;
}

static bool work_reduce_agrees(const nd_work *work) {
    if (work->x.rank != work->y.rank) return false;
    for (int i = 0; i < work->x.rank; i++)
        if (work->y.dims[i] != (work->axes[i] ? 1 : work->x.dims[i])) return false;
    return true;
}

static bool work_product_agrees(const nd_work *work) {
    const nd_view *a = &work->x, *b = &work->x2, *y = &work->y;
    const int rank = y->rank;
    if (rank < 2 || a->rank != rank || b->rank != rank) return false;
    for (int i = 0; i < rank - 2; i++)
        if (a->dims[i] != y->dims[i] || b->dims[i] != y->dims[i]) return false;
    return a->dims[rank - 2] == y->dims[rank - 2] && b->dims[rank - 1] == y->dims[rank - 1] &&
           a->dims[rank - 1] == b->dims[rank - 2];
}

static bool work_resample_agrees(const nd_work *work) {
    const int64_t axis = work->axis;
    if (axis < 0 || axis >= work->x.rank || work->terms < 1 || !work->weights || !work->channel) return false;
    for (int64_t i = 0; i < work->y.dims[axis] * work->terms; i++)
        if (work->channel[i] < 0 || work->channel[i] >= work->x.dims[axis]) return false;
    nd_view resampled = work->x;
    resampled.dims[axis] = work->y.dims[axis];
    return nd_view_same_dims(&resampled, &work->y);
}

static bool work_gather_agrees(const nd_work *work) {
    if (work->x.rank < 2 || !work_channels_agree(work, work->x.dims[1])) return false;
    nd_view gathered = work->x;
    gathered.dims[1] = work->terms;
    return nd_view_same_dims(&gathered, &work->y);
}

static bool work_softmax_agrees(const nd_work *work) {
    if (work->axis < 0 || work->axis >= work->x.rank) return false;
    int64_t product = 1;
    for (int64_t i = work->axis; work->inner > product && i < work->x.rank; i++) product *= work->x.dims[i];
    return !work->inner || product == work->inner;
}

bool nd_work_agrees(const nd_work *work) {
    const nd_view *x = &work->x, *y = &work->y;
    if (nd_view_count(y) < 0 || nd_view_count(x) < 0) return false;
    const bool residual = work->residual || work->operation == nd_operation_binary;
    if (residual && !nd_view_same_dims(&work->x2, y)) return false;
    switch (work->operation) {
    case nd_operation_conv:
        return work_conv_agrees(work);
    case nd_operation_separable:
        return work_separable_agrees(work);
    case nd_operation_gemm:
        return x->rank == 2 && y->rank == 2 && x->dims[0] == y->dims[0] && work->weights;
    case nd_operation_pool:
        return work_images(work) && work_window(work) && x->dims[1] == y->dims[1];
    case nd_operation_affine:
        return x->rank >= 2 && nd_view_same_dims(x, y) && work->weights;
    case nd_operation_softmax:
        return nd_view_same_dims(x, y) && work_softmax_agrees(work);
    case nd_operation_lrn:
        return x->rank >= 2 && nd_view_same_dims(x, y) && work->size >= 1;
    case nd_operation_reduce:
        return work_reduce_agrees(work);
    case nd_operation_product:
        return work_product_agrees(work);
    case nd_operation_resample:
        return work_resample_agrees(work);
    case nd_operation_gather:
        return work_gather_agrees(work);
    case nd_operation_binary:
    case nd_operation_activation:
    case nd_operation_normalize:
    case nd_operation_copy:
    case nd_operation_quantize:
    case nd_operation_dequantize:
        return nd_view_same_dims(x, y);
    case nd_operation_fill:
        return true;
    case nd_operation_count:
        break;
    }
    return false;
}

int64_t nd_work_macs(const nd_work *work) {
    const int64_t count = nd_view_count(&work->y);
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    switch (work->operation) {
    case nd_operation_conv:
        return count * (work->x.dims[1] / work->groups) * window;
    case nd_operation_separable:
        return count / work->y.dims[1] * work->terms * (window + work->y.dims[1]);
    case nd_operation_gemm:
        return count * work->x.dims[1];
    case nd_operation_product:
        return count * work->x.dims[work->x.rank - 1];
    default:
        return 0;
    }
}
