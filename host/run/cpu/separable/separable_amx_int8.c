/* int8 on AMX tiles, accumulating in int32. The depthwise half computes in fp32, exactly where the filters
 * are integers, and stores bytes straight into the panel; a step of 64 terms is four products of 16 x 16
 * x 64. */
#include <immintrin.h>
#include <stdint.h>

#define LANES     16
#define REGISTERS 32
#define sep_in    uint8_t
#define sep_mid   uint8_t

typedef __m512 vec;

/* Processors with tiles have AVX512-VBMI2. */
static inline __m512i amx_roll(__m512i word, __m512i next) {
    __asm__("vpshrdd $8, %1, %0, %0" : "+v"(word) : "v"(next));
    return word;
}
#define ints_roll(word, next) amx_roll(word, next)

#include "run/cpu/separable/separable_int8_template.h"

#include "run/cpu/separable/separable_depthwise_template.h"

#define AMX_DOT(c, a, b) _tile_dpbusd(c, a, b)
#include "run/cpu/separable/separable_amx_template.h"

static void amx_multiply(const void *panel, int64_t panel_pixel, const void *weights, int64_t steps) {
    amx_multiply_tiles(panel, (size_t)panel_pixel, weights, steps);
}

/* The result of a pixel's 16 channels from `first` on, in units of y, but for the bounds that narrowing has:
 * the lower one, and both where it `saturates`. */
static inline __attribute__((always_inline)) __m512 amx_result(const nd_sep_gemm *gemm, const int32_t *sums,
                                                               int p, int first, __mmask16 mask, __m512 high,
                                                               const bool saturates) {
    __m512 t = vec_result(gemm, first / LANES,
                          _mm512_add_epi32(_mm512_loadu_si512(sums + p * nd_sep_amx_columns + first),
                                           _mm512_loadu_si512(gemm->start + first)));
    if (gemm->x2) {
        const uint8_t *x2 = (const uint8_t *)gemm->x2 + p * gemm->x2_pixel + first;
        t = vec_add_residual(gemm, t, vec_widen(_mm_maskz_loadu_epi8(mask, x2)));
    }
    return saturates ? t : vec_below(gemm, t, high);
}

/* All channels of two pixels. Rounding keeps order, so the lower bound may as well be one of bytes. */
static inline __attribute__((always_inline)) void amx_finish_two(const nd_sep_gemm *gemm, const int32_t *sums,
                                                                 int p, __m512i low, __m512 high,
                                                                 const bool saturates) {
    uint8_t *y = (uint8_t *)gemm->y + p * gemm->y_pixel;
    const __m512i bytes = vec_bytes_of_four(amx_result(gemm, sums, p, 0, 0xffff, high, saturates),
                                            amx_result(gemm, sums, p, LANES, 0xffff, high, saturates),
                                            amx_result(gemm, sums, p + 1, 0, 0xffff, high, saturates),
                                            amx_result(gemm, sums, p + 1, LANES, 0xffff, high, saturates));
    const __m512i bounded = _mm512_max_epu8(bytes, low);
    _mm256_storeu_si256((__m256i *)y, _mm512_castsi512_si256(bounded));
    vec_store_half(y + gemm->y_pixel, bounded);
}

/* The same to y in fp32. */
static void amx_finish_real(const nd_sep_gemm *gemm, int pixels, const void *sums) {
    const __m512 low = _mm512_set1_ps(gemm->low), high = _mm512_set1_ps(gemm->high);
    for (int p = 0; p < pixels; p++) {
        float *y = (float *)gemm->y + p * gemm->y_pixel;
        for (int first = 0; first < gemm->columns; first += LANES) {
            const __mmask16 mask = vec_first(gemm->columns - first < LANES ? gemm->columns - first : LANES);
            const __m512 t = amx_result(gemm, sums, p, first, mask, high, false);
            _mm512_mask_storeu_ps(y + first, mask, _mm512_max_ps(low, t));
        }
    }
}

static void amx_finish(const nd_sep_gemm *gemm, int pixels, const void *sums) {
    if (gemm->real) {
        amx_finish_real(gemm, pixels, sums);
        return;
    }
    const __m512 low = _mm512_set1_ps(gemm->low), high = _mm512_set1_ps(gemm->high);
    int done = 0;
    if (gemm->columns == nd_sep_amx_columns) {
        const __m512i bytes = _mm512_set1_epi8((char)_mm_cvtss_si32(_mm_set_ss(gemm->low)));
        if (gemm->saturates)
            for (; done + 2 <= pixels; done += 2) amx_finish_two(gemm, sums, done, bytes, high, true);
        else
            for (; done + 2 <= pixels; done += 2) amx_finish_two(gemm, sums, done, bytes, high, false);
    }
    for (int p = done; p < pixels; p++) {
        uint8_t *y = (uint8_t *)gemm->y + p * gemm->y_pixel;
        for (int first = 0; first < gemm->columns; first += LANES) {
            const int left = gemm->columns - first;
            const __mmask16 mask = vec_first(left < LANES ? left : LANES);
            const __m512 t = _mm512_max_ps(low, amx_result(gemm, sums, p, first, mask, high, false));
            _mm_mask_storeu_epi8(y + first, mask, vec_bytes(t));
        }
    }
}

const nd_sep_amx nd_sep_amx_int8 = {
    1,           64,           nd_sep_wide_blocks, amx_begin, amx_end, sep_depthwise,
    amx_patches, amx_multiply, amx_store,          amx_finish};
