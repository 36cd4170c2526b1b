/* The sensitivity of the network's output to errors of a layer's output, direction by direction
 * (method.md, "Output metric"). */
#ifndef ND_DECOUPLE_OUTPUT_METRIC_H
#define ND_DECOUPLE_OUTPUT_METRIC_H

#include "decouple/plan/plan.h"

/* Fills layer->metric of every layer of the plan that may be decoupled: the symmetric root of
 * Q + 0.05 mean(diag Q) I, Q = sum over pixels of g g^T, g the gradient of v . scores at the layer's output,
 * v normal, a few draws on up to 128 calibration images, all from one backward pass a draw. Layers before an
 * op without a derivative go without (NULL), and so does a layer that no score depends on. */
nd_status nd_output_metric(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                           nd_plan *plan);

#endif
