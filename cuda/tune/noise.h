/* Numbers to time and check kernels on. What a multiplier draws, and with it the clock, depends on the bits
 * that toggle: kernels timed on zeros run up to a fifth faster than on a network's activations, and not all
 * by as much. */
#ifndef ND_CUDA_NOISE_H
#define ND_CUDA_NOISE_H

#include "cuda/kernels/kernels.h"

#ifdef __CUDACC__
#    define ND_NOISE_INLINE __host__ __device__ static inline
#else
#    define ND_NOISE_INLINE static inline
#endif

/* Bits `index` of sequence `seed`, on host and device alike: a splitmix64 hash. */
ND_NOISE_INLINE uint64_t nd_noise_bits(uint64_t seed, uint64_t index) {
    uint64_t bits = seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

/* A number of them, to the last bit: the sum of their four 16-bit parts, which is nearly normal, with mean 0,
 * variance 1 and no number beyond 3.47. */
ND_NOISE_INLINE float nd_noise(uint64_t seed, uint64_t index) {
    const uint64_t bits = nd_noise_bits(seed, index);
    const int32_t sum =
        (int32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
    return (float)(sum - 2 * 0xffff) * (1 / 37837.227f);
}

/* An 8-bit integer of them; all are as frequent. */
ND_NOISE_INLINE uint8_t nd_noise_integer(uint64_t seed, uint64_t index) {
    return (uint8_t)(nd_noise_bits(seed, index) >> 56);
}

#ifdef __cplusplus
extern "C" {
#endif

/* out[i] = scale * nd_noise(seed, i), rounded once to the storage type; of u8 nd_noise_integer(seed, i).
 * `count` elements on the device. */
nd_status nd_cuda_noise_launch(uint64_t seed, float scale, nd_dtype storage, int64_t count, void *out,
                               cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
