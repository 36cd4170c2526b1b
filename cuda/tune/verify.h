/* Verifies one result of a work against another, on the device: one read of each, and a number for every
 * block comes back. */
#ifndef ND_CUDA_VERIFY_H
#define ND_CUDA_VERIFY_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { nd_verify_blocks = 1024 };

/* Whole buffers, element by element. Where `expected` is NaN nobody was to write, and `got` must be NaN too;
 * integers, which have none, must hold there what both were filled with. */
typedef struct nd_cuda_verify {
    nd_dtype storage;
    int64_t count;
    const void *got, *expected;
    float absolute, relative; /* |got - expected| <= absolute + relative * |expected|; absolute > 0 */
    float *worst; /* [nd_verify_blocks] on the device: largest error by that bound, infinite for NaN */
    cudaStream_t stream;
} nd_cuda_verify;

nd_status nd_cuda_verify_launch(const nd_cuda_verify *call);

#ifdef __cplusplus
}
#endif

#endif
