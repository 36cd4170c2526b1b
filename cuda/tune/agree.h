/* Whether two results of the same work agree, on the device: one read of each, and a number for every block
 * comes back. */
#ifndef ND_CUDA_AGREE_H
#define ND_CUDA_AGREE_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { nd_agree_blocks = 1024 };

/* Whole buffers, element by element. Where `expected` is NaN nobody was to write, and `got` must be NaN too.
 */
typedef struct nd_cuda_agree {
    nd_dtype storage;
    int64_t count;
    const void *got, *expected;
    float absolute, relative; /* |got - expected| <= absolute + relative * |expected| */
    float *worst; /* [nd_agree_blocks] on the device: largest error by that bound, infinite for NaN */
    cudaStream_t stream;
} nd_cuda_agree;

nd_status nd_cuda_agree_launch(const nd_cuda_agree *call);

#ifdef __cplusplus
}
#endif

#endif
