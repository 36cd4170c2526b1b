/* Every method lands within its budget and leaves nothing unspent that a better candidate would fit in. */
#include "decouple/plan/plan.h"
#include "tests/unit/help/net_help.h"

static double cost_of(const nd_candidates *candidates, const size_t *chosen, int n_layers) {
    int64_t cost = candidates->fixed;
    for (int l = 0; l < n_layers; l++)
        if (chosen[l] != SIZE_MAX) cost += candidates->rows[chosen[l]].cost;
    return (double)cost;
}

static bool prunes(const nd_candidate *row, const nd_layer *layer) {
    nd_chain shape = {0};
    if (!row->method) return false;
    row->method->shape(&layer->conv, nd_ranks_adaptive, row->rank, &shape);
    return shape.stages[0].ni < layer->conv.ni || shape.reads;
}

/* The rows that a plan decided on; false where one of them makes other layers cheaper. */
static bool find_chosen(const nd_candidates *candidates, const nd_plan *plan, size_t *chosen) {
    bool plain = true;
    for (int l = 0; l < plan->n_layers; l++) chosen[l] = SIZE_MAX;
    for (size_t c = 0; c < candidates->count; c++) {
        const nd_candidate *row = &candidates->rows[c];
        const nd_layer *layer = &plan->layers[row->layer];
        if (row->method != layer->method || row->rank != layer->rank) continue;
        chosen[row->layer] = c;
        plain = plain && !prunes(row, layer);
    }
    return plain;
}

static void check_spent(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings) {
    nd_plan plan;
    nd_candidates candidates = {0};
    size_t chosen[16];
    OK(nd_plan_open(graph, settings, &plan));
    cr_assert(plan.n_layers <= 16);
    OK(nd_decouple_candidates(graph, backend, settings, &candidates));
    OK(nd_plan_allocate(graph, settings, &candidates, &plan));
    double budget = (double)nd_candidates_budget(settings, &candidates);
    bool plain = find_chosen(&candidates, &plan, chosen);
    double cost = cost_of(&candidates, chosen, plan.n_layers);
    for (size_t c = 0; plain && c < candidates.count; c++) {
        const nd_candidate *row = &candidates.rows[c], *now = &candidates.rows[chosen[row->layer]];
        bool fits = cost - (double)now->cost + (double)row->cost <= budget;
        cr_expect(!fits || row->error >= now->error, "%s at %g: %s could have rank %d", settings->method,
                  settings->target, plan.layers[row->layer].name, (int)row->rank);
    }
    cr_expect(!plain || cost <= budget, "%s at %g: %g of %g", settings->method, settings->target, cost,
              budget);
    nd_candidates_free(&candidates);
    nd_plan_close(&plan);
}

static void check_method(nd_backend *backend, nd_batches *calib, const char *method, double target) {
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_decouple_report report = {0};
    settings.method = method;
    settings.ranks = nd_ranks_adaptive;
    settings.rule = nd_rule_macs_ratio;
    settings.target = target;
    settings.calib = calib;
    settings.quick = calib != NULL;
    OK(nd_decouple_prepare(graph));
    nd_candidates candidates = {0};
    OK(nd_decouple_candidates(graph, backend, &settings, &candidates));
    bool reachable = candidates.most >= target;
    nd_candidates_free(&candidates);
    if (reachable) {
        check_spent(graph, backend, &settings);
        OK(nd_decouple(graph, backend, &settings, &report));
        double landed = (double)report.before.total_macs / (double)report.after.total_macs;
        cr_expect(landed >= target, "%s lands at %g where %g was asked for", method, landed, target);
        nd_decouple_report_free(&report);
    }
    nd_graph_free(graph);
}

static const double targets[] = {1.2, 1.6, 2.2};
enum { n_targets = sizeof targets / sizeof *targets };

Test(budget, every_method_stays_within_it_and_spends_it) {
    nd_backend *backend = help_backend();
    for (const nd_method *const *method = nd_method_table; *method; method++)
        for (int t = 0; t < n_targets; t++) check_method(backend, NULL, (*method)->name, targets[t]);
    nd_backend_close(backend);
}

Test(budget, holds_on_data) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(16, 11);
    for (const nd_method *const *method = nd_method_table; *method; method++)
        check_method(backend, calib, (*method)->name, 1.6);
    for (int t = 0; t < n_targets; t++) check_method(backend, calib, "dwpw_lowrank", targets[t]);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* What a budget finds for a layer whose rank is set, the others dense, is what a rule without one decides. */
static void check_set(nd_backend *backend, nd_batches *calib, const nd_method *method, int64_t terms,
                      int64_t round) {
    char setting[64];
    snprintf(setting, sizeof setting, "%s:%lld", method->name, (long long)terms);
    const nd_layer_rule rules[] = {{"*", "dense"}, {method->pointwise ? "score" : "block.a", setting}};
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_candidates candidates = {0};
    nd_plan plan;
    settings.method = method->name;
    settings.ranks = nd_ranks_adaptive;
    settings.rule = nd_rule_macs_ratio;
    settings.round = round;
    settings.layers = rules;
    settings.n_layers = 2;
    settings.calib = calib;
    nd_graph *graph = small_net();
    OK(nd_decouple_prepare(graph));
    OK(nd_plan_open(graph, &settings, &plan));
    OK(nd_plan_by_layer(backend, &settings, &plan));
    OK(nd_decouple_candidates(graph, backend, &settings, &candidates));
    cr_assert_eq(candidates.count, 1, "%s, %s images: %zu candidates", setting, calib ? "on" : "without",
                 candidates.count);
    const nd_layer *layer = &plan.layers[candidates.rows[0].layer];
    cr_expect_eq(candidates.rows[0].method, layer->method);
    cr_expect_eq(candidates.rows[0].rank, layer->rank, "%s, rounded to %d, %s images: %d instead of %d",
                 setting, (int)round, calib ? "on" : "without", (int)candidates.rows[0].rank,
                 (int)layer->rank);
    cr_expect_leq(layer->rank, layer->method->max_rank(&layer->conv));
    nd_candidates_free(&candidates);
    nd_plan_close(&plan);
    nd_graph_free(graph);
}

Test(budget, a_rank_that_is_set_is_rounded_and_bounded_as_without_one) {
    static const int64_t terms[] = {1, 2, 1000, INT64_MAX}, rounds[] = {0, 7};
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(8, 11);
    for (const nd_method *const *method = nd_method_table; *method; method++)
        for (int t = 0; t < 4; t++)
            for (int r = 0; r < 2; r++) {
                check_set(backend, NULL, *method, terms[t], rounds[r]);
                check_set(backend, calib, *method, terms[t], rounds[r]);
            }
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* The costs that were compared are no numbers of the user's. */
Test(budget, says_which_ratio_is_within_reach) {
    nd_backend *backend = help_backend();
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_decouple_report report = {0};
    nd_candidates candidates = {0};
    char wanted[128];
    settings.rule = nd_rule_macs_ratio;
    settings.target = 1000;
    OK(nd_decouple_prepare(graph));
    OK(nd_decouple_candidates(graph, backend, &settings, &candidates));
    cr_expect_eq(nd_decouple(graph, backend, &settings, &report), nd_status_usage);
    snprintf(wanted, sizeof wanted, "a ratio of 1000, where at most %.3f is within reach", candidates.most);
    cr_expect_str_eq(nd_error(), wanted);
    nd_candidates_free(&candidates);
    nd_graph_free(graph);
    nd_backend_close(backend);
}
