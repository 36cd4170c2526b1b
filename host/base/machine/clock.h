/* The one clock that durations are measured with. In the header, so that plugins need no symbol for it. */
#ifndef ND_BASE_MACHINE_CLOCK_H
#define ND_BASE_MACHINE_CLOCK_H

#include <time.h>

/* Monotonic, from some moment on. */
static inline double nd_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
