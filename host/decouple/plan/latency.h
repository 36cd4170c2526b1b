/* Candidates priced by measured time. */
#ifndef ND_DECOUPLE_LATENCY_H
#define ND_DECOUPLE_LATENCY_H

#include "decouple/plan/plan.h"

/* Puts nanoseconds by settings->clock in the place of the costs: `total` is the original network's time, a
 * row's that of the layer alone, dense or as its chain at a few ranks, linear in the rank between those;
 * `fixed` is what of the network the dense layers do not account for. Layers of one shape are measured once,
 * everything of a shape together, and kept in settings->cache. */
nd_status nd_latency_price(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                           const nd_plan *plan, nd_candidates *candidates);

#endif
