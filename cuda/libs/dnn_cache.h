/* Measured choices of engines, kept on disk: cudnn_engines.txt in nd's cache folder, lines "key engine" of
 * which the last one with the key counts. An engine is there only when it was verified against our direct
 * kernel on the same device, driver and cuDNN, on which the key depends: what comes from the cache is not
 * checked again. A cache that cannot be read or written is no failure: the choice is measured again. */
#ifndef ND_CUDA_DNN_CACHE_H
#define ND_CUDA_DNN_CACHE_H

#include "base/hash.h"
#include "cuda/libs/dnn.h"

enum { nd_dnn_key_size = nd_sha256_hex_size };

/* What a choice depends on: shapes, layout, alignment, epilogue, precision, workspace limit, device, driver,
 * cuDNN. */
void nd_dnn_cache_key(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                      char key[nd_dnn_key_size]);
bool nd_dnn_cache_get(const char *key, char *engine, size_t size); /* false: not there */
void nd_dnn_cache_put(const char *key, const char *engine);

#endif
