#include "run/cpu/cpu.h"

#define ND_CPU_ROW(kind, name, functions)                                                                    \
    { kind, name, nd_cpu_##functions##_supports, nd_cpu_##functions##_prepare }

/* Best first within a kind. */
const nd_cpu_impl nd_cpu_impls[] = {
#if defined(__x86_64__)
    ND_CPU_ROW(nd_kind_separable, "nd", separable_bf16),
#endif
    ND_CPU_ROW(nd_kind_separable, "nd", separable),
    ND_CPU_ROW(nd_kind_separable, "nd", widened),
    ND_CPU_ROW(nd_kind_separable, "pair", separable_pair),
    ND_CPU_ROW(nd_kind_separable, "dense-direct", separable_dense),
    ND_CPU_ROW(nd_kind_separable, "dense-winograd", separable_winograd),
    ND_CPU_ROW(nd_kind_conv, "nd", conv_depthwise),
    ND_CPU_ROW(nd_kind_conv, "dense-direct", conv),
    ND_CPU_ROW(nd_kind_conv, "dense-blocked", conv_blocked),
    ND_CPU_ROW(nd_kind_conv, "dense-winograd", conv_winograd),
    ND_CPU_ROW(nd_kind_conv, "widened", widened),
    ND_CPU_ROW(nd_kind_gemm, "onednn", gemm),
    ND_CPU_ROW(nd_kind_gemm, "widened", widened),
    ND_CPU_ROW(nd_kind_pool, "onednn", pool),
    ND_CPU_ROW(nd_kind_binary, "nd", binary),
    ND_CPU_ROW(nd_kind_activation, "nd", activation),
    ND_CPU_ROW(nd_kind_affine, "nd", affine),
    ND_CPU_ROW(nd_kind_copy, "nd", copy),
    ND_CPU_ROW(nd_kind_gather, "nd", gather),
    ND_CPU_ROW(nd_kind_lrn, "nd", lrn),
    ND_CPU_ROW(nd_kind_mean, "nd", mean),
};
const size_t nd_cpu_impl_count = sizeof nd_cpu_impls / sizeof *nd_cpu_impls;
