#include "eval/reproduce.h"

#include "decouple/survey.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Largest MACs ratio the knob of a method without an energy rule reaches. */
static const double nd_ratio_max = 16;

static bool nd_knob_is_energy(const char *method) {
    return strcmp(method, "dwpw") == 0 || strcmp(method, "pwdw") == 0;
}

/* Where `turn` in (0, 1) puts the knob: 0 is the original, 1 the harshest. */
static double nd_knob_at(const char *method, double turn) {
    return nd_knob_is_energy(method) ? 1 - turn : pow(nd_ratio_max, turn);
}

/* The most terms with which a layer costs at most 1/ratio of what it does; at least 1. */
static int64_t nd_terms_at_ratio(const nd_method *method, const nd_conv *conv, double ratio) {
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
static nd_status nd_ratio_rules(const nd_graph *graph, const nd_paper_value *value, double ratio,
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
        const char *setting =
            nd_arena_printf(arena, "%lld", (long long)nd_terms_at_ratio(method, &conv, ratio));
        ND_REQUIRE_DONE(setting, nd_status_memory, "no memory for layer rules");
        rules[settings->n_layers++] = (nd_layer_rule){layer->name, setting};
    }
done:
    nd_survey_free(&survey);
    return status;
}

typedef struct nd_trial {
    const nd_paper_value *value;
    const nd_reproduce_settings *settings;
    const nd_accuracy *original;
} nd_trial;

static nd_status nd_trial_settings(const nd_trial *trial, double knob, nd_arena *arena,
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
    if (nd_knob_is_energy(value->method)) {
        out->rule = nd_rule_energy;
        out->target = knob;
        return nd_status_ok;
    }
    out->rule = nd_rule_rank;
    out->target = 1;
    return nd_ratio_rules(trial->settings->graph, value, knob, arena, out);
}

/* Decouples with the knob at `knob` and measures. */
static nd_status nd_trial_run(const nd_trial *trial, double knob, nd_drop_point *out) {
    const nd_reproduce_settings *settings = trial->settings;
    const nd_accuracy_settings measure = {
        .backend = settings->backend,
        .precision = nd_precision_fp32,
        .batch = settings->batch,
        .progress = settings->progress,
    };
    nd_arena arena = {0};
    nd_graph *graph = NULL;
    nd_accuracy accuracy = {0};
    nd_decouple_settings decouple;
    nd_decouple_report report = {0};
    nd_status status;
    ND_TRY_DONE(nd_trial_settings(trial, knob, &arena, &decouple));
    ND_TRY_DONE(nd_graph_clone(settings->graph, &graph));
    ND_TRY_DONE(nd_decouple(graph, settings->backend, &decouple, &report));
    ND_TRY_DONE(nd_accuracy_measure(graph, settings->data, &measure, &accuracy));
    ND_REQUIRE_DONE(accuracy.n == trial->original->n, nd_status_internal, "%s: %lld images, then %lld",
                    settings->data->name, (long long)trial->original->n, (long long)accuracy.n);
    *out = (nd_drop_point){
        .knob = knob,
        .before = report.before,
        .after = report.after,
        .top1 = nd_drop_paired(trial->original->hit1, accuracy.hit1, accuracy.n),
        .top5 = nd_drop_paired(trial->original->hit5, accuracy.hit5, accuracy.n),
        .n = accuracy.n,
    };
done:
    nd_decouple_report_free(&report);
    nd_accuracy_free(&accuracy);
    nd_graph_free(graph);
    nd_arena_free(&arena);
    return status;
}

nd_status nd_reproduce_drop(const nd_paper_value *value, const nd_reproduce_settings *settings,
                            const nd_accuracy *original, nd_drop_point *out) {
    const nd_trial trial = {value, settings, original};
    const nd_cost dense = nd_cost_graph(settings->graph);
    double low = 0, high = 1;
    *out = (nd_drop_point){
        .knob = nd_knob_at(value->method, 0), .before = dense, .after = dense, .n = original->n};
    for (int step = 0; step < settings->steps; step++) {
        const double middle = (low + high) / 2;
        nd_drop_point point;
        ND_TRY(nd_trial_run(&trial, nd_knob_at(value->method, middle), &point));
        nd_log(nd_log_info, "%s at %.4f: %.3f GMACs, loses %.2f points of top-1 and %.2f of top-5",
               value->method, point.knob, (double)point.after.conv_macs * 1e-9, point.top1.points,
               point.top5.points);
        if (point.top5.points <= settings->points) {
            if (point.after.conv_macs <= out->after.conv_macs) *out = point;
            low = middle;
        } else {
            high = middle;
        }
    }
    return nd_status_ok;
}
