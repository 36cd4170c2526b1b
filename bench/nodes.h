/* The time of every kernel of a network's plan: where the time goes. Kernels are timed one by one, so that their sum is
 * a little more than the network's time. */
#ifndef ND_BENCH_NODES_H
#define ND_BENCH_NODES_H

#include "bench/bench.h"
#include "run/executor.h"

/* One row per kernel, in order: `layer` is the node's name, `operation` its kind. `images` are settings->batch of them.
 * Rows have a median and quartiles, but no samples: they are shown, and never compared. */
nd_status nd_bench_nodes(const nd_bench_network *network, nd_impl impl, const nd_exec_settings *plan,
                         const float *images, const nd_bench_settings *settings);

#endif
