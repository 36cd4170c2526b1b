/* Portable C: a "register" is one float. */
#define LANES       1
#define REGISTERS   16
#define MR          4
#define NV          2
#define STEP        1
#define ND_PREFETCH 0

typedef float vec;

#define vec_zero()                0.f
#define vec_set1(x)               (x)
#define vec_load(p)               (*(p))
#define vec_store(p, v)           (*(p) = (v))
#define vec_stream(p, v)          vec_store(p, v)
#define vec_fma(a, b, c)          ((a) * (b) + (c))
#define vec_accumulate(sum, a, b) ((sum) = vec_fma(a, b, sum))
#define vec_add(a, b)             ((a) + (b))
#define vec_min(a, b)             ((a) < (b) ? (a) : (b))
#define vec_max(a, b)             ((a) > (b) ? (a) : (b))
#define vec_load_part(p, n)       ((n) > 0 ? *(p) : 0.f)
#define vec_store_part(p, n, v)   ((n) > 0 ? (void)(*(p) = (v)) : (void)0)
#define vec_permute(v, index)     ((void)(index), (v))
#define vec_prefetch(p)           ((void)(p))

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

const nd_sep_isa nd_sep_scalar = {"scalar",      LANES,         MR,          NV *LANES, sizeof(float), 1,
                                  nd_sep_blocks, sep_depthwise, sep_multiply};
