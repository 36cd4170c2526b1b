/* The one exported symbol: what devices there are, and how a backend opens and closes. */
#include "cuda/device.h"
#include "cuda/libs/blas.h"
#include "cuda/libs/dnn.h"
#include "cuda/libs/nvml.h"
#include "cuda/libs/solver.h"
#include "cuda/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether there is nothing to complain about, only no device: then why, in words that say what to do. */
static bool cuda_absent(cudaError_t error, int driver, char *why, size_t why_size) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    const bool none = error == cudaSuccess || error == cudaErrorNoDevice;
    if (error == cudaErrorInsufficientDriver && driver == 0)
        snprintf(why, why_size, "no NVIDIA driver is loaded");
    else if (none && visible)
        snprintf(why, why_size, "CUDA_VISIBLE_DEVICES=\"%.64s\" leaves no GPU", visible);
    else if (none)
        snprintf(why, why_size, "the driver sees no GPU");
    return none || (error == cudaErrorInsufficientDriver && driver == 0);
}

static nd_status cuda_count(int *count, char *why, size_t why_size) {
    int driver = 0, runtime = 0;
    const cudaError_t error = cudaGetDeviceCount(count);
    if (!error && *count) return nd_status_ok;
    *count = 0;
    (void)cudaGetLastError();
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (cuda_absent(error, driver, why, why_size)) return nd_status_ok;
    ND_REQUIRE(error != cudaErrorInsufficientDriver, nd_status_device,
               "the NVIDIA driver serves CUDA %d.%d, this plugin needs %d.%d: update the driver",
               driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    return nd_fail(nd_status_device, "%s (%s)", cudaGetErrorString(error), cudaGetErrorName(error));
}

static nd_status cuda_probe(nd_device_info *devices, int capacity, int *count, char *why, size_t why_size) {
    if (why_size) why[0] = '\0';
    ND_TRY(cuda_count(count, why, why_size));
    for (int i = 0; i < *count && i < capacity; i++) {
        struct cudaDeviceProp properties;
        ND_CUDA_TRY(cudaGetDeviceProperties(&properties, i));
        snprintf(devices[i].name, sizeof devices[i].name, "%.100s, sm_%d%d", properties.name,
                 properties.major, properties.minor);
        devices[i].memory_bytes = properties.totalGlobalMem;
    }
    return nd_status_ok;
}

static void cuda_close(nd_backend *backend) {
    nd_cuda *cuda = (nd_cuda *)backend;
    if (!cuda) return;
    if (cuda->stream) (void)cudaStreamSynchronize(cuda->stream);
    nd_nvml_close(cuda->nvml);
    nd_dnn_close(cuda->dnn);
    nd_solver_close(cuda->solver);
    nd_blas_close(cuda->blas);
    for (int i = 0; i < nd_cuda_events; i++)
        if (cuda->events[i]) (void)cudaEventDestroy(cuda->events[i]);
    if (cuda->fork) (void)cudaEventDestroy(cuda->fork);
    for (int i = 0; i < 2; i++) {
        if (cuda->ready[i]) (void)cudaEventDestroy(cuda->ready[i]);
        if (cuda->done[i]) (void)cudaEventDestroy(cuda->done[i]);
    }
    if (cuda->side) (void)cudaStreamDestroy(cuda->side);
    if (cuda->stream) (void)cudaStreamDestroy(cuda->stream);
    (void)cudaFree(cuda->staging);
    (void)cudaFree(cuda->flush);
    free(cuda->choices);
    free(cuda);
}

static const nd_cuda_implementation *cuda_implementation_of(nd_operation operation, nd_precision precision) {
    static const nd_cuda_implementation *const implementations[nd_operation_count] = {
        [nd_operation_conv] = &nd_cuda_conv_implementation,
        [nd_operation_separable] = &nd_cuda_separable_implementation,
        [nd_operation_gemm] = &nd_cuda_gemm_implementation,
    };
    static const nd_cuda_implementation *const quantised[nd_operation_count] = {
        [nd_operation_conv] = &nd_cuda_quantized_conv_implementation,
        [nd_operation_separable] = &nd_cuda_separable_implementation,
        [nd_operation_gemm] = &nd_cuda_quantized_conv_implementation,
    };
    if (nd_precision_is_quantised(precision))
        return quantised[operation] ? quantised[operation] : &nd_cuda_quantized_implementation;
    return implementations[operation] ? implementations[operation] : &nd_cuda_simple_implementation;
}

static bool cuda_supports(nd_backend *backend, const nd_work *work, nd_precision precision) {
    const nd_cuda_implementation *implementation = cuda_implementation_of(work->operation, precision);
    if (nd_precision_is_quantised(precision))
        return implementation->supports((const nd_cuda *)backend, work, precision);
    if (work->operation == nd_operation_quantize || work->operation == nd_operation_dequantize) return false;
    return nd_work_agrees(work) && nd_cuda_has_function(work) &&
           implementation->supports((const nd_cuda *)backend, work, precision);
}

static nd_status cuda_prepare(nd_backend *backend, const nd_work *work, nd_precision precision,
                              nd_kernel **out) {
    return nd_cuda_kernel_make((nd_cuda *)backend, cuda_implementation_of(work->operation, precision), work,
                               precision, out);
}

static nd_kernel_info cuda_info(const nd_kernel *kernel) {
    return (nd_kernel_info){.engine = kernel->engine, .workspace_bytes = kernel->workspace};
}

static nd_status cuda_run(nd_backend *backend, nd_kernel *kernel, const nd_memory *x, const nd_memory *x2,
                          nd_memory *y, nd_memory *workspace) {
    (void)backend;
    const nd_cuda_operands operands = {
        .x = x ? x->data : NULL,
        .x2 = x2 ? x2->data : NULL,
        .y = y->data,
        .workspace = workspace ? workspace->data : NULL,
    };
    return nd_cuda_kernel_run(kernel, &operands);
}

static void cuda_conditions(nd_backend *backend, char *text, size_t size) {
    nd_nvml_conditions(((nd_cuda *)backend)->nvml, text, size);
}

static const nd_backend_table nd_cuda_table = {
    .close = cuda_close,
    .supports = cuda_supports,
    .prepare = cuda_prepare,
    .info = cuda_info,
    .run = cuda_run,
    .release = nd_cuda_kernel_release,
    .allocate = nd_cuda_memory_allocate,
    .free = nd_cuda_memory_free,
    .upload = nd_cuda_upload,
    .download = nd_cuda_download,
    .synchronize = nd_cuda_synchronize,
    .record_event = nd_cuda_record_event,
    .elapsed = nd_cuda_elapsed,
    .capture_begin = nd_cuda_capture_begin,
    .capture_end = nd_cuda_capture_end,
    .replay = nd_cuda_replay,
    .capture_free = nd_cuda_capture_free,
    .conditions = cuda_conditions,
    .linalg =
        {
            .svd = nd_solver_svd,
            .svd_info = nd_solver_svd_info,
            .accumulate = nd_blas_accumulate,
            .solve = nd_solver_solve,
            .eigen = nd_solver_eigen,
            .gemm = nd_blas_gemm,
        },
};

static nd_status cuda_describe(nd_cuda *cuda) {
    struct cudaDeviceProp properties;
    int driver = 0, runtime = 0;
    ND_CUDA_TRY(cudaGetDeviceProperties(&properties, cuda->device));
    ND_CUDA_TRY(cudaDriverGetVersion(&driver));
    ND_CUDA_TRY(cudaRuntimeGetVersion(&runtime));
    cuda->capability = 10 * properties.major + properties.minor;
    ND_REQUIRE(cuda->capability >= 80, nd_status_device,
               "%s is sm_%d; this plugin has kernels for sm_80 and later", properties.name, cuda->capability);
    cuda->multiprocessors = properties.multiProcessorCount;
    cuda->shared_limit = properties.sharedMemPerBlockOptin;
    cuda->base.last_cache_bytes = (size_t)properties.l2CacheSize;
    snprintf(cuda->base.device, sizeof cuda->base.device, "%.100s, sm_%d", properties.name, cuda->capability);
    char release[32];
    cuda->nvml = nd_nvml_open(cuda->device);
    nd_nvml_identity(cuda->nvml, properties.name, cuda->base.gpu, sizeof cuda->base.gpu);
    nd_nvml_driver(cuda->nvml, release, sizeof release);
    snprintf(cuda->base.driver, sizeof cuda->base.driver, "%s, CUDA %d.%d",
             *release ? release : "unknown (no NVML)", driver / 1000, driver % 1000 / 10);
    char dnn[32], blas[32], solver[32];
    snprintf(cuda->base.libraries, sizeof cuda->base.libraries,
             "CUDA %d.%d, cuDNN %s, cuBLAS %s, cuSOLVER %s", runtime / 1000, runtime % 1000 / 10,
             nd_dnn_version(dnn, sizeof dnn), nd_blas_version(blas, sizeof blas),
             nd_solver_version(solver, sizeof solver));
    return nd_status_ok;
}

static unsigned cuda_algorithm_named(const char *name, size_t length) {
    static const char *const names[nd_cuda_algorithm_count] = {"dense", "chunked", "fused", "wgmma"};
    for (int i = 0; i < nd_cuda_algorithm_count; i++)
        if (strlen(names[i]) == length && !memcmp(names[i], name, length)) return 1u << i;
    return 0;
}

static nd_status cuda_choose_algorithms(nd_cuda *cuda) {
    const char *chosen = getenv("ND_CUDA_SEPARABLE");
    if (!chosen || !*chosen || !strcmp(chosen, "auto")) {
        cuda->algorithms = (1u << nd_cuda_algorithm_count) - 1;
        return nd_status_ok;
    }
    for (const char *at = chosen; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const unsigned algorithm = cuda_algorithm_named(at, strcspn(at, ","));
        ND_REQUIRE(algorithm, nd_status_usage,
                   "ND_CUDA_SEPARABLE=%s: auto, or of dense, chunked, fused and wgmma", chosen);
        cuda->algorithms |= algorithm;
    }
    return nd_status_ok;
}

/* A library may offer dozens of engines for a layer, and take more than a second to compile one of them. */
static nd_status cuda_choose_seconds(nd_cuda *cuda) {
    const char *chosen = getenv("ND_CUDA_TUNE_SECONDS");
    char *end = NULL;
    cuda->tune_seconds = 2;
    if (!chosen || !*chosen) return nd_status_ok;
    cuda->tune_seconds = strtod(chosen, &end);
    ND_REQUIRE(!*end && cuda->tune_seconds >= 0 && cuda->tune_seconds <= 3600, nd_status_usage,
               "ND_CUDA_TUNE_SECONDS=%s: seconds, from 0 to 3600", chosen);
    return nd_status_ok;
}

/* One kernel of ours, run to its end: a device that has no room or cannot run it is found out here, where
 * another backend may still be taken in its place. */
static nd_status cuda_prove(nd_cuda *cuda) {
    const int64_t count = 256;
    nd_work work = {.operation = nd_operation_fill, .value = 1};
    void *block;
    ND_TRY(nd_cuda_allocate(nd_cuda_staged * sizeof(float), &block));
    cuda->staging = block;
    work.x = work.y = nd_view_row_major(1, &count);
    const nd_cuda_call call = {.work = &work, .storage = nd_dtype_f32, .y = block, .stream = cuda->stream};
    ND_TRY(nd_cuda_fill_launch(&call));
    ND_CUDA_TRY(cudaStreamSynchronize(cuda->stream));
    return nd_status_ok;
}

static nd_status cuda_start(nd_cuda *cuda) {
    ND_CUDA_TRY(cudaSetDevice(cuda->device));
    ND_TRY(cuda_describe(cuda));
    ND_TRY(cuda_choose_algorithms(cuda));
    ND_TRY(cuda_choose_seconds(cuda));
    ND_CUDA_TRY(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    ND_CUDA_TRY(cudaStreamCreateWithFlags(&cuda->side, cudaStreamNonBlocking));
    ND_CUDA_TRY(cudaEventCreateWithFlags(&cuda->fork, cudaEventDisableTiming));
    for (int i = 0; i < 2; i++) {
        ND_CUDA_TRY(cudaEventCreateWithFlags(&cuda->ready[i], cudaEventDisableTiming));
        ND_CUDA_TRY(cudaEventCreateWithFlags(&cuda->done[i], cudaEventDisableTiming));
    }
    ND_TRY(cuda_prove(cuda));
    ND_TRY(nd_blas_open(cuda, &cuda->blas));
    ND_TRY(nd_solver_open(cuda, &cuda->solver));
    return nd_dnn_open(cuda, &cuda->dnn);
}

static nd_status cuda_open(const nd_backend_settings *settings, nd_backend **out) {
    *out = NULL;
    nd_cuda *cuda = nd_alloc_array(1, sizeof *cuda);
    ND_REQUIRE(cuda, nd_status_memory, "no memory for the cuda backend");
    cuda->base.table = &nd_cuda_table;
    cuda->base.name = "cuda";
    cuda->base.channels_last = true;
    cuda->device = settings->device;
    cuda->workspace_limit = settings->workspace_limit ? settings->workspace_limit : (size_t)1 << 30;
    cuda->tune = settings->tune;
    nd_status status = cuda_start(cuda);
    if (status) {
        cuda_close(&cuda->base);
        return nd_fail_in(status, "backend cuda, device %d", settings->device);
    }
    *out = &cuda->base;
    return nd_status_ok;
}

/* Declared here because the name is looked up, not included. */
extern const nd_plugin nd_plugin_entry;
__attribute__((visibility("default"))) const nd_plugin nd_plugin_entry = {
    .abi = nd_plugin_abi,
    .name = "cuda",
    .probe = cuda_probe,
    .open = cuda_open,
};
