/* Where a calibration pass stands: the activations of all images at a cut through the original network and
 * at one through the network decoupled so far, so that the next layer is reached without running what lies
 * before it again (method.md, "Measured curves" and "Calibration pass").
 *
 * Held in memory up to a limit, the original's first, which costs the most to run. Where a cut does not fit,
 * the last one that did stays, or the images themselves, and what lies between is computed anew. Either way
 * the layers see the same numbers, but for the last bit of a sum that follows a layer whose output a pass is
 * for: it is added by itself then. */
#ifndef ND_DECOUPLE_ACTIVATION_CACHE_H
#define ND_DECOUPLE_ACTIVATION_CACHE_H

#include "run/captures.h"

typedef struct nd_activation_cache nd_activation_cache;

enum { nd_activation_cache_bytes = 13 << 26 }; /* the usual limit, times the networks that are looked at */

/* At the image: nothing is stored. `images` = 0 takes all. The batches are borrowed. `limit` bytes of
 * activations; while it moves, one block more. */
nd_status nd_activation_cache_new(nd_batches *batches, int64_t images, size_t limit,
                                  nd_activation_cache **out);
void nd_activation_cache_free(nd_activation_cache *cache); /* NULL is legal */

/* Moves to the values that nodes from number `node` on need of the nodes before it. The two graphs have the
 * same nodes and values; of the current one nothing before `node` may change any more. It is NULL in a pass
 * that looks at the original alone, from its first step to its last. */
nd_status nd_activation_cache_move(nd_activation_cache *cache, nd_backend *backend, const nd_graph *original,
                                   const nd_graph *current, int node);

/* After a move: the next pass, over all images, leaves the activations of the original before `node` as well,
 * where there is room, and a move to there runs nothing of it. To be said before its captures are opened.
 * `passed`: it is the last pass of the original before that move, so that what it begins with makes room. */
void nd_activation_cache_ahead(nd_activation_cache *cache, int node, bool passed);

/* nd_captures_open at the cut of either graph. What the pass is to leave comes after the n values. */
nd_status nd_activation_cache_captures(const nd_activation_cache *cache, nd_backend *backend,
                                       const nd_graph *graph, const int *values, int n, nd_captures *out);

/* nd_sample from the cut on, of the first `images` images; 0 takes all there are. */
nd_status nd_activation_cache_sample(nd_activation_cache *cache, int64_t images, nd_captures *original,
                                     nd_captures *current, nd_sample_block *block, void *context);

#endif
