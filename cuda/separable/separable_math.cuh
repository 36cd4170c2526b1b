/* The arithmetics of the fused kernels. */
#ifndef ND_CUDA_SEPARABLE_MATH_CUH
#define ND_CUDA_SEPARABLE_MATH_CUH

#include "cuda/kernels/launch.cuh"

/* What differs between arithmetics: the element stored, how one is read and how a depthwise value is rounded,
 * what is summed, and a step of the GEMM (two chunks of K on tensor cores; strict fp32 has its own loop). */
struct nd_math_f16 {
    using element = nd_f16;
    static constexpr bool tensor = true;
    __device__ static void store(nd_f16 *to, float x) {
        nd_store(to, x);
    }
    __device__ static void store_pair(void *to, float x, float y) {
        *static_cast<uint32_t *>(to) = nd_ptx_f16x2_of_f32(x, y);
    }
    __device__ static void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        nd_ptx_mma_f16(c, a, b0, b1);
    }
};

struct nd_math_bf16 {
    using element = nd_bf16;
    static constexpr bool tensor = true;
    __device__ static void store(nd_bf16 *to, float x) {
        nd_store(to, x);
    }
    __device__ static void store_pair(void *to, float x, float y) {
        *static_cast<uint32_t *>(to) = nd_ptx_bf16x2_of_f32(x, y);
    }
    __device__ static void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        nd_ptx_mma_bf16(c, a, b0, b1);
    }
};

struct nd_math_tf32 {
    using element = float;
    static constexpr bool tensor = true;
    __device__ static void store(float *to, float x) {
        *to = nd_ptx_tf32_of_f32(x);
    }
    __device__ static void store_pair(void *to, float x, float y) {
        *static_cast<nd_pack<float, 2> *>(to) = {nd_ptx_tf32_of_f32(x), nd_ptx_tf32_of_f32(y)};
    }
    __device__ static void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        nd_ptx_mma_tf32(c, a, b0, b1);
    }
};

/* By the definition in run/quantized.h: the depthwise half in fp32, its results integers of 8 bits that hold
 * their zero, as x holds its own; weights are signed. */
struct nd_math_u8 {
    using element = nd_u8;
    static constexpr bool tensor = true;
    __device__ static void store(nd_u8 *to, float x) {
        nd_store(to, x);
    }
    __device__ static void mma(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        nd_ptx_mma_u8(c, a, b0, b1);
    }
};

struct nd_math_fp32 {
    using element = float;
    static constexpr bool tensor = false;
    __device__ static void store(float *to, float x) {
        *to = x;
    }
};

#endif
