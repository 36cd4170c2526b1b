#define _GNU_SOURCE /* sched_getaffinity */
#include "base/machine/cores.h"
#include "base/machine/cgroup.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* CPUs this process may run on. The mask of the system may be larger than a cpu_set_t. */
static int affinity_count(void) {
    for (int cpus = 1024; cpus <= 1 << 18; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        const size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        const int count = set && !sched_getaffinity(0, size, set) ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

/* The first number of OMP_NUM_THREADS, which may be a list by nesting level; 0 when it is none. */
static int openmp_count(const char **text) {
    *text = getenv("OMP_NUM_THREADS");
    if (!*text) return 0;
    char *end;
    const long count = strtol(*text, &end, 10);
    return end != *text && count > 0 && count <= 1 << 16 ? (int)count : 0;
}

void nd_cores_find(const char *root, nd_cores *out) {
    nd_cgroup cgroup;
    const char *openmp;
    const int affinity = affinity_count(), asked = openmp_count(&openmp);
    nd_cgroup_read(root, &cgroup);
    out->count = affinity;
    snprintf(out->why, sizeof out->why, "CPUs in the affinity mask");
    if (cgroup.cpus > 0 && ceil(cgroup.cpus) < out->count) {
        out->count = (int)ceil(cgroup.cpus);
        snprintf(out->why, sizeof out->why, "cgroup quota of %.4g CPUs, %d in the affinity mask", cgroup.cpus,
                 affinity);
    }
    if (asked && asked < out->count) {
        out->count = asked;
        snprintf(out->why, sizeof out->why, "OMP_NUM_THREADS=%.32s, %d CPUs in the affinity mask", openmp,
                 affinity);
    }
}
