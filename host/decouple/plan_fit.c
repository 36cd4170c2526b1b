#include "decouple/plan_fit.h"

#include "decouple/calib/calibrate.h"
#include "decouple/plan/decisions.h"
#include "decouple/plan/preview.h"
#include "model/shrink.h"

#include <stdlib.h>

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

/* What is left of the budget once the first `fitted` layers are as their chains say. */
static nd_status count_left(const nd_plan_fit *f, int fitted, int64_t *left) {
    nd_cost cost;
    ND_TRY(nd_plan_preview(f->graph, f->settings, f->plan, f->chains, fitted, &cost));
    *left = nd_candidates_budget(f->settings, f->candidates) - nd_counted_macs(f->settings, &cost);
    return nd_status_ok;
}

/* A layer that has been fitted tells which channels it reads: the layers after it get what that has freed, or
 * give up what it has not. They are taken to free what they did in the fit before. */
static nd_status respend(void *context, int layer) {
    const nd_plan_fit *f = context;
    nd_plan *plan = f->plan;
    int64_t before = 0, left = 0, then = 0, later = 0;
    ND_TRY(count_left(f, layer, &before));
    ND_TRY(count_left(f, layer + 1, &left));
    const bool foreseen = left - before == f->freed[layer];
    f->freed[layer] = left - before;
    if (foreseen) return nd_status_ok;
    for (int l = layer + 1; l < plan->n_layers; l++) later += f->freed[l];
    left += later;
    nd_decision *old = nd_alloc_array((size_t)plan->n_layers, sizeof *old);
    ND_REQUIRE(old, nd_status_memory, "no memory for an allocation");
    nd_plan_get_decisions(plan, old);
    nd_status status = nd_plan_reallocate(f->settings, f->candidates,
                                          nd_plan_cost(f->candidates, plan) + left, layer + 1, plan);
    if (!status) status = count_left(f, layer + 1, &then);
    then += later;
    const bool worse = status == nd_status_usage || (!status && then < 0 && then < left);
    if (worse) nd_plan_set_decisions(plan, old);
    free(old);
    return worse ? nd_status_ok : status; /* usage: the layers that are left cannot make up for it */
}

nd_status nd_plan_fit_once(const nd_plan_fit *f) {
    for (int l = 0; l < f->plan->n_layers; l++) nd_chain_free(&f->chains[l]);
    if (!f->settings->calib) return decompose_all(f->backend, f->settings, f->plan, f->chains, f->error);
    const nd_fitted_hook hook = {respend, (void *)f};
    return nd_calibrate(f->graph, f->backend, f->settings, f->plan, f->cache, f->freed ? &hook : NULL,
                        f->chains, f->error);
}

nd_status nd_plan_fit_macs(const nd_plan_fit *f, int64_t *now) {
    nd_graph *copy = NULL;
    int64_t dropped = 0;
    ND_TRY(nd_graph_clone(f->graph, &copy));
    nd_status status = nd_plan_apply(copy, f->plan, f->chains, &dropped);
    const nd_cost cost = nd_cost_graph(copy);
    *now = nd_counted_macs(f->settings, &cost);
    nd_graph_free(copy);
    return status;
}
