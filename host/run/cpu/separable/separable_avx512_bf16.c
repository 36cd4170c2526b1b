/* bf16 by AVX512-BF16: 14 x 32 tiles as in fp32, a word of two terms a multiplication. The depthwise half
 * computes in fp32 and rounds once, when it writes the panel; sums are fp32. */
#include <immintrin.h>
#include <stdint.h>

#define LANES       16
#define REGISTERS   32
#define MR          14
#define NV          2
#define STEP        4
#define WORDS       8
#define ND_PREFETCH 32
#define sep_in      uint16_t
#define sep_mid     uint16_t
#define sep_word    uint32_t
#define sep_acc     __m512

typedef __m512 vec;

static inline __m512 vec_widen(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* The 16 even ones of 32 and the odd ones: one instruction each, where widening 16 takes two. */
static inline __m512 vec_even(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}

static inline __m512 vec_odd(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(0xaaaaaaaa, p));
}

static inline __m256i vec_narrow(__m512 v) {
    return (__m256i)_mm512_cvtneps_pbh(v);
}

#define vec_first(n)              ((__mmask16)((n) <= 0 ? 0 : 0xffffu >> (16 - (n))))
#define vec_zero()                _mm512_setzero_ps()
#define vec_set1(x)               _mm512_set1_ps(x)
#define vec_load(p)               _mm512_loadu_ps(p)
#define vec_load_in(p)            vec_widen(_mm256_loadu_si256((const __m256i *)(p)))
#define vec_load_even(p)          vec_even(p)
#define vec_load_odd(p)           vec_odd(p)
#define vec_load_in_part(p, n)    vec_widen(_mm256_maskz_loadu_epi16(vec_first(n), p))
#define vec_store_mid(p, v)       _mm256_storeu_si256((__m256i *)(p), vec_narrow(v))
#define vec_store_out(p, v)       vec_store_mid(p, v)
#define vec_store_part(p, n, v)   _mm256_mask_storeu_epi16(p, vec_first(n), vec_narrow(v))
#define vec_stream(p, v)          _mm256_stream_si256((__m256i *)(p), vec_narrow(v))
#define vec_add(a, b)             _mm512_add_ps(a, b)
#define vec_min(a, b)             _mm512_min_ps(a, b)
#define vec_max(a, b)             _mm512_max_ps(a, b)
#define vec_permute(v, index)     _mm512_permutexvar_ps(_mm512_loadu_si512(index), v)
#define vec_prefetch(p)           _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define vec_accumulate(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define word_set1(p)              _mm512_castsi512_ps(_mm512_set1_epi32((int)*(p)))
#define word_load(p)              _mm512_loadu_ps(p)
#define acc_dot(sum, a, w)        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w))

#include "run/cpu/separable/separable_depthwise_template.h"
#include "run/cpu/separable/separable_gemm_template.h"

ND_TILES_14

const nd_sep_isa nd_sep_avx512_bf16 = {
    "avx512_bf16",      LANES,         MR,          NV *LANES, sizeof(uint16_t), 2,
    nd_sep_half_blocks, sep_depthwise, sep_multiply};
