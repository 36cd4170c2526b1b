/* int8 by AVX512-VNNI: 14 x 32 tiles as in fp32, a word of four terms a multiplication. The depthwise half
 * computes in fp32, exactly where the filters are integers, and stores bytes straight into the panel. */
#include <immintrin.h>
#include <stdint.h>

#define LANES       16
#define REGISTERS   32
#define MR          14
#define NV          2
#define STEP        4
#define WORDS       4
#define ND_PREFETCH 32
#define sep_in      uint8_t
#define sep_mid     uint8_t
#define sep_word    int32_t
#define sep_acc     __m512i

typedef __m512 vec;

#include "run/cpu/separable/separable_int8_template.h"

#define vec_set1(x)                     _mm512_set1_ps(x)
#define vec_store_out(p, v)             _mm_storeu_si128((__m128i *)(p), vec_bytes(v))
#define vec_store_part(p, n, v)         _mm_mask_storeu_epi8(p, vec_first(n), vec_bytes(v))
#define vec_store_real(p, n, v)         _mm512_mask_storeu_ps(p, vec_first(n), v)
#define vec_stream(p, v)                _mm_stream_si128((__m128i *)(p), vec_bytes(v))
#define vec_prefetch(p)                 _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define word_set1(p)                    _mm512_set1_epi32(*(p))
#define word_load(p)                    _mm512_loadu_si512(p)
#define acc_dot(sum, a, w)              __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w))
#define acc_start(gemm, v)              _mm512_loadu_si512((gemm)->start + (v)*LANES)
#define acc_result(gemm, v, sum)        vec_result(gemm, v, sum)
#define vec_residual(gemm, v, x2)       vec_add_residual(gemm, v, x2)
#define vec_bounded(gemm, v, low, high) vec_finish(gemm, v, low, high)

#include "run/cpu/separable/separable_depthwise_template.h"
#include "run/cpu/separable/separable_gemm_template.h"

ND_TILES_14

const nd_sep_isa nd_sep_avx512_vnni = {"avx512_vnni",      LANES,         MR,          NV *LANES, 1, 4,
                                       nd_sep_wide_blocks, sep_depthwise, sep_multiply};
