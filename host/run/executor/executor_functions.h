/* Which nodes are a function of one number or of two, or a reduction, and which. False for any other node. */
#ifndef ND_RUN_EXECUTOR_FUNCTIONS_H
#define ND_RUN_EXECUTOR_FUNCTIONS_H

#include "model/graph.h"
#include "run/backend.h"

bool nd_exec_activation(const nd_node *node, nd_activation *out);

/* Whether x times what this node makes of x is one function too: Sigmoid gives SiLU, HardSigmoid hard
 * swish. */
bool nd_exec_gate(const nd_node *node, nd_activation *out);

/* What `act`, or the Mul by `gate`, makes of what comes before; -1 where absent. */
nd_activation nd_exec_epilogue(const nd_node *nodes, int act, int gate);
bool nd_exec_pairing(const nd_node *node, nd_pairing *out, bool *turned); /* turned: operands change places */
bool nd_exec_reduction(const nd_node *node, nd_reduction *out);

#endif
