/* Where launches go that are to wait in a stream, as tests/cuda/mock has them; NULL runs them at once. */
#ifndef ND_SIMT_STREAM_H
#define ND_SIMT_STREAM_H

#include <cuda_runtime_api.h>
#include <functional>

extern "C" {
#include "base/status.h"
}

extern nd_status (*nd_simt_deferred)(cudaStream_t stream, std::function<nd_status()> launch);

#endif
