#include "decouple/settings.h"

#include "base/hash.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

const char nd_fit_version[] = "16";

static const char *const rule_names[] = {
    [nd_rule_rank] = "rank",
    [nd_rule_energy] = "energy",
    [nd_rule_frobenius] = "frobenius",
    [nd_rule_macs_ratio] = "macs_ratio",
    [nd_rule_latency_ratio] = "latency_ratio",
};

/* Towards the original weights when the images are made up: they tell less about the real ones than their
 * number promises (method.md, "Synthetic images"). */
static const double synthetic_ridge = .3;

nd_decouple_settings nd_decouple_defaults(void) {
    return (nd_decouple_settings){
        .method = "auto",
        .ranks = nd_ranks_uniform,
        .rule = nd_rule_rank,
        .target = 4,
    };
}

nd_decouple_settings nd_decouple_resolved(const nd_decouple_settings *settings) {
    nd_decouple_settings own = *settings;
    if (own.calib && own.calib->synthetic && own.ridge == 0) own.ridge = synthetic_ridge;
    return own;
}

nd_status nd_decouple_check_settings(const nd_decouple_settings *settings) {
    double target = settings->target;
    ND_REQUIRE((unsigned)settings->rule <= nd_rule_latency_ratio, nd_status_usage, "unknown rule %d",
               (int)settings->rule);
    bool good = false;
    switch (settings->rule) {
    case nd_rule_rank:
        good = target >= 1 && target <= 65536 && target == floor(target);
        break;
    case nd_rule_energy:
    case nd_rule_frobenius:
        good = target > 0 && target <= 1;
        break;
    case nd_rule_macs_ratio:
    case nd_rule_latency_ratio:
        good = target >= 1 && target < 1e6;
        break;
    }
    ND_REQUIRE(good, nd_status_usage, "%s = %g is out of range", rule_names[settings->rule], target);
    ND_REQUIRE(settings->calib || !(settings->light || settings->quick || settings->relu_aware ||
                                    settings->output_metric || settings->match_scores),
               nd_status_usage, "this setting needs images to calibrate on");
    if (settings->rule != nd_rule_latency_ratio) return nd_status_ok;
    ND_REQUIRE(settings->clock, nd_status_usage, "a ratio of times needs a clock");
    ND_REQUIRE(!settings->conv_only, nd_status_usage,
               "convolutions alone have MACs, but no time of their own");
    return nd_status_ok;
}

static json_t *settings_json(const nd_decouple_settings *settings) {
    json_t *patterns = json_array(), *skip = json_array();
    for (size_t r = 0; r < settings->n_layers; r++)
        json_array_append_new(
            patterns, json_sprintf("%s=%s", settings->layers[r].pattern, settings->layers[r].setting));
    for (size_t s = 0; s < settings->n_skip; s++) json_array_append_new(skip, json_string(settings->skip[s]));
    json_t *json = json_pack("{ss ss ss sf sb sI sb so so}", "method", settings->method, "ranks",
                             settings->ranks == nd_ranks_uniform ? "uniform" : "adaptive", "rule",
                             rule_names[settings->rule], "target", settings->target, "conv_only",
                             settings->conv_only, "round", (json_int_t)settings->round, "first_conv",
                             settings->first_conv, "layers", patterns, "skip", skip);
    if (json && settings->rule == nd_rule_latency_ratio)
        json_object_set_new(json, "clock", json_string(settings->clock->identity));
    if (json && settings->calib) {
        json_t *calib =
            json_pack("{ss ss sI sf sb sb sb sb}", "preprocess", settings->calib->preprocess, "sha256",
                      settings->calib->sha256, "images", (json_int_t)settings->calib_images, "ridge",
                      settings->ridge, "quick", settings->quick, "light", settings->light, "relu_aware",
                      settings->relu_aware, "output_metric", settings->output_metric);
        if (settings->match_scores) json_object_set_new(calib, "match_scores", json_true());
        json_object_set_new(json, "calib", calib);
    }
    return json;
}

/* `graph` may be NULL: then only the hash is made. */
static nd_status set_json_meta(nd_graph *graph, const char *key, json_t *json, char hex[65]) {
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    ND_REQUIRE(text, nd_status_memory, "no memory for the settings of a model");
    if (hex) nd_sha256_text(text, hex);
    nd_status status = graph ? nd_graph_set_meta(graph, key, text) : nd_status_ok;
    free(text);
    return status;
}

nd_status nd_decouple_write_meta(nd_graph *graph, const nd_decouple_settings *settings, bool changed,
                                 nd_decouple_report *report) {
    if (!changed) return set_json_meta(NULL, "nd.settings", settings_json(settings), report->settings_sha256);
    json_t *layers = json_object();
    for (size_t l = 0; l < report->n_layers; l++) {
        const nd_layer_report *row = &report->layers[l];
        json_object_set_new(layers, row->name,
                            json_pack("{ss sI}", "method", row->method, "rank", (json_int_t)row->rank));
    }
    ND_TRY(nd_graph_set_meta(graph, "nd.method", settings->method));
    ND_TRY(set_json_meta(graph, "nd.layers", layers, NULL));
    return set_json_meta(graph, "nd.settings", settings_json(settings), report->settings_sha256);
}

nd_status nd_decouple_settings_text(const nd_decouple_settings *settings, char **out) {
    const nd_decouple_settings own = nd_decouple_resolved(settings);
    json_t *json = settings_json(&own);
    json_object_del(json, "target");
    if (json) json_object_set_new(json, "version", json_string(nd_fit_version));
    *out = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    ND_REQUIRE(*out, nd_status_memory, "no memory for the settings of a model");
    return nd_status_ok;
}
