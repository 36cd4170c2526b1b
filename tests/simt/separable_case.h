/* Separable layers that hit the kernels' edges: channels and outputs that fill no tile, planes from 1x1 up,
 * several images in one tile, strides, asymmetric padding, dilation, adaptive ranks with channels
 * left out. */
#ifndef ND_SIMT_SEPARABLE_CASE_H
#define ND_SIMT_SEPARABLE_CASE_H

#include "cuda/separable/separable_pack.h"
#include "tests/simt/quantized_case.h"

struct nd_test_layer {
    const char *name;
    int64_t n, ni, h, w, no;
    nd_window window;
    int64_t uniform; /* terms of every channel; 0: adaptive, 0 to 4, a long gap in the middle */
    int64_t tile, spread;
    bool bias, residual;
    nd_activation activation;
};

#define ND_3X3                                                                                               \
    {                                                                                                        \
        {3, 3}, {1, 1}, {1, 1}, {                                                                            \
            1, 1, 1, 1                                                                                       \
        }                                                                                                    \
    }

extern const std::vector<nd_test_layer> nd_test_layers;

nd_test_case nd_test_separable_case(const nd_test_layer &layer);

/* The same layer on integers, without a name or a launch. Scales spread depthwise results and outputs over
 * their range, and past it. Zeros are at the ends and between; filters are real numbers, or, of odd variants,
 * integers of scales of their own; where a layer has no activation, every second time it is a leaky ReLU. */
nd_quantized_case nd_test_separable_integers(const nd_test_layer &layer, int64_t variant);

/* The same of e4m3: filters and weights are numbers of it. */
nd_quantized_case nd_test_separable_e4m3(const nd_test_layer &layer, int64_t variant);

/* What int8 and e4m3 have beside the rest, where it lies. */
inline nd_cuda_integers nd_test_constants(const nd_work &work, const nd_separable_integers &host) {
    return {host.requant, work.x_quant.zero, work.middle_quant.zero, host.start, host.factor, host.shift};
}

/* Packs for the fused kernel and launches it, as the plugin does. */
nd_status nd_test_fused(const nd_work *work, nd_precision precision, int64_t tile, int64_t split,
                        const void *x, const void *x2, void *y);

#endif
