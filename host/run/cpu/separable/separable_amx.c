/* bf16 on AMX tiles, accumulating in fp32. The depthwise half computes in fp32 and rounds once, when it
 * writes the panel. A tile of 32 pixels by 32 channels is four accumulators; a step of 32 terms loads two
 * tiles of the panel and two of weights for four products of 16 x 16 x 32. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define LANES     16
#define REGISTERS 32
#define sep_in    uint16_t
#define sep_mid   uint16_t

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
#define vec_load(p)               _mm512_loadu_ps(p)
#define vec_load_in(p)            vec_widen(_mm256_loadu_si256((const __m256i *)(p)))
#define vec_load_even(p)          vec_even(p)
#define vec_load_odd(p)           vec_odd(p)
#define vec_load_in_part(p, n)    vec_widen(_mm256_maskz_loadu_epi16(vec_first(n), p))
#define vec_store_mid(p, v)       _mm256_storeu_si256((__m256i *)(p), vec_narrow(v))
#define vec_permute(v, index)     _mm512_permutexvar_ps(_mm512_loadu_si512(index), v)
#define vec_accumulate(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

#include "run/cpu/separable/separable_depthwise_template.h"

#define AMX_DOT(c, a, b) _tile_dpbf16ps(c, a, b)
#include "run/cpu/separable/separable_amx_template.h"

static void amx_multiply(const void *panel, int64_t panel_pixel, const void *weights, int64_t steps) {
    amx_multiply_tiles(panel, (size_t)panel_pixel * sizeof(uint16_t), weights, steps);
}

/* All channels of a pixel, rounded together. */
static inline __attribute__((always_inline)) void amx_finish_wide(const nd_sep_gemm *gemm, int pixels,
                                                                  const float *out, const bool residual,
                                                                  const bool bounded) {
    const __m512 low = _mm512_set1_ps(gemm->low), high = _mm512_set1_ps(gemm->high);
    const __m512 bias = _mm512_loadu_ps(gemm->bias), bias_next = _mm512_loadu_ps(gemm->bias + LANES);
    const int64_t y_pixel = gemm->y_pixel, x2_pixel = gemm->x2_pixel;
    const uint16_t *x2 = gemm->x2;
    uint16_t *y = gemm->y;
    for (int p = 0; p < pixels; p++, out += nd_sep_amx_columns, y += y_pixel) {
        __m512 v = _mm512_add_ps(_mm512_loadu_ps(out), bias);
        __m512 next = _mm512_add_ps(_mm512_loadu_ps(out + LANES), bias_next);
        if (residual) {
            v = _mm512_add_ps(v, vec_load_in(x2));
            next = _mm512_add_ps(next, vec_load_in(x2 + LANES));
            x2 += x2_pixel;
        }
        v = _mm512_max_ps(low, v);
        next = _mm512_max_ps(low, next);
        if (bounded) {
            v = _mm512_min_ps(high, v);
            next = _mm512_min_ps(high, next);
        }
        _mm512_storeu_si512(y, (__m512i)_mm512_cvtne2ps_pbh(next, v));
    }
}

static void amx_finish_part(const nd_sep_gemm *gemm, int pixels, const void *sums) {
    const __m512 low = _mm512_set1_ps(gemm->low), high = _mm512_set1_ps(gemm->high);
    const float *out = sums;
    const uint16_t *x2 = gemm->x2;
    uint16_t *y = gemm->y;
    for (int first = 0; first < gemm->columns; first += LANES) {
        const __mmask16 mask = vec_first(gemm->columns - first < LANES ? gemm->columns - first : LANES);
        const __m512 bias = _mm512_loadu_ps(gemm->bias + first);
        for (int p = 0; p < pixels; p++) {
            __m512 v = _mm512_add_ps(_mm512_loadu_ps(out + p * nd_sep_amx_columns + first), bias);
            if (x2) {
                const __m256i half = _mm256_maskz_loadu_epi16(mask, x2 + p * gemm->x2_pixel + first);
                v = _mm512_add_ps(v, vec_widen(half));
            }
            v = _mm512_min_ps(high, _mm512_max_ps(low, v));
            _mm256_mask_storeu_epi16(y + p * gemm->y_pixel + first, mask, vec_narrow(v));
        }
    }
}

static void amx_finish(const nd_sep_gemm *gemm, int pixels, const void *sums) {
    if (gemm->columns < nd_sep_amx_columns)
        amx_finish_part(gemm, pixels, sums);
    else if (gemm->high < INFINITY)
        amx_finish_wide(gemm, pixels, sums, gemm->x2 != NULL, true);
    else if (gemm->x2)
        amx_finish_wide(gemm, pixels, sums, true, false);
    else
        amx_finish_wide(gemm, pixels, sums, false, false);
}

const nd_sep_amx nd_sep_amx_bf16 = {
    2,           32,           nd_sep_half_blocks, amx_begin, amx_end, sep_depthwise,
    amx_patches, amx_multiply, amx_store,          amx_finish};
