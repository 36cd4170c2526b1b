/* From a table of candidates to decisions: what the rules with a budget have in common. */
#include "decouple/curves/curves.h"
#include "decouple/plan/latency.h"
#include "decouple/plan/plan.h"
#include "decouple/plan/preview.h"

#include <math.h>
#include <stdlib.h>

enum { credit_rounds = 10 }; /* of spending what pruning saves */

void nd_candidates_free(nd_candidates *candidates) {
    free(candidates->rows);
    *candidates = (nd_candidates){0};
}

/* Multiply-accumulates: what the network has, and what of it no layer of the table does. */
static void count_macs(const nd_decouple_settings *settings, const nd_plan *plan, nd_candidates *candidates) {
    candidates->total = nd_counted_macs(settings, &plan->before);
    candidates->fixed = candidates->total;
    for (int l = 0; l < plan->n_layers; l++)
        if (!plan->layers[l].why) candidates->fixed -= plan->layers[l].dense_macs;
}

/* With the cheapest candidate of every layer. */
static nd_status find_reach(const nd_plan *plan, nd_candidates *candidates) {
    int64_t *cheapest = nd_alloc_array((size_t)plan->n_layers + 1, sizeof *cheapest);
    ND_REQUIRE(cheapest, nd_status_memory, "no memory for candidates");
    for (int l = 0; l < plan->n_layers; l++) cheapest[l] = -1;
    for (size_t c = 0; c < candidates->count; c++) {
        int64_t *least = &cheapest[candidates->rows[c].layer];
        if (*least < 0 || candidates->rows[c].cost < *least) *least = candidates->rows[c].cost;
    }
    int64_t cost = candidates->fixed;
    for (int l = 0; l < plan->n_layers; l++) cost += cheapest[l] > 0 ? cheapest[l] : 0;
    free(cheapest);
    candidates->most = cost > 0 ? (double)candidates->total / (double)cost : 1;
    return nd_status_ok;
}

nd_status nd_plan_measure(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                          const nd_plan *plan, nd_candidates *out) {
    *out = (nd_candidates){0};
    ND_TRY(settings->calib ? nd_curves(graph, backend, settings, plan, &out->rows, &out->count)
                           : nd_plan_candidates(backend, settings, plan, &out->rows, &out->count));
    nd_status status = nd_status_ok;
    if (settings->rule == nd_rule_latency_ratio)
        status = nd_latency_price(graph, backend, settings, plan, out);
    else
        count_macs(settings, plan, out);
    if (!status) status = find_reach(plan, out);
    if (status) nd_candidates_free(out);
    return status;
}

int64_t nd_counted_macs(const nd_decouple_settings *settings, const nd_cost *cost) {
    return settings->conv_only ? cost->conv_macs : cost->total_macs;
}

int64_t nd_candidates_budget(const nd_decouple_settings *settings, const nd_candidates *candidates) {
    return (int64_t)floor((double)candidates->total / settings->target);
}

static bool is_chosen(const nd_candidate *row, const nd_plan *plan) {
    const nd_layer *layer = &plan->layers[row->layer];
    return row->method == layer->method && row->rank == layer->rank;
}

int64_t nd_plan_cost(const nd_candidates *candidates, const nd_plan *plan) {
    int64_t cost = candidates->fixed;
    for (size_t c = 0; c < candidates->count; c++)
        if (is_chosen(&candidates->rows[c], plan)) cost += candidates->rows[c].cost;
    return cost;
}

nd_status nd_plan_reallocate(const nd_decouple_settings *settings, const nd_candidates *candidates,
                             int64_t allowance, int first, nd_plan *plan) {
    nd_status status = nd_status_ok;
    int *number = nd_alloc_array((size_t)plan->n_layers + 1, sizeof *number), open = 0;
    size_t *chosen = nd_alloc_array((size_t)plan->n_layers + 1, sizeof *chosen), count = 0;
    size_t *row = nd_alloc_array(candidates->count + 1, sizeof *row);
    nd_candidate *own = nd_alloc_array(candidates->count + 1, sizeof *own);
    ND_REQUIRE_DONE(number && chosen && row && own, nd_status_memory, "no memory for an allocation");
    for (int l = 0; l < plan->n_layers; l++)
        if (!plan->layers[l].why) number[l] = open++;
    ND_REQUIRE_DONE(open > 0, nd_status_usage, "every layer is to stay dense");
    for (size_t c = 0; c < candidates->count; c++) {
        const nd_candidate *candidate = &candidates->rows[c];
        if (candidate->layer < first && !is_chosen(candidate, plan)) continue;
        row[count] = c;
        own[count] = *candidate;
        own[count++].layer = number[candidate->layer];
    }
    status = nd_allocate(own, count, open, allowance - candidates->fixed, chosen);
    ND_REQUIRE_DONE(status != nd_status_usage, status, "a ratio of %g, where at most %.3f is within reach",
                    settings->target, candidates->most);
    if (status) goto done;
    for (int l = first; l < plan->n_layers; l++) {
        nd_layer *layer = &plan->layers[l];
        if (layer->why) continue;
        layer->method = candidates->rows[row[chosen[number[l]]]].method;
        layer->rank = candidates->rows[row[chosen[number[l]]]].rank;
    }
    const int64_t cost = nd_plan_cost(candidates, plan);
    plan->ratio = cost > 0 ? (double)candidates->total / (double)cost : 1;
done:
    free(number);
    free(chosen);
    free(row);
    free(own);
    return status;
}

/* With `credit` more than the budget. */
static nd_status allocate(const nd_decouple_settings *settings, const nd_candidates *candidates,
                          int64_t credit, nd_plan *plan) {
    return nd_plan_reallocate(settings, candidates, nd_candidates_budget(settings, candidates) + credit, 0,
                              plan);
}

nd_status nd_plan_allocate(const nd_graph *graph, const nd_decouple_settings *settings,
                           const nd_candidates *candidates, nd_plan *plan) {
    int64_t low = 0, high = INT64_MAX, credit = 0;
    ND_TRY(allocate(settings, candidates, credit, plan));
    if (settings->rule != nd_rule_macs_ratio || !nd_plan_prunes(settings, plan)) return nd_status_ok;
    for (int round = 0; round < credit_rounds; round++) {
        nd_cost cost;
        ND_TRY(nd_plan_preview(graph, settings, plan, NULL, 0, &cost));
        const int64_t left = nd_candidates_budget(settings, candidates) - nd_counted_macs(settings, &cost);
        if (left >= 0)
            low = credit;
        else
            high = credit;
        credit = high == INT64_MAX ? low + left : low + (high - low) / 2;
        if (credit <= low) break;
        ND_TRY(allocate(settings, candidates, credit, plan));
    }
    return allocate(settings, candidates, low, plan);
}
