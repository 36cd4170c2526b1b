/* What nd_rule_latency_ratio spends: the time of graphs on a backend. Decoupling knows nothing of how time is
 * measured; bench/timing/graph_clock.h measures it, and tests make it up. */
#ifndef ND_DECOUPLE_CLOCK_H
#define ND_DECOUPLE_CLOCK_H

#include "model/graph.h"

#pragma GCC visibility push(default)

enum { nd_clock_graphs_max = 32 };

typedef struct nd_clock {
    /* Median ns of a run of `batch` images for each of 1 to nd_clock_graphs_max inferred graphs, all measured
     * together. */
    nd_status (*measure)(void *user, const nd_graph *const *graphs, int n, double *ns);
    void *user;
    int64_t batch;
    /* Device, threads, precision, build: what times depend on; they are kept on disk by it. */
    const char *identity;
} nd_clock;

#pragma GCC visibility pop

#endif
