#include "run/cpu/cpu.h"

#define ND_CPU_ROW(operation, name, functions)                                                               \
    { operation, name, nd_cpu_##functions##_supports, nd_cpu_##functions##_prepare }

/* Best first within an operation. */
const nd_cpu_implementation nd_cpu_implementations[] = {
#if defined(__x86_64__)
    ND_CPU_ROW(nd_operation_separable, "nd", separable_tiled),
#endif
    ND_CPU_ROW(nd_operation_separable, "nd", separable),
    ND_CPU_ROW(nd_operation_separable, "nd", widened),
    ND_CPU_ROW(nd_operation_separable, "pair", separable_pair),
    ND_CPU_ROW(nd_operation_separable, "dense-direct", separable_dense),
    ND_CPU_ROW(nd_operation_separable, "dense-winograd", separable_winograd),
    ND_CPU_ROW(nd_operation_conv, "nd", conv_depthwise),
#if defined(__x86_64__)
    ND_CPU_ROW(nd_operation_conv, "nd", conv_tiled),
#endif
    ND_CPU_ROW(nd_operation_conv, "dense-direct", conv),
    ND_CPU_ROW(nd_operation_conv, "dense-blocked", conv_blocked),
    ND_CPU_ROW(nd_operation_conv, "dense-winograd", conv_winograd),
    ND_CPU_ROW(nd_operation_conv, "widened", widened),
    ND_CPU_ROW(nd_operation_gemm, "nd", gemm_few),
    ND_CPU_ROW(nd_operation_gemm, "onednn", gemm),
    ND_CPU_ROW(nd_operation_gemm, "widened", widened),
    ND_CPU_ROW(nd_operation_product, "onednn", product),
    ND_CPU_ROW(nd_operation_copy, "nd", quantized),
    ND_CPU_ROW(nd_operation_binary, "nd", quantized),
    ND_CPU_ROW(nd_operation_quantize, "nd", quantized),
    ND_CPU_ROW(nd_operation_dequantize, "nd", quantized),
    ND_CPU_ROW(nd_operation_pool, "nd", pool),
    ND_CPU_ROW(nd_operation_binary, "nd", binary),
    ND_CPU_ROW(nd_operation_activation, "nd", activation),
    ND_CPU_ROW(nd_operation_affine, "nd", affine),
    ND_CPU_ROW(nd_operation_copy, "nd", copy),
    ND_CPU_ROW(nd_operation_gather, "nd", gather),
    ND_CPU_ROW(nd_operation_lrn, "nd", lrn),
    ND_CPU_ROW(nd_operation_reduce, "nd", mean),
    ND_CPU_ROW(nd_operation_softmax, "nd", softmax),
    ND_CPU_ROW(nd_operation_resample, "nd", resample),
};
const size_t nd_cpu_implementation_count = sizeof nd_cpu_implementations / sizeof *nd_cpu_implementations;
