/* The CUDA runtime: memory, streams, events, captured graphs. */
#include "cuda/separable/separable_sm90a.h"
#include "tests/cuda/mock/mock.h"
#include "tests/simt/emulator/stream.h"

#include <algorithm>
#include <limits.h>
#include <list>
#include <map>
#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace {

struct operation {
    std::function<bool()> work;
    std::vector<std::shared_ptr<operation>> after;
    int stream = 0;
    bool done = false;
};

typedef std::shared_ptr<operation> operation_ptr;

struct captured_graph {
    std::vector<operation_ptr> operations;
    bool broken = false;
};

/* What the next operation of the stream comes after. */
struct stream_state {
    int number;
    std::vector<operation_ptr> after;
    std::shared_ptr<captured_graph> into;
    bool origin = false; /* the one that the capture began on */
};

struct event_state {
    operation_ptr at;
    std::shared_ptr<captured_graph> into;
    double ns = 0;
};

struct machine {
    std::list<operation_ptr> waiting;
    std::vector<stream_state *> streams;
    std::map<void *, size_t> blocks;
    size_t used = 0;
    std::map<std::string, int> alive, calls;
    cudaError_t last = cudaSuccess;
    bool lost = false;
    int made_streams = 0;
    stream_state standard{INT_MAX, {}, nullptr}; /* the default stream */
    long executed = 0;                           /* operations */
    double clock = 0;                            /* ns; goes on by what runs */

    /* A process that leaks something must not look well. */
    ~machine() {
        bool leaks = false;
        for (const auto &entry : alive) {
            if (!entry.second) continue;
            fprintf(stderr, "mock gpu: %d of %s were not given back\n", entry.second, entry.first.c_str());
            leaks = true;
        }
        if (nd_mock_setting("time", 0)) fprintf(stderr, "mock gpu: %.1f s passed\n", 1e-9 * clock);
        if (nd_mock_setting("count", 0))
            for (const auto &entry : calls)
                fprintf(stderr, "mock gpu: call %s %d\n", entry.first.c_str(), entry.second);
        if (leaks) _exit(86);
    }
};

machine gpu;

/* Nothing is computed. */
bool dry() {
    static const bool is = nd_mock_setting("dry", 0) != 0;
    return is;
}

stream_state *state_of(cudaStream_t stream) {
    return reinterpret_cast<stream_state *>(stream);
}

cudaError_t failed(cudaError_t error) {
    gpu.last = error;
    return error;
}

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

bool ready(const operation_ptr &op) {
    return std::all_of(op->after.begin(), op->after.end(), [](const operation_ptr &a) { return a->done; });
}

/* Runs all that waits, one operation at a time, in the order that was asked for. */
cudaError_t flush() {
    const long order = nd_mock_setting("order", 0);
    while (!gpu.waiting.empty()) {
        auto best = gpu.waiting.end();
        for (auto at = gpu.waiting.begin(); at != gpu.waiting.end(); at++) {
            if (!ready(*at)) continue;
            const bool first = best == gpu.waiting.end();
            if (first || (order == 1 && (*at)->stream > (*best)->stream) ||
                (order == 2 && (*at)->stream < (*best)->stream))
                best = at;
            if (!order) break;
        }
        const operation_ptr op = *best;
        gpu.waiting.erase(best);
        if (op->work) gpu.clock += 1e5; /* so slow that few repetitions make a sample */
        if (op->work && ++gpu.executed == nd_mock_setting("lost", 0)) gpu.lost = true;
        if (!gpu.lost && op->work && !op->work()) gpu.lost = true;
        op->done = true;
        op->after.clear();
    }
    return gpu.lost ? failed(cudaErrorLaunchFailure) : cudaSuccess;
}

operation_ptr append(stream_state *stream, std::function<bool()> work) {
    auto op = std::make_shared<operation>();
    op->work = std::move(work);
    op->after = stream->after;
    op->stream = stream->number;
    if (stream->into)
        stream->into->operations.push_back(op);
    else
        gpu.waiting.push_back(op);
    stream->after = {op};
    return op;
}

/* Calls that the driver forbids while this thread records, and that break the graph capture. */
bool forbidden() {
    bool any = false;
    for (stream_state *stream : gpu.streams) {
        if (!stream->into) continue;
        stream->into->broken = any = true;
    }
    return any;
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

[[maybe_unused]] const bool installed = (nd_simt_deferred = launch_later, true);

} // namespace

/* What follows `wanted` in a list of that separator. */
static std::string part_of(std::string rest, char separator, const std::string &wanted) {
    while (!rest.empty()) {
        const size_t end = rest.find(separator);
        const std::string part = rest.substr(0, end);
        if (part.compare(0, wanted.size(), wanted) == 0) return part.substr(wanted.size());
        rest = end == std::string::npos ? "" : rest.substr(end + 1);
    }
    return "";
}

std::string nd_mock_text(const char *key) {
    const char *all = getenv("ND_MOCK_GPU");
    return part_of(all ? all : "", ',', std::string(key) + "=");
}

std::string nd_mock_fault(const std::string &name) {
    return part_of(nd_mock_text("wrong"), '+', name + ":");
}

long nd_mock_setting(const char *key, long otherwise) {
    const std::string text = nd_mock_text(key);
    return text.empty() ? otherwise : atol(text.c_str());
}

bool nd_mock_fails(const char *function) {
    const int call = ++gpu.calls[function];
    const std::string wanted = nd_mock_text("fail");
    const size_t colon = wanted.find(':');
    if (colon == std::string::npos || wanted.substr(0, colon) != function) return false;
    const int at = atoi(wanted.c_str() + colon + 1);
    return at == 0 || at == call;
}

void nd_mock_account(const char *what, int change) {
    gpu.alive[what] += change;
}

void nd_mock_spend(double ns) {
    gpu.clock += ns;
}

void nd_mock_pass(double ns) {
    gpu.clock += ns;
}

void nd_mock_enqueue(cudaStream_t stream, std::function<bool()> work) {
    if (dry()) work = [] { return true; };
    append(state_of(stream), std::move(work));
}

bool nd_mock_capturing() {
    return std::any_of(gpu.streams.begin(), gpu.streams.end(),
                       [](const stream_state *s) { return s->into != nullptr; });
}

float nd_mock_load(const void *data, nd_dtype type, int64_t index) {
    if (type == nd_dtype_f16) return nd_f16_to_f32(static_cast<const uint16_t *>(data)[index]);
    if (type == nd_dtype_bf16) return nd_bf16_to_f32(static_cast<const uint16_t *>(data)[index]);
    return static_cast<const float *>(data)[index];
}

void nd_mock_store(void *data, nd_dtype type, int64_t index, float value) {
    if (type == nd_dtype_f32)
        static_cast<float *>(data)[index] = value;
    else
        static_cast<uint16_t *>(data)[index] =
            type == nd_dtype_f16 ? nd_f32_to_f16(value) : nd_f32_to_bf16(value);
}

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
    if (!nd_mock_fault("fused").empty()) wrong.bias = nullptr;
    return __real_nd_cuda_separable_launch(&wrong);
}

nd_status __wrap_nd_cuda_hopper_launch(const nd_cuda_hopper *call) {
    nd_cuda_hopper wrong = *call;
    if (!nd_mock_fault("wgmma").empty()) wrong.layer.bias = nullptr;
    return __real_nd_cuda_hopper_launch(&wrong);
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

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    *out = nullptr;
    ND_MOCK_CALL(failed(cudaErrorMemoryAllocation));
    auto *stream = new stream_state();
    stream->number = gpu.made_streams++;
    gpu.streams.push_back(stream);
    nd_mock_account("streams", 1);
    *out = reinterpret_cast<cudaStream_t>(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    (void)flush();
    gpu.streams.erase(std::find(gpu.streams.begin(), gpu.streams.end(), state_of(stream)));
    nd_mock_account("streams", -1);
    delete state_of(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
    ND_MOCK_CALL(failed(cudaErrorLaunchFailure));
    return forbidden() ? failed(cudaErrorStreamCaptureUnsupported) : flush();
}

/* A stream that waits for an event of a graph capture belongs to the graph capture from then on. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    const auto *e = reinterpret_cast<event_state *>(event);
    stream_state *s = state_of(stream);
    if (!e->at) return cudaSuccess;
    if (s->into && s->into != e->into) return failed(cudaErrorStreamCaptureIsolation);
    if (e->into && !s->into) s->after.clear();
    s->into = e->into;
    s->after.push_back(e->at);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    *out = nullptr;
    ND_MOCK_CALL(failed(cudaErrorMemoryAllocation));
    nd_mock_account("events", 1);
    *out = reinterpret_cast<cudaEvent_t>(new event_state());
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    (void)flush();
    nd_mock_account("events", -1);
    delete reinterpret_cast<event_state *>(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    auto *e = reinterpret_cast<event_state *>(event);
    const bool captured = state_of(stream)->into != nullptr;
    e->at = append(
        state_of(stream), captured ? std::function<bool()>() : [e] {
            e->ns = gpu.clock;
            return true;
        });
    e->into = state_of(stream)->into;
    return cudaSuccess;
}

/* An external event is recorded by every launch of the graph capture; outside of one the driver does not know
 * it.
 */
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    if (flags != cudaEventRecordExternal) return cudaEventRecord(event, stream);
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    auto *e = reinterpret_cast<event_state *>(event);
    if (!state_of(stream)->into) return failed(cudaErrorInvalidValue);
    append(state_of(stream), [e] {
        e->ns = gpu.clock;
        return true;
    });
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    ND_MOCK_CALL(failed(cudaErrorInvalidValue));
    *status = state_of(stream)->into ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
    ND_MOCK_CALL(failed(cudaErrorLaunchFailure));
    return forbidden() ? failed(cudaErrorStreamCaptureUnsupported) : flush();
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    ND_MOCK_CALL(failed(cudaErrorLaunchFailure));
    const auto *a = reinterpret_cast<event_state *>(from), *b = reinterpret_cast<event_state *>(to);
    if (!a->at || !b->at || a->into || b->into) return failed(cudaErrorInvalidResourceHandle);
    const cudaError_t error = flush();
    *milliseconds = (float)(1e-6 * (b->ns - a->ns));
    return error;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
    ND_MOCK_CALL(failed(cudaErrorStreamCaptureUnsupported));
    stream_state *s = state_of(stream);
    if (s->into) return failed(cudaErrorIllegalState);
    s->into = std::make_shared<captured_graph>();
    s->origin = true;
    s->after.clear();
    return cudaSuccess;
}

/* All that was recorded must lie before the end of the stream that the graph capture began on. */
static bool joined(const std::vector<operation_ptr> &ends, size_t count) {
    std::vector<operation_ptr> todo = ends;
    std::map<operation *, bool> seen;
    while (!todo.empty()) {
        const operation_ptr op = todo.back();
        todo.pop_back();
        if (seen[op.get()]) continue;
        seen[op.get()] = true;
        todo.insert(todo.end(), op->after.begin(), op->after.end());
    }
    return seen.size() == count;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = nullptr;
    stream_state *s = state_of(stream);
    if (!s->into || !s->origin) return failed(cudaErrorIllegalState);
    const std::shared_ptr<captured_graph> made = s->into;
    const bool whole = joined(s->after, made->operations.size());
    for (stream_state *other : gpu.streams) {
        if (other->into != made) continue;
        other->into = nullptr;
        other->origin = false;
        other->after.clear();
    }
    ND_MOCK_CALL(failed(cudaErrorStreamCaptureInvalidated));
    if (made->broken) return failed(cudaErrorStreamCaptureInvalidated);
    if (!whole) return failed(cudaErrorStreamCaptureUnjoined);
    nd_mock_account("graphs", 1);
    *graph = reinterpret_cast<cudaGraph_t>(new captured_graph(*made));
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    *out = nullptr;
    ND_MOCK_CALL(failed(cudaErrorMemoryAllocation));
    nd_mock_account("executable graphs", 1);
    *out = reinterpret_cast<cudaGraphExec_t>(new captured_graph(*reinterpret_cast<captured_graph *>(graph)));
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    nd_mock_account("graphs", -1);
    delete reinterpret_cast<captured_graph *>(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    (void)flush();
    nd_mock_account("executable graphs", -1);
    delete reinterpret_cast<captured_graph *>(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    ND_MOCK_CALL(failed(cudaErrorLaunchFailure));
    stream_state *s = state_of(stream);
    std::map<operation *, operation_ptr> copies;
    const operation_ptr begin = append(s, {});
    for (const operation_ptr &op : reinterpret_cast<captured_graph *>(graph)->operations) {
        auto copy = std::make_shared<operation>();
        copy->work = op->work;
        copy->stream = op->stream;
        for (const operation_ptr &before : op->after) copy->after.push_back(copies.at(before.get()));
        if (copy->after.empty()) copy->after.push_back(begin);
        copies[op.get()] = copy;
        gpu.waiting.push_back(copy);
        s->after.push_back(copy);
    }
    append(s, {});
    return cudaSuccess;
}

} // extern "C"
