/* Fresh buffers that really lie elsewhere.
 *
 * An allocator that just got back the buffers of the last session gives the very same ones again, at the same
 * addresses and the same distances from each other: all sessions of a run agree, and the next run differs by
 * up to 15 % in a layer whose buffers fit a cache. A pad of random size before each allocation makes the
 * sessions differ as runs do. */
#ifndef ND_BENCH_DISPLACE_H
#define ND_BENCH_DISPLACE_H

#include "base/rng.h"
#include "run/backend.h"

enum { nd_pads_max = 128 };

typedef struct nd_displacer {
    nd_backend *backend;
    nd_rng rng;
    nd_memory *pads[nd_pads_max];
    int n;
} nd_displacer;

nd_displacer nd_displacer_new(nd_backend *backend, uint64_t seed);

/* Moves what is allocated next, by 64 bytes to 64 KiB. Past nd_pads_max it does nothing. */
nd_status nd_displace(nd_displacer *displacer);

void nd_displacer_free(nd_displacer *displacer); /* gives the pads back; a zeroed one is legal */

#endif
