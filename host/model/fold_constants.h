/* What nd_graph_fold does to constants. Private to fold*.c. */
#ifndef ND_MODEL_FOLD_CONSTANTS_H
#define ND_MODEL_FOLD_CONSTANTS_H

#include "model/graph.h"

/* Constants in half or double precision become fp32, with node->stored saying what they were; Transpose,
 * Reshape, Cast, DequantizeLinear and arithmetic of constants become constants. The graph must be sorted and
 * its Identity nodes gone. Removed nodes are left for nd_graph_sort. */
nd_status nd_graph_fold_constants(nd_graph *graph);

#endif
