/* What the int8 kernels of AVX-512 and AMX share: 16 bytes to fp32 and back, and the epilogue of
 * run/quantized.h. Included once by each, after `vec` and LANES. */
#include "run/cpu/separable/separable_kernel.h"

#define vec_first(n) ((__mmask16)((n) <= 0 ? 0 : 0xffffu >> (16 - (n))))

static inline __m512 vec_widen(__m128i bytes) {
    return (__m512)_mm512_cvtepu8_epi32(bytes);
}

/* What is loaded is kept as integers until its zero is taken off. */
static inline __m512 vec_centred(const nd_sep_depthwise *dw, __m512 v) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32((__m512i)v, _mm512_set1_epi32(dw->x_zero)));
}

/* Rounded to nearest even; above 255 saturates, below 0 must not occur. */
static inline __m128i vec_bytes(__m512 v) {
    return _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v));
}

static inline __m512 vec_middle(const nd_sep_depthwise *dw, int64_t group, __m512 sum) {
    const __m512 factor = _mm512_loadu_ps(dw->middle_factor + group * 16);
    return _mm512_fmadd_ps(sum, factor, _mm512_set1_ps(dw->middle_zero));
}

static inline __m128i vec_middle_bytes(__m512 v) {
    return vec_bytes(_mm512_max_ps(v, _mm512_setzero_ps()));
}

/* The bytes of four registers, one after the other: below 0 and above 255 they saturate, in 16 bits. */
static inline __m512i vec_bytes_of_four(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
    const __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(ab, cd));
}

/* gcc 12 makes two instructions of the intrinsics, and the first takes a port that the sums want. */
#define vec_store_quarter(p, v, quarter)                                                                     \
    __asm__("vextracti32x4 $" #quarter ", %1, %0" : "=m"(*(__m128i_u *)(p)) : "v"(v))
#define vec_store_half(p, v) __asm__("vextracti64x4 $1, %1, %0" : "=m"(*(__m256i_u *)(p)) : "v"(v))

static inline void vec_narrow_four(uint8_t *p, int64_t step, __m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512i bytes = vec_bytes_of_four(a, b, c, d);
    _mm_storeu_si128((__m128i *)p, _mm512_castsi512_si128(bytes));
    vec_store_quarter(p + step, bytes, 1);
    vec_store_quarter(p + 2 * step, bytes, 2);
    vec_store_quarter(p + 3 * step, bytes, 3);
}

static inline __m512i ints_shift_in(__m512i word, __m512i next) {
    return _mm512_or_si512(_mm512_srli_epi32(word, 8), _mm512_slli_epi32(next, 24));
}

/* Within every 128 bits bytes of two rows go in turns, then their pairs: four channels a register. */
static inline void ints_words_of_rows(const __m512i rows[4], int32_t *words) {
    const __m512i low = _mm512_unpacklo_epi8(rows[0], rows[1]), high = _mm512_unpackhi_epi8(rows[0], rows[1]);
    const __m512i lower = _mm512_unpacklo_epi8(rows[2], rows[3]);
    const __m512i upper = _mm512_unpackhi_epi8(rows[2], rows[3]);
    _mm512_store_si512(words, _mm512_unpacklo_epi16(low, lower));
    _mm512_store_si512(words + 16, _mm512_unpackhi_epi16(low, lower));
    _mm512_store_si512(words + 32, _mm512_unpacklo_epi16(high, upper));
    _mm512_store_si512(words + 48, _mm512_unpackhi_epi16(high, upper));
}

static inline __m512 vec_result(const nd_sep_gemm *gemm, int v, __m512i sum) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(gemm->factor + v * 16),
                           _mm512_loadu_ps(gemm->bias + v * 16));
}

/* `x2` as loaded: integers. */
static inline __m512 vec_add_residual(const nd_sep_gemm *gemm, __m512 t, __m512 x2) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)x2), _mm512_set1_ps(gemm->requant.x2_factor), t);
}

/* In units of y, but for the lower bound. */
static inline __m512 vec_below(const nd_sep_gemm *gemm, __m512 t, __m512 high) {
    if (gemm->requant.leaky) {
        const __mmask16 negative = _mm512_cmp_ps_mask(t, _mm512_setzero_ps(), _CMP_LT_OQ);
        t = _mm512_mask_mul_ps(t, negative, t, _mm512_set1_ps(gemm->requant.slope));
    }
    return _mm512_min_ps(high, _mm512_add_ps(t, _mm512_set1_ps(gemm->requant.zero)));
}

static inline __m512 vec_finish(const nd_sep_gemm *gemm, __m512 t, __m512 low, __m512 high) {
    return _mm512_max_ps(low, vec_below(gemm, t, high));
}

#define vec_zero()                _mm512_setzero_ps()
#define vec_load(p)               _mm512_loadu_ps(p)
#define vec_load_in(p)            vec_widen(_mm_loadu_si128((const __m128i *)(p)))
#define vec_load_in_part(p, n)    vec_widen(_mm_maskz_loadu_epi8(vec_first(n), p))
#define vec_store_mid(p, v)       _mm_storeu_si128((__m128i *)(p), vec_middle_bytes(v))
#define vec_permute(v, index)     _mm512_permutexvar_ps(_mm512_loadu_si512(index), v)
#define vec_accumulate(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define vec_real(dw, v)           vec_centred(dw, v)
#define vec_mid(dw, group, v)     vec_middle(dw, group, v)

#define vec_store_mids(p, step, a, b, c, d) vec_narrow_four(p, step, a, b, c, d)
#define ints                                __m512i
#define ints_load(p)                        _mm512_loadu_si512(p)
#define ints_set1(x)                        _mm512_set1_epi32(x)
#define ints_add(a, b)                      _mm512_add_epi32(a, b)
#define ints_real(v)                        _mm512_cvtepi32_ps(v)
#define ints_dot(sum, a, w)                 __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w))
#ifndef ints_roll
#    define ints_roll(word, next) ints_shift_in(word, next)
#endif
#define ints_come_apart(rows, words) ints_words_of_rows(rows, words)
