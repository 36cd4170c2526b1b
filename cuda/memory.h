/* Device memory, transfers, events and graph captures: the plain part of the backend table. */
#ifndef ND_CUDA_MEMORY_H
#define ND_CUDA_MEMORY_H

#include "cuda/device.h"

nd_status nd_cuda_memory_allocate(nd_backend *backend, size_t bytes, nd_memory **out);
void nd_cuda_memory_free(nd_memory *memory);
nd_status nd_cuda_upload(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_precision precision,
                         const float *src);
nd_status nd_cuda_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                           nd_precision precision, float *dst);
nd_status nd_cuda_synchronize(nd_backend *backend);
nd_status nd_cuda_record_event(nd_backend *backend, int slot);
nd_status nd_cuda_elapsed(nd_backend *backend, int from, int to, double *ns);
nd_status nd_cuda_capture_begin(nd_backend *backend);
nd_status nd_cuda_capture_end(nd_backend *backend, void **capture);
nd_status nd_cuda_replay(nd_backend *backend, void *capture);
void nd_cuda_capture_free(void *capture);

#endif
