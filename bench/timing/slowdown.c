#include "bench/timing/slowdown.h"

#include "base/machine/clock.h"
#include "base/text/text.h"

#include <stdlib.h>

double nd_slowdown_planted(void) {
#ifdef ND_TEST_HOOKS
    const char *text = getenv("ND_TEST_SLOWDOWN");
    double share;
    if (text && nd_text_real(text, &share) && share > 0) return share;
#endif
    return 0;
}

void nd_slowdown_spin(double seconds) {
    double end = nd_seconds() + seconds;
    while (nd_seconds() < end) continue;
}
