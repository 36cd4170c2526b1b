#include "cuda/tune/autotune.h"

#include "base/machine/clock.h"

/* In a file of its own, so that a test can put its own clock in its place. */
double nd_cuda_seconds(void) {
    return nd_seconds();
}
