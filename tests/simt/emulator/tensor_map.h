/* Tensor maps of the emulator's own, for whoever plays the driver. */
#ifndef ND_SIMT_TENSOR_MAP_H
#define ND_SIMT_TENSOR_MAP_H

#include "cuda/libs/tensor_map.h"

/* False where the driver would refuse it. */
bool nd_simt_tensor_map(const nd_tensor_map *map, CUtensorMap *out);

#endif
