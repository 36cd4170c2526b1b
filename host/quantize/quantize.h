/* Post-training quantisation to 8 bits: a network of QuantizeLinear and DequantizeLinear, static.
 *
 * Weights of Conv and Gemm become i8, symmetric, with a scale per output channel, each rounded for what those
 * rounded before it did to the output (Frantar et al. 2022, arXiv 2210.17323); their biases i32; what goes
 * into them becomes u8, affine, with one scale a tensor (Krishnamoorthi 2018, arXiv 1806.08342). The range of
 * a tensor is the one of least expected square error among its extremes, percentiles and shrunk extremes.
 * Between a depthwise and a pointwise convolution a scale per channel is free: it is chosen so that the
 * ranges of the channels and of the pointwise weights that meet them are even (cross-layer equalisation,
 * Nagel et al. 2019, arXiv 1906.04721). What rounding and clipping do to the mean of an output, its bias
 * takes up (bias correction, the same).
 *
 * In e4m3 (Micikevicius et al. 2022, arXiv 2209.05433) both are symmetric, with scales found and weights
 * rounded in the same ways, and biases stay fp32.
 *
 * Or only those layers that a bound on the loss allows (`automatic`): a layer is a convolution, a depthwise
 * and a pointwise one together, or a Gemm. All in integers first, the network is measured, and then with each
 * layer alone in fp32: how much of the squared error of the scores on the calibration images goes, and what
 * the network takes longer, in turns with the one all in integers. What is faster in fp32 goes there. While
 * the bound is not kept, layers go into fp32, those first that take off most error for their time; and then
 * back, the dearest first, whichever the bound does not need. The network is measured at every one of these
 * steps, so the bound holds of the one that is written. Of L layers these are at most 3 L + 2 networks. */
#ifndef ND_QUANTIZE_QUANTIZE_H
#define ND_QUANTIZE_QUANTIZE_H

#include "base/batches.h"
#include "base/log.h"
#include "model/graph.h"
#include "run/backend.h"

/* How much a network in 8 bits loses of what the network in fp32 has: in points, and what is bounded. */
typedef struct nd_quantize_judge {
    nd_status (*loss)(void *user, const nd_graph *graph, double *points);
    void *user;
} nd_quantize_judge;

typedef struct nd_quantize_settings {
    /* NULL: a network that is only timed. Ranges are made up and every weight is rounded by itself; planes
     * that the network puts out stay in 8 bits, as a part of a network hands them on, and are left with one
     * pixel. */
    nd_batches *calib;
    int64_t images;          /* of them; 0: all */
    const char *const *skip; /* patterns of layers that stay in fp32 */
    size_t n_skip;
    bool e4m3;      /* into that; else into integers */
    bool automatic; /* layers by a bound on the loss; else all */
    bool timed;     /* layers cost the time they take; else their MACs, the same on every machine */
    double points;  /* the bound */
    /* NULL: the loss is how many of the calibration images get another best class, in per cent, which no loss
     * of accuracy on the same images exceeds; for networks with scores of classes. The graph that a judge
     * gets is folded and inferred. */
    const nd_quantize_judge *judge;
    const nd_progress *progress;
} nd_quantize_settings;

/* One layer and its precision, with `automatic`. */
typedef struct nd_quantize_layer {
    const char *name; /* points into the graph */
    bool pair, in_integers;
    int64_t macs;   /* of an image */
    double cost_ns; /* what an image takes longer with this layer alone in fp32 than with none */
    double error;   /* what of the relative squared error of the scores goes with it alone in fp32 */
    bool faster;    /* went into fp32 for its time */
    int turn;       /* of the walk, from 1, at which it went into fp32 for its error; 0: it did not */
} nd_quantize_layer;

typedef struct nd_quantize_report {
    int layers, quantised, balanced; /* Conv and Gemm; those in integers; pairs with an even middle */
    int tensors;                     /* activations in 8 bits */
    double mean_error;               /* over them, sqrt(E|q(x) - x|^2 / E|x|^2) as measured on histograms */
    /* With `automatic`: */
    nd_quantize_layer *of;      /* [n], in the order of the graph */
    int n, runs;                /* networks measured */
    double all_points, points;  /* lost with all layers in integers, and by the network written */
    double all_error, error;    /* sum |s' - s|^2 / sum |s - mean s|^2 of the scores s, likewise */
    double real_ns, all_ns, ns; /* of an image, the first in fp32; 0: not measured, MACs were the cost */
} nd_quantize_report;

/* `graph` is as nd_model_open made it, inferred; afterwards it is written anew, in opset 17 or in that of its
 * file (nd_onnx_anew). Post-processing in the graph and what comes after it stay as they are. Where nothing
 * but fp32 keeps the bound of `automatic`: nd_status_failed. */
nd_status nd_quantize_graph(nd_graph *graph, nd_backend *backend, const nd_quantize_settings *settings,
                            nd_quantize_report *report);
void nd_quantize_report_free(nd_quantize_report *report);

#endif
