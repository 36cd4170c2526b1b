/* The time of every kernel of a network's plan: where the time goes. A time runs from the event before a
 * kernel to the one after it, within the captured graph where the backend makes one. Events take time
 * themselves, about a microsecond on a GPU (which counts in half microseconds): the sum is a little more than
 * the network's time, and is given to be held against it. Where a plan is not one captured graph the device
 * waits for the host between short kernels, and that counts too. */
#ifndef ND_BENCH_NODES_H
#define ND_BENCH_NODES_H

#include "bench/bench.h"
#include "run/executor.h"

/* One row per kernel, in order: `layer` is the node's name, `operation` what it computes; then one for their
 * sum
 * ("all kernels", "sum"). A plan of more kernels than there are events has none, with a warning. `images` are
 * settings->batch of them. Rows have a median and quartiles, but no samples: they are shown, and never
 * compared. */
nd_status nd_bench_nodes(const nd_bench_network *network, nd_implementation implementation,
                         const nd_exec_settings *plan, const float *images,
                         const nd_bench_settings *settings);

#endif
