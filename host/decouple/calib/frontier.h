/* Where a walk stands: all calibration images at one cut through the original network and the one decoupled
 * so far, so that the next layer is reached without running what lies before it again (recipe, 1.5 B and C).
 *
 * Held in memory up to a limit. Where a cut does not fit, the last one that did stays, or the images
 * themselves, and what lies between is computed anew. Either way the layers see the same numbers. */
#ifndef ND_DECOUPLE_FRONTIER_H
#define ND_DECOUPLE_FRONTIER_H

#include "decouple/calib/sample.h"

typedef struct nd_frontier nd_frontier;

enum { nd_frontier_bytes = 1 << 30 }; /* the usual limit */

/* At the image: nothing is stored. `images` = 0 takes all. The batches are borrowed. `limit` bytes of
 * activations; while it moves, one block more. */
nd_status nd_frontier_new(nd_batches *batches, int64_t images, size_t limit, nd_frontier **out);
void nd_frontier_free(nd_frontier *frontier); /* NULL is legal */

/* Moves to the values that nodes from number `node` on need of the nodes before it. The two graphs have the
 * same nodes and values; of the current one nothing before `node` may change any more. It is NULL in a walk
 * that looks at the original alone, from its first step to its last. */
nd_status nd_frontier_move(nd_frontier *frontier, nd_backend *backend, const nd_graph *original,
                           const nd_graph *current, int node);

/* nd_taps_open at the cut, for either graph. */
nd_status nd_frontier_taps(const nd_frontier *frontier, nd_backend *backend, const nd_graph *graph,
                           const int *values, int n, nd_taps *out);

/* nd_sample from the cut on, of the first `images` images; 0 takes all there are. */
nd_status nd_frontier_sample(const nd_frontier *frontier, int64_t images, nd_taps *original, nd_taps *current,
                             nd_sample_block *block, void *context);

#endif
