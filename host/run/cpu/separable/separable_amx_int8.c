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

/* Sixteen results of one pixel, within the limits of bytes. `channels`: start, factor and bias of these
 * columns. */
typedef struct amx_channels {
    __m512i start;
    __m512 factor, bias, low, high;
} amx_channels;

static inline __m512 amx_value(const nd_sep_gemm *gemm, const amx_channels *channels, const int32_t *sums,
                               const uint8_t *x2, __mmask16 mask) {
    const __m512i sum = _mm512_add_epi32(_mm512_loadu_si512(sums), channels->start);
    __m512 t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), channels->factor, channels->bias);
    if (x2) t = vec_add_residual(gemm, t, vec_widen(_mm_maskz_loadu_epi8(mask, x2)));
    return vec_finish(gemm, t, channels->low, channels->high);
}

/* Four pixels at a time, narrowed together. What a pixel needs stays in registers: the compiler takes stores
 * of bytes for stores into anything that a pointer shows. */
static void amx_finish(const nd_sep_gemm *gemm, int pixels, const void *sums) {
    const nd_sep_gemm own = *gemm;
    const int32_t *out = sums;
    for (int first = 0; first < own.columns; first += LANES) {
        const int columns = own.columns - first < LANES ? own.columns - first : LANES;
        const __mmask16 mask = vec_first(columns);
        const amx_channels channels = {_mm512_loadu_si512(own.start + first),
                                       _mm512_loadu_ps(own.factor + first), _mm512_loadu_ps(own.bias + first),
                                       _mm512_set1_ps(own.low), _mm512_set1_ps(own.high)};
        const int32_t *from = out + first;
        const uint8_t *x2 = own.x2 ? (const uint8_t *)own.x2 + first : NULL;
        uint8_t *y = (uint8_t *)own.y + first;
        int p = 0;
        for (; columns == LANES && p + 4 <= pixels; p += 4) {
            vec t[4];
            ND_UNROLL for (int i = 0; i < 4; i++) {
                t[i] = amx_value(&own, &channels, from + i * nd_sep_amx_columns,
                                 x2 ? x2 + i * own.x2_pixel : NULL, mask);
            }
            vec_narrow_four(y, own.y_pixel, t[0], t[1], t[2], t[3]);
            from += 4 * nd_sep_amx_columns;
            y += 4 * own.y_pixel;
            if (x2) x2 += 4 * own.x2_pixel;
        }
        for (; p < pixels; p++) {
            const __m512 t = amx_value(&own, &channels, from, x2, mask);
            _mm_mask_storeu_epi8(y, mask, vec_bytes(t));
            from += nd_sep_amx_columns;
            y += own.y_pixel;
            if (x2) x2 += own.x2_pixel;
        }
    }
}

const nd_sep_amx nd_sep_amx_int8 = {
    1, 64, true, amx_begin, amx_end, sep_depthwise, amx_multiply, amx_store, amx_finish};
