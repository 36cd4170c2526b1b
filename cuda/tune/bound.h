/* How far two right results of one layer may be apart, when its operands are what nd_noise makes and its
 * weights are scaled so that every output has variance 1. Then all partial sums lie within a few
 * deviations of zero, and an error is at most so many of their roundings: linear in the length of the sum, as
 * nd check's bounds are, but without the magnitudes of every element. A tap left out, a bias, residual or
 * ReLU that is missing, or elements of another place are errors of the order of 1.
 *
 * Layers of 8-bit integers are defined to the bit (run/quantized.h), whatever their operands are: those that
 * are right are equal. */
#ifndef ND_CUDA_BOUND_H
#define ND_CUDA_BOUND_H

#include "run/backend.h"

typedef struct nd_bound {
    float absolute, relative; /* |a - b| <= absolute + relative * |b| */
} nd_bound;

/* transformed: the products are of Winograd or Fourier transforms of the operands, whose roundings count many
 * times. */
nd_bound nd_bound_of(const nd_work *work, nd_precision precision, bool transformed);

/* Products in one output: ni/groups*kh*kw, and terms*kh*kw of a separable layer. */
int64_t nd_bound_length(const nd_work *work);

#endif
