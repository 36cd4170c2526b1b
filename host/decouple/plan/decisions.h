/* What a plan says of its layers, to be kept, compared and taken back. */
#ifndef ND_DECOUPLE_DECISIONS_H
#define ND_DECOUPLE_DECISIONS_H

#include "decouple/plan/plan.h"

typedef struct nd_decision {
    const nd_method *method; /* NULL: dense */
    int64_t rank;
} nd_decision;

/* Of all layers, in their order: decisions[n_layers]. */
void nd_plan_get_decisions(const nd_plan *plan, nd_decision *decisions);
void nd_plan_set_decisions(nd_plan *plan, const nd_decision *decisions);
bool nd_plan_has_decisions(const nd_plan *plan, const nd_decision *decisions);

#endif
