/* How many threads the machine is good for, and what says so. */
#ifndef ND_BASE_MACHINE_CORES_H
#define ND_BASE_MACHINE_CORES_H

typedef struct nd_cores {
    int count; /* at least 1 */
    char why[160];
} nd_cores;

/* The smallest of the affinity mask, the CPU quota of the control groups (rounded up; `root` as in cgroup.h)
 * and OMP_NUM_THREADS where it is set. */
void nd_cores_find(const char *root, nd_cores *out);

#endif
