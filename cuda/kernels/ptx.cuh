/* The instructions that C++ has no words for, one thin wrapper each. The emulator offers a header of the same
 * name (tests/simt/emulator/include); but for runtime.cuh, nothing else of a kernel has a second version.
 * Fragment layouts: PTX ISA, "Matrix multiply-accumulate operation using mma instruction". */
#ifndef ND_CUDA_PTX_CUH
#define ND_CUDA_PTX_CUH

#include <stdint.h>

__device__ inline float nd_ptx_f32_of_bits(uint32_t bits) {
    return __uint_as_float(bits);
}

__device__ inline uint32_t nd_ptx_bits_of_f32(float x) {
    return __float_as_uint(x);
}

__device__ inline float nd_ptx_f32_of_f16(uint16_t bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ inline uint16_t nd_ptx_f16_of_f32(float x) {
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ inline uint16_t nd_ptx_bf16_of_f32(float x) {
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

/* Two at once, `low` in the low half: one instruction. */
__device__ inline uint32_t nd_ptx_f16x2_of_f32(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

__device__ inline uint32_t nd_ptx_bf16x2_of_f32(float low, float high) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

/* Rounds to the 10 mantissa bits of tf32, ties away from zero. */
__device__ inline float nd_ptx_tf32_of_f32(float x) {
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}

/* A product that is rounded on its own, never fused with a sum. */
__device__ inline float nd_ptx_mul(float x, float y) {
    return __fmul_rn(x, y);
}

/* Four of the eight bytes of low and high, numbered from low's lowest: one in every nibble of `which`. */
__device__ inline uint32_t nd_ptx_bytes(uint32_t low, uint32_t high, uint32_t which) {
    return __byte_perm(low, high, which);
}

/* sum + the products of four unsigned bytes with four signed ones. */
__device__ inline int32_t nd_ptx_dot_u8(uint32_t a, uint32_t b, int32_t sum) {
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

__device__ inline uint32_t nd_ptx_shared_address(const void *pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* Copies `bytes` (4, 8 or 16) from global to shared memory in the background, or writes zeros when !valid;
 * `from` must be a legal address either way. Seen by this thread after nd_ptx_copy_wait, by others after a
 * barrier. */
template <int bytes> __device__ inline void nd_ptx_copy_async(void *to, const void *from, bool valid) {
    const int live = valid ? bytes : 0;
    if constexpr (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(nd_ptx_shared_address(to)),
                     "l"(from), "r"(live)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(nd_ptx_shared_address(to)),
                     "l"(from), "r"(live), "n"(bytes)
                     : "memory");
}

__device__ inline void nd_ptx_copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most `pending` of this thread's groups are still under way. */
template <int pending> __device__ inline void nd_ptx_copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* Four 8x8 matrices of 16-bit elements (or 8x4 of 32-bit ones); lane l names row l % 8 of matrix l / 8. */
__device__ inline void nd_ptx_load_matrix(uint32_t (&fragment)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(nd_ptx_shared_address(row))
                 : "memory");
}

/* c += a b with a 16x16, b 16x8 of fp16. */
__device__ inline void nd_ptx_mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline void nd_ptx_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* c += a b with a 16x32 of unsigned, b 32x8 of signed 8-bit integers. */
__device__ inline void nd_ptx_mma_u8(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* c += a b with a 16x8, b 8x8 of tf32. */
__device__ inline void nd_ptx_mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
