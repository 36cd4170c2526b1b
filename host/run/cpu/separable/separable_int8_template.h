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
    const __m512 t = _mm512_fmadd_ps(sum, factor, _mm512_set1_ps(dw->middle_zero));
    return _mm512_max_ps(t, _mm512_setzero_ps());
}

static inline __m512 vec_result(const nd_sep_gemm *gemm, int v, __m512i sum) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(gemm->factor + v * 16),
                           _mm512_loadu_ps(gemm->bias + v * 16));
}

/* `x2` as loaded: integers. */
static inline __m512 vec_add_residual(const nd_sep_gemm *gemm, __m512 t, __m512 x2) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)x2), _mm512_set1_ps(gemm->requant.x2_factor), t);
}

static inline __m512 vec_finish(const nd_sep_gemm *gemm, __m512 t, __m512 low, __m512 high) {
    if (gemm->requant.leaky) {
        const __mmask16 negative = _mm512_cmp_ps_mask(t, _mm512_setzero_ps(), _CMP_LT_OQ);
        t = _mm512_mask_mul_ps(t, negative, t, _mm512_set1_ps(gemm->requant.slope));
    }
    t = _mm512_add_ps(t, _mm512_set1_ps(gemm->requant.zero));
    return _mm512_min_ps(high, _mm512_max_ps(low, t));
}

#define vec_zero()                _mm512_setzero_ps()
#define vec_load(p)               _mm512_loadu_ps(p)
#define vec_load_in(p)            vec_widen(_mm_loadu_si128((const __m128i *)(p)))
#define vec_load_in_part(p, n)    vec_widen(_mm_maskz_loadu_epi8(vec_first(n), p))
#define vec_store_mid(p, v)       _mm_storeu_si128((__m128i *)(p), vec_bytes(v))
#define vec_permute(v, index)     _mm512_permutexvar_ps(_mm512_loadu_si512(index), v)
#define vec_accumulate(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define vec_real(dw, v)           vec_centred(dw, v)
#define vec_mid(dw, group, v)     vec_middle(dw, group, v)
