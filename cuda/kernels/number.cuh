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

__device__ inline float nd_load(float x) {
    return x;
}

__device__ inline float nd_load(nd_f16 x) {
    return nd_ptx_f32_of_f16(x.bits);
}

__device__ inline float nd_load(nd_bf16 x) {
    return nd_ptx_f32_of_bits((uint32_t)x.bits << 16);
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

/* `count` neighbours that move in one access: at most 16 bytes. */
template <class T, int count> struct alignas(count * sizeof(T)) nd_pack { T value[count]; };

__device__ inline float nd_softplus(float x) {
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}

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
    case nd_act_abs:
        return fabsf(x);
    case nd_act_neg:
        return -x;
    case nd_act_reciprocal:
        return 1 / x;
    case nd_act_sqrt:
        return sqrtf(x);
    case nd_act_exp:
        return expf(x);
    case nd_act_log:
        return logf(x);
    case nd_act_sin:
        return sinf(x);
    case nd_act_cos:
        return cosf(x);
    case nd_act_tanh:
        return tanhf(x);
    case nd_act_erf:
        return erff(x);
    case nd_act_floor:
        return floorf(x);
    case nd_act_ceil:
        return ceilf(x);
    case nd_act_round:
        return rintf(x);
    case nd_act_sign:
        return static_cast<float>((x > 0) - (x < 0));
    case nd_act_softplus:
        return nd_softplus(x);
    case nd_act_softsign:
        return x / (1 + fabsf(x));
    case nd_act_elu:
        return b * (x < 0 ? a * expm1f(x) : x);
    case nd_act_celu:
        return x < 0 ? a * expm1f(x / a) : x;
    case nd_act_threshold:
        return x > a ? x : 0;
    case nd_act_swish:
        return x / (1 + expf(-a * x));
    case nd_act_mish:
        return x * tanhf(nd_softplus(x));
    case nd_act_gelu:
        return x / 2 * erfcf(-0.70710678118654752f * x);
    case nd_act_gelu_tanh:
        return x / (1 + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    default:
        return x;
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
    case nd_pairing_pow:
        return powf(a, b);
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
