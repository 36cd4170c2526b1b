#include "decouple/settle.h"

#include "decouple/calib/calibrate.h"
#include "decouple/plan/preview.h"
#include "model/shrink.h"

#include <stdlib.h>
#include <string.h>

/* Fits to images take long. */
enum { most_fits_calibrated = 5, most_fits_plain = 12 };
/* Shares of the budget that may be left: by a fit to images, which takes long, and by the weights alone. */
static const double unspent_calibrated = 0.04, unspent_plain = 0.01;
static const double margin = 0.0025; /* share of it that two credits worth a fit differ by */

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

/* What a plan says of a layer. */
typedef struct decision {
    const nd_method *method;
    int64_t rank;
} decision;

static void get_decisions(const nd_plan *plan, decision *out) {
    for (int l = 0; l < plan->n_layers; l++)
        out[l] = (decision){plan->layers[l].method, plan->layers[l].rank};
}

static void set_decisions(const decision *decisions, nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++) {
        plan->layers[l].method = decisions[l].method;
        plan->layers[l].rank = decisions[l].rank;
    }
}

static bool same_decisions(const decision *decisions, const nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++)
        if (decisions[l].method != plan->layers[l].method || decisions[l].rank != plan->layers[l].rank)
            return false;
    return true;
}

typedef struct fit {
    const nd_graph *graph;
    nd_backend *backend;
    const nd_decouple_settings *settings;
    const nd_candidates *candidates;
    nd_plan *plan;
    nd_chain *chains;
    nd_fit_error *error;
    nd_pass_cache *cache;
    int64_t *freed; /* by each layer in its last fit, of what its candidate says; NULL: nobody counts */
} fit;

/* What is left of the budget once the first `fitted` layers are as their chains say. */
static nd_status count_left(const fit *f, int fitted, int64_t *left) {
    nd_cost cost;
    ND_TRY(nd_plan_preview(f->graph, f->settings, f->plan, f->chains, fitted, &cost));
    *left = nd_candidates_budget(f->settings, f->candidates) - nd_counted_macs(f->settings, &cost);
    return nd_status_ok;
}

/* A layer that has been fitted tells which channels it reads: the layers after it get what that has freed, or
 * give up what it has not. They are taken to free what they did in the fit before. */
static nd_status respend(void *context, int layer) {
    const fit *f = context;
    nd_plan *plan = f->plan;
    int64_t before = 0, left = 0, then = 0, later = 0;
    ND_TRY(count_left(f, layer, &before));
    ND_TRY(count_left(f, layer + 1, &left));
    const bool foreseen = left - before == f->freed[layer];
    f->freed[layer] = left - before;
    if (foreseen) return nd_status_ok;
    for (int l = layer + 1; l < plan->n_layers; l++) later += f->freed[l];
    left += later;
    decision *old = nd_alloc_array((size_t)plan->n_layers, sizeof *old);
    ND_REQUIRE(old, nd_status_memory, "no memory for an allocation");
    get_decisions(plan, old);
    nd_status status = nd_plan_reallocate(f->settings, f->candidates,
                                          nd_plan_cost(f->candidates, plan) + left, layer + 1, plan);
    if (!status) status = count_left(f, layer + 1, &then);
    then += later;
    const bool worse = status == nd_status_usage || (!status && then < 0 && then < left);
    if (worse) set_decisions(old, plan);
    free(old);
    return worse ? nd_status_ok : status; /* usage: the layers that are left cannot make up for it */
}

static nd_status fit_once(const fit *f) {
    for (int l = 0; l < f->plan->n_layers; l++) nd_chain_free(&f->chains[l]);
    if (!f->settings->calib) return decompose_all(f->backend, f->settings, f->plan, f->chains, f->error);
    const nd_fitted_hook hook = {respend, (void *)f};
    return nd_calibrate(f->graph, f->backend, f->settings, f->plan, f->cache, f->freed ? &hook : NULL,
                        f->chains, f->error);
}

/* What the network costs with these chains. */
static nd_status count_macs(const fit *f, int64_t *now) {
    nd_graph *copy = NULL;
    int64_t dropped = 0;
    ND_TRY(nd_graph_clone(f->graph, &copy));
    nd_status status = nd_plan_apply(copy, f->plan, f->chains, &dropped);
    const nd_cost cost = nd_cost_graph(copy);
    *now = nd_counted_macs(f->settings, &cost);
    nd_graph_free(copy);
    return status;
}

/* A plan may cost more than the budget by as much as its fit frees, which is its credit. Without any it is
 * within the budget, whatever its layers turn out to read; what lies between the largest credit that was
 * within and the least that was not is tried. Decisions are those that a fit began with: it changes them. */
typedef struct search {
    int64_t budget, low, high;
    decision *at_low, *at_high, *begun;
    int64_t most; /* MACs of the fit that came closest to the budget from below, or -1 */
    decision *best;
    nd_chain *chains;
    nd_fit_error *error;
} search;

static nd_status search_open(const fit *f, search *s) {
    const size_t n = (size_t)f->plan->n_layers + 1;
    *s = (search){.budget = nd_candidates_budget(f->settings, f->candidates),
                  .high = INT64_MAX,
                  .at_low = nd_alloc_array(n, sizeof *s->at_low),
                  .at_high = nd_alloc_array(n, sizeof *s->at_high),
                  .begun = nd_alloc_array(n, sizeof *s->begun),
                  .most = -1,
                  .best = nd_alloc_array(n, sizeof *s->best),
                  .chains = nd_alloc_array(n, sizeof *s->chains),
                  .error = nd_alloc_array(n, sizeof *s->error)};
    ND_REQUIRE(s->at_low && s->at_high && s->begun && s->best && s->chains && s->error, nd_status_memory,
               "no memory for what fits came to");
    return nd_status_ok;
}

static void search_close(const fit *f, search *s) {
    for (int l = 0; s->chains && l < f->plan->n_layers; l++) nd_chain_free(&s->chains[l]);
    free(s->at_low);
    free(s->at_high);
    free(s->begun);
    free(s->best);
    free(s->chains);
    free(s->error);
}

/* The fit and the best one change places. */
static void swap_best(const fit *f, search *s) {
    for (int l = 0; l < f->plan->n_layers; l++) {
        const nd_chain chain = f->chains[l];
        const nd_fit_error error = f->error[l];
        f->chains[l] = s->chains[l];
        f->error[l] = s->error[l];
        s->chains[l] = chain;
        s->error[l] = error;
    }
}

static void note_fit(const fit *f, int64_t credit, int64_t now, search *s) {
    const bool within = now <= s->budget;
    const size_t bytes = (size_t)f->plan->n_layers * sizeof *s->begun;
    if (within && credit >= s->low) {
        s->low = credit;
        memcpy(s->at_low, s->begun, bytes);
    }
    if (!within && credit <= s->high) {
        s->high = credit;
        memcpy(s->at_high, s->begun, bytes);
    }
    if (!within || now <= s->most) return;
    s->most = now;
    get_decisions(f->plan, s->best);
    swap_best(f, s);
}

/* Decides anew with the credit `wanted`, or one as near to it as was not tried: ranks come in steps, so that
 * another credit may change nothing. *found: with *credit; else there is nothing left to try. */
static nd_status allocate_next(const fit *f, int64_t wanted, search *s, int64_t *credit, bool *found) {
    const int64_t step = (int64_t)(margin * (double)s->budget) + 1;
    const bool bounded = s->high < INT64_MAX;
    *found = false;
    if (s->high <= s->low) /* even without credit: a form of dwpw_lowrank may cost more than it promises */
        s->low = (int64_t)((double)f->candidates->total / f->candidates->most) + 1 - s->budget;
    while (wanted > s->low || bounded) {
        if (bounded && s->high - s->low <= step) return nd_status_ok;
        if (wanted <= s->low || wanted >= s->high) wanted = s->low + (s->high - s->low) / 2;
        ND_TRY(nd_plan_reallocate(f->settings, f->candidates, s->budget + wanted, 0, f->plan));
        const bool as_low = same_decisions(s->at_low, f->plan);
        *credit = wanted;
        *found = !as_low && !(bounded && same_decisions(s->at_high, f->plan));
        if (*found || !bounded) return nd_status_ok;
        *(as_low ? &s->low : &s->high) = wanted;
    }
    return nd_status_ok;
}

/* From one credit to the next until the network is where it should be; of all fits the best. */
static nd_status fit_within_budget(fit *f, search *s) {
    const double unspent = f->settings->calib ? unspent_calibrated : unspent_plain;
    const int most_fits = f->settings->calib ? most_fits_calibrated : most_fits_plain;
    int64_t credit = nd_plan_cost(f->candidates, f->plan) - s->budget;
    bool found = true;
    if (credit < 0) credit = 0;
    for (int fits = 1; found; fits++) {
        int64_t now = 0;
        get_decisions(f->plan, s->begun);
        ND_TRY(fit_once(f));
        ND_TRY(count_macs(f, &now));
        const int64_t freed = nd_plan_cost(f->candidates, f->plan) - now;
        nd_log(nd_log_info, "fit %d: %.3f %% of the MACs allowed, %.3f %% freed", fits,
               100 * (double)now / (double)s->budget, 100 * (double)freed / (double)s->budget);
        note_fit(f, credit, now, s);
        if ((double)s->most >= (1 - unspent) * (double)s->budget || fits >= most_fits) break;
        ND_TRY(allocate_next(f, freed, s, &credit, &found));
    }
    if (s->most >= 0) {
        set_decisions(s->best, f->plan);
        swap_best(f, s);
        return nd_status_ok;
    }
    int64_t now = 0;
    f->freed = NULL; /* nothing is spent anew */
    ND_TRY(nd_plan_reallocate(f->settings, f->candidates, s->budget, 0, f->plan));
    ND_TRY(fit_once(f));
    ND_TRY(count_macs(f, &now));
    if (now > s->budget)
        nd_log(nd_log_warn, "the network costs %.2f %% of the MACs asked for, whatever was tried",
               100 * (double)now / (double)s->budget);
    return nd_status_ok;
}

static nd_status fit_by_ratio(fit *f) {
    search s;
    int64_t *freed = nd_alloc_array((size_t)f->plan->n_layers + 1, sizeof *freed);
    nd_status status = search_open(f, &s);
    if (!freed && !status) status = nd_fail(nd_status_memory, "no memory for what layers free");
    f->freed = freed;
    if (!status) status = fit_within_budget(f, &s);
    search_close(f, &s);
    free(freed);
    return status;
}

nd_status nd_plan_fit(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                      const nd_candidates *candidates, nd_plan *plan, nd_chain *chains, nd_fit_error *error) {
    fit f = {.graph = graph,
             .backend = backend,
             .settings = settings,
             .candidates = candidates,
             .plan = plan,
             .chains = chains,
             .error = error};
    ND_TRY(nd_pass_cache_open(graph, settings, plan, &f.cache));
    const bool by_ratio = candidates && settings->rule == nd_rule_macs_ratio;
    const nd_status status = by_ratio ? fit_by_ratio(&f) : fit_once(&f);
    nd_pass_cache_close(f.cache, !status);
    return status;
}
