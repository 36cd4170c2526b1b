/* What the tensor cores make of 32 bits of shared memory: one tf32 number, or two of 16 bits, the low half
 * first. */
#ifndef ND_SIMT_ELEMENT_H
#define ND_SIMT_ELEMENT_H

#include "cuda/kernels/ptx.cuh"

typedef float nd_element(uint32_t word, int half);

float nd_element_f16(uint32_t word, int half);
float nd_element_bf16(uint32_t word, int half);
float nd_element_tf32(uint32_t word, int); /* an operand that was not rounded before is cut off */

#endif
