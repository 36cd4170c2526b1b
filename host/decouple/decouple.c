#include "decouple/decouple.h"

#include "base/machine/clock.h"
#include "decouple/calib/calibrate.h"
#include "decouple/calib/layer_data.h"
#include "decouple/calib/output_metric.h"
#include "decouple/plan_fit.h"
#include "decouple/settings.h"
#include "decouple/settle.h"
#include "model/images.h"
#include "model/infer/infer.h"
#include "model/model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nd_decouple_report_free(nd_decouple_report *report) {
    nd_arena_free(&report->arena);
    *report = (nd_decouple_report){0};
}

nd_status nd_decouple_prepare(nd_graph *graph) {
    ND_TRY(nd_graph_fold(graph));
    return nd_decouple_infer(graph);
}

/* A rank asked for by number is obeyed even where it does not pay. */
static void warn_of_costly(const nd_decouple_settings *settings, const nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        if (!layer->method) continue;
        int64_t macs = nd_method_macs(layer->method, &layer->conv, settings->ranks, layer->rank);
        if (macs > layer->dense_macs)
            nd_log(nd_log_warn, "%s: %s with T = %g costs %.2f times the dense layer", layer->name,
                   layer->method->name, (double)layer->rank / (double)layer->method->channels(&layer->conv),
                   (double)macs / (double)layer->dense_macs);
    }
}

static bool has_budget(const nd_decouple_settings *settings) {
    return settings->rule == nd_rule_macs_ratio || settings->rule == nd_rule_latency_ratio;
}

/* Decides for every layer, and fits them all. */
static nd_status choose_and_fit(const nd_graph *graph, nd_backend *backend,
                                const nd_decouple_settings *settings, nd_plan *plan, nd_chain *chains,
                                nd_fit_error *error, double *seconds) {
    const double start = nd_seconds();
    nd_candidates own = {0};
    const nd_candidates *candidates = has_budget(settings) ? settings->candidates : NULL;
    nd_status status = nd_status_ok;
    if (has_budget(settings) && !candidates) {
        ND_TRY(nd_plan_measure(graph, backend, settings, plan, &own));
        candidates = &own;
    }
    if (candidates) {
        ND_TRY_DONE(nd_plan_allocate(graph, settings, candidates, plan));
    } else {
        ND_TRY_DONE(nd_plan_by_layer(backend, settings, plan));
        warn_of_costly(settings, plan);
    }
    ND_TRY_DONE(nd_plan_settle(graph, backend, settings, candidates, plan, chains, error));
    *seconds = nd_seconds() - start;
done:
    nd_candidates_free(&own);
    return status;
}

/* |W' - W| / |W| */
static nd_status kernel_error(const nd_conv *conv, const nd_chain *chain, double *error) {
    int64_t count = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
    double *w = nd_alloc_array((size_t)count, sizeof *w), change = 0, norm = 0;
    ND_REQUIRE(w, nd_status_memory, "conv %s: no memory for its error", conv->name);
    nd_status status = nd_chain_compose(chain, conv, w);
    for (int64_t e = 0; !status && e < count; e++) {
        double original = conv->weights[e];
        change += (w[e] - original) * (w[e] - original);
        norm += original * original;
    }
    free(w);
    *error = norm > 0 ? sqrt(change / norm) : 0;
    return status;
}

static nd_status report_layers(const nd_graph *graph, const nd_decouple_settings *settings,
                               const nd_plan *plan, const nd_chain *chains, const nd_fit_error *error,
                               nd_decouple_report *report) {
    report->before = plan->before;
    report->expected_ratio = plan->ratio;
    const size_t most = (size_t)plan->n_layers + (size_t)plan->n_left;
    report->layers = nd_arena_alloc(&report->arena, (most + 1) * sizeof *report->layers);
    ND_REQUIRE(report->layers, nd_status_memory, "no memory for a report");
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        const nd_conv *conv = &layer->conv;
        nd_layer_report *row = &report->layers[report->n_layers++];
        int64_t weights = conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
        *row = (nd_layer_report){
            .name = nd_arena_strdup(&report->arena, layer->name),
            .method = layer->method ? layer->method->name : "dense",
            .why = layer->method ? NULL
                   : layer->why  ? layer->why
                                 : "better dense",
            .macs = layer->dense_macs,
            .params = weights + (conv->bias ? conv->no : 0),
            .held_error = -1,
            .energy = 1,
        };
        if (!layer->method) continue;
        double slope = 0;
        row->rank = layer->rank;
        row->terms = (double)layer->rank / (double)layer->method->channels(conv);
        if (settings->calib)
            row->error = sqrt(error[l].seen);
        else
            ND_TRY(kernel_error(conv, &chains[l], &row->error));
        row->held_error = error[l].held >= 0 ? sqrt(error[l].held) : -1;
        row->after_activation =
            settings->relu_aware && !settings->light && nd_layer_slope(graph, layer->node, &slope);
        row->energy = fmax(0, 1 - row->error * row->error);
    }
    for (int i = 0; i < plan->n_left; i++) {
        nd_layer_report *row = &report->layers[report->n_layers++];
        *row = (nd_layer_report){.name = nd_arena_strdup(&report->arena, plan->left[i].name),
                                 .method = "dense",
                                 .why = nd_arena_strdup(&report->arena, plan->left[i].why),
                                 .held_error = -1,
                                 .energy = 1};
        ND_REQUIRE(row->name && row->why, nd_status_memory, "no memory for a report");
    }
    return nd_status_ok;
}

static nd_status recount_node(const nd_graph *graph, int node, nd_layer_report *row) {
    ND_REQUIRE(node >= 0, nd_status_internal, "%s: a convolution of it is not in the graph", row->name);
    const nd_cost cost = nd_cost_node(graph, &graph->nodes[node]);
    row->new_macs += cost.total_macs;
    row->new_params += cost.params;
    return nd_status_ok;
}

/* What the layers cost in the network as it is now: one that the next reads less of has become cheaper. */
static nd_status recount_layers(const nd_graph *graph, const nd_plan *plan, const nd_chain *chains,
                                nd_decouple_report *report) {
    nd_layer_report *row = report->layers;
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        row->new_macs = row->new_params = 0;
        if (!layer->method) ND_TRY(recount_node(graph, nd_graph_find_node(graph, row->name), row));
        for (int s = 0; layer->method && s < chains[l].n; s++)
            ND_TRY(recount_node(graph, graph->values[chains[l].stages[s].output].producer, row));
        row++;
    }
    return nd_status_ok;
}

nd_status nd_decouple_candidates(const nd_graph *graph, nd_backend *backend,
                                 const nd_decouple_settings *settings, nd_candidates *out) {
    nd_decouple_settings own = nd_decouple_resolved(settings);
    nd_plan plan;
    own.target = 1; /* whatever the target turns out to be */
    *out = (nd_candidates){0};
    if (own.calib) ND_TRY(nd_images_fit(graph, own.calib));
    ND_TRY(nd_plan_open(graph, &own, &plan));
    nd_status status = own.output_metric ? nd_output_metric(graph, backend, &own, &plan) : nd_status_ok;
    if (!status) status = nd_plan_measure(graph, backend, &own, &plan, out);
    nd_plan_close(&plan);
    return status;
}

nd_status nd_decouple(nd_graph *graph, nd_backend *backend, const nd_decouple_settings *given,
                      nd_decouple_report *report) {
    nd_status status = nd_status_ok;
    nd_plan plan = {0};
    nd_chain *chains = NULL;
    nd_fit_error *error = NULL;
    int64_t dropped = 0;
    const nd_decouple_settings own = nd_decouple_resolved(given), *settings = &own;
    *report = (nd_decouple_report){0};
    ND_TRY(nd_decouple_check_settings(settings));
    ND_TRY(nd_decouple_prepare(graph));
    if (settings->calib) ND_TRY(nd_images_fit(graph, settings->calib));
    ND_TRY(nd_plan_open(graph, settings, &plan));
    chains = nd_alloc_array((size_t)plan.n_layers + 1, sizeof *chains);
    error = nd_alloc_array((size_t)plan.n_layers + 1, sizeof *error);
    ND_REQUIRE_DONE(chains && error, nd_status_memory, "no memory for decoupling");
    if (settings->output_metric) ND_TRY_DONE(nd_output_metric(graph, backend, settings, &plan));
    ND_TRY_DONE(choose_and_fit(graph, backend, settings, &plan, chains, error, &report->seconds));
    ND_TRY_DONE(report_layers(graph, settings, &plan, chains, error, report));
    ND_TRY_DONE(nd_plan_apply(graph, &plan, chains, &dropped));
    ND_TRY_DONE(nd_model_check_weights(graph));
    if (dropped) nd_log(nd_log_info, "%lld channels that nothing reads are gone", (long long)dropped);
    ND_TRY_DONE(recount_layers(graph, &plan, chains, report));
    report->after = nd_cost_graph(graph);
    bool changed = false;
    for (int l = 0; l < plan.n_layers; l++) changed = changed || chains[l].n;
    report->changed = changed;
    ND_TRY_DONE(nd_decouple_write_meta(graph, settings, changed, report));
done:
    for (int l = 0; chains && l < plan.n_layers; l++) nd_chain_free(&chains[l]);
    free(chains);
    free(error);
    nd_plan_close(&plan);
    if (status) nd_decouple_report_free(report);
    return status;
}
