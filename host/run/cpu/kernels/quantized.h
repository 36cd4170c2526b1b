/* Rows of quantized.c by instruction set. */
#ifndef ND_RUN_CPU_KERNELS_QUANTIZED_H
#define ND_RUN_CPU_KERNELS_QUANTIZED_H

#include "run/quantized.h"

/* y = the sum of x and x2 as run/quantized.h has it (binary), not leaky, of as many of the n bytes as whole
 * registers hold. Returns how many. */
int64_t nd_cpu_add_avx512(const nd_requant *requant, int64_t n, const uint8_t *x, const uint8_t *x2,
                          uint8_t *y);

#endif
