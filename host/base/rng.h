/* Seeded random numbers (xoshiro256**): the same seed gives the same sequence on every machine. */
#ifndef ND_BASE_RNG_H
#define ND_BASE_RNG_H

#include <stdint.h>

typedef struct nd_rng {
    uint64_t state[4];
} nd_rng;

nd_rng nd_rng_seed(uint64_t seed);
double nd_rng_uniform(nd_rng *rng);               /* [0, 1) */
double nd_rng_normal(nd_rng *rng);                /* mean 0, variance 1 */
int64_t nd_rng_below(nd_rng *rng, int64_t bound); /* [0, bound), bound >= 1 */

/* [0, 1), without a seed: numbers i in a row, from any on, fill it evenly (multiples of the golden ratio). */
double nd_rng_even(int64_t i);

#endif
