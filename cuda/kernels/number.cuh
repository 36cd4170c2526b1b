/* Storage types of activations and what a kernel does with them: load as fp32, compute, round once. The types
 * are our own 16-bit wrappers so that kernels need no vendor header and also compile for the host. */
#ifndef ND_CUDA_NUMBER_CUH
#define ND_CUDA_NUMBER_CUH

#include "cuda/kernels/ptx.cuh"

struct nd_f16 {
    uint16_t bits;
};

struct nd_bf16 {
    uint16_t bits;
};

struct nd_u8 {
    uint8_t integer;
};

struct nd_e4m3 {
    uint8_t code;
};

__device__ inline float nd_load(float x) {
    return x;
}

__device__ inline float nd_load(nd_f16 x) {
    return nd_ptx_f32_of_f16(x.bits);
}

__device__ inline float nd_load(nd_bf16 x) {
    return nd_ptx_f32_of_bits((uint32_t)x.bits << 16);
}

__device__ inline float nd_load(nd_u8 x) {
    return (float)x.integer;
}

/* As nd_e4m3_to_f32 and nd_f32_to_e4m3 of base/tensor.h: bits of the exponent and fraction in the places of
 * those of fp32 are 2^120 times too small, subnormals too. */
__device__ inline float nd_load(nd_e4m3 x) {
    const uint32_t sign = (uint32_t)(x.code & 0x80) << 24, rest = x.code & 0x7f;
    const float magnitude = nd_ptx_f32_of_bits(rest << 20) * 0x1p120f;
    const uint32_t bits = rest == 0x7f ? 0x7fc00000u : nd_ptx_bits_of_f32(magnitude);
    return nd_ptx_f32_of_bits(sign | bits);
}

__device__ inline void nd_store(float *y, float x) {
    *y = x;
}

__device__ inline void nd_store(nd_f16 *y, float x) {
    y->bits = nd_ptx_f16_of_f32(x);
}

__device__ inline void nd_store(nd_bf16 *y, float x) {
    y->bits = nd_ptx_bf16_of_f32(x);
}

/* To the nearest even integer in range; what is no number gives 0. Beside 2^23 there is no room for less than
 * 1, so that the sum rounds and has the integer in its low bits: conversions are slow on some devices. */
__device__ inline uint32_t nd_u8_of_f32(float x) { /* in the low byte */
    return nd_ptx_bits_of_f32(fminf(fmaxf(x, 0.0f), 255.0f) + 8388608.0f);
}

__device__ inline void nd_store(nd_u8 *y, float x) {
    y->integer = (uint8_t)nd_u8_of_f32(x);
}

__device__ inline void nd_store(nd_e4m3 *y, float x) {
    const uint32_t bits = nd_ptx_bits_of_f32(x), magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude - 0x3c000000u + 0x7ffffu + (magnitude >> 20 & 1)) >> 20;
    const uint32_t small = nd_ptx_bits_of_f32(nd_ptx_f32_of_bits(magnitude) + 16384.0f) - 0x46800000u;
    uint32_t code = magnitude < 0x3c800000u ? small : normal;
    if (magnitude >= 0x43e00000u) code = 0x7e;
    if (magnitude > 0x7f800000u) code = 0x7f;
    y->code = (uint8_t)((bits >> 24 & 0x80) | code);
}

/* `count` neighbours that move in one access: at most 16 bytes. */
template <class T, int count> struct alignas(count * sizeof(T)) nd_pack { T value[count]; };

/* Copies 16 bytes of neighbours to shared memory in background copies of `unit` bytes, 16 or 4, as far as all
 * addresses divide; 0: element by element, at once, for 16-bit elements at odd distances. From element `live`
 * on zeros arrive; `from` must be a legal address even where there is none. */
template <class T> __device__ inline void nd_chunk_copy(int unit, T *to, const T *from, int live) {
    constexpr int all = 16 / (int)sizeof(T), few = 4 / (int)sizeof(T);
    if (unit == 16) {
        nd_ptx_copy_async<16>(to, from, live > 0);
    } else if (unit == 4) {
        for (int i = 0; i < all; i += few) nd_ptx_copy_async<4>(to + i, i < live ? from + i : from, i < live);
    } else {
        for (int i = 0; i < all; i++) to[i] = i < live ? from[i] : T();
    }
}

/* Those that cost a kernel neither stack nor registers: every kernel carries them all in its epilogue. */
__device__ inline float nd_activate(const nd_activation &activation, float x) {
    const float a = activation.a, b = activation.b;
    switch (activation.act) {
    case nd_act_relu:
        return x > 0 ? x : 0;
    case nd_act_clip:
        return fminf(fmaxf(x, a), b);
    case nd_act_leaky_relu:
        return x < 0 ? a * x : x;
    case nd_act_sigmoid:
        return 1 / (1 + expf(-x));
    case nd_act_hard_sigmoid:
        return fminf(fmaxf(a * x + b, 0.0f), 1.0f);
    case nd_act_hard_swish:
        return x * fminf(fmaxf(x / 6 + 0.5f, 0.0f), 1.0f);
    default:
        return x;
    }
}

/* Of several values: one branch for them all where there is none to compute, or the cheapest. */
template <int count> __device__ inline void nd_activate(const nd_activation &activation, float (&x)[count]) {
    if (activation.act == nd_act_none) return;
    if (activation.act == nd_act_relu) {
        for (int i = 0; i < count; i++) x[i] = x[i] > 0 ? x[i] : 0;
    } else {
        for (int i = 0; i < count; i++) x[i] = nd_activate(activation, x[i]);
    }
}

__device__ inline float nd_pair(nd_pairing pairing, float a, float b) {
    switch (pairing) {
    case nd_pairing_add:
        return a + b;
    case nd_pairing_mul:
        return a * b;
    case nd_pairing_sub:
        return a - b;
    case nd_pairing_div:
        return a / b;
    case nd_pairing_min:
        return a < b || a != a ? a : b;
    case nd_pairing_max:
        return a > b || a != a ? a : b;
    case nd_pairing_prelu:
        return a < 0 ? a * b : a;
    case nd_pairing_keep:
        return b != 0 ? a : 0;
    case nd_pairing_drop:
        return b != 0 ? 0 : a;
    default:
        return 0;
    }
}

#endif
