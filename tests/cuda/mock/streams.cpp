/* The CUDA runtime: streams, events, captured graphs. */
#include "tests/cuda/mock/machine.h"

#include <algorithm>

using namespace nd_mock;

extern "C" {

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
