/* Measured curves: what the network loses by each layer at each rank. */
#ifndef ND_DECOUPLE_CURVES_H
#define ND_DECOUPLE_CURVES_H

#include "decouple/plan/plan.h"

/* The candidates of every open layer with the loss measured at the network's output: each layer decoupled
 * alone at a grid of ranks, the rest of the original network run after it, the relative squared change of
 * the logits noted, and interpolated between (method.md, "Measured curves"). Read from and written to the
 * cache folder when there is one. *out malloc'd. */
nd_status nd_curves(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                    const nd_plan *plan, nd_candidate **out, size_t *count);

#endif
