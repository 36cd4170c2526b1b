/* Layer shapes of well-known networks, for benchmarks without weights. */
#ifndef ND_BENCH_SUITES_H
#define ND_BENCH_SUITES_H

#include "bench/subjects/rig.h"

typedef struct nd_suite {
    const char *name, *text;
    const nd_bench_layer *layers; /* equal shapes once, under the first's name as torchvision has it */
    size_t n_layers;
} nd_suite;

const nd_suite *nd_suite_find(const char *name); /* NULL when unknown */

int64_t nd_suite_macs(const nd_suite *suite); /* of all its convolutions, one image */

#endif
