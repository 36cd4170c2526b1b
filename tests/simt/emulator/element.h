/* What the tensor cores make of 32 bits of shared memory: one tf32 number, two of 16 bits, or four
 * of 8 bits, the low bits first. */
#ifndef ND_SIMT_ELEMENT_H
#define ND_SIMT_ELEMENT_H

#include "cuda/kernels/ptx.cuh"

typedef float nd_element(uint32_t word, int half);

float nd_element_f16(uint32_t word, int half);
float nd_element_bf16(uint32_t word, int half);
float nd_element_e4m3(uint32_t word, int byte);
float nd_element_tf32(uint32_t word, int); /* an operand that was not rounded before is cut off */

int32_t nd_element_u8(uint32_t word, int byte);
int32_t nd_element_s8(uint32_t word, int byte);

#endif
