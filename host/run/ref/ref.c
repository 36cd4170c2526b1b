#include "run/ref/ref.h"
#include "base/machine/clock.h"
#include "base/parallel.h"
#include "run/plugins.h"
#include "run/quantized.h"
#include "run/ref/linalg/linalg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nd_ref_operation *const nd_ref_operations[nd_operation_count] = {
    [nd_operation_conv] = nd_ref_conv,
    [nd_operation_separable] = nd_ref_separable,
    [nd_operation_gemm] = nd_ref_gemm,
    [nd_operation_pool] = nd_ref_pool,
    [nd_operation_binary] = nd_ref_binary,
    [nd_operation_activation] = nd_ref_activation,
    [nd_operation_affine] = nd_ref_affine,
    [nd_operation_softmax] = nd_ref_softmax,
    [nd_operation_lrn] = nd_ref_lrn,
    [nd_operation_reduce] = nd_ref_reduce,
    [nd_operation_normalize] = nd_ref_normalize,
    [nd_operation_product] = nd_ref_product,
    [nd_operation_resample] = nd_ref_resample,
    [nd_operation_gather] = nd_ref_gather,
    [nd_operation_copy] = nd_ref_copy,
    [nd_operation_fill] = nd_ref_fill,
};

nd_status nd_ref_run(const nd_work *work, const float *x, const float *x2, float *y) {
    return nd_ref_operations[work->operation](work, x, x2, y);
}

enum { nd_ref_events = 4096 };

typedef struct nd_ref_backend {
    nd_backend base;
    double events[nd_ref_events]; /* ns */
} nd_ref_backend;

struct nd_memory {
    size_t bytes;
    _Alignas(nd_alignment) unsigned char data[];
};

/* The work with copies of everything it points to. For half precision every operand is widened into `dense`,
 * the operation runs in fp32, and the result is rounded: exactly what storing in half precision means. */
struct nd_kernel {
    nd_work work;
    nd_precision precision;
    nd_arena arena;
    float *dense[3]; /* x, x2, y as row-major fp32; half precision only */
};

/* Elements of storage type. Conversion is exact upwards and rounds to nearest even downwards. */
static float ref_load(const void *data, nd_dtype dtype, int64_t at) {
    if (dtype == nd_dtype_f16) return nd_f16_to_f32(((const uint16_t *)data)[at]);
    if (dtype == nd_dtype_bf16) return nd_bf16_to_f32(((const uint16_t *)data)[at]);
    if (dtype == nd_dtype_u8) return ((const uint8_t *)data)[at];
    if (dtype == nd_dtype_e4m3) return nd_e4m3_to_f32(((const uint8_t *)data)[at]);
    return ((const float *)data)[at];
}

static void ref_store(void *data, nd_dtype dtype, int64_t at, float value) {
    if (dtype == nd_dtype_f16)
        ((uint16_t *)data)[at] = nd_f32_to_f16(value);
    else if (dtype == nd_dtype_bf16)
        ((uint16_t *)data)[at] = nd_f32_to_bf16(value);
    else if (dtype == nd_dtype_u8)
        ((uint8_t *)data)[at] = nd_quantize((nd_quant){.scale = 1}, value);
    else if (dtype == nd_dtype_e4m3)
        ((uint8_t *)data)[at] = nd_f32_to_e4m3(value);
    else
        ((float *)data)[at] = value;
}

/* A copy of `count` numbers, rounded to what the storage can hold. */
static bool ref_rounded(const float **numbers, int64_t count, nd_dtype dtype, nd_arena *arena) {
    if (!*numbers) return true;
    float *copy = nd_arena_alloc(arena, (size_t)count * sizeof *copy);
    if (!copy) return false;
    for (int64_t i = 0; i < count; i++) {
        unsigned char stored[sizeof(float)];
        ref_store(stored, dtype, 0, (*numbers)[i]);
        copy[i] = ref_load(stored, dtype, 0);
    }
    *numbers = copy;
    return true;
}

bool nd_ref_keep(nd_work *work, nd_precision precision, nd_arena *arena) {
    /* Those in 8 bits, and the real filters that stand among them, are kept as they are. */
    const nd_dtype dtype =
        nd_precision_is_quantised(precision) ? nd_dtype_f32 : nd_precision_storage(precision);
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    const int64_t channels = work->y.rank > 1 ? work->y.dims[1] : 0;
    int64_t weights = channels;
    if (work->operation == nd_operation_conv) weights = channels * (work->x.dims[1] / work->groups) * window;
    if (work->operation == nd_operation_gemm) weights = channels * work->x.dims[1];
    if (work->operation == nd_operation_separable) weights = channels * work->terms;
    int64_t indices = work->terms;
    if (work->operation == nd_operation_resample) weights = indices = work->y.dims[work->axis] * work->terms;
    if (work->channel) {
        int32_t *copy = nd_arena_alloc(arena, (size_t)indices * sizeof *copy);
        if (!copy) return false;
        memcpy(copy, work->channel, (size_t)indices * sizeof *copy);
        work->channel = copy;
    }
    return ref_rounded(&work->bias, channels, nd_dtype_f32, arena) &&
           ref_rounded(&work->weights, weights, dtype, arena) &&
           ref_rounded(&work->depthwise, work->terms * window, dtype, arena) &&
           ref_rounded(&work->weights_scale, channels, nd_dtype_f32, arena) &&
           ref_rounded(&work->depthwise_scale, work->terms, nd_dtype_f32, arena);
}

static void ref_widen(const nd_view *view, const void *data, nd_dtype dtype, float *dst) {
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(view)) return;
    do {
        *dst++ = ref_load(data, dtype, nd_ref_at(view, at));
    } while (nd_ref_next(view, view->rank, at));
}

static void ref_narrow(const nd_view *view, void *data, nd_dtype dtype, const float *src) {
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(view)) return;
    do {
        ref_store(data, dtype, nd_ref_at(view, at), *src++);
    } while (nd_ref_next(view, view->rank, at));
}

static void ref_close(nd_backend *backend) {
    free(backend);
}

static bool ref_supports(nd_backend *backend, const nd_work *work, nd_precision precision) {
    (void)backend;
    if (nd_precision_is_quantised(precision)) return nd_quantized_agrees(work, precision);
    const bool turns = work->operation == nd_operation_quantize || work->operation == nd_operation_dequantize;
    return precision != nd_precision_tf32 && !turns && nd_work_agrees(work);
}

static void ref_release(nd_kernel *kernel) {
    if (!kernel) return;
    for (int i = 0; i < 3; i++) free(kernel->dense[i]);
    nd_arena_free(&kernel->arena);
    free(kernel);
}

static bool ref_dense(nd_kernel *kernel) {
    const nd_view *views[] = {&kernel->work.x, &kernel->work.x2, &kernel->work.y};
    if (nd_precision_storage(kernel->precision) == nd_dtype_f32) return true;
    if (nd_precision_is_quantised(kernel->precision)) return true;
    for (int i = 0; i < 3; i++) {
        kernel->dense[i] = nd_alloc_array((size_t)nd_view_count(views[i]), sizeof(float));
        if (!kernel->dense[i]) return false;
    }
    return true;
}

static nd_status ref_prepare(nd_backend *backend, const nd_work *work, nd_precision precision,
                             nd_kernel **out) {
    *out = NULL;
    ND_REQUIRE(ref_supports(backend, work, precision), nd_status_unsupported, "ref: no %s in %s",
               nd_operation_name(work->operation), nd_precision_name(precision));
    nd_kernel *kernel = calloc(1, sizeof *kernel);
    ND_REQUIRE(kernel, nd_status_memory, "no memory");
    kernel->work = *work;
    kernel->precision = precision;
    if (!nd_ref_keep(&kernel->work, precision, &kernel->arena) || !ref_dense(kernel)) {
        ref_release(kernel);
        return nd_fail(nd_status_memory, "no memory for the weights of a %s",
                       nd_operation_name(work->operation));
    }
    *out = kernel;
    return nd_status_ok;
}

static nd_kernel_info ref_info(const nd_kernel *kernel) {
    static const char *const engines[nd_operation_count] = {
        [nd_operation_conv] = "ref:conv",
        [nd_operation_separable] = "ref:separable",
        [nd_operation_gemm] = "ref:gemm",
        [nd_operation_pool] = "ref:pool",
        [nd_operation_binary] = "ref:binary",
        [nd_operation_activation] = "ref:activation",
        [nd_operation_affine] = "ref:affine",
        [nd_operation_softmax] = "ref:softmax",
        [nd_operation_lrn] = "ref:lrn",
        [nd_operation_reduce] = "ref:reduce",
        [nd_operation_normalize] = "ref:normalize",
        [nd_operation_product] = "ref:product",
        [nd_operation_resample] = "ref:resample",
        [nd_operation_gather] = "ref:gather",
        [nd_operation_copy] = "ref:copy",
        [nd_operation_fill] = "ref:fill",
        [nd_operation_quantize] = "ref:quantize",
        [nd_operation_dequantize] = "ref:dequantize",
    };
    return (nd_kernel_info){.engine = engines[kernel->work.operation]};
}

static nd_status ref_run_half(nd_kernel *kernel, const nd_memory *x, const nd_memory *x2, nd_memory *y) {
    const nd_dtype dtype = nd_precision_storage(kernel->precision);
    nd_work dense = kernel->work;
    dense.x = nd_view_row_major(dense.x.rank, dense.x.dims);
    dense.x2 = nd_view_row_major(dense.x2.rank, dense.x2.dims);
    dense.y = nd_view_row_major(dense.y.rank, dense.y.dims);
    if (x) ref_widen(&kernel->work.x, x->data, dtype, kernel->dense[0]);
    if (x2) ref_widen(&kernel->work.x2, x2->data, dtype, kernel->dense[1]);
    ND_TRY(nd_ref_run(&dense, kernel->dense[0], kernel->dense[1], kernel->dense[2]));
    ref_narrow(&kernel->work.y, y->data, dtype, kernel->dense[2]);
    return nd_status_ok;
}

static nd_status ref_start(nd_backend *backend, nd_kernel *kernel, const nd_memory *x, const nd_memory *x2,
                           nd_memory *y, nd_memory *workspace) {
    (void)backend;
    (void)workspace;
    if (nd_precision_is_quantised(kernel->precision))
        return nd_ref_run_quantized(&kernel->work, x ? x->data : NULL, x2 ? x2->data : NULL, y->data);
    if (nd_precision_storage(kernel->precision) != nd_dtype_f32) return ref_run_half(kernel, x, x2, y);
    return nd_ref_run(&kernel->work, x ? (const float *)x->data : NULL, x2 ? (const float *)x2->data : NULL,
                      (float *)y->data);
}

static nd_status ref_allocate(nd_backend *backend, size_t bytes, nd_memory **out) {
    (void)backend;
    *out = bytes < SIZE_MAX - sizeof **out ? nd_alloc_array(1, sizeof **out + bytes) : NULL;
    ND_REQUIRE(*out, nd_status_memory, "no memory for %zu bytes", bytes);
    (*out)->bytes = bytes;
    return nd_status_ok;
}

static void ref_free(nd_memory *memory) {
    free(memory);
}

static nd_status ref_upload(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_precision precision,
                            const float *src) {
    (void)backend;
    ref_narrow(view, dst->data, nd_precision_storage(precision), src);
    return nd_status_ok;
}

static nd_status ref_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                              nd_precision precision, float *dst) {
    (void)backend;
    ref_widen(view, src->data, nd_precision_storage(precision), dst);
    return nd_status_ok;
}

static nd_status ref_synchronize(nd_backend *backend) {
    (void)backend;
    return nd_status_ok;
}

static nd_status ref_record_event(nd_backend *backend, int slot) {
    ND_REQUIRE(slot >= 0 && slot < nd_ref_events, nd_status_usage, "ref: no event %d", slot);
    ((nd_ref_backend *)backend)->events[slot] = 1e9 * nd_seconds();
    return nd_status_ok;
}

static nd_status ref_elapsed(nd_backend *backend, int from, int to, double *ns) {
    const bool known = from >= 0 && from < nd_ref_events && to >= 0 && to < nd_ref_events;
    ND_REQUIRE(known, nd_status_usage, "ref: no events %d and %d", from, to);
    const double *events = ((nd_ref_backend *)backend)->events;
    *ns = events[to] - events[from];
    return nd_status_ok;
}

static nd_status ref_probe(nd_device_info *devices, int capacity, int *count, char *why, size_t why_size) {
    *count = 1;
    if (capacity > 0) devices[0] = (nd_device_info){.name = "plain loops"};
    if (why_size) why[0] = '\0';
    return nd_status_ok;
}

static const nd_backend_table nd_ref_table = {
    .close = ref_close,
    .supports = ref_supports,
    .prepare = ref_prepare,
    .info = ref_info,
    .run = ref_start,
    .release = ref_release,
    .allocate = ref_allocate,
    .free = ref_free,
    .upload = ref_upload,
    .download = ref_download,
    .synchronize = ref_synchronize,
    .record_event = ref_record_event,
    .elapsed = ref_elapsed,
    .linalg = ND_REF_LINALG,
};

static nd_status ref_open(const nd_backend_settings *settings, nd_backend **out) {
    *out = NULL;
    ND_REQUIRE(!settings || !settings->device, nd_status_device, "ref has one device, 0");
    nd_ref_backend *ref = calloc(1, sizeof *ref);
    ND_REQUIRE(ref, nd_status_memory, "no memory");
    if (settings && settings->threads) nd_threads_set(settings->threads);
    ref->base = (nd_backend){.table = &nd_ref_table, .name = "ref", .last_cache_bytes = (size_t)32 << 20};
    snprintf(ref->base.device, sizeof ref->base.device, "plain loops");
    *out = &ref->base;
    return nd_status_ok;
}

const nd_plugin nd_ref_plugin = {.abi = nd_plugin_abi, .name = "ref", .probe = ref_probe, .open = ref_open};
