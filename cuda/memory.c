#include "cuda/memory.h"

#include <stdlib.h>

nd_status nd_cuda_allocate(size_t bytes, void **out) {
    *out = NULL;
    const cudaError_t error = cudaMalloc(out, bytes ? bytes : 1);
    if (!error) return nd_status_ok;
    if (error != cudaErrorMemoryAllocation) return nd_cuda_failed(error, "cudaMalloc", __FILE__, __LINE__);
    (void)cudaGetLastError();
    size_t available = 0, total = 0;
    (void)cudaMemGetInfo(&available, &total);
    return nd_fail(nd_status_memory, "the device has no room for %.1f MiB: %.1f of %.1f MiB are free",
                   (double)bytes / 0x1p20, (double)available / 0x1p20, (double)total / 0x1p20);
}

nd_status nd_cuda_send(nd_cuda *cuda, const void *host, size_t bytes, void *device) {
    ND_CUDA_TRY(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream));
    ND_CUDA_TRY(cudaStreamSynchronize(cuda->stream));
    return nd_status_ok;
}

nd_status nd_cuda_memory_allocate(nd_backend *backend, size_t bytes, nd_memory **out) {
    *out = NULL;
    nd_memory *memory = nd_alloc_array(1, sizeof *memory);
    ND_REQUIRE(memory, nd_status_memory, "no host memory for a device block");
    memory->cuda = (nd_cuda *)backend;
    memory->bytes = bytes;
    nd_status status = nd_cuda_allocate(bytes, &memory->data);
    if (status) {
        free(memory);
        return status;
    }
    *out = memory;
    return nd_status_ok;
}

void nd_cuda_memory_free(nd_memory *memory) {
    if (!memory) return;
    (void)cudaFree(memory->data);
    free(memory);
}

nd_status nd_cuda_synchronize(nd_backend *backend) {
    ND_CUDA_TRY(cudaStreamSynchronize(((nd_cuda *)backend)->stream));
    return nd_status_ok;
}

/* A view on its way, in pieces that the staging block holds: whole steps of the outermost axis whose steps
 * fit. */
typedef struct nd_cuda_piece {
    nd_view view;
    int64_t first, count; /* of the elements of the whole view, in row-major order */
} nd_cuda_piece;

/* Begins with a count of 0; false at the end. */
static bool cuda_piece_next(const nd_view *whole, nd_cuda_piece *piece) {
    int64_t below = nd_view_count(whole), rest = piece->first += piece->count;
    if (rest >= below) return false;
    piece->view = *whole;
    for (int axis = 0; axis < whole->rank; axis++) {
        below /= whole->dims[axis];
        const int64_t at = rest / below, left = whole->dims[axis] - at, fit = nd_cuda_staged / below;
        piece->view.offset += at * whole->strides[axis];
        piece->view.dims[axis] = fit < 1 ? 1 : fit < left ? fit : left;
        if (fit >= 1) break;
        rest -= at * below;
    }
    piece->count = nd_view_count(&piece->view);
    return true;
}

typedef nd_status nd_cuda_move(nd_cuda *cuda, const nd_cuda_piece *piece, nd_dtype storage, void *device,
                               float *host);

static nd_status cuda_move_in(nd_cuda *cuda, const nd_cuda_piece *piece, nd_dtype storage, void *device,
                              float *host) {
    const nd_view rows = nd_view_row_major(piece->view.rank, piece->view.dims);
    ND_CUDA_TRY(cudaMemcpyAsync(cuda->staging, host + piece->first, (size_t)piece->count * sizeof *host,
                                cudaMemcpyHostToDevice, cuda->stream));
    return nd_cuda_convert_launch(nd_dtype_f32, &rows, cuda->staging, storage, &piece->view, device,
                                  cuda->stream);
}

static nd_status cuda_move_out(nd_cuda *cuda, const nd_cuda_piece *piece, nd_dtype storage, void *device,
                               float *host) {
    const nd_view rows = nd_view_row_major(piece->view.rank, piece->view.dims);
    ND_TRY(nd_cuda_convert_launch(storage, &piece->view, device, nd_dtype_f32, &rows, cuda->staging,
                                  cuda->stream));
    ND_CUDA_TRY(cudaMemcpyAsync(host + piece->first, cuda->staging, (size_t)piece->count * sizeof *host,
                                cudaMemcpyDeviceToHost, cuda->stream));
    return nd_status_ok;
}

/* Waits after a failure too: the host's memory is the caller's again. */
static nd_status cuda_transfer(nd_cuda *cuda, nd_cuda_move *move, const nd_view *view, nd_precision precision,
                               void *device, float *host) {
    nd_cuda_piece piece = {.count = 0};
    nd_status status = nd_status_ok;
    while (!status && cuda_piece_next(view, &piece))
        status = move(cuda, &piece, nd_precision_storage(precision), device, host);
    if (!status) return nd_cuda_synchronize(&cuda->base);
    (void)cudaStreamSynchronize(cuda->stream);
    return status;
}

nd_status nd_cuda_upload(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_precision precision,
                         const float *src) {
    return cuda_transfer((nd_cuda *)backend, cuda_move_in, view, precision, dst->data,
                         (float *)(uintptr_t)src);
}

nd_status nd_cuda_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                           nd_precision precision, float *dst) {
    return cuda_transfer((nd_cuda *)backend, cuda_move_out, view, precision, src->data, dst);
}

nd_status nd_cuda_record_event(nd_backend *backend, int slot) {
    nd_cuda *cuda = (nd_cuda *)backend;
    ND_REQUIRE(slot >= 0 && slot < nd_cuda_events, nd_status_internal, "no event %d", slot);
    if (!cuda->events[slot]) ND_CUDA_TRY(cudaEventCreate(&cuda->events[slot]));
    /* Without the flag, an event in a graph capture only orders work and never gets a time. */
    enum cudaStreamCaptureStatus capturing;
    ND_CUDA_TRY(cudaStreamIsCapturing(cuda->stream, &capturing));
    ND_CUDA_TRY(cudaEventRecordWithFlags(cuda->events[slot], cuda->stream,
                                         capturing == cudaStreamCaptureStatusNone ? cudaEventRecordDefault
                                                                                  : cudaEventRecordExternal));
    return nd_status_ok;
}

nd_status nd_cuda_elapsed(nd_backend *backend, int from, int to, double *ns) {
    nd_cuda *cuda = (nd_cuda *)backend;
    float milliseconds = 0;
    const bool recorded = from >= 0 && from < nd_cuda_events && cuda->events[from] && to >= 0 &&
                          to < nd_cuda_events && cuda->events[to];
    ND_REQUIRE(recorded, nd_status_internal, "no events %d and %d", from, to);
    ND_CUDA_TRY(cudaEventSynchronize(cuda->events[to]));
    ND_CUDA_TRY(cudaEventElapsedTime(&milliseconds, cuda->events[from], cuda->events[to]));
    *ns = 1e6 * milliseconds;
    return nd_status_ok;
}

nd_status nd_cuda_capture_begin(nd_backend *backend) {
    ND_CUDA_TRY(cudaStreamBeginCapture(((nd_cuda *)backend)->stream, cudaStreamCaptureModeThreadLocal));
    return nd_status_ok;
}

/* The side stream has joined the main one by then: what forks in a kernel's run joins in it. */
nd_status nd_cuda_capture_end(nd_backend *backend, void **capture) {
    *capture = NULL;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    nd_status status = nd_status_ok;
    ND_CUDA_TRY_DONE(cudaStreamEndCapture(((nd_cuda *)backend)->stream, &graph));
    ND_CUDA_TRY_DONE(cudaGraphInstantiate(&ready, graph, 0));
    *capture = ready;
done:
    if (graph) (void)cudaGraphDestroy(graph);
    return status;
}

nd_status nd_cuda_replay(nd_backend *backend, void *capture) {
    ND_CUDA_TRY(cudaGraphLaunch((cudaGraphExec_t)capture, ((nd_cuda *)backend)->stream));
    return nd_status_ok;
}

void nd_cuda_capture_free(void *capture) {
    if (capture) (void)cudaGraphExecDestroy((cudaGraphExec_t)capture);
}
