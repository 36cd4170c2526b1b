/* Even ranges between depthwise and pointwise convolutions. Private to quantize*.c. */
#ifndef ND_QUANTIZE_BALANCE_H
#define ND_QUANTIZE_BALANCE_H

#include "base/batches.h"
#include "model/graph.h"
#include "run/backend.h"

/* The pointwise convolution that alone reads what depthwise convolution `node` makes, both chosen; or -1. */
int nd_balance_partner(const nd_graph *graph, const bool *chosen, int node);

/* Of every depthwise convolution that only a pointwise one reads, both chosen: divides output c by s[c] and
 * multiplies column c of the pointwise weights by it (docs/method.md, "Quantisation"). The network computes
 * what it did. *pairs: how many. */
nd_status nd_balance(nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                     const bool *chosen, int *pairs);

#endif
