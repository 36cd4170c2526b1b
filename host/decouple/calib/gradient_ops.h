/* Derivatives of the ops that are no linear algebra, one image at a time. */
#ifndef ND_DECOUPLE_GRADIENT_OPS_H
#define ND_DECOUPLE_GRADIENT_OPS_H

#include "model/graph.h"

enum { nd_backward_inputs_max = 64 };

typedef struct nd_backward {
    const nd_graph *graph;
    const nd_node *node;
    const float *x;  /* the first input, where the rule keeps it */
    const float *dy; /* gradient at the first output */
    float **dx;      /* [n_in] gradients at the inputs, added to; NULL where not wanted */
} nd_backward;

typedef struct nd_backward_rule {
    nd_op op;
    bool keep_x;
    bool (*fits)(const nd_graph *graph, const nd_node *node); /* NULL: always */
    void (*run)(const nd_backward *b);
} nd_backward_rule;

/* NULL where there is none for this node. */
const nd_backward_rule *nd_backward_rule_of(const nd_graph *graph, const nd_node *node);

#endif
