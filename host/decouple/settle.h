/* Carrying a plan out, within its budget. */
#ifndef ND_DECOUPLE_SETTLE_H
#define ND_DECOUPLE_SETTLE_H

#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

/* Decomposes all layers of the plan, with images by the calibration pass (decouple/calib/calibrate.h):
 * chains[n_layers] and error[n_layers], empty and unset before.
 *
 * How many channels the layers need not compute is known only from the fit, which chooses what each of them
 * reads: even where there are as many terms as channels, some channels may have several and others none. With
 * candidates to choose from, the network is therefore counted after each layer of a
 * calibration pass, and the layers after it get what has been freed. Where the network is over the budget in
 * the end, or leaves more than four hundredths of it (one, without images), the layers are allocated and
 * fitted again, a few times at most. The decisions in the plan are then those of the chains. Candidates are
 * NULL where ranks are given. */
nd_status nd_plan_fit(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                      const nd_candidates *candidates, nd_plan *plan, nd_chain *chains, nd_fit_error *error);

/* Puts the chains into the graph of the plan and takes out what nothing reads then: *dropped channels. */
nd_status nd_plan_apply(nd_graph *graph, const nd_plan *plan, nd_chain *chains, int64_t *dropped);

#endif
