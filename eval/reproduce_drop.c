#include "eval/reproduce.h"

#include "decouple/plan/survey.h"
#include "eval/drop_cache.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of fewer classes hardly any picture has its own below the fifth place. */
enum { fewest_top5_classes = 50 };

bool nd_reproduce_by_top1(const nd_graph *graph) {
    int64_t classes = 0;
    return nd_graph_class_scores(graph, &classes) >= 0 && classes < fewest_top5_classes;
}

/* Largest MACs ratio the knob of a method without an energy rule reaches. */
static const double nd_ratio_max = 16;

static bool knob_is_energy(const char *method) {
    return strcmp(method, "dwpw") == 0 || strcmp(method, "pwdw") == 0;
}

/* Where `turn` in (0, 1) puts the knob: 0 is the original, 1 the harshest. */
static double knob_at(const char *method, double turn) {
    return knob_is_energy(method) ? 1 - turn : pow(nd_ratio_max, turn);
}

/* The most terms with which a layer costs at most 1/ratio of what it does; at least 1. */
static int64_t terms_at_ratio(const nd_method *method, const nd_conv *conv, double ratio) {
    const int64_t channels = method->channels(conv);
    const double budget = (double)nd_conv_macs(conv) / ratio;
    int64_t low = 1, high = method->max_rank(conv) / channels;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if ((double)nd_method_macs(method, conv, nd_ranks_uniform, middle * channels) <= budget)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* One rule a layer, of the same ratio for all. */
static nd_status ratio_rules(const nd_graph *graph, const nd_paper_value *value, double ratio,
                             nd_arena *arena, nd_decouple_settings *settings) {
    const nd_method *method = nd_method_find(value->method);
    nd_survey survey;
    ND_REQUIRE(method, nd_status_usage, "no method '%s'", value->method);
    ND_TRY(nd_survey_make(graph, &survey));
    nd_status status = nd_status_ok;
    nd_layer_rule *rules = nd_arena_alloc(arena, survey.n_layers * sizeof *rules);
    ND_REQUIRE_DONE(rules, nd_status_memory, "no memory for layer rules");
    settings->layers = rules;
    for (size_t i = 0; i < survey.n_layers; i++) {
        const nd_survey_layer *layer = &survey.layers[i];
        nd_conv conv;
        if (!layer->spatial || (layer->first && !value->first_conv)) continue;
        ND_TRY_DONE(nd_conv_from_node(graph, &graph->nodes[layer->node], &conv));
        if (!method->applies(&conv)) continue;
        const char *setting = nd_arena_printf(arena, "%lld", (long long)terms_at_ratio(method, &conv, ratio));
        ND_REQUIRE_DONE(setting, nd_status_memory, "no memory for layer rules");
        rules[settings->n_layers++] = (nd_layer_rule){layer->name, setting};
    }
done:
    nd_survey_free(&survey);
    return status;
}

/* A setting that was measured. The rank and the MACs of each layer tell a network of one method from all
 * others. */
typedef struct nd_tried {
    int64_t (*layers)[2];
    size_t n_layers;
    nd_drop_record record;
} nd_tried;

typedef struct nd_trial {
    const nd_paper_value *value;
    const nd_reproduce_settings *settings;
    const nd_accuracy *original;
    nd_tried *tried; /* [settings->steps] */
    size_t n_tried;
    nd_drop_probe best;
    nd_json_cache cache; /* of other runs as well */
    nd_arena arena;
} nd_trial;

/* Ranks are whole numbers: settings of the knob that differ may give the same network, at its harsh end most
 * of all. */
static const nd_drop_record *trial_find(const nd_trial *trial, const nd_decouple_report *report) {
    for (size_t i = 0; i < trial->n_tried; i++) {
        const nd_tried *tried = &trial->tried[i];
        size_t k = 0;
        while (k < report->n_layers && tried->n_layers == report->n_layers &&
               tried->layers[k][0] == report->layers[k].rank &&
               tried->layers[k][1] == report->layers[k].new_macs)
            k++;
        if (k == report->n_layers) return &tried->record;
    }
    return NULL;
}

static nd_status trial_keep(nd_trial *trial, const nd_decouple_report *report, const nd_drop_record *record) {
    nd_tried *tried = &trial->tried[trial->n_tried];
    tried->layers = nd_arena_alloc(&trial->arena, report->n_layers * sizeof *tried->layers);
    ND_REQUIRE(tried->layers, nd_status_memory, "no memory for a setting that was tried");
    for (size_t k = 0; k < report->n_layers; k++) {
        tried->layers[k][0] = report->layers[k].rank;
        tried->layers[k][1] = report->layers[k].new_macs;
    }
    tried->n_layers = report->n_layers;
    tried->record = *record;
    trial->n_tried++;
    return nd_status_ok;
}

static nd_status trial_settings(const nd_trial *trial, double knob, nd_arena *arena,
                                nd_decouple_settings *out) {
    const nd_paper_value *value = trial->value;
    *out = nd_decouple_defaults();
    out->method = value->method;
    out->first_conv = value->first_conv;
    out->skip = value->skip;
    out->n_skip = value->n_skip;
    out->progress = trial->settings->progress;
    if (strstr(value->needs, "calib")) {
        out->calib = trial->settings->calib;
        out->calib_images = trial->settings->calib_images;
    }
    if (knob_is_energy(value->method)) {
        out->rule = nd_rule_energy;
        out->target = knob;
        return nd_status_ok;
    }
    out->rule = nd_rule_rank;
    out->target = 1;
    return ratio_rules(trial->settings->graph, value, knob, arena, out);
}

/* The settings at one place of the knob stand for those at all others. */
static nd_status trial_open_cache(nd_trial *trial) {
    const nd_reproduce_settings *settings = trial->settings;
    nd_decouple_settings decouple;
    ND_TRY(trial_settings(trial, knob_at(trial->value->method, 0.5), &trial->arena, &decouple));
    return nd_drop_cache_open(settings->cache, "reproduce", settings->graph, &decouple, settings->data,
                              settings->backend, &trial->cache);
}

/* What the network decoupled as `report` says loses. */
static nd_status trial_measure(const nd_trial *trial, const nd_graph *graph, const nd_decouple_report *report,
                               nd_drop_record *out) {
    const nd_reproduce_settings *settings = trial->settings;
    const nd_accuracy_settings measure = {
        .backend = settings->backend,
        .precision = nd_precision_fp32,
        .batch = settings->batch,
        .progress = settings->progress,
    };
    *out = (nd_drop_record){.conv_macs = report->after.conv_macs,
                            .total_macs = report->after.total_macs,
                            .params = report->after.params};
    return nd_drop_measure(graph, settings->data, &measure, trial->original, &out->top1, &out->top5);
}

/* Decouples with the knob at `knob` and measures, unless an earlier setting gave the same network. */
static nd_status trial_decouple(nd_trial *trial, double knob, nd_drop_record *out, bool *reused) {
    nd_arena arena = {0};
    nd_graph *graph = NULL;
    nd_decouple_settings decouple;
    nd_decouple_report report = {0};
    nd_status status;
    ND_TRY_DONE(trial_settings(trial, knob, &arena, &decouple));
    ND_TRY_DONE(nd_graph_clone(trial->settings->graph, &graph));
    ND_TRY_DONE(nd_decouple(graph, trial->settings->backend, &decouple, &report));
    const nd_drop_record *same = trial_find(trial, &report);
    *reused = same != NULL;
    if (same) {
        *out = *same;
    } else {
        ND_TRY_DONE(trial_measure(trial, graph, &report, out));
        ND_TRY_DONE(trial_keep(trial, &report, out));
    }
    nd_drop_cache_put(&trial->cache, knob, out);
done:
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
    nd_arena_free(&arena);
    return status;
}

static nd_status trial_measure_at(nd_trial *trial, double knob, nd_drop_probe *out) {
    nd_drop_record record;
    bool reused = nd_drop_cache_get(&trial->cache, knob, &record);
    if (!reused) ND_TRY(trial_decouple(trial, knob, &record, &reused));
    *out = (nd_drop_probe){
        .setting = knob,
        .before = trial->best.before,
        .after = {.conv_macs = record.conv_macs, .total_macs = record.total_macs, .params = record.params},
        .top1 = nd_drop_of(&record.top1),
        .top5 = nd_drop_of(&record.top5),
        .n = trial->original->n,
        .reused = reused,
    };
    const bool by_top1 = nd_reproduce_by_top1(trial->settings->graph);
    out->within = (by_top1 ? out->top1.points : out->top5.points) <= trial->settings->points;
    nd_log(nd_log_info, "%s at %.4f: %.3f GMACs, loses %.2f points of top-1 and %.2f of top-5%s",
           trial->value->method, knob, (double)out->after.conv_macs * 1e-9, out->top1.points,
           out->top5.points, reused ? " (measured before)" : "");
    return nd_status_ok;
}

static nd_status trial_run(void *user, double turn, bool *within) {
    nd_trial *trial = user;
    nd_drop_probe probe;
    ND_TRY(trial_measure_at(trial, knob_at(trial->value->method, turn), &probe));
    *within = probe.within;
    if (probe.within && probe.after.conv_macs <= trial->best.after.conv_macs) trial->best = probe;
    return nd_status_ok;
}

nd_status nd_reproduce_drop(const nd_paper_value *value, const nd_reproduce_settings *settings,
                            const nd_accuracy *original, nd_drop_probe *out) {
    nd_trial trial = {.value = value, .settings = settings, .original = original};
    nd_status status = nd_status_ok;
    const nd_cost dense = nd_cost_graph(settings->graph);
    trial.best = (nd_drop_probe){
        .setting = knob_at(value->method, 0), .before = dense, .after = dense, .n = original->n};
    trial.tried = nd_arena_alloc(&trial.arena, (size_t)settings->steps * sizeof *trial.tried);
    ND_REQUIRE_DONE(trial.tried, nd_status_memory, "no memory for %d trials", settings->steps);
    ND_TRY_DONE(trial_open_cache(&trial));
    ND_TRY_DONE(nd_drop_bisect(ldexp(1, -settings->steps), trial_run, &trial));
done:
    *out = trial.best;
    nd_json_cache_close(&trial.cache);
    nd_arena_free(&trial.arena);
    return status;
}
