/* The exponential function for loops that the compiler vectorises. */
#ifndef ND_RUN_CPU_EXPONENTIAL_H
#define ND_RUN_CPU_EXPONENTIAL_H

#include <stdint.h>

/* e^x; relative error below 1e-7 where x is from -87 to 88, and the value at the nearer end beyond: good
 * for what adds numbers near 1. The polynomial is of Cephes. NaN stays NaN. */
static inline float nd_cpu_exp(float x) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    x = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
    const float n = (x * 1.44269504088896341f + shift) - shift;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const union {
        int32_t bits;
        float power;
    } scale = {.bits = ((int32_t)n + 127) << 23};
    return p * scale.power;
}

#endif
