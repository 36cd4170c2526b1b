/* Where a whole network is compared with another: its scores, or the outputs of a detector. */
#ifndef ND_RUN_HEADS_H
#define ND_RUN_HEADS_H

#include "model/graph.h"

/* The value that scores the classes: the first output, before a final softmax. */
int nd_graph_scores(const nd_graph *graph);

/* Where changes of the whole network are measured, each place relative to what varies there: the scores
 * of a classifier, before a final softmax; else every output, or the parts of the concatenation that is a
 * single one (boxes and scores of a detector). Where post-processing in the graph makes outputs whose sizes
 * only the run knows, what goes into that. heads[nd_heads_max]; returns how many. */
enum { nd_heads_max = 6 };
int nd_graph_heads(const nd_graph *graph, int *heads);

#endif
