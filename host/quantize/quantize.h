/* Post-training quantisation to 8 bits: a network of QuantizeLinear and DequantizeLinear, static.
 *
 * Weights of Conv and Gemm become i8, symmetric, with a scale per output channel; their biases i32; what
 * goes into them becomes u8, affine, with one scale a tensor (Krishnamoorthi 2018, arXiv 1806.08342). The
 * range of a tensor is the one of least expected square error among its extremes, percentiles and shrunk
 * extremes. Between a depthwise and a pointwise convolution a scale per channel is free: it is chosen so
 * that the ranges of the channels and of the pointwise weights that meet them are even (cross-layer
 * equalisation, Nagel et al. 2019, arXiv 1906.04721). What rounding and clipping do to the mean of an
 * output, its bias takes up (bias correction, the same). */
#ifndef ND_QUANTIZE_QUANTIZE_H
#define ND_QUANTIZE_QUANTIZE_H

#include "base/batches.h"
#include "model/graph.h"
#include "run/backend.h"

typedef struct nd_quantize_settings {
    nd_batches *calib;
    int64_t images;          /* of them; 0: all */
    const char *const *skip; /* patterns of layers that stay in fp32 */
    size_t n_skip;
} nd_quantize_settings;

typedef struct nd_quantize_report {
    int layers, quantised, balanced; /* Conv and Gemm; those in integers; pairs with an even middle */
    int tensors;                     /* activations in 8 bits */
    double mean_error;               /* over them, sqrt(E|q(x) - x|^2 / E|x|^2) as measured on histograms */
} nd_quantize_report;

/* `graph` is as nd_model_open made it, inferred; afterwards it has no source and is written anew, in opset
 * 17. */
nd_status nd_quantize_graph(nd_graph *graph, nd_backend *backend, const nd_quantize_settings *settings,
                            nd_quantize_report *report);

#endif
