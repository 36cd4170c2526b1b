/* What lies between the output of a layer and the heads of the network. */
#ifndef ND_DECOUPLE_SCORE_REST_H
#define ND_DECOUPLE_SCORE_REST_H

#include "run/captures.h"
#include "run/executor.h"
#include "run/heads.h"

/* Values that the heads need of each image beside those that follow from y; constants are not among them.
 * sides[nd_captures_max - 1 - nd_heads_max]. nd_status_unsupported where they are no images of a batch or too
 * many. */
nd_status nd_score_rest_sides(const nd_graph *graph, int y, int *sides, int *n_sides);

/* The end of the network from one value on. Where that is a large classifier, packing its weights takes most
 * of the time and memory of opening what lies behind a layer, and it is the same behind all of them. Zeroed
 * is none. */
typedef struct nd_score_tail {
    int value;
    nd_exec *exec; /* NULL: none */
} nd_score_tail;

/* Leaves one that is open, and none where the heads need more of an image than this value. */
nd_status nd_score_tail_open(nd_backend *backend, const nd_graph *graph, int value, int64_t batch,
                             nd_score_tail *tail);
void nd_score_tail_close(nd_score_tail *tail);

typedef struct nd_score_rest {
    nd_exec *exec;             /* NULL: y is what the tail begins with */
    const nd_score_tail *tail; /* what exec leads to, or NULL: to the heads */
    float *between;            /* [batch][size] of the value that the tail begins with */
} nd_score_rest;

/* To the heads, all of which follow from y; by way of `tail` where that lies behind y. It is borrowed, NULL
 * is legal. */
nd_status nd_score_rest_open(nd_backend *backend, const nd_graph *graph, int y, const int *heads, int n_heads,
                             int64_t batch, const nd_score_tail *tail, nd_score_rest *out);
/* inputs: y and its sides, of n images. */
nd_status nd_score_rest_run(const nd_score_rest *rest, int64_t n, const float *const *inputs,
                            float *const *heads);
void nd_score_rest_close(nd_score_rest *rest); /* zeroed is legal */

#endif
