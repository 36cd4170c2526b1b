#include "eval/max_drop.h"

#include "eval/drop_cache.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A network that was made, with what it costs and loses. */
typedef struct nd_drop_made {
    nd_drop_probe probe;
    nd_graph *graph; /* NULL where the probe came from disk */
    nd_decouple_report report;
} nd_drop_made;

typedef struct nd_drop_search {
    const nd_graph *graph;
    const nd_max_drop_settings *settings;
    nd_candidates candidates;
    nd_accuracy original;
    nd_json_cache cache;
    nd_drop_made best; /* probe.n is 0 while none is within the bound */
    double last;       /* ratio */
} nd_drop_search;

nd_max_drop_settings nd_max_drop_defaults(void) {
    return (nd_max_drop_settings){.points = 1, .step = 1.02};
}

static void drop_made_free(nd_drop_made *made) {
    nd_graph_free(made->graph);
    nd_decouple_report_free(&made->report);
    *made = (nd_drop_made){0};
}

static nd_status drop_check(const nd_max_drop_settings *settings) {
    const nd_decouple_settings *decouple = settings->decouple;
    ND_REQUIRE(decouple->rule == nd_rule_macs_ratio, nd_status_internal,
               "the search for a drop is over a ratio of MACs");
    ND_REQUIRE(settings->points >= 0 && settings->points <= 100 && settings->step > 1, nd_status_usage,
               "a drop of %g points: from 0 to 100", settings->points);
    return nd_drop_disjoint(decouple->calib, decouple->calib_images, settings->data);
}

static nd_accuracy_settings drop_accuracy_settings(const nd_max_drop_settings *settings) {
    return (nd_accuracy_settings){
        .backend = settings->backend, .precision = nd_precision_fp32, .progress = settings->progress};
}

static nd_status drop_open_cache(nd_drop_search *search) {
    const nd_max_drop_settings *settings = search->settings;
    return nd_drop_cache_open(settings->decouple->cache, "max-drop", search->graph, settings->decouple,
                              settings->data, settings->backend, &search->cache);
}

static void drop_fill(const nd_drop_search *search, double ratio, const nd_drop_record *record,
                      nd_drop_probe *probe) {
    const nd_max_drop_settings *settings = search->settings;
    const nd_drop top1 = nd_drop_of(&record->top1), top5 = nd_drop_of(&record->top5);
    const nd_drop_bound bound = {settings->points, settings->top5, settings->confident};
    *probe = (nd_drop_probe){
        .setting = ratio,
        .before = nd_cost_graph(search->graph),
        .after = {.conv_macs = record->conv_macs, .total_macs = record->total_macs, .params = record->params},
        .top1 = top1,
        .top5 = top5,
        .n = search->original.n,
    };
    probe->within = nd_drop_judged(&bound, probe) <= bound.points;
}

/* Decouples at a ratio; the probe is left to the caller. */
static nd_status drop_make(const nd_drop_search *search, double ratio, nd_drop_made *made) {
    nd_decouple_settings decouple = *search->settings->decouple;
    decouple.target = ratio;
    decouple.candidates = &search->candidates;
    ND_TRY(nd_graph_clone(search->graph, &made->graph));
    return nd_decouple(made->graph, search->settings->backend, &decouple, &made->report);
}

static nd_status drop_measure(nd_drop_search *search, double ratio, nd_drop_made *made,
                              nd_drop_record *record) {
    const nd_accuracy_settings measure = drop_accuracy_settings(search->settings);
    ND_TRY(drop_make(search, ratio, made));
    const nd_cost *cost = &made->report.after;
    *record = (nd_drop_record){
        .conv_macs = cost->conv_macs, .total_macs = cost->total_macs, .params = cost->params};
    ND_TRY(nd_drop_measure(made->graph, search->settings->data, &measure, &search->original, &record->top1,
                           &record->top5));
    nd_drop_cache_put(&search->cache, ratio, record);
    return nd_status_ok;
}

static nd_status drop_try(void *user, double turn, bool *within) {
    nd_drop_search *search = user;
    const nd_max_drop_settings *settings = search->settings;
    const double ratio = pow(search->candidates.most, turn);
    nd_drop_made made = {0};
    nd_drop_record record;
    const bool reused = nd_drop_cache_get(&search->cache, ratio, &record);
    nd_status status = reused ? nd_status_ok : drop_measure(search, ratio, &made, &record);
    search->last = ratio;
    if (!status) {
        drop_fill(search, ratio, &record, &made.probe);
        made.probe.reused = reused;
        *within = made.probe.within;
        if (settings->probe) settings->probe(settings->user, &made.probe);
        const bool fewer =
            !search->best.probe.n || made.probe.after.total_macs <= search->best.probe.after.total_macs;
        if (made.probe.within && fewer) {
            const nd_drop_made worse = search->best;
            search->best = made;
            made = worse;
        }
    }
    drop_made_free(&made);
    return status;
}

static nd_status drop_bisect(nd_drop_search *search) {
    const nd_max_drop_settings *settings = search->settings;
    const double most = search->candidates.most;
    ND_REQUIRE(most > settings->step, nd_status_usage,
               "no layer can be made cheaper: the largest ratio is %.3f", most);
    ND_TRY(nd_drop_bisect(log(settings->step) / log(most), drop_try, search));
    ND_REQUIRE(search->best.probe.n, nd_status_failed,
               "no ratio stayed within %g points of top-%d; the last one tried is %.3f", settings->points,
               settings->top5 ? 5 : 1, search->last);
    return nd_status_ok;
}

nd_status nd_max_drop(const nd_graph *graph, const nd_max_drop_settings *settings, nd_graph **out,
                      nd_decouple_report *report, nd_drop_probe *best) {
    nd_drop_search search = {.graph = graph, .settings = settings};
    nd_status status = nd_status_ok;
    *out = NULL;
    *report = (nd_decouple_report){0};
    *best = (nd_drop_probe){0};
    ND_TRY(drop_check(settings));
    const nd_accuracy_settings measure = drop_accuracy_settings(settings);
    ND_TRY_DONE(nd_drop_original(graph, settings->data, &measure, &search.original));
    ND_TRY_DONE(nd_decouple_candidates(graph, settings->backend, settings->decouple, &search.candidates));
    ND_TRY_DONE(drop_open_cache(&search));
    ND_TRY_DONE(drop_bisect(&search));
    if (!search.best.graph) ND_TRY_DONE(drop_make(&search, search.best.probe.setting, &search.best));
    const nd_drop_bound bound = {settings->points, settings->top5, settings->confident};
    ND_TRY_DONE(nd_drop_write(search.best.graph, settings->data, &bound, &search.best.probe));
    *out = search.best.graph;
    *report = search.best.report;
    *best = search.best.probe;
    search.best = (nd_drop_made){0};
done:
    drop_made_free(&search.best);
    nd_candidates_free(&search.candidates);
    nd_accuracy_free(&search.original);
    nd_json_cache_close(&search.cache);
    return status;
}

bool nd_max_drop_met(const nd_graph *graph, const nd_batches *data, bool *exactly) {
    const char *text = nd_graph_meta(graph, "nd.search");
    json_t *json = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *name = json_string_value(json_object_get(json, "dataset")),
               *sha256 = json_string_value(json_object_get(json, "sha256"));
    *exactly = sha256 && !strcmp(sha256, data->sha256);
    const bool met = *exactly || (name && !strcmp(name, data->name));
    json_decref(json);
    return met;
}
