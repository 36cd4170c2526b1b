#include "decouple/plan/decisions.h"

void nd_plan_get_decisions(const nd_plan *plan, nd_decision *decisions) {
    for (int l = 0; l < plan->n_layers; l++)
        decisions[l] = (nd_decision){plan->layers[l].method, plan->layers[l].rank};
}

void nd_plan_set_decisions(nd_plan *plan, const nd_decision *decisions) {
    for (int l = 0; l < plan->n_layers; l++) {
        plan->layers[l].method = decisions[l].method;
        plan->layers[l].rank = decisions[l].rank;
    }
}

bool nd_plan_has_decisions(const nd_plan *plan, const nd_decision *decisions) {
    for (int l = 0; l < plan->n_layers; l++)
        if (decisions[l].method != plan->layers[l].method || decisions[l].rank != plan->layers[l].rank)
            return false;
    return true;
}
