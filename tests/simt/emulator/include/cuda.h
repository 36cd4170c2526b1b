/* All that kernels need of the driver's header. */
#ifndef ND_SIMT_CUDA_H
#define ND_SIMT_CUDA_H

#include <stdint.h>

typedef struct CUtensorMap_st {
    alignas(128) uint64_t opaque[16];
} CUtensorMap;

#endif
