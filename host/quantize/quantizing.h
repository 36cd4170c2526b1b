/* A network on its way into 8 bits. Private to quantize*.c. */
#ifndef ND_QUANTIZE_QUANTIZING_H
#define ND_QUANTIZE_QUANTIZING_H

#include "quantize/correct.h"
#include "quantize/quantize.h"
#include "quantize/ranges.h"

/* Weights rounded: i8 or e4m3 as the weights lie, a scale an output. */
typedef struct nd_rounded {
    nd_tensor integers;
    float *scales;
} nd_rounded;

/* What is known of a network before it is written, for any choice of its layers: everything but the weights
 * is found in fp32, where a layer's neighbours do not matter. */
typedef struct nd_quantizing {
    nd_graph *graph; /* folded, its pairs balanced */
    nd_backend *backend;
    const nd_quantize_settings *settings;
    /* By node: can run in integers and is not skipped; its weights. */
    bool *chosen;
    nd_rounded *rounded;
    /* By value: in 8 bits where all chosen nodes run in integers, and how. */
    bool *marked;
    int *like; /* has the range of that value, -1: its own */
    nd_range *range;
    nd_means *means; /* of what products read */
    size_t n_nodes, n_values;
} nd_quantizing;

/* Folds and balances the graph, which must outlive *q, and measures ranges and means. */
nd_status nd_quantizing_open(nd_graph *graph, nd_backend *backend, const nd_quantize_settings *settings,
                             nd_quantizing *q, nd_quantize_report *report);
void nd_quantizing_close(nd_quantizing *q); /* a zeroed one is legal */

/* Whether a value differs from image to image, and may: neither a constant nor pinned, and of a known number
 * of elements an image. */
bool nd_quantizing_computes(const nd_graph *graph, int value);

/* Values in 8 bits where the nodes chosen[] run in integers, and which share a range. */
void nd_quantizing_mark(const nd_graph *graph, const bool *chosen, bool *marked, int *like);

/* Rounds the weights of all nodes that can run in integers; ranges are known. */
nd_status nd_quantizing_round(nd_quantizing *q);

/* Rewrites `graph`, that of *q or a clone of it, so that nodes in_integers[], chosen ones, run in integers;
 * ranges are those of *q. Ends sorted and inferred for one image. */
nd_status nd_quantizing_write(nd_quantizing *q, const bool *in_integers, nd_graph *graph);

/* Chooses nodes that run in integers so that the loss stays within the bound of the settings. */
nd_status nd_quantizing_choose(nd_quantizing *q, bool *in_integers, nd_quantize_report *report);

enum { nd_quantizing_timed = 3 }; /* at once at most */

/* ns[n] of graphs that are folded and inferred, an image at a time and in turns, so that whatever else the
 * machine does falls on all: the sum of the least times of their kernels, conversions between fp32 and
 * integers among them. 0 where kernels cannot be timed. */
nd_status nd_quantizing_time(const nd_quantizing *q, const nd_graph *const *graphs, int n, double *ns);

#endif
