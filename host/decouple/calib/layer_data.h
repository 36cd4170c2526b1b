/* What one layer of a calibration pass is fitted to. */
#ifndef ND_DECOUPLE_LAYER_DATA_H
#define ND_DECOUPLE_LAYER_DATA_H

#include "decouple/calib/activation_cache.h"
#include "decouple/fit/split.h"
#include "decouple/plan/plan.h"

/* One layer between two networks of the same nodes and values: the original, and the one decoupled so far. */
typedef struct nd_layer_data {
    const nd_graph *original, *current;
    nd_backend *backend;
    const nd_decouple_settings *settings;
    const nd_layer *layer;
    nd_activation_cache *activations; /* at or before the layer */
    int next;                         /* node that they move to after it, or 0 */
} nd_layer_data;

/* Inputs of the current network against outputs of the original. Where the layer ends in a residual sum whose
 * other operand is final, the target also makes up for that operand's error: y + s - s', s and s' the operand
 * in the original and the current network (method.md, "Moments"). Not finished. */
nd_status nd_layer_moments(const nd_layer_data *data, nd_split *out);

/* Does a ReLU or leaky ReLU follow the node, directly or after the residual sum? *slope is that of its
 * negative side.
 */
bool nd_layer_slope(const nd_graph *graph, int node, double *slope);

/* New targets for the layer, whose fitted kernel the current network already has: per element the r that
 * minimises (z - act(r))^2 + proximal (r - u)^2, z = act(original sum), u = the current sum; less the current
 * operand (method.md, "Through the activation"). */
nd_status nd_layer_retarget(const nd_layer_data *data, double proximal, double slope, nd_moments *moments);

/* E|act(u) - act(s)|^2 / var act(s) over all outputs, s the original sum and u that of the current network; 0
 * where s does not vary after the activation. */
nd_status nd_layer_activation_error(const nd_layer_data *data, double slope, double *error);

/* Best gain and shift of each output of the current network towards its target, and the relative error that
 * leaves. An output that does not vary keeps gain 1. */
nd_status nd_layer_gains(const nd_layer_data *data, double *gain, double *shift, double *error);

#endif
