#include "decouple/calib/aware.h"

#include "decouple/calib/calibrate.h"
#include "decouple/fit/refit.h"

#include <math.h>

/* Of a stage of the published schedule, and the share of the error that a round must win to be followed by
 * another: what comes after is far below the noise of the images. */
enum { most_rounds = 25 };
static const double least_gain = 1e-3;

static nd_status refit_last_stage(const nd_layer_data *data, nd_graph *current, double slope,
                                  nd_moments *moments, nd_chain *chain) {
    static const double proximal_weights[] = {.01, .1, 1};
    const nd_conv *conv = &data->layer->conv;
    for (size_t p = 0; p < sizeof proximal_weights / sizeof *proximal_weights; p++) {
        ND_TRY(nd_layer_retarget(data, proximal_weights[p], slope, moments));
        ND_TRY(nd_refit_last(data->backend, conv, moments, chain));
        ND_TRY(nd_refit_chain_bias(conv, moments, chain));
        ND_TRY(nd_layer_put(current, data->layer, chain));
    }
    return nd_status_ok;
}

/* One target and the chain it gives, kept when the error falls. *gain is by how much it falls. */
static nd_status redo_chain(const nd_layer_data *data, nd_graph *current, double proximal, double slope,
                            nd_moments *moments, nd_chain *chain, double *error, double *gain) {
    const nd_layer *layer = data->layer;
    nd_chain next = {0};
    double after = 0;
    nd_status status = nd_status_ok;
    ND_TRY(nd_layer_retarget(data, proximal, slope, moments));
    ND_TRY_DONE(layer->method->decompose(data->backend, &layer->conv, data->settings->ranks, layer->rank,
                                         moments, &next));
    ND_TRY_DONE(nd_layer_put(current, layer, &next));
    ND_TRY_DONE(nd_layer_activation_error(data, slope, &after));
    *gain = *error - after;
    if (*gain > 0) {
        const nd_chain old = *chain;
        *chain = next;
        next = old;
        *error = after;
    } else {
        ND_TRY_DONE(nd_layer_put(current, layer, chain));
    }
done:
    nd_chain_free(&next);
    return status;
}

nd_status nd_fit_through_activation(const nd_layer_data *data, nd_graph *current, nd_moments *moments,
                                    nd_chain *chain, double *error) {
    static const double proximal_weights[] = {.01, 1};
    const nd_layer *layer = data->layer;
    double slope = 0;
    if (!nd_layer_slope(data->original, layer->node, &slope)) return nd_status_ok;
    if (!layer->method || !layer->method->redone) {
        ND_TRY(refit_last_stage(data, current, slope, moments, chain));
        return nd_layer_activation_error(data, slope, error);
    }
    ND_TRY(nd_layer_activation_error(data, slope, error));
    double first = *error;
    for (size_t p = 0; p < sizeof proximal_weights / sizeof *proximal_weights; p++) {
        double gain = INFINITY;
        int rounds = 0;
        while (rounds++ < most_rounds && gain > least_gain * *error)
            ND_TRY(redo_chain(data, current, proximal_weights[p], slope, moments, chain, error, &gain));
        nd_log(nd_log_debug, "%s: error after the activation %.4f, was %.4f, proximal weight %g, round %d",
               layer->name, sqrt(*error), sqrt(first), proximal_weights[p], rounds - 1);
    }
    return nd_status_ok;
}
