/* A team: whatever runs work on several threads at once. */
#ifndef ND_BASE_MACHINE_TEAM_H
#define ND_BASE_MACHINE_TEAM_H

/* Runs work(context, member) on up to `threads` threads at once, each with a member number of its own in
 * [0, threads). The caller is member 0. Others take part if they arrive before it is done, so the work must
 * be one that any of them can complete alone. Returns when all that took part are done. */
typedef void nd_team_work(void *context, int member);
typedef void nd_team(int threads, nd_team_work *work, void *context);

#endif
