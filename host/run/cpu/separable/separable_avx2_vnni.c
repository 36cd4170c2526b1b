/* int8 by AVX-VNNI: 6 x 16 tiles as on AVX2, a word of four terms a multiplication. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "run/cpu/separable/separable_kernel.h"

#define LANES       8
#define REGISTERS   16
#define MR          6
#define NV          2
#define STEP        2
#define WORDS       2
#define ND_PREFETCH 16
#define sep_in      uint8_t
#define sep_mid     uint8_t
#define sep_word    int32_t
#define sep_acc     __m256i

typedef __m256 vec;

static inline __m256 vec_load_bytes(const uint8_t *p) {
    return (__m256)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

static inline __m256 vec_load_some(const uint8_t *p, int n) {
    uint64_t bytes = 0;
    memcpy(&bytes, p, n < 8 ? (size_t)n : 8);
    return (__m256)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
}

static inline uint64_t vec_bytes(__m256 v) {
    const __m256i integers = _mm256_cvtps_epi32(v);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(words, words));
}

static inline void vec_store_bytes(uint8_t *p, __m256 v) {
    const uint64_t bytes = vec_bytes(v);
    memcpy(p, &bytes, sizeof bytes);
}

static inline void vec_store_some(uint8_t *p, int n, __m256 v) {
    const uint64_t bytes = vec_bytes(v);
    if (n > 0) memcpy(p, &bytes, n < 8 ? (size_t)n : 8);
}

static inline void vec_store_some_reals(float *p, int n, __m256 v) {
    float reals[8];
    _mm256_storeu_ps(reals, v);
    if (n > 0) memcpy(p, reals, (size_t)(n < 8 ? n : 8) * sizeof *p);
}

static inline __m256 vec_middle(const nd_sep_depthwise *dw, int64_t group, __m256 sum) {
    const __m256 factor = _mm256_loadu_ps(dw->middle_factor + group * 8);
    const __m256 t = _mm256_fmadd_ps(sum, factor, _mm256_set1_ps(dw->middle_zero));
    return _mm256_min_ps(_mm256_max_ps(t, _mm256_setzero_ps()), _mm256_set1_ps(255));
}

static inline __m256 vec_result(const nd_sep_gemm *gemm, int v, __m256i sum) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(gemm->factor + v * 8),
                           _mm256_loadu_ps(gemm->bias + v * 8));
}

static inline __m256 vec_finish(const nd_sep_gemm *gemm, __m256 t, __m256 low, __m256 high) {
    if (gemm->requant.leaky) {
        const __m256 scaled = _mm256_mul_ps(t, _mm256_set1_ps(gemm->requant.slope));
        t = _mm256_blendv_ps(t, scaled, _mm256_cmp_ps(t, _mm256_setzero_ps(), _CMP_LT_OQ));
    }
    t = _mm256_add_ps(t, _mm256_set1_ps(gemm->requant.zero));
    return _mm256_min_ps(high, _mm256_max_ps(low, t));
}

#define vec_zero()                      _mm256_setzero_ps()
#define vec_set1(x)                     _mm256_set1_ps(x)
#define vec_load(p)                     _mm256_loadu_ps(p)
#define vec_load_in(p)                  vec_load_bytes(p)
#define vec_load_in_part(p, n)          vec_load_some(p, n)
#define vec_store_mid(p, v)             vec_store_bytes(p, v)
#define vec_store_out(p, v)             vec_store_bytes(p, v)
#define vec_store_part(p, n, v)         vec_store_some(p, n, v)
#define vec_store_real(p, n, v)         vec_store_some_reals(p, n, v)
#define vec_stream(p, v)                vec_store_bytes(p, v)
#define vec_load_index(p)               _mm256_loadu_si256((const __m256i *)(p))
#define vec_permute(v, index)           _mm256_permutevar8x32_ps(v, vec_load_index(index))
#define vec_accumulate(sum, a, b)       __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define vec_prefetch(p)                 _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define vec_centred(v, zero)            _mm256_sub_epi32((__m256i)(v), _mm256_set1_epi32(zero))
#define vec_real(dw, v)                 _mm256_cvtepi32_ps(vec_centred(v, (dw)->x_zero))
#define vec_mid(dw, group, v)           vec_middle(dw, group, v)
#define ints                            __m256i
#define ints_load(p)                    _mm256_loadu_si256((const __m256i *)(p))
#define ints_set1(x)                    _mm256_set1_epi32(x)
#define ints_add(a, b)                  _mm256_add_epi32(a, b)
#define ints_real(v)                    _mm256_cvtepi32_ps(v)
#define ints_roll(word, next)           _mm256_or_si256(_mm256_srli_epi32(word, 8), ints_last(next))
#define ints_last(next)                 _mm256_slli_epi32(next, 24)
#define ints_dot(sum, a, w)             __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w))
#define word_set1(p)                    _mm256_set1_epi32(*(p))
#define word_load(p)                    _mm256_loadu_si256((const __m256i *)(p))
#define acc_dot(sum, a, w)              __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w))
#define acc_start(gemm, v)              _mm256_loadu_si256((const __m256i *)((gemm)->start + (v)*LANES))
#define acc_result(gemm, v, sum)        vec_result(gemm, v, sum)
#define vec_bounded(gemm, v, low, high) vec_finish(gemm, v, low, high)
#define vec_residual(gemm, v, x2)                                                                            \
    _mm256_fmadd_ps(_mm256_cvtepi32_ps((__m256i)(x2)), _mm256_set1_ps((gemm)->requant.x2_factor), v)

#include "run/cpu/separable/separable_depthwise_template.h"
#include "run/cpu/separable/separable_gemm_template.h"

ND_TILES_6

const nd_sep_isa nd_sep_avx2_vnni = {"avx2_vnni",   LANES,         MR,          NV *LANES, 1, 4,
                                     nd_sep_blocks, sep_depthwise, sep_multiply};
