/* The layers of a calibration pass that are done, on disk: a pass that was killed goes on at the layer it was
 * in. One file a pass, named by everything that shapes it, removed when the pass is through. */
#ifndef ND_DECOUPLE_PASS_CACHE_H
#define ND_DECOUPLE_PASS_CACHE_H

#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

typedef struct nd_pass_cache nd_pass_cache;

/* Reads what an earlier run left: chains[l] and error[l] of its first *done layers (in the plan's numbers,
 * the untouched ones included). A damaged tail is dropped. No folder: nothing is read or kept. */
nd_status nd_pass_cache_open(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                             nd_chain *chains, nd_fit_error *error, int *done, nd_pass_cache **out);
/* A cache only saves time: a full disk ends the keeping, with a warning, and not the run. */
void nd_pass_cache_put(nd_pass_cache *cache, int layer, const nd_chain *chain, nd_fit_error error);
void nd_pass_cache_close(nd_pass_cache *cache, bool finished); /* NULL is legal; finished removes the file */

#endif
