/* Layer shapes of well-known networks, for benchmarks without weights. */
#ifndef ND_BENCH_SUITES_H
#define ND_BENCH_SUITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One shape of a network; kernels, strides and inputs are square, padding keeps the size ((k-1)/2). */
typedef struct nd_suite_layer {
    const char *name; /* of the first layer with this shape, as torchvision names it */
    int64_t ni, no;
    int64_t kernel, stride;
    int64_t input; /* height and width */
    int64_t count; /* how often the network has it */
    bool dense;    /* stays dense in a decoupled network: the first conv, 1x1 convs, and those with groups */
    int64_t groups;
} nd_suite_layer;

typedef struct nd_suite {
    const char *name, *text;
    const nd_suite_layer *layers;
    size_t n_layers;
} nd_suite;

extern const nd_suite nd_suite_table[];
extern const size_t nd_suite_count;
const nd_suite *nd_suite_find(const char *name); /* NULL when unknown */

int64_t nd_suite_macs(const nd_suite *suite); /* of all its convolutions, one image */

#endif
