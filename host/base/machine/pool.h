/* The process's own threads. They sleep when there is nothing to do: a thread that waits spins for some tens
 * of microseconds at most, because it may stand in the way of the one it waits for. */
#ifndef ND_BASE_MACHINE_POOL_H
#define ND_BASE_MACHINE_POOL_H

/* Runs work(context, member) on up to `threads` threads at once, each with a member number of its own in
 * [0, threads). The caller is member 0. Others take part if they arrive before it is done, so the work must
 * be one that any of them can complete alone. Returns when all that took part are done. */
typedef void nd_team_work(void *context, int member);
typedef void nd_team(int threads, nd_team_work *work, void *context);

/* The team of our own threads, which start at the first call. Made anew in a forked child. One caller at a
 * time. */
void nd_pool_run(int threads, nd_team_work *work, void *context);

/* Rounds of a processor's pause instruction that take as long as a thread may spin. Measured once. */
int nd_pool_spin_rounds(void);

enum { nd_pool_spin_ns = 20000 };

#endif
