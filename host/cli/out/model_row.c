#include "cli/cli.h"

#include "base/hash.h"

#include <jansson.h>
#include <string.h>

const char *nd_cli_form(const char *form, const char *method) {
    if (!strcmp(method, "dense")) return form;
    const bool pair = !strcmp(method, "dwpw") || !strcmp(method, "pwdw"), first = !strcmp(form, "none");
    return pair && (first || !strcmp(form, method)) ? method : "mixed";
}

static const char *model_form(const json_t *layers) {
    const char *form = "none", *name;
    json_t *layer;
    json_object_foreach((json_t *)layers, name, layer) {
        const char *method = json_string_value(json_object_get(layer, "method"));
        if (method) form = nd_cli_form(form, method);
    }
    return form;
}

static void model_row_settings(const json_t *settings, nd_row *row) {
    const char *rule = json_string_value(json_object_get(settings, "rule"));
    const bool by_layer = json_array_size(json_object_get(settings, "layers")) > 0;
    nd_row_set_text(row, nd_field_ranks, json_string_value(json_object_get(settings, "ranks")));
    if (rule && !strcmp(rule, "rank") && !by_layer)
        nd_row_set_int(row, nd_field_rank, (int64_t)json_number_value(json_object_get(settings, "target")));
}

/* The labelled images that a --max-drop was measured on. */
static void model_row_search(const json_t *search, nd_row *row) {
    nd_row_set_name(row, nd_field_search_dataset, json_string_value(json_object_get(search, "dataset")));
    nd_row_set_text(row, nd_field_search_sha256, json_string_value(json_object_get(search, "sha256")));
    nd_row_set_int(row, nd_field_search_n, json_integer_value(json_object_get(search, "n")));
}

/* NULL metadata gives NULL: a model that was never decoupled. */
static nd_status model_meta(const nd_graph *graph, const char *key, json_t **out) {
    const char *text = nd_graph_meta(graph, key);
    json_error_t error;
    *out = text ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
    ND_REQUIRE(!text || *out, nd_status_format, "%s: metadata %s: %s", graph->name, key, error.text);
    return nd_status_ok;
}

nd_status nd_cli_model_row(const nd_graph *graph, const char *spec, const char *sha256, nd_row *row) {
    const char *method = nd_graph_meta(graph, "nd.method"),
               *settings_text = nd_graph_meta(graph, "nd.settings");
    nd_row_set_name(row, nd_field_model, spec);
    nd_row_set_text(row, nd_field_weights_sha256, sha256);
    nd_row_set_text(row, nd_field_method, method ? method : "none");
    json_t *search, *settings, *layers = NULL;
    ND_TRY(model_meta(graph, "nd.search", &search));
    if (search) model_row_search(search, row);
    json_decref(search);
    if (!method || !settings_text) {
        nd_row_set_text(row, nd_field_form, "none");
        nd_row_set_text(row, nd_field_ranks, "dense");
        return nd_status_ok;
    }
    nd_status status = model_meta(graph, "nd.settings", &settings);
    if (!status) status = model_meta(graph, "nd.layers", &layers);
    if (!status) {
        char hex[nd_sha256_hex_size];
        nd_sha256_text(settings_text, hex);
        nd_row_set_text(row, nd_field_settings_sha256, hex);
        nd_row_set_text(row, nd_field_form, model_form(layers));
        model_row_settings(settings, row);
    }
    json_decref(settings);
    json_decref(layers);
    return status;
}

void nd_cli_cost_row(const nd_cost *cost, const nd_cost *original, nd_row *row) {
    nd_row_set_int(row, nd_field_conv_macs, cost->conv_macs);
    nd_row_set_int(row, nd_field_total_macs, cost->total_macs);
    nd_row_set_int(row, nd_field_params, cost->params);
    nd_row_set_real(row, nd_field_conv_macs_ratio, (double)original->conv_macs / (double)cost->conv_macs);
    nd_row_set_real(row, nd_field_total_macs_ratio, (double)original->total_macs / (double)cost->total_macs);
    nd_row_set_real(row, nd_field_params_ratio, (double)original->params / (double)cost->params);
}
