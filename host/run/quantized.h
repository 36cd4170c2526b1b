/* What a quantised operation means, whatever runs it: of integers to the bit.
 *
 * conv, separable and gemm: sums of integers are exact. sum[o] = sum of (q_x - zero_x) * w[o], and then, in
 * fp32 with fused multiply-adds, in this order:
 *
 *     t = fma(sum, factor[o], shift[o])                 in units of y, without its zero
 *     t = fma(q_x2, x2_factor, t)                       with a residual
 *     t = t < 0 ? t * slope : t                         leaky ReLU
 *     q_y = round(min(max(t + zero, low), high))        to nearest even
 *
 * low and high hold 0..255, ReLU and clip alike. Where y is fp32, zero is 0, they hold the activation alone,
 * and nothing is rounded.
 *
 * separable: the depthwise result of a term is one chain of fp32 fused multiply-adds over its taps inside the
 * image, in row-major order, from 0: exact where the filters are integers. It is stored as
 *     q = round(min(max(fma(chain, middle_factor[term], middle zero), 0), 255))
 * and the sum above runs over q - middle zero.
 *
 * binary, the sum of two operands of the same dims:
 *     t = fma(q_x2, x2_factor, fma(q_x, x_factor, shift))
 * and on as above, from the leaky ReLU.
 *
 * e4m3 (nd_e4m3_to_f32): the same with numbers of 4 significant bits in the place of integers, all zeros
 * being 0, low and high -448 and 448, and rounding that of nd_f32_to_e4m3. What a chain multiplies by is
 * each tap times middle_factor[term], rounded to fp32, and what it makes is stored: as exact. The sums are
 * not: their products are exact in fp32, but they are added in any order, and each addition may lose what is
 * below 2^-13 of the largest of its summands and of what was summed so far, as tensor cores of sm_90 do,
 * which add 32 products at once. Defined are conv, separable and gemm, what moves values, and the steps into
 * e4m3 and out of it; sums of two operands and pooling are fp32's. */
#ifndef ND_RUN_QUANTIZED_H
#define ND_RUN_QUANTIZED_H

#include "run/backend.h"

#pragma GCC visibility push(default)

typedef struct nd_requant {
    float x2_factor, slope, zero, low, high;
    float x_factor, shift; /* binary */
    bool leaky;
} nd_requant;

/* Whether a work is of a kind that the precision, int8 or e4m3, is defined for, with all it needs: what
 * `supports` may ask first. False for other precisions. */
bool nd_quantized_agrees(const nd_work *work, nd_precision precision);

/* The constants above: factor[no] and shift[no], NULL for binary; and, for separable, middle_factor[terms],
 * NULL otherwise. */
nd_requant nd_requant_of(const nd_work *work, float *factor, float *shift, float *middle_factor);

/* The end of a sum: what is stored of t, which lies between low and high. */
uint8_t nd_quantized_store(bool e4m3, float t);

/* round(min(max(real / scale + zero, 0), 255)), to nearest even; NaN gives 0, of e4m3 NaN. */
uint8_t nd_quantize(nd_quant quant, float real);
float nd_dequantize(nd_quant quant, uint8_t q);

#pragma GCC visibility pop

#endif
