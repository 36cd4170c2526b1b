/* What `tune` decides by: ways to do the same thing, timed against each other on the device.
 *
 * Every way is timed by itself as it enters; the fastest few stay and are timed again in turns, so that clocks that drift
 * meanwhile fall on all alike, and the smallest median wins. Before every timed run the last-level cache is overwritten:
 * what counts is the cold time, as in the benchmark's headline. */
#ifndef ND_CUDA_RACE_H
#define ND_CUDA_RACE_H

#include "cuda/device.h"

enum { nd_race_finalists = 5 };

typedef struct nd_race {
    nd_cuda *cuda;
    nd_status (*run)(void *way, void *user); /* starts it in the main stream */
    void (*drop)(void *way);                 /* NULL where nothing is to be given back */
    void *user;
    void *ways[nd_race_finalists]; /* the fastest so far, best first; owned */
    double ns[nd_race_finalists];
    int count;
} nd_race;

/* Takes the way over. One that does not run, or is not among the fastest, is dropped. */
void nd_race_enter(nd_race *race, void *way);

/* The winner, the caller's from then on, or NULL where nothing ran; all others are dropped. */
void *nd_race_finish(nd_race *race);

/* Winners of this backend's earlier races: equal works get equal kernels and are timed once, however often a network has
 * them. False: not raced for yet. */
bool nd_race_recall(const nd_cuda *cuda, const char *key, int *way);
void nd_race_remember(nd_cuda *cuda, const char *key, int way);

/* Median ns of a few cold runs of one thing. */
nd_status nd_cuda_time(nd_cuda *cuda, nd_status (*run)(void *context), void *context, double *ns);

/* Operands to time a work on: zeros, as far as its views reach. The workspace grows with what the ways want, since the
 * limit may be more than the device has left. */
typedef struct nd_scratch {
    nd_cuda *cuda;
    nd_cuda_operands operands;
    void *blocks[4]; /* x, x2, y, workspace */
    size_t workspace_bytes;
} nd_scratch;

nd_status nd_scratch_make(nd_cuda *cuda, const nd_work *work, nd_precision precision, nd_scratch *scratch);
nd_status nd_scratch_grow(nd_scratch *scratch, size_t workspace_bytes);
void nd_scratch_free(nd_scratch *scratch); /* waits for the stream */

#endif
