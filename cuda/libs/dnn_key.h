/* What a choice of cuDNN's engines depends on: the problem, where its tensors begin, device, driver and
 * version. */
#ifndef ND_CUDA_DNN_KEY_H
#define ND_CUDA_DNN_KEY_H

#include "cuda/libs/dnn.h"

void nd_dnn_key(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused, char key[nd_sha256_hex_size]);

#endif
