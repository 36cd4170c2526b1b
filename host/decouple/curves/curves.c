#include "decouple/curves/curves.h"

#include "decouple/curves/curve_ranks.h"
#include "decouple/curves/curves_cache.h"
#include "decouple/curves/measure.h"

#include <math.h>
#include <stdlib.h>

static const double interpolated_share = 1.0 / 72; /* of the dense layer's cost: step of the candidates */

/* Halfway, by logarithms, between what the layer loses and what that does to the scores of the original
 * network: there nothing after it makes up for it, as later layers' fits will (method.md, "Quick"). */
static double quick_loss(const nd_scale *scale, double error) {
    return sqrt(error * nd_scale_at(scale, error));
}

static nd_status add_curve(const nd_decouple_settings *settings, const nd_layer *layer, int number,
                           const nd_method *method, nd_curve *curve, const nd_scale *scale,
                           nd_candidate_list *t) {
    if (!curve->n) return nd_status_ok;
    nd_curve_tidy(curve);
    int64_t step = nd_plan_step(settings, method, &layer->conv), last = curve->rank[curve->n - 1];
    double per_rank = (double)nd_method_macs(method, &layer->conv, settings->ranks, last) / (double)last;
    int64_t stride = (int64_t)(interpolated_share * (double)layer->dense_macs / per_rank) / step * step;
    if (stride < step) stride = step;
    for (int64_t rank = curve->rank[0]; rank <= last; rank += stride) {
        nd_candidate candidate = {
            .layer = number,
            .cost = nd_method_macs(method, &layer->conv, settings->ranks, rank),
            .error = quick_loss(scale, nd_curve_at(curve, rank)),
            .method = method,
            .rank = rank,
        };
        ND_TRY(nd_candidate_list_add(t, &candidate));
    }
    return nd_status_ok;
}

/* A layer whose T is set has no choice but between methods, and takes the cheapest. */
static nd_status add_fixed(const nd_decouple_settings *settings, const nd_plan *plan, int number,
                           nd_candidate_list *t) {
    const nd_layer *layer = &plan->layers[number];
    const nd_method *methods[nd_methods_max];
    int n = nd_plan_methods(plan, layer, methods);
    for (int m = 0; m < n; m++) {
        nd_candidate candidate = {.layer = number, .method = methods[m]};
        candidate.rank = nd_plan_rank(settings, methods[m], &layer->conv, layer->terms);
        candidate.cost = nd_method_macs(methods[m], &layer->conv, settings->ranks, candidate.rank);
        ND_TRY(nd_candidate_list_add(t, &candidate));
    }
    return nd_status_ok;
}

static nd_status curves_of_layer(const nd_curve_pass *at, const nd_plan *plan, int number,
                                 nd_json_cache *cache, nd_candidate_list *t) {
    const nd_layer *layer = &plan->layers[number];
    const nd_method *methods[nd_methods_max], *missing[nd_methods_max], *by = NULL;
    nd_curve curves[nd_methods_max], measured[nd_methods_max];
    nd_scale scale = {0};
    bool known[nd_methods_max];
    int n = nd_plan_methods(plan, layer, methods), n_missing = 0;
    for (int m = 0; m < n; m++) {
        int64_t grid[nd_curve_points];
        const int points = nd_curve_grid(at->settings, methods[m], layer, grid);
        known[m] = nd_curves_cache_get(cache, layer->name, methods[m]->name, &curves[m]) &&
                   points <= curves[m].n && (!points || curves[m].rank[points - 1] == grid[points - 1]);
        if (known[m]) curves[m].n = points; /* a smaller target has measured more */
        if (!known[m]) missing[n_missing++] = methods[m];
        if (at->scales && points && !by) by = methods[m];
    }
    if (by && nd_scale_cache_get(cache, layer->name, by->name, &scale)) by = NULL;
    if (n_missing || by) ND_TRY(nd_curve_measure(at, layer, missing, n_missing, measured, by, &scale));
    if (by) nd_scale_cache_put(cache, layer->name, by->name, &scale);
    nd_scale_tidy(&scale);
    for (int m = 0, next = 0; m < n; m++) {
        if (!known[m]) {
            curves[m] = measured[next++];
            nd_curves_cache_put(cache, layer->name, methods[m]->name, &curves[m]);
        }
        ND_TRY(add_curve(at->settings, layer, number, methods[m], &curves[m], &scale, t));
    }
    return nd_status_ok;
}

/* Whether the rest of the network can be run after every layer that is open. */
static bool reaches_scores(const nd_graph *graph, const nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++)
        if (!plan->layers[l].why && !nd_score_loss_possible(graph, &plan->layers[l])) return false;
    return true;
}

static bool is_measured(const nd_layer *layer) {
    return !layer->why && layer->terms <= 0;
}

/* The node of the layer that is measured after layer l, or 0. */
static int measured_next(const nd_plan *plan, int l) {
    while (++l < plan->n_layers)
        if (is_measured(&plan->layers[l])) return plan->layers[l].node;
    return 0;
}

nd_status nd_curves(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                    const nd_plan *plan, nd_candidate **out, size_t *count) {
    nd_json_cache cache;
    nd_candidate_list t = {0};
    nd_known_heads heads = {0};
    nd_score_tail tail = {0};
    nd_curve_pass at = {.graph = graph,
                        .backend = backend,
                        .settings = settings,
                        .heads = &heads,
                        .tail = &tail,
                        .scales = settings->quick && reaches_scores(graph, plan)};
    for (int l = 0; l < plan->n_layers; l++)
        if (is_measured(&plan->layers[l])) at.last = plan->layers[l].node;
    ND_TRY(nd_curves_cache_open(graph, settings, &cache));
    nd_status status = nd_activation_cache_new(settings->calib, nd_curve_images(settings),
                                               nd_activation_cache_bytes, &at.activations);
    for (int l = 0; !status && l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        nd_progress_report(settings->progress, "measuring curves", l, plan->n_layers);
        if (layer->why) continue;
        nd_candidate dense = {.layer = l, .cost = layer->dense_macs};
        if (layer->terms > 0) {
            status = add_fixed(settings, plan, l, &t);
            continue;
        }
        status = nd_candidate_list_add(&t, &dense);
        at.next = measured_next(plan, l);
        if (!status) status = curves_of_layer(&at, plan, l, &cache, &t);
    }
    nd_progress_report(settings->progress, "measuring curves", plan->n_layers, plan->n_layers);
    nd_activation_cache_free(at.activations);
    nd_known_heads_free(&heads);
    nd_score_tail_close(&tail);
    nd_json_cache_close(&cache);
    if (status) {
        free(t.rows);
        return status;
    }
    *out = t.rows;
    *count = t.count;
    return nd_status_ok;
}
