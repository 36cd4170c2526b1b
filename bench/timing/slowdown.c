#include "bench/timing/slowdown.h"

#include "base/text.h"

#include <stdlib.h>
#include <time.h>

double nd_slowdown_planted(void) {
#ifdef ND_TEST_HOOKS
    const char *text = getenv("ND_TEST_SLOWDOWN");
    double share;
    if (text && nd_text_real(text, &share) && share > 0) return share;
#endif
    return 0;
}

double nd_slowdown_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void nd_slowdown_spin(double seconds) {
    double end = nd_slowdown_now() + seconds;
    while (nd_slowdown_now() < end) continue;
}
