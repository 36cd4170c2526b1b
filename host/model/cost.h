/* Multiply-accumulates and parameters (method.md, "Cost"). 1 MAC is the paper's "1 FLOP". Convolutions and
 * inner products count; biases, activations, additions and pooling do not. Needs inferred shapes; counts are
 * per image. */
#ifndef ND_MODEL_COST_H
#define ND_MODEL_COST_H

#include "model/graph.h"

#pragma GCC visibility push(default)

typedef struct nd_cost {
    int64_t conv_macs, total_macs;
    int64_t params; /* weights and biases of convolutions and inner products */
} nd_cost;

/* A node that is neither costs zero. */
nd_cost nd_cost_node(const nd_graph *graph, const nd_node *node);
nd_cost nd_cost_graph(const nd_graph *graph);

#pragma GCC visibility pop

#endif
