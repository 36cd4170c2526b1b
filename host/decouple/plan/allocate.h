/* Spreading a budget of multiply-accumulates over the layers of a network: one solver over one table of
 * candidates, which knows costs and errors and nothing of methods. */
#ifndef ND_DECOUPLE_ALLOCATE_H
#define ND_DECOUPLE_ALLOCATE_H

#include "decouple/methods/method.h"

typedef struct nd_candidate {
    int layer;
    int64_t cost;            /* multiply-accumulates, or nanoseconds */
    double error;            /* loss of the network; the losses of layers add up */
    const nd_method *method; /* NULL = dense; not looked at */
    int64_t rank;
} nd_candidate;

/* A table being made. Zeroed: empty. rows are malloc'd. */
typedef struct nd_candidate_list {
    nd_candidate *rows;
    size_t count, capacity;
} nd_candidate_list;

nd_status nd_candidate_list_add(nd_candidate_list *list, const nd_candidate *candidate);

/* Chooses one candidate per layer: the least sum of errors with the sum of costs within `budget`, by
 * Lagrangian relaxation, the rest of the budget spent greedily by gain per cost. chosen[n_layers] are indices
 * into the table. nd_status_usage when even the cheapest choice is over the budget. */
nd_status nd_allocate(const nd_candidate *table, size_t count, int n_layers, int64_t budget, size_t *chosen);

#endif
