/* AVX2 with FMA: 6 x 16 tiles, 12 accumulators of the 16 registers. */
#include <immintrin.h>

#define LANES       8
#define REGISTERS   16
#define MR          6
#define NV          2
#define STEP        4
#define ND_PREFETCH 16

typedef __m256 vec;

/* Lanes below n, for n <= 8. */
static inline __m256i vec_first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

#define vec_zero()                _mm256_setzero_ps()
#define vec_set1(x)               _mm256_set1_ps(x)
#define vec_load(p)               _mm256_loadu_ps(p)
#define vec_store(p, v)           _mm256_storeu_ps(p, v)
#define vec_stream(p, v)          _mm256_stream_ps(p, v)
#define vec_fma(a, b, c)          _mm256_fmadd_ps(a, b, c)
#define vec_accumulate(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define vec_add(a, b)             _mm256_add_ps(a, b)
#define vec_min(a, b)             _mm256_min_ps(a, b)
#define vec_max(a, b)             _mm256_max_ps(a, b)
#define vec_load_part(p, n)       _mm256_maskload_ps(p, vec_first(n))
#define vec_store_part(p, n, v)   _mm256_maskstore_ps(p, vec_first(n), v)
#define vec_permute(v, index)     _mm256_permutevar8x32_ps(v, _mm256_loadu_si256((const __m256i *)(index)))
#define vec_prefetch(p)           _mm_prefetch((const char *)(p), _MM_HINT_T0)

#include "run/cpu/separable/separable_depthwise_template.h"
#include "run/cpu/separable/separable_gemm_template.h"

ND_TILES_6

const nd_sep_isa nd_sep_avx2 = {"avx2",        LANES,         MR,          NV *LANES, sizeof(float), 1,
                                nd_sep_blocks, sep_depthwise, sep_multiply};
