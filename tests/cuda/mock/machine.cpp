/* The machine: its settings, its account, and running what waits. */
#include "tests/cuda/mock/machine.h"

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace nd_mock {

machine gpu;

machine::~machine() {
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

static bool ready(const operation_ptr &op) {
    return std::all_of(op->after.begin(), op->after.end(), [](const operation_ptr &a) { return a->done; });
}

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

bool forbidden() {
    bool any = false;
    for (stream_state *stream : gpu.streams) {
        if (!stream->into) continue;
        stream->into->broken = any = true;
    }
    return any;
}

} // namespace nd_mock

using namespace nd_mock;

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
    if (type == nd_dtype_i8) return static_cast<const int8_t *>(data)[index];
    if (type == nd_dtype_e4m3) return nd_e4m3_to_f32(static_cast<const uint8_t *>(data)[index]);
    return static_cast<const float *>(data)[index];
}

void nd_mock_store(void *data, nd_dtype type, int64_t index, float value) {
    if (type == nd_dtype_f32)
        static_cast<float *>(data)[index] = value;
    else
        static_cast<uint16_t *>(data)[index] =
            type == nd_dtype_f16 ? nd_f32_to_f16(value) : nd_f32_to_bf16(value);
}
