#include "decouple/calib/calibrate.h"

#include <stdlib.h>

nd_status nd_layer_put(nd_graph *current, const nd_layer *layer, const nd_chain *chain) {
    const nd_conv *conv = &layer->conv;
    nd_status status = nd_status_ok;
    int64_t count = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    double *w = nd_alloc_array((size_t)count, sizeof *w);
    float *weights = nd_alloc_array((size_t)count, sizeof *weights);
    ND_REQUIRE_DONE(w && weights, nd_status_memory, "conv %s: no memory for its new kernel", layer->name);
    ND_TRY_DONE(nd_chain_compose(chain, conv, w));
    for (int64_t e = 0; e < count; e++) weights[e] = (float)w[e];
    ND_TRY_DONE(nd_conv_set(current, layer->node, conv, weights, chain->stages[chain->n - 1].bias));
done:
    free(w);
    free(weights);
    return status;
}
