/* Derivatives of the ops that are no linear algebra, one image at a time. */
#ifndef ND_DECOUPLE_GRADIENT_OPS_H
#define ND_DECOUPLE_GRADIENT_OPS_H

#include "model/graph.h"

enum { nd_backward_values_max = 64 }; /* inputs, and outputs */

/* One image. */
typedef struct nd_backward {
    const nd_graph *graph;
    const nd_node *node;
    const float *const *x;  /* [n_in], those that the rule keeps: of the first or of all; else NULL */
    const float *y;         /* the first output, where the rule keeps it */
    const float *const *dy; /* [n_out] gradients at the outputs; NULL where none arrives, never at all */
    float *const *dx;       /* [n_in] gradients at the inputs, added to; NULL where not wanted */
} nd_backward;

enum { nd_keep_first = 1, nd_keep_all = 2, nd_keep_result = 4 };

typedef struct nd_backward_site {
    const nd_graph *graph;
    const nd_node *node;
    const bool *images; /* [values] differ from image to image */
} nd_backward_site;

typedef struct nd_backward_rule {
    nd_op op;
    unsigned keep;                            /* what of the forward pass it needs */
    bool (*fits)(const nd_backward_site *at); /* NULL: always */
    void (*run)(const nd_backward *b);
} nd_backward_rule;

/* NULL where there is none for this node. */
const nd_backward_rule *nd_backward_rule_of(const nd_backward_site *at);

#endif
