/* Carrying a plan out within its budget. */
#ifndef ND_DECOUPLE_SETTLE_H
#define ND_DECOUPLE_SETTLE_H

#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

/* Fits all layers of the plan (decouple/plan_fit.h): chains[n_layers] and error[n_layers], empty and unset
 * before. With candidates to choose from, where the network is over the budget in the end or leaves more
 * than four hundredths of it (one, without images), the layers are allocated and fitted again, a few times
 * at most. The decisions in the plan are then those of the chains. Candidates are NULL where ranks are
 * given. */
nd_status nd_plan_settle(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                         const nd_candidates *candidates, nd_plan *plan, nd_chain *chains,
                         nd_fit_error *error);

#endif
