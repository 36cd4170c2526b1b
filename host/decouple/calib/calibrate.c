#include "decouple/calib/calibrate.h"

#include "decouple/calib/aware.h"
#include "decouple/calib/layer_data.h"
#include "decouple/calib/match_scores.h"
#include "decouple/calib/pass_cache.h"
#include "decouple/fit/refit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The least-squares kernel as a chain of one stage. */
static nd_status refit_dense(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                             nd_chain *out) {
    nd_stage *stage = NULL;
    ND_TRY(nd_chain_add(out, "", &conv->window, conv->no, conv->ni, conv->groups, false, &stage));
    int64_t count = moments->no * moments->k;
    const double *w = NULL;
    ND_TRY(nd_refit_kernel(backend, conv, moments, &w));
    for (int64_t e = 0; e < count; e++) stage->weights[e] = (float)w[e];
    return nd_refit_chain_bias(conv, moments, out);
}

/* The light mode: the chain of the weights alone, each output with the gain and bias that suit the data best
 * (method.md, "Gain and bias"). */
static nd_status fit_gains(const nd_layer_data *data, nd_graph *current, nd_chain *chain, double *error) {
    const nd_layer *layer = data->layer;
    const nd_conv *conv = &layer->conv;
    nd_stage *stage = NULL;
    if (layer->method) {
        ND_TRY(
            layer->method->decompose(data->backend, conv, data->settings->ranks, layer->rank, NULL, chain));
    } else {
        ND_TRY(nd_chain_add(chain, "", &conv->window, conv->no, conv->ni, conv->groups, false, &stage));
        memcpy(stage->weights, conv->weights,
               (size_t)(conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv)) * sizeof *stage->weights);
        ND_TRY(nd_chain_set_bias(chain, conv->bias));
    }
    ND_TRY(nd_layer_put(current, layer, chain));
    double *gain = nd_alloc_array((size_t)(2 * conv->no), sizeof *gain), *shift = gain + conv->no;
    float *bias = nd_alloc_array((size_t)conv->no, sizeof *bias);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(gain && bias, nd_status_memory, "conv %s: no memory for its gains", layer->name);
    ND_TRY_DONE(nd_layer_gains(data, gain, shift, error));
    stage = &chain->stages[chain->n - 1];
    int64_t row = stage->ni / stage->groups * stage->window.kernel[0] * stage->window.kernel[1];
    for (int64_t o = 0; o < conv->no; o++) {
        for (int64_t e = 0; e < row; e++) stage->weights[o * row + e] *= (float)gain[o];
        bias[o] = (float)(shift[o] + (stage->bias ? gain[o] * stage->bias[o] : 0));
    }
    ND_TRY_DONE(nd_chain_set_bias(chain, bias));
    ND_TRY_DONE(nd_layer_put(current, layer, chain));
done:
    free(gain);
    free(bias);
    return status;
}

/* By the layer's method, or the least-squares kernel where it stays dense. */
static nd_status fit_chain(const nd_layer_data *data, const nd_moments *moments, nd_chain *chain) {
    const nd_layer *layer = data->layer;
    nd_chain_free(chain);
    if (!layer->method) return refit_dense(data->backend, &layer->conv, moments, chain);
    return layer->method->decompose(data->backend, &layer->conv, data->settings->ranks, layer->rank, moments,
                                    chain);
}

/* The ridge by images held out, which also tell what the fit is worth; then the fit to all of them. */
static nd_status fit_split(const nd_layer_data *data, nd_split *split, nd_chain *chain, nd_fit_error *error) {
    const nd_conv *conv = &data->layer->conv;
    if (split->held) {
        ND_TRY(fit_chain(data, split->fit, chain));
        if (data->settings->ridge <= 0) ND_TRY(nd_split_ridge(split, data->backend, conv, chain));
        ND_TRY(nd_split_error(split, data->backend, conv, chain, &error->held));
        nd_split_pool(split, conv);
        const nd_method *method = data->layer->method;
        if (method && method->refine) {
            ND_TRY(method->refine(data->backend, conv, split->fit, chain));
            return nd_split_error(split, data->backend, conv, chain, &error->seen);
        }
    }
    ND_TRY(fit_chain(data, split->fit, chain));
    return nd_split_error(split, data->backend, conv, chain, &error->seen);
}

static nd_status fit_layer(const nd_layer_data *data, nd_graph *current, nd_chain *chain,
                           nd_fit_error *error) {
    const nd_decouple_settings *settings = data->settings;
    const nd_layer *layer = data->layer;
    nd_split split = {0};
    if (settings->light) return fit_gains(data, current, chain, &error->seen);
    ND_TRY(nd_layer_moments(data, &split));
    split.fit->metric = layer->metric;
    nd_status status = nd_split_finish(&split, data->backend, &layer->conv, settings->ridge);
    if (!status) status = fit_split(data, &split, chain, error);
    double per_unknown = split.fit->pixels / (double)split.fit->k;
    if (per_unknown < 7)
        nd_log(nd_log_warn, "%s: only %.1f pixels per unknown; calibrate on more images", layer->name,
               per_unknown);
    nd_log(nd_log_debug, "%s: %.1f pixels per unknown, ridge %g", layer->name, per_unknown, split.lambda);
    if (!status) status = nd_layer_put(current, layer, chain);
    if (!status && settings->relu_aware)
        status = nd_fit_through_activation(data, current, split.fit, chain, &error->seen);
    nd_split_close(&split);
    return status;
}

/* Whether the walk stops at a layer, `changed` being whether one before it is replaced. */
static bool is_fitted(const nd_layer *layer, bool changed) {
    return layer->method || (changed && !layer->conv.product);
}

/* The node of the first layer after layer l that may be fitted, or 0: what layer l frees may give a method to
 * any that is open. */
static int fitted_next(const nd_plan *plan, int l) {
    while (++l < plan->n_layers)
        if (is_fitted(&plan->layers[l], true) || !plan->layers[l].why) return plan->layers[l].node;
    return 0;
}

nd_status nd_calibrate(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                       const nd_plan *plan, nd_pass_cache *cache, const nd_fitted_hook *hook,
                       nd_chain *chains, nd_fit_error *error) {
    nd_graph *current = NULL;
    nd_activation_cache *activations = NULL;
    nd_status status = nd_status_ok;
    bool changed = false, kept = false;
    for (int l = 0; l < plan->n_layers; l++) error[l] = (nd_fit_error){-1, -1};
    ND_TRY_DONE(nd_graph_clone(graph, &current));
    ND_TRY_DONE(nd_activation_cache_new(settings->calib, settings->calib_images,
                                        2 * (size_t)nd_activation_cache_bytes, &activations));
    nd_pass_cache_begin(cache);
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        nd_progress_report(settings->progress, "calibrating", l, plan->n_layers);
        if (!is_fitted(layer, changed)) continue;
        changed = true;
        if (nd_pass_cache_take(cache, l, &chains[l], &error[l])) {
            kept = true;
            ND_TRY_DONE(nd_layer_put(current, layer, &chains[l]));
            if (hook) ND_TRY_DONE(hook->fitted(hook->context, l));
            continue;
        }
        if (kept) nd_log(nd_log_info, "going on at layer %d of %d", l + 1, plan->n_layers);
        kept = false;
        ND_TRY_DONE(nd_activation_cache_move(activations, backend, graph, current, layer->node));
        const nd_layer_data data = {
            graph, current, backend, settings, layer, activations, fitted_next(plan, l)};
        ND_TRY_DONE(fit_layer(&data, current, &chains[l], &error[l]));
        nd_log(nd_log_info, "%s: squared output error %.4f, held out %.4f", layer->name, error[l].seen,
               error[l].held);
        nd_pass_cache_put(cache, l, &chains[l], error[l]);
        if (hook) ND_TRY_DONE(hook->fitted(hook->context, l));
    }
    nd_progress_report(settings->progress, "calibrating", plan->n_layers, plan->n_layers);
    if (settings->match_scores) ND_TRY_DONE(nd_match_scores(graph, current, backend, settings, plan, chains));
done:
    nd_activation_cache_free(activations);
    nd_graph_free(current);
    return status;
}
