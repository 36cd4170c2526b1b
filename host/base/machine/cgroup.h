/* The limits that Linux control groups, versions 1 and 2, put on this process. */
#ifndef ND_BASE_MACHINE_CGROUP_H
#define ND_BASE_MACHINE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

typedef struct nd_cgroup {
    double cpus;            /* CPU quota over its period; 0: none */
    int64_t memory;         /* bytes; -1: no limit */
    int64_t memory_charged; /* of that limit, bytes in use that cannot be reclaimed */
} nd_cgroup;

/* The tightest limits on the way from the process's group up to the mount. `root` stands before every path
 * read ("" on a live system): root/proc/self/cgroup, root/proc/self/mountinfo (cgroups(7), proc(5)) and the
 * files they lead to. What cannot be read sets no limit. */
void nd_cgroup_read(const char *root, nd_cgroup *out);

#endif
