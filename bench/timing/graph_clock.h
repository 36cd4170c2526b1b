/* The clock of nd_rule_latency_ratio: graphs timed on a backend as nd bench times networks. */
#ifndef ND_BENCH_GRAPH_CLOCK_H
#define ND_BENCH_GRAPH_CLOCK_H

#include "bench/timing/timing.h"
#include "decouple/plan/clock.h"
#include "run/backend.h"
#include "run/executor.h"

typedef struct nd_graph_clock {
    nd_backend *backend;
    nd_timing_settings timing; /* its limit is for all graphs of one call together */
    nd_clock clock;            /* give this to nd_decouple_settings; it points into the struct */
    char identity[1024];
} nd_graph_clock;

/* Runs of a plan, one after the other; what follows from the data is done by the host after each. */
nd_status nd_clock_repeat(nd_exec *exec, int64_t repeats);

/* fp32, `batch` images a run. The struct must stay where it is while the clock is used. */
void nd_graph_clock_init(nd_graph_clock *clock, nd_backend *backend, int64_t batch, double limit_seconds);

#endif
