/* Autotuning: implementations of the same thing, verified, and timed against each other on the device.
 *
 * A candidate that does not agree with the reference of its inputs is dropped, and a warning names it: a
 * kernel that is wrong may well be the fastest. Every other is timed by itself as it enters; the fastest few
 * stay and are timed again in turns, so that clocks that drift meanwhile fall on all alike, and the smallest
 * median wins. Before every timed run the last-level cache is overwritten: what counts is the cold time, as
 * in the benchmark's headline. */
#ifndef ND_CUDA_AUTOTUNE_H
#define ND_CUDA_AUTOTUNE_H

#include "base/files/choices.h"
#include "cuda/tune/inputs.h"

enum { nd_autotune_finalists = 5 };

typedef struct nd_autotune_facts {
    const char *name;
    bool transformed; /* see bound.h */
} nd_autotune_facts;

typedef struct nd_autotune {
    nd_cuda *cuda;
    nd_status (*run)(void *candidate, void *user); /* starts it in the main stream */
    void (*drop)(void *candidate);                 /* NULL where nothing is to be given back */
    void (*facts)(const void *candidate, nd_autotune_facts *facts);
    nd_inputs *inputs; /* what `run` works on; NULL: nothing is checked, and `facts` may be NULL */
    void *user;
    bool recorded; /* timed as a graph, as layers of a network run: what starting its parts takes does not
                      count */
    double until;  /* of nd_cuda_seconds, when no more should enter: nd_autotune_until */
    int left;      /* that did not enter because it was late */
    void *candidates[nd_autotune_finalists]; /* the fastest so far, best first; owned */
    double ns[nd_autotune_finalists];
    int count, wrong; /* wrong: dropped because they disagree */
} nd_autotune;

/* Seconds of a clock that never goes back. */
double nd_cuda_seconds(void);

/* When a tuning that begins now has used up its time. */
double nd_autotune_until(const nd_cuda *cuda);

/* Whether another should not enter any more: the time is used up, and there is a winner already.
 * Counts it. */
bool nd_autotune_is_late(nd_autotune *tuning);

/* Takes the candidate over. One that does not run, is wrong, or is not among the fastest, is dropped. */
void nd_autotune_add(nd_autotune *tuning, void *candidate);

/* The winner, the caller's from then on, or NULL where nothing ran; all others are dropped. */
void *nd_autotune_finish(nd_autotune *tuning);

/* Winners of this backend's earlier tuning: equal works get equal kernels and are timed once, however often a
 * network has them. False: not tuned yet. One that there is no memory to remember is tuned again. */
bool nd_autotune_recall(const nd_cuda *cuda, const char *key, int *candidate);
void nd_autotune_remember(nd_cuda *cuda, const char *key, int candidate);

/* Winners that were verified are kept for later processes too, in this file (base/files/choices.h). */
extern const char nd_autotune_file[];

/* Begins their keys with what every choice depends on: the device, its driver, the libraries. */
void nd_autotune_key(const nd_cuda *cuda, nd_sha256 *hash);

/* Median ns of a few cold runs of one thing. */
nd_status nd_cuda_time(nd_cuda *cuda, nd_status (*run)(void *context), void *context, double *ns);

#endif
