/* The calibration pass: layers in topological order, each fitted to what the original network computed there
 * from what the network decoupled so far feeds it (method.md, "On data"). */
#ifndef ND_DECOUPLE_CALIBRATE_H
#define ND_DECOUPLE_CALIBRATE_H

#include "decouple/calib/pass_cache.h"
#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

/* Told of each layer that has its chain, in this run or one before it; may decide anew for the layers after.
 */
typedef struct nd_fitted_hook {
    nd_status (*fitted)(void *context, int layer);
    void *context;
} nd_fitted_hook;

/* Fills chains[n_layers] for every layer of the plan that changes: of one stage where a layer stays dense
 * but gets the least-squares kernel and a new bias, empty where nothing upstream has changed. error[l] is the
 * relative squared output error of layer l, after the activation that follows where the settings ask for a
 * fit through it, or negative where it was not fitted. `cache` and `hook` may be NULL. */
nd_status nd_calibrate(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                       const nd_plan *plan, nd_pass_cache *cache, const nd_fitted_hook *hook,
                       nd_chain *chains, nd_fit_error *error);

/* Puts the chain, composed to one kernel again, in the place of its layer in the network that the pass runs.
 */
nd_status nd_layer_put(nd_graph *current, const nd_layer *layer, const nd_chain *chain);

#endif
