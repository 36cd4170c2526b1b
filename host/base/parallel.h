/* A parallel loop over the threads of the process. There is one team at a time: our own (machine/pool.h)
 * until a backend lends the one that its libraries work with, so that the two never fight for the cores. No
 * thread spins for longer than some tens of microseconds when it has nothing to do. */
#ifndef ND_BASE_PARALLEL_H
#define ND_BASE_PARALLEL_H

#include "base/machine/team.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* Runs body(context, begin, end, worker) over disjoint ranges that cover [0, count): as many as there are
 * threads, of sizes that differ by one at most, and so the same at every run. A thread that is late, because
 * another process has its core, finds its range done by one that was not; worker, in [0, nd_threads()), is
 * the thread's number and not the range's. Nested calls, and calls while another thread is in a loop, run
 * serially. */
typedef void nd_parallel_body(void *context, int64_t begin, int64_t end, int worker);

/* `cost`: roughly how many elementary operations (multiply-adds, elements copied) one of `count` takes. A
 * loop of fewer than nd_parallel_worth runs on the caller: waking a thread costs more than it saves. Measured
 * on two cores of a 2.1 GHz server processor: a loop of nothing takes 1 us with threads that still spin and
 * 20 to 45 us with threads that sleep; 16384 multiply-adds take 1 us with AVX-512 and 6 us one by one. */
enum { nd_parallel_worth = 16384 };
void nd_parallel_for(int64_t count, int64_t cost, nd_parallel_body *body, void *context);

/* Runs task(context, i) for every i in [0, count) on `most` threads at most, in order of i, a thread that is
 * free taking the next: for few things of very different cost, the costliest first. Loops within a task run
 * on its thread. After a failure no more are begun; the status and the message are those of the least i that
 * failed. */
typedef nd_status nd_parallel_task(void *context, int64_t i);
nd_status nd_parallel_tasks(int64_t count, int64_t most, nd_parallel_task *task, void *context);

/* Threads of the next parallel loop of the calling thread; set: 0 = as many as the machine is good for
 * (machine/cores.h). Why there are that many: "--threads" when they were set. */
int nd_threads(void);
void nd_threads_set(int count);
const char *nd_threads_why(void);

/* Lets loops use fewer threads while other processes keep this one's from running (machine/contention.h);
 * results do not depend on it. Off at first, and to be off while something is timed: a time is of as many
 * threads as it says. Of the whole process. Gives what was set before. */
bool nd_threads_adapt(bool adapt);

/* Makes all loops run on `team` from now on. It must stay callable; NULL: our own again. */
void nd_parallel_lend(nd_team *team);

#pragma GCC visibility pop

#endif
