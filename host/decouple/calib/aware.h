/* Fitting a layer through the activation that follows it: in turns with new targets, which are as good after
 * the activation as the original's outputs and closer to what the layer can reach (nd_layer_retarget). */
#ifndef ND_DECOUPLE_AWARE_H
#define ND_DECOUPLE_AWARE_H

#include "decouple/calib/layer_data.h"

/* From a chain fitted on `moments`, which `current` already has in its layer: moments, chain and network
 * change. Where the method redoes its chain, all stages are derived anew from each target, the proximal
 * weight towards the present output first weak, then strong (Zhang et al. 2016; paper, a.7), and the chain
 * that came first is kept unless *error falls. Otherwise the filters stay and the last stage is fitted
 * (method.md, "Through the activation").
 *
 * *error becomes E|act(y') - act(y)|^2 / var act(y), shortcuts inside the activation. Where no ReLU or leaky
 * ReLU follows nothing changes. */
nd_status nd_fit_through_activation(const nd_layer_data *data, nd_graph *current, nd_moments *moments,
                                    nd_chain *chain, double *error);

#endif
