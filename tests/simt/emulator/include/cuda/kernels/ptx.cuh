/* Stands in for cuda/kernels/ptx.cuh in the emulator: the same names, the meaning written out. */
#ifndef ND_SIMT_PTX_CUH
#define ND_SIMT_PTX_CUH

#include "tests/simt/emulator/simt.h"

#include <string.h>

extern "C" {
#include "base/tensor.h"
}

inline float nd_ptx_f32_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

inline uint32_t nd_ptx_bits_of_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float nd_ptx_f32_of_f16(uint16_t bits) {
    return nd_f16_to_f32(bits);
}

inline uint16_t nd_ptx_f16_of_f32(float x) {
    return nd_f32_to_f16(x);
}

inline uint16_t nd_ptx_bf16_of_f32(float x) {
    return nd_f32_to_bf16(x);
}

inline uint32_t nd_ptx_f16x2_of_f32(float low, float high) {
    return nd_f32_to_f16(low) | (uint32_t)nd_f32_to_f16(high) << 16;
}

inline uint32_t nd_ptx_bf16x2_of_f32(float low, float high) {
    return nd_f32_to_bf16(low) | (uint32_t)nd_f32_to_bf16(high) << 16;
}

inline float nd_ptx_tf32_of_f32(float x) {
    return isfinite(x) ? nd_ptx_f32_of_bits((nd_ptx_bits_of_f32(x) + 0x1000u) & ~0x1fffu) : x;
}

inline float nd_ptx_mul(float x, float y) {
    return x * y;
}

inline uint32_t nd_ptx_bytes(uint32_t low, uint32_t high, uint32_t which) {
    const uint64_t all = (uint64_t)high << 32 | low;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) out |= (uint32_t)(uint8_t)(all >> 8 * (which >> 4 * i & 7)) << 8 * i;
    return out;
}

inline int32_t nd_ptx_dot_u8(uint32_t a, uint32_t b, int32_t sum) {
    for (int i = 0; i < 4; i++) sum += (int32_t)(uint8_t)(a >> 8 * i) * (int8_t)(uint8_t)(b >> 8 * i);
    return sum;
}

template <int bytes> void nd_ptx_copy_async(void *to, const void *from, bool valid) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async moves 4, 8 or 16 bytes");
    nd_simt_copy(to, from, bytes, valid);
}

inline void nd_ptx_copy_commit() {
    nd_simt_copy_commit();
}

template <int pending> void nd_ptx_copy_wait() {
    nd_simt_copy_wait(pending);
}

void nd_ptx_load_matrix(uint32_t (&fragment)[4], const void *row);
void nd_ptx_mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void nd_ptx_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void nd_ptx_mma_u8(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void nd_ptx_mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

#endif
