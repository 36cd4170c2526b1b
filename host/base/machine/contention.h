/* Whether other processes keep the threads of this one from running, and how many are worth using then.
 *
 * A parallel loop ends with its last thread. Where other processes have some of the cores that one is late by
 * a slice of the scheduler, milliseconds, at every loop, and several threads get less done than one would.
 * Waiting threads sleep (pool.h), so the CPU time of the process says how much that is. */
#ifndef ND_BASE_MACHINE_CONTENTION_H
#define ND_BASE_MACHINE_CONTENTION_H

#include <stdbool.h>

/* Seconds, of all threads together. */
typedef struct nd_cpu_usage {
    double ran;    /* on a processor */
    double waited; /* ready to run, and not on one */
} nd_cpu_usage;

/* Of this process since it began, without threads that have ended. Linux only (schedstat in proc(5), which
 * kernels may be built without): false where it is not to be had. */
bool nd_cpu_usage_read(nd_cpu_usage *out);

typedef struct nd_contention {
    int threads;  /* worth using; 0: not known yet, all */
    double hold;  /* seconds that fewer threads stay, and as long again are more of them on trial */
    double until; /* when more are tried */
    double trial; /* until when they are on trial */
} nd_contention;

/* What `window` seconds up to the moment `now` say, in which the process used `used` with c->threads of
 * `wanted` threads. Halves the threads where they waited and got less done than 0.6 of what as many threads
 * that never wait for each other would, doubles them again after a while; each trial that fails doubles that
 * while, from 0.1 s to 3.2 s. Gives c->threads. */
int nd_contention_decide(nd_contention *c, int wanted, double now, double window, const nd_cpu_usage *used);

#endif
