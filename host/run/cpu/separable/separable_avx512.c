/* AVX-512: 14 x 32 tiles, 28 accumulators of the 32 registers. */
#include <immintrin.h>

#define LANES       16
#define REGISTERS   32
#define MR          14
#define NV          2
#define STEP        4
#define ND_PREFETCH 32

typedef __m512 vec;

#define vec_zero()                _mm512_setzero_ps()
#define vec_set1(x)               _mm512_set1_ps(x)
#define vec_load(p)               _mm512_loadu_ps(p)
#define vec_store(p, v)           _mm512_storeu_ps(p, v)
#define vec_stream(p, v)          _mm512_stream_ps(p, v)
#define vec_fma(a, b, c)          _mm512_fmadd_ps(a, b, c)
#define vec_accumulate(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define vec_add(a, b)             _mm512_add_ps(a, b)
#define vec_min(a, b)             _mm512_min_ps(a, b)
#define vec_max(a, b)             _mm512_max_ps(a, b)
#define vec_first(n)              ((__mmask16)((n) <= 0 ? 0 : 0xffffu >> (16 - (n))))
#define vec_load_part(p, n)       _mm512_maskz_loadu_ps(vec_first(n), p)
#define vec_store_part(p, n, v)   _mm512_mask_storeu_ps(p, vec_first(n), v)
#define vec_permute(v, index)     _mm512_permutexvar_ps(_mm512_loadu_si512(index), v)
#define vec_prefetch(p)           _mm_prefetch((const char *)(p), _MM_HINT_T0)

#include "run/cpu/separable/separable_depthwise_template.h"
#include "run/cpu/separable/separable_gemm_template.h"

ND_TILES_14

const nd_sep_isa nd_sep_avx512 = {"avx512",      LANES,         MR,          NV *LANES, sizeof(float), 1,
                                  nd_sep_blocks, sep_depthwise, sep_multiply};
