/* A plan carried out once. */
#ifndef ND_DECOUPLE_PLAN_FIT_H
#define ND_DECOUPLE_PLAN_FIT_H

#include "decouple/calib/pass_cache.h"
#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

/* What is carried out, and what comes of it; all borrowed. */
typedef struct nd_plan_fit {
    const nd_graph *graph;
    nd_backend *backend;
    const nd_decouple_settings *settings;
    const nd_candidates *candidates; /* NULL where ranks are given */
    nd_plan *plan;
    nd_chain *chains;    /* [n_layers] */
    nd_fit_error *error; /* [n_layers] */
    nd_pass_cache *cache;
    int64_t *freed; /* [n_layers], MACs that each saved others in its last fit; NULL: nobody counts */
} nd_plan_fit;

/* Decomposes all layers of the plan, with images by the calibration pass (decouple/calib/calibrate.h), in
 * place of what an earlier fit has left.
 *
 * How many channels the layers need not compute is known only from the fit, which chooses what each of them
 * reads: even where there are as many terms as channels, some channels may have several and others none.
 * Where somebody counts, a calibration pass therefore counts the network after each layer, and the layers
 * after it get what has been freed: the plan has other decisions then. */
nd_status nd_plan_fit_once(const nd_plan_fit *fit);

/* What the network costs with these chains, of the MACs that a ratio is of. */
nd_status nd_plan_fit_macs(const nd_plan_fit *fit, int64_t *macs);

/* Puts the chains into the graph of the plan and takes out what nothing reads then: *dropped channels. */
nd_status nd_plan_apply(nd_graph *graph, const nd_plan *plan, nd_chain *chains, int64_t *dropped);

#endif
