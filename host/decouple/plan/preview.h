/* What a network would cost once a plan is carried out. */
#ifndef ND_DECOUPLE_PREVIEW_H
#define ND_DECOUPLE_PREVIEW_H

#include "decouple/plan/plan.h"

/* Builds the network of the plan without its weights and counts it; the first `fitted` layers as their chains
 * are, which may be NULL for none. Less than the sum over the layers where a
 * layer reads fewer channels than the one before makes. Which channels a layer will read is not known
 * yet: they are spread over all. The real choice may cost a little more or less. */
nd_status nd_plan_preview(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                          const nd_chain *chains, int fitted, nd_cost *out);

/* Do layers of the plan read only some of their channels? The preview is the sum over the layers otherwise.
 */
bool nd_plan_prunes(const nd_decouple_settings *settings, const nd_plan *plan);

#endif
