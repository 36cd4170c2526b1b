#include "cuda/check.h"

#include <cuda_runtime_api.h>

nd_status nd_cuda_failed(int error, const char *expression, const char *file, int line) {
    const nd_status status = error == cudaErrorMemoryAllocation ? nd_status_memory : nd_status_device;
    (void)cudaGetLastError(); /* what is not sticky must not fail the next call too */
    return nd_fail(status, "CUDA: %s (%s) at %s:%d: %s", cudaGetErrorString((cudaError_t)error),
                   cudaGetErrorName((cudaError_t)error), file, line, expression);
}
