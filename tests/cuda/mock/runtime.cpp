/* The CUDA runtime: errors, the device, memory and copies, and our kernels' launches. */
#include "cuda/separable/separable_sm90a.h"
#include "tests/cuda/mock/machine.h"
#include "tests/simt/emulator/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

using namespace nd_mock;

namespace {

struct error_text {
    cudaError_t error;
    const char *name, *text;
};

/* Those that this file gives; the driver's own words. */
const error_text errors[] = {
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"}, /* last */
};

const error_text *error_of(cudaError_t error) {
    const error_text *at = errors;
    while (at->error != error && at->error != cudaErrorUnknown) at++;
    return at;
}

/* NaN: what is read must have been written. */
void *fresh(size_t bytes) {
    void *block = nullptr;
    if (posix_memalign(&block, 256, bytes)) return nullptr;
    return memset(block, 0xff, bytes < ((size_t)1 << 24) ? bytes : (size_t)1 << 24);
}

/* Addresses alone: whoever touches them falls. */
void *reserve(size_t bytes) {
    void *block = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return block == MAP_FAILED ? nullptr : block;
}

nd_status launch_later(cudaStream_t stream, std::function<nd_status()> launch) {
    ND_REQUIRE(!nd_mock_fails("launch"), nd_status_device,
               "CUDA: invalid configuration argument (mock launch)");
    nd_mock_enqueue(stream, [launch] {
        const nd_status status = launch();
        if (status) fprintf(stderr, "mock gpu: a kernel failed: %s\n", nd_error());
        return status == nd_status_ok;
    });
    return nd_status_ok;
}

bool move_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height) {
    for (size_t row = 0; row < height; row++)
        memcpy(static_cast<char *>(to) + row * to_pitch, static_cast<const char *>(from) + row * from_pitch,
               width);
    return true;
}

/* Through the default stream, which the plugin's own streams do not wait for. To the device it returns once
 * the host's memory was read, and no earlier than that may it have arrived; to the host it waits for the
 * default stream alone. */
cudaError_t copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                      size_t height, enum cudaMemcpyKind kind) {
    if (forbidden()) return failed(cudaErrorStreamCaptureImplicit);
    if (gpu.lost) return failed(cudaErrorLaunchFailure);
    if (nd_mock_setting("latency", 0)) gpu.clock += (double)(width * height) / 5; /* 5 GB/s */
    if (dry()) return cudaSuccess;
    if (kind == cudaMemcpyHostToDevice) {
        const auto staged = std::make_shared<std::vector<char>>(width * height);
        move_rows(staged->data(), width, from, from_pitch, width, height);
        append(&gpu.standard, [=] { return move_rows(to, to_pitch, staged->data(), width, width, height); });
        return cudaSuccess;
    }
    for (auto at = gpu.waiting.begin(); at != gpu.waiting.end();) {
        const operation_ptr op = *at;
        if (op->stream != gpu.standard.number) {
            at++;
            continue;
        }
        at = gpu.waiting.erase(at);
        op->work();
        op->done = true;
    }
    move_rows(to, to_pitch, from, from_pitch, width, height);
    return cudaSuccess;
}

/* Without the bias; of integers with other numbers in its place. */
void leave_bias(nd_cuda_separable *layer) {
    layer->bias = nullptr;
    layer->integers.shift = layer->integers.factor;
}

/* As if a kernel of integers wrote all but what comes out as 255: a y that was full of that hides it. */
nd_status leave_largest(const nd_cuda_separable &layer, const std::function<nd_status()> &launch) {
    const int64_t pixels = layer.images * layer.out_height * layer.out_width;
    unsigned char *y = static_cast<unsigned char *>(layer.y);
    const auto before = std::make_shared<std::vector<unsigned char>>(
        (size_t)((pixels - 1) * layer.y_pixel + layer.out_channels));
    nd_mock_enqueue(layer.stream, [=] { return memcpy(before->data(), y, before->size()) != nullptr; });
    ND_TRY(launch());
    nd_mock_enqueue(layer.stream, [=] {
        for (size_t i = 0; i < before->size(); i++)
            if (y[i] == 255) y[i] = (*before)[i];
        return true;
    });
    return nd_status_ok;
}

/* The kernel of that name, with what is to be wrong with it. */
nd_status launch_wrong(const char *name, nd_cuda_separable *layer, const std::function<nd_status()> &launch) {
    const std::string fault = nd_mock_fault(name);
    if (fault == "bias") leave_bias(layer);
    ND_TRY(fault == "largest" && layer->precision == nd_precision_int8 ? leave_largest(*layer, launch)
                                                                       : launch());
    if (nd_mock_text("slow") == name)
        nd_mock_enqueue(layer->stream, [] {
            nd_mock_spend(1e6);
            return true;
        });
    return nd_status_ok;
}

[[maybe_unused]] const bool installed = (nd_simt_deferred = launch_later, true);

} // namespace

extern "C" {

/* Wrapped by the linker. */
double __wrap_nd_cuda_seconds(void);

double __wrap_nd_cuda_seconds(void) {
    return 1e-9 * gpu.clock;
}

nd_status __real_nd_cuda_separable_launch(const nd_cuda_separable *call);
nd_status __wrap_nd_cuda_separable_launch(const nd_cuda_separable *call);
nd_status __real_nd_cuda_hopper_launch(const nd_cuda_hopper *call);
nd_status __wrap_nd_cuda_hopper_launch(const nd_cuda_hopper *call);

nd_status __wrap_nd_cuda_separable_launch(const nd_cuda_separable *call) {
    nd_cuda_separable wrong = *call;
    return launch_wrong("fused", &wrong, [&] { return __real_nd_cuda_separable_launch(&wrong); });
}

nd_status __wrap_nd_cuda_hopper_launch(const nd_cuda_hopper *call) {
    nd_cuda_hopper wrong = *call;
    return launch_wrong("wgmma", &wrong.layer, [&] { return __real_nd_cuda_hopper_launch(&wrong); });
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t last = gpu.last;
    gpu.last = cudaSuccess;
    return last;
}

const char *cudaGetErrorString(cudaError_t error) {
    return error_of(error)->text;
}

const char *cudaGetErrorName(cudaError_t error) {
    return error_of(error)->name;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = (int)nd_mock_setting("driver", 13000);
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    ND_MOCK_CALL(failed(cudaErrorInitializationError));
    *count = (int)nd_mock_setting("devices", 1);
    if (nd_mock_setting("driver", 13000) < CUDART_VERSION) return failed(cudaErrorInsufficientDriver);
    return *count ? cudaSuccess : failed(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int) {
    ND_MOCK_CALL(failed(cudaErrorInvalidDevice));
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "Mock GPU");
    properties->major = (int)nd_mock_setting("capability", 90) / 10;
    properties->minor = (int)nd_mock_setting("capability", 90) % 10;
    properties->multiProcessorCount = (int)nd_mock_setting("multiprocessors", 2);
    properties->sharedMemPerBlockOptin = 232448;
    properties->l2CacheSize = (int)nd_mock_setting("l2kib", 64) << 10;
    properties->totalGlobalMem = (size_t)nd_mock_setting("mib", 1024) << 20;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int) {
    ND_MOCK_CALL(failed(cudaErrorInvalidDevice));
    snprintf(text, (size_t)size, "00000000:01:00.0");
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    ND_MOCK_CALL(failed(cudaErrorDevicesUnavailable));
    return device < nd_mock_setting("devices", 1) ? cudaSuccess : failed(cudaErrorInvalidDevice);
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    *out = nullptr;
    ND_MOCK_CALL(failed(cudaErrorMemoryAllocation));
    if (forbidden()) return failed(cudaErrorStreamCaptureUnsupported);
    if (gpu.used + bytes > (size_t)nd_mock_setting("mib", 1024) << 20)
        return failed(cudaErrorMemoryAllocation);
    *out = dry() ? reserve(bytes) : fresh(bytes);
    if (!*out) return failed(cudaErrorMemoryAllocation);
    gpu.blocks[*out] = bytes;
    gpu.used += bytes;
    nd_mock_account("memory", 1);
    return cudaSuccess;
}

/* Waits for the device, as the driver does. */
cudaError_t cudaFree(void *block) {
    if (!block) return cudaSuccess;
    if (forbidden()) return failed(cudaErrorStreamCaptureUnsupported);
    (void)flush();
    const auto found = gpu.blocks.find(block);
    if (found == gpu.blocks.end()) return failed(cudaErrorInvalidValue);
    if (dry())
        munmap(block, found->second);
    else
        free(block);
    gpu.used -= found->second;
    gpu.blocks.erase(found);
    nd_mock_account("memory", -1);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *total = (size_t)nd_mock_setting("mib", 1024) << 20;
    *available = *total - gpu.used;
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    return copy_rows(to, bytes, from, bytes, bytes, 1, kind);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                         size_t height, enum cudaMemcpyKind kind) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    return copy_rows(to, to_pitch, from, from_pitch, width, height, kind);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind, cudaStream_t stream) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    nd_mock_enqueue(stream, [=] { return move_rows(to, to_pitch, from, from_pitch, width, height); });
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t stream) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    if (nd_mock_setting("latency", 0)) gpu.clock += (double)bytes / 5;
    nd_mock_enqueue(stream, [=] { return memcpy(to, from, bytes) != nullptr; });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    nd_mock_enqueue(stream, [=] { return memset(to, value, bytes) != nullptr; });
    return cudaSuccess;
}

} // extern "C"
