/* int8 in portable C: a "register" is one number, a word one term. */
#include "run/cpu/separable/separable_kernel.h"

#include <math.h>
#include <stdint.h>

#define LANES       1
#define REGISTERS   16
#define MR          4
#define NV          2
#define STEP        1
#define WORDS       1
#define ND_PREFETCH 0
#define sep_in      uint8_t
#define sep_mid     uint8_t
#define sep_word    int8_t
#define sep_acc     int32_t

typedef float vec;

static inline uint8_t vec_byte(float t) {
    return (uint8_t)nearbyintf(t < 0 ? 0 : t > 255 ? 255 : t);
}

static inline float vec_finish(const nd_sep_gemm *gemm, float t, float low, float high) {
    if (gemm->requant.leaky && t < 0) t *= gemm->requant.slope;
    t += gemm->requant.zero;
    t = t < low ? low : t;
    return t > high ? high : t;
}

#define vec_zero()                0.f
#define vec_set1(x)               (x)
#define vec_load(p)               (*(p))
#define vec_load_in(p)            ((float)*(p))
#define vec_load_in_part(p, n)    ((n) > 0 ? (float)*(p) : 0.f)
#define vec_store_mid(p, v)       (*(p) = vec_byte(v))
#define vec_store_out(p, v)       (*(p) = vec_byte(v))
#define vec_store_part(p, n, v)   ((n) > 0 ? (void)(*(p) = vec_byte(v)) : (void)0)
#define vec_store_real(p, n, v)   ((n) > 0 ? (void)(*(p) = (v)) : (void)0)
#define vec_stream(p, v)          vec_store_out(p, v)
#define vec_accumulate(sum, a, b) ((sum) = fmaf(a, b, sum))
#define vec_permute(v, index)     ((void)(index), (v))
#define vec_prefetch(p)           ((void)(p))
#define vec_real(dw, v)           ((v) - (float)(dw)->x_zero)
#define vec_mid(dw, group, v)     fmaf(v, (dw)->middle_factor[group], (dw)->middle_zero)
/* The panel holds unsigned bytes, the weights signed ones. */
#define word_set1(p)                    ((int32_t)(uint8_t) * (p))
#define word_load(p)                    ((int32_t) * (p))
#define acc_dot(sum, a, w)              ((sum) += (a) * (w))
#define acc_start(gemm, v)              ((gemm)->start[v])
#define acc_result(gemm, v, sum)        fmaf((float)(sum), (gemm)->factor[v], (gemm)->bias[v])
#define vec_residual(gemm, v, x2)       fmaf(x2, (gemm)->requant.x2_factor, v)
#define vec_bounded(gemm, v, low, high) vec_finish(gemm, v, low, high)

#include "run/cpu/separable/separable_depthwise_template.h"
#include "run/cpu/separable/separable_gemm_template.h"

ND_TILE(1)
ND_TILE(2)
ND_TILE(3)
ND_TILE(4)

static void sep_multiply(const nd_sep_gemm *gemm, int tile_pixels) {
    static sep_tile_fn *const tiles[MR][NV] = {ND_TILE_ROW(1), ND_TILE_ROW(2), ND_TILE_ROW(3),
                                               ND_TILE_ROW(4)};
    tiles[tile_pixels - 1][gemm->columns > LANES](gemm);
}

const nd_sep_isa nd_sep_scalar_int8 = {"scalar",      LANES,         MR,          NV *LANES, 1, 1,
                                       nd_sep_blocks, sep_depthwise, sep_multiply};
