/* Descriptions of tensors in global memory for the copy engine of sm_90 (CUDA Driver API, "Tensor Map Object
 * Management"). */
#ifndef ND_CUDA_TENSOR_MAP_H
#define ND_CUDA_TENSOR_MAP_H

#include <cuda.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/status.h"
#include "base/tensor.h"

enum { nd_tensor_map_rank_max = 5 };

/* Axis 0 is the innermost, its elements next to each other. What a box covers outside the tensor arrives as
 * zeros. */
typedef struct nd_tensor_map {
    const char *name; /* for the message */
    const void *data; /* on 16 bytes */
    nd_dtype type;    /* f32, f16, bf16, u8 or e4m3 */
    int rank;
    uint64_t dims[nd_tensor_map_rank_max];
    uint64_t strides[nd_tensor_map_rank_max]; /* bytes from one to the next along axis i, multiples of 16; [0]
                                                 is not read */
    uint32_t box[nd_tensor_map_rank_max];     /* elements that one copy brings, at most 256 an axis */
    int swizzle; /* bytes of a row in shared memory whose 16-byte chunks are permuted: 0 (none), 64, 128 */
} nd_tensor_map;

/* nd_status_unsupported where the driver does not take one of the `count` maps. */
nd_status nd_tensor_map_encode(const nd_tensor_map *maps, int count, CUtensorMap *out);

#ifdef __cplusplus
}
#endif

#endif
