#include "decouple/settle.h"

#include "decouple/plan/decisions.h"
#include "decouple/plan_fit.h"

#include <stdlib.h>
#include <string.h>

/* Fits to images take long. */
enum { most_fits_calibrated = 5, most_fits_plain = 12 };
/* Shares of the budget that may be left: by a fit to images, which takes long, and by the weights alone. */
static const double unspent_calibrated = 0.04, unspent_plain = 0.01;
static const double margin = 0.0025; /* share of it that two credits worth a fit differ by */

/* A plan may cost more than the budget by as much as its fit frees, which is its credit. Without any it is
 * within the budget, whatever its layers turn out to read; what lies between the largest credit that was
 * within and the least that was not is tried. Decisions are those that a fit began with: it changes them. */
typedef struct search {
    int64_t budget, low, high;
    nd_decision *at_low, *at_high, *begun;
    int64_t most; /* MACs of the fit that came closest to the budget from below, or -1 */
    nd_decision *best;
    nd_chain *chains;
    nd_fit_error *error;
} search;

static nd_status search_open(const nd_plan_fit *f, search *s) {
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

static void search_close(const nd_plan_fit *f, search *s) {
    for (int l = 0; s->chains && l < f->plan->n_layers; l++) nd_chain_free(&s->chains[l]);
    free(s->at_low);
    free(s->at_high);
    free(s->begun);
    free(s->best);
    free(s->chains);
    free(s->error);
}

/* The fit and the best one change places. */
static void swap_best(const nd_plan_fit *f, search *s) {
    for (int l = 0; l < f->plan->n_layers; l++) {
        const nd_chain chain = f->chains[l];
        const nd_fit_error error = f->error[l];
        f->chains[l] = s->chains[l];
        f->error[l] = s->error[l];
        s->chains[l] = chain;
        s->error[l] = error;
    }
}

static void note_fit(const nd_plan_fit *f, int64_t credit, int64_t now, search *s) {
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
    nd_plan_get_decisions(f->plan, s->best);
    swap_best(f, s);
}

/* Decides anew with the credit `wanted`, or one as near to it as was not tried: ranks come in steps, so that
 * another credit may change nothing. *found: with *credit; else there is nothing left to try. */
static nd_status allocate_next(const nd_plan_fit *f, int64_t wanted, search *s, int64_t *credit,
                               bool *found) {
    const int64_t step = (int64_t)(margin * (double)s->budget) + 1;
    const bool bounded = s->high < INT64_MAX;
    *found = false;
    if (s->high <= s->low) /* even without credit: a form of dwpw_lowrank may cost more than it promises */
        s->low = (int64_t)((double)f->candidates->total / f->candidates->most) + 1 - s->budget;
    while (wanted > s->low || bounded) {
        if (bounded && s->high - s->low <= step) return nd_status_ok;
        if (wanted <= s->low || wanted >= s->high) wanted = s->low + (s->high - s->low) / 2;
        ND_TRY(nd_plan_reallocate(f->settings, f->candidates, s->budget + wanted, 0, f->plan));
        const bool as_low = nd_plan_has_decisions(f->plan, s->at_low);
        *credit = wanted;
        *found = !as_low && !(bounded && nd_plan_has_decisions(f->plan, s->at_high));
        if (*found || !bounded) return nd_status_ok;
        *(as_low ? &s->low : &s->high) = wanted;
    }
    return nd_status_ok;
}

/* From one credit to the next until the network is where it should be; of all fits the best. */
static nd_status fit_within_budget(nd_plan_fit *f, search *s) {
    const double unspent = f->settings->calib ? unspent_calibrated : unspent_plain;
    const int most_fits = f->settings->calib ? most_fits_calibrated : most_fits_plain;
    int64_t credit = nd_plan_cost(f->candidates, f->plan) - s->budget;
    bool found = true;
    if (credit < 0) credit = 0;
    for (int fits = 1; found; fits++) {
        int64_t now = 0;
        nd_plan_get_decisions(f->plan, s->begun);
        ND_TRY(nd_plan_fit_once(f));
        ND_TRY(nd_plan_fit_macs(f, &now));
        const int64_t freed = nd_plan_cost(f->candidates, f->plan) - now;
        nd_log(nd_log_info, "fit %d: %.3f %% of the MACs allowed, %.3f %% freed", fits,
               100 * (double)now / (double)s->budget, 100 * (double)freed / (double)s->budget);
        note_fit(f, credit, now, s);
        if ((double)s->most >= (1 - unspent) * (double)s->budget || fits >= most_fits) break;
        ND_TRY(allocate_next(f, freed, s, &credit, &found));
    }
    if (s->most >= 0) {
        nd_plan_set_decisions(f->plan, s->best);
        swap_best(f, s);
        return nd_status_ok;
    }
    int64_t now = 0;
    f->freed = NULL; /* nothing is spent anew */
    ND_TRY(nd_plan_reallocate(f->settings, f->candidates, s->budget, 0, f->plan));
    ND_TRY(nd_plan_fit_once(f));
    ND_TRY(nd_plan_fit_macs(f, &now));
    if (now > s->budget)
        nd_log(nd_log_warn, "the network costs %.2f %% of the MACs asked for, whatever was tried",
               100 * (double)now / (double)s->budget);
    return nd_status_ok;
}

static nd_status fit_by_ratio(nd_plan_fit *f) {
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

nd_status nd_plan_settle(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                         const nd_candidates *candidates, nd_plan *plan, nd_chain *chains,
                         nd_fit_error *error) {
    nd_plan_fit f = {.graph = graph,
                     .backend = backend,
                     .settings = settings,
                     .candidates = candidates,
                     .plan = plan,
                     .chains = chains,
                     .error = error};
    ND_TRY(nd_pass_cache_open(graph, settings, plan, &f.cache));
    const bool by_ratio = candidates && settings->rule == nd_rule_macs_ratio;
    const nd_status status = by_ratio ? fit_by_ratio(&f) : nd_plan_fit_once(&f);
    nd_pass_cache_close(f.cache, !status);
    return status;
}
