/* The layers that calibration passes have fitted, on disk: a run that was killed goes on at the layer it was
 * in. One file a run, named by everything that shapes it, removed when its network is done: passes follow
 * one another until the network is within its budget. */
#ifndef ND_DECOUPLE_PASS_CACHE_H
#define ND_DECOUPLE_PASS_CACHE_H

#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

typedef struct nd_pass_cache nd_pass_cache;

/* Finds what an earlier run of this plan left; a damaged tail is dropped. Borrows the plan, whose decisions
 * may change. No cache folder or no images: *out is NULL, which is legal below, and nothing is read or
 * kept. */
nd_status nd_pass_cache_open(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                             nd_pass_cache **out);
void nd_pass_cache_begin(nd_pass_cache *cache); /* of a pass */
/* For every layer that the pass fits, in its order: whether it is there, fitted after the same decisions for
 * all layers before it and for itself. A fit depends on nothing else. */
bool nd_pass_cache_take(nd_pass_cache *cache, int layer, nd_chain *chain, nd_fit_error *error);
/* The layer that was asked for last. A cache only saves time: a full disk ends the keeping, with a warning,
 * and not the run. */
void nd_pass_cache_put(nd_pass_cache *cache, int layer, const nd_chain *chain, nd_fit_error error);
void nd_pass_cache_close(nd_pass_cache *cache, bool finished); /* finished removes the file */

#endif
