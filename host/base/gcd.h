/* The greatest common divisor. */
#ifndef ND_BASE_GCD_H
#define ND_BASE_GCD_H

#include <stdint.h>

/* Of numbers that are not negative; of 0 and b it is b. */
static inline int64_t nd_gcd(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

#endif
