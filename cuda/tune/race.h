/* What `tune` decides by: ways to do the same thing, checked, and timed against each other on the device.
 *
 * A way that does not agree with the reference of its scratch is dropped, and a warning names it: a kernel
 * that is wrong may well be the fastest. Every other is timed by itself as it enters; the fastest few stay
 * and are timed again in turns, so that clocks that drift meanwhile fall on all alike, and the smallest
 * median wins. Before every timed run the last-level cache is overwritten: what counts is the cold time, as
 * in the benchmark's headline. */
#ifndef ND_CUDA_RACE_H
#define ND_CUDA_RACE_H

#include "cuda/scratch.h"

enum { nd_race_finalists = 5 };

typedef struct nd_race_facts {
    const char *name;
    bool transformed; /* see bound.h */
} nd_race_facts;

typedef struct nd_race {
    nd_cuda *cuda;
    nd_status (*run)(void *way, void *user); /* starts it in the main stream */
    void (*drop)(void *way);                 /* NULL where nothing is to be given back */
    void (*facts)(const void *way, nd_race_facts *facts);
    nd_scratch *scratch; /* what `run` works on; NULL: nothing is checked, and `facts` may be NULL */
    void *user;
    void *ways[nd_race_finalists]; /* the fastest so far, best first; owned */
    double ns[nd_race_finalists];
    int count, wrong; /* wrong: dropped because they disagree */
} nd_race;

/* Takes the way over. One that does not run, is wrong, or is not among the fastest, is dropped. */
void nd_race_enter(nd_race *race, void *way);

/* The winner, the caller's from then on, or NULL where nothing ran; all others are dropped. */
void *nd_race_finish(nd_race *race);

/* Winners of this backend's earlier races: equal works get equal kernels and are timed once, however often a
 * network has them. False: not raced for yet. One that there is no memory to remember is raced for again. */
bool nd_race_recall(const nd_cuda *cuda, const char *key, int *way);
void nd_race_remember(nd_cuda *cuda, const char *key, int way);

/* Median ns of a few cold runs of one thing. */
nd_status nd_cuda_time(nd_cuda *cuda, nd_status (*run)(void *context), void *context, double *ns);

#endif
