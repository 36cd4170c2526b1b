#include "decouple/settle.h"

#include "decouple/calib/calibrate.h"
#include "decouple/plan/preview.h"
#include "model/shrink.h"

#include <stdlib.h>
#include <string.h>

enum { most_fits = 5 };
/* Shares of the budget that may be left: by a fit to images, which takes long, and by the weights alone. */
static const double unspent_calibrated = 0.04, unspent_plain = 0.01;
static const double margin = 0.0025; /* share of it given up, besides what is too much, after a fit over it */

static nd_status decompose_all(nd_backend *backend, const nd_decouple_settings *settings, const nd_plan *plan,
                               nd_chain *chains, nd_fit_error *error) {
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        error[l] = (nd_fit_error){-1, -1};
        nd_progress_report(settings->progress, "decoupling", l, plan->n_layers);
        if (!layer->method) continue;
        ND_TRY(
            layer->method->decompose(backend, &layer->conv, settings->ranks, layer->rank, NULL, &chains[l]));
    }
    nd_progress_report(settings->progress, "decoupling", plan->n_layers, plan->n_layers);
    return nd_status_ok;
}

nd_status nd_plan_apply(nd_graph *graph, const nd_plan *plan, nd_chain *chains, int64_t *dropped) {
    for (int l = 0; l < plan->n_layers; l++) {
        nd_chain *chain = &chains[l];
        const nd_layer *layer = &plan->layers[l];
        if (chain->n == 1 && !layer->method) /* refitted, not replaced */
            ND_TRY(nd_conv_set(graph, layer->node, &layer->conv, chain->stages[0].weights,
                               chain->stages[0].bias));
        else if (chain->n)
            ND_TRY(nd_chain_rewrite(graph, layer->node, chain));
    }
    ND_TRY(nd_graph_sort(graph));
    ND_TRY(nd_decouple_infer(graph));
    ND_TRY(nd_graph_shrink(graph, dropped));
    return nd_decouple_infer(graph);
}

typedef struct fit {
    const nd_graph *graph;
    nd_backend *backend;
    const nd_decouple_settings *settings;
    const nd_candidates *candidates;
    nd_plan *plan;
    nd_chain *chains;
    nd_fit_error *error;
    int64_t *freed; /* by each layer in its last fit, of what its candidate says; NULL: nobody counts */
} fit;

static int64_t counted(const fit *f, const nd_cost *cost) {
    return f->settings->conv_only ? cost->conv_macs : cost->total_macs;
}

/* What is left of the budget once the first `fitted` layers are as their chains say. */
static nd_status count_left(const fit *f, int fitted, int64_t *left) {
    nd_cost cost;
    ND_TRY(nd_plan_preview(f->graph, f->settings, f->plan, f->chains, fitted, &cost));
    *left = nd_candidates_budget(f->settings, f->candidates) - counted(f, &cost);
    return nd_status_ok;
}

/* A layer that has been fitted tells which channels it reads: the layers after it get what that has freed, or
 * give up what it has not. They are taken to free what they did in the fit before. */
static nd_status respend(void *context, int layer) {
    const fit *f = context;
    const nd_plan *plan = f->plan;
    int64_t before = 0, left = 0, then = 0, later = 0;
    ND_TRY(count_left(f, layer, &before));
    ND_TRY(count_left(f, layer + 1, &left));
    const bool foreseen = left - before == f->freed[layer];
    f->freed[layer] = left - before;
    if (foreseen) return nd_status_ok;
    for (int l = layer + 1; l < plan->n_layers; l++) later += f->freed[l];
    left += later;
    nd_layer *old = nd_alloc_array((size_t)plan->n_layers, sizeof *old);
    ND_REQUIRE(old, nd_status_memory, "no memory for an allocation");
    memcpy(old, plan->layers, (size_t)plan->n_layers * sizeof *old);
    nd_status status = nd_plan_reallocate(f->settings, f->candidates,
                                          nd_plan_cost(f->candidates, plan) + left, layer + 1, f->plan);
    if (!status) status = count_left(f, layer + 1, &then);
    then += later;
    const bool worse = status == nd_status_usage || (!status && then < 0 && then < left);
    if (worse) memcpy(plan->layers, old, (size_t)plan->n_layers * sizeof *old);
    free(old);
    return worse ? nd_status_ok : status; /* usage: the layers that are left cannot make up for it */
}

static nd_status fit_once(const fit *f) {
    for (int l = 0; l < f->plan->n_layers; l++) nd_chain_free(&f->chains[l]);
    if (!f->settings->calib) return decompose_all(f->backend, f->settings, f->plan, f->chains, f->error);
    const nd_fitted_hook hook = {respend, (void *)f};
    return nd_calibrate(f->graph, f->backend, f->settings, f->plan, f->freed ? &hook : NULL, f->chains,
                        f->error);
}

/* What the network costs with these chains, and what it was thought to. */
static nd_status count_macs(const fit *f, int64_t *now, int64_t *expected) {
    nd_graph *copy = NULL;
    nd_cost cost;
    int64_t dropped = 0;
    ND_TRY(nd_plan_preview(f->graph, f->settings, f->plan, NULL, 0, &cost));
    *expected = counted(f, &cost);
    ND_TRY(nd_graph_clone(f->graph, &copy));
    nd_status status = nd_plan_apply(copy, f->plan, f->chains, &dropped);
    cost = nd_cost_graph(copy);
    *now = counted(f, &cost);
    nd_graph_free(copy);
    return status;
}

/* Other decisions for another surplus? */
static nd_status allocate_again(const fit *f, int64_t surplus, bool *changed) {
    const nd_plan *plan = f->plan;
    *changed = false;
    nd_layer *old = nd_alloc_array((size_t)plan->n_layers, sizeof *old);
    ND_REQUIRE(old, nd_status_memory, "no memory for an allocation");
    for (int l = 0; l < plan->n_layers; l++) old[l] = plan->layers[l];
    nd_status status = nd_plan_allocate(f->graph, f->settings, f->candidates, surplus, f->plan);
    for (int l = 0; l < plan->n_layers; l++)
        *changed = *changed || old[l].method != plan->layers[l].method || old[l].rank != plan->layers[l].rank;
    free(old);
    return status;
}

/* Less to spend, until a decision changes or the candidates reach no further: ranks come in steps, so that a
 * little less may change nothing yet. */
static nd_status allocate_less(const fit *f, int64_t budget, int64_t *surplus, bool *changed) {
    const int64_t step = (int64_t)(margin * (double)budget) + 1;
    const double least = (double)f->candidates->total / f->candidates->most + 1;
    *changed = false;
    while (!*changed && (double)(budget + *surplus - step) >= least) {
        *surplus -= step;
        ND_TRY(allocate_again(f, *surplus, changed));
    }
    return nd_status_ok;
}

/* From one surplus to the next until the network is where it should be; then back to the best one, if any. */
static nd_status fit_within_budget(const fit *f) {
    int64_t budget = nd_candidates_budget(f->settings, f->candidates), surplus = 0, best = 0, most = -1;
    int64_t last = -1;
    const double unspent = f->settings->calib ? unspent_calibrated : unspent_plain;
    bool changed = true, within = false;
    for (int fits = 1; changed; fits++) {
        int64_t now = 0, expected = 0;
        ND_TRY(fit_once(f));
        ND_TRY(count_macs(f, &now, &expected));
        nd_log(nd_log_info, "fit %d: %.3f %% of the MACs allowed, %.3f %% expected", fits,
               100 * (double)now / (double)budget, 100 * (double)expected / (double)budget);
        within = now <= budget;
        if (within && ((double)now >= (1 - unspent) * (double)budget || now == last)) return nd_status_ok;
        last = now;
        if (within && now > most) {
            most = now;
            best = surplus;
        }
        if (fits >= most_fits) break;
        if (within) {
            surplus = expected - now;
            ND_TRY(allocate_again(f, surplus, &changed));
        } else {
            surplus -= now - budget;
            ND_TRY(allocate_less(f, budget, &surplus, &changed));
        }
    }
    if (within && (!changed || surplus == best)) return nd_status_ok;
    if (most < 0) {
        nd_log(nd_log_warn, "the channels that the layers turned out to read cost more than was asked for");
        return nd_status_ok;
    }
    ND_TRY(allocate_again(f, best, &changed));
    return fit_once(f);
}

nd_status nd_plan_fit(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                      const nd_candidates *candidates, nd_plan *plan, nd_chain *chains, nd_fit_error *error) {
    fit f = {graph, backend, settings, candidates, plan, chains, error, NULL};
    if (!candidates || settings->rule != nd_rule_macs_ratio) return fit_once(&f);
    f.freed = nd_alloc_array((size_t)plan->n_layers + 1, sizeof *f.freed);
    ND_REQUIRE(f.freed, nd_status_memory, "no memory for what layers free");
    const nd_status status = fit_within_budget(&f);
    free(f.freed);
    return status;
}
