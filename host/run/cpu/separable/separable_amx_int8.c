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

static void amx_finish(const nd_sep_gemm *gemm, int pixels, const void *sums) {
    const __m512 low = _mm512_set1_ps(gemm->low), high = _mm512_set1_ps(gemm->high);
    const int32_t *out = sums;
    const uint8_t *x2 = gemm->x2;
    uint8_t *y = gemm->y;
    for (int first = 0; first < gemm->columns; first += LANES) {
        const __mmask16 mask = vec_first(gemm->columns - first < LANES ? gemm->columns - first : LANES);
        const __m512i start = _mm512_loadu_si512(gemm->start + first);
        for (int p = 0; p < pixels; p++) {
            const __m512i sum =
                _mm512_add_epi32(_mm512_loadu_si512(out + p * nd_sep_amx_columns + first), start);
            __m512 t = vec_result(gemm, first / LANES, sum);
            if (x2) {
                t = vec_add_residual(gemm, t,
                                     vec_widen(_mm_maskz_loadu_epi8(mask, x2 + p * gemm->x2_pixel + first)));
            }
            t = vec_finish(gemm, t, low, high);
            _mm_mask_storeu_epi8(y + p * gemm->y_pixel + first, mask, vec_bytes(t));
        }
    }
}

const nd_sep_amx nd_sep_amx_int8 = {1,           64,           true,      amx_begin, amx_end, sep_depthwise,
                                    amx_patches, amx_multiply, amx_store, amx_finish};
