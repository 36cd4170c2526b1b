/* Takes out of a network the channels that nobody reads. */
#ifndef ND_MODEL_SHRINK_H
#define ND_MODEL_SHRINK_H

#include "model/graph.h"

/* A channel is read when a convolution over all channels, a Gather along the channels, an output, or anything
 * that is not known to keep channels apart reads it, directly or through activations, pools, normalisations,
 * sums and grouped convolutions. The others go, with the rows of the convolutions that made them, and Gathers
 * that are left with all channels in order go too. The function of the graph is unchanged to the last bit.
 * The graph must be inferred, and is to be inferred again afterwards. `dropped` counts the rows taken out of
 * convolutions. */
nd_status nd_graph_shrink(nd_graph *graph, int64_t *dropped);

#endif
