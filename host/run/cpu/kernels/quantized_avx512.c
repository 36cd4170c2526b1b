/* Sums of bytes by AVX-512: what compilers make of them shuffles more than it computes. */
#include "run/cpu/kernels/quantized.h"

#include <immintrin.h>

enum { lanes = 16 };

static inline __m512 quantized_widen(const uint8_t *bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
}

/* In units of y, but for the lower bound. */
static inline __m512 quantized_sum(const nd_requant *r, const uint8_t *x, const uint8_t *x2) {
    const __m512 part =
        _mm512_fmadd_ps(quantized_widen(x), _mm512_set1_ps(r->x_factor), _mm512_set1_ps(r->shift));
    const __m512 t = _mm512_fmadd_ps(quantized_widen(x2), _mm512_set1_ps(r->x2_factor), part);
    return _mm512_min_ps(_mm512_set1_ps(r->high), _mm512_add_ps(t, _mm512_set1_ps(r->zero)));
}

/* Rounding keeps order, so the lower bound may as well be one of bytes. */
int64_t nd_cpu_add_avx512(const nd_requant *requant, int64_t n, const uint8_t *x, const uint8_t *x2,
                          uint8_t *y) {
    const nd_requant r = *requant;
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_set1_epi8((char)_mm_cvtss_si32(_mm_set_ss(r.low)));
    int64_t i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
        __m512i q[4];
        for (int k = 0; k < 4; k++)
            q[k] = _mm512_cvtps_epi32(quantized_sum(&r, x + i + k * lanes, x2 + i + k * lanes));
        const __m512i bytes =
            _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
        _mm512_storeu_si512(y + i, _mm512_max_epu8(low, _mm512_permutexvar_epi32(order, bytes)));
    }
    return i;
}
