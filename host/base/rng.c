#include "base/rng.h"

#include <math.h>

/* xoshiro256** of Blackman and Vigna (2018), seeded by splitmix64. */
nd_rng nd_rng_seed(uint64_t seed) {
    nd_rng rng;
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        rng.state[i] = z ^ z >> 31;
    }
    return rng;
}

static uint64_t rotate(uint64_t x, int by) {
    return x << by | x >> (64 - by);
}

static uint64_t rng_next(nd_rng *rng) {
    uint64_t *s = rng->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

double nd_rng_uniform(nd_rng *rng) {
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

double nd_rng_normal(nd_rng *rng) {
    /* Box-Muller; 1 - u is in (0, 1], so that the logarithm is finite. */
    double radius = sqrt(-2.0 * log(1.0 - nd_rng_uniform(rng)));
    return radius * cos(6.283185307179586476925 * nd_rng_uniform(rng));
}

int64_t nd_rng_below(nd_rng *rng, int64_t bound) {
    /* Rejection keeps every value equally likely. */
    uint64_t range = (uint64_t)bound, limit = UINT64_MAX - UINT64_MAX % range, x;
    do x = rng_next(rng);
    while (x >= limit);
    return (int64_t)(x % range);
}

double nd_rng_even(int64_t i) {
    const double at = (double)(i + 1) * 0.618033988749;
    return at - floor(at);
}
