/* Measured choices, kept on disk for other processes: autotuned.txt in nd's cache folder, lines "key name" of
 * which the last one with a key counts. Only what was checked is kept. */
#ifndef ND_CUDA_WINNERS_H
#define ND_CUDA_WINNERS_H

#include "cuda/device.h"

enum { nd_winner_size = 256 };

/* Begins a key with what every choice depends on: the device, its driver, the libraries. */
void nd_winner_key(const nd_cuda *cuda, nd_sha256 *hash);

/* False where there is none. */
bool nd_winner_find(const char *key, char name[nd_winner_size]);
void nd_winner_keep(const char *key, const char *name); /* one that cannot be written is measured again */

#endif
