/* The clock of nd_rule_latency_ratio: graphs timed on a backend as nd bench times networks. */
#ifndef ND_BENCH_GRAPH_CLOCK_H
#define ND_BENCH_GRAPH_CLOCK_H

#include "bench/timing/timing.h"
#include "decouple/plan/clock.h"
#include "run/backend.h"
#include "run/executor.h"

typedef struct nd_graph_clock {
    nd_backend *backend;
    nd_precision precision;
    nd_timing_settings timing; /* its limit is for all graphs of one call together */
    nd_clock clock;            /* give this to nd_decouple_settings; it points into the struct */
    char identity[1024];
} nd_graph_clock;

/* Runs of a plan, one after the other; what follows from the data is done by the host after each. */
nd_status nd_clock_repeat(nd_exec *exec, int64_t repeats);

/* Quantises a network to int8 or e4m3 without images (nd_quantize_settings), for its time alone: afterwards
 * it is folded and inferred for `batch` images. */
nd_status nd_clock_quantize(nd_graph *graph, nd_backend *backend, nd_precision precision, int64_t batch);

/* `batch` images a run. In 8 bits the clock quantises what it is given so, and a convolution alone hands 8
 * bits on as it does in a network. The struct must stay where it is while the clock is used. */
void nd_graph_clock_init(nd_graph_clock *clock, nd_backend *backend, nd_precision precision, int64_t batch,
                         double limit_seconds);

#endif
