/* The process's own threads. They sleep when there is nothing to do: a thread that waits spins for some tens
 * of microseconds at most, because it may stand in the way of the one it waits for. */
#ifndef ND_BASE_MACHINE_POOL_H
#define ND_BASE_MACHINE_POOL_H

#include "base/machine/team.h"

/* The team of our own threads, which start at the first call. Made anew in a forked child. One caller at a
 * time. */
void nd_pool_run(int threads, nd_team_work *work, void *context);

/* Rounds of a processor's pause instruction that take as long as a thread may spin. Measured once. */
int nd_pool_spin_rounds(void);

enum { nd_pool_spin_ns = 20000 };

#endif
