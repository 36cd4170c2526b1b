#ifndef ND_RUN_CPU_DEPTHWISE_H
#define ND_RUN_CPU_DEPTHWISE_H

#include "run/cpu/separable/separable_terms.h"

/* The halves of the separable kernel for this backend's level; NULL where that has none in a precision. */
const nd_sep_isa *nd_cpu_sep_isa(const nd_cpu *cpu, nd_precision precision);

/* The depthwise half of all images of terms->x: y[image][pixel][groups * lanes], dense. `x` points at the
 * first image. Parallel. */
void nd_cpu_depthwise_images(const nd_sep_isa *isa, const nd_sep_terms *terms, const float *x, float *y);

#endif
