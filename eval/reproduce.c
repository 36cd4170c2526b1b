#include "eval/reproduce.h"

#include "decouple/plan/survey.h"
#include "model/infer/infer.h"
#include "model/zoo/zoo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nd_reproduce_settings nd_reproduce_defaults(void) {
    return (nd_reproduce_settings){.calib_images = 256, .batch = 32, .points = 1.0, .steps = 8};
}

/* What stays the same from one value of a table to the next is computed once. */
typedef struct nd_reproducer {
    const nd_reproduce_settings *settings;
    const char *model; /* of graph and survey; NULL before the first */
    nd_graph *graph;   /* blank */
    nd_survey survey;
    double scale; /* MACs of the table's convolutions by those of the network that is given */
    nd_accuracy original;
    bool measured;   /* `original` is there */
    const char *row; /* the row `point` is of */
    nd_drop_probe point;
} nd_reproducer;

/* Whether both have the same convolutions, in the same order, whatever the size of the image. */
static bool same_convolutions(const nd_survey *a, const nd_survey *b) {
    size_t j = 0;
    for (size_t i = 0; i < a->n_layers; i++) {
        const nd_survey_layer *one = &a->layers[i];
        if (!one->conv) continue;
        while (j < b->n_layers && !b->layers[j].conv) j++;
        if (j == b->n_layers) return false;
        const nd_survey_layer *other = &b->layers[j++];
        if (one->ni != other->ni || one->no != other->no || one->kh != other->kh || one->kw != other->kw ||
            one->stride != other->stride)
            return false;
    }
    while (j < b->n_layers && !b->layers[j].conv) j++;
    return j == b->n_layers;
}

/* The trained network must be the one that the table is about, or have its convolutions. */
static nd_status compare_given(nd_reproducer *reproducer) {
    const nd_graph *given = reproducer->settings->graph;
    const nd_cost have = nd_cost_graph(given), *published = &reproducer->survey.cost;
    if (have.total_macs == published->total_macs) return nd_status_ok;
    nd_survey survey;
    ND_TRY(nd_survey_make(given, &survey));
    const bool same = same_convolutions(&survey, &reproducer->survey);
    nd_survey_free(&survey);
    ND_REQUIRE(same && have.conv_macs > 0, nd_status_usage,
               "%s: %lld MACs, but the table is about %s with %lld", given->name, (long long)have.total_macs,
               reproducer->model, (long long)published->total_macs);
    reproducer->scale = (double)published->conv_macs / (double)have.conv_macs;
    return nd_status_ok;
}

static nd_status reproducer_model(nd_reproducer *reproducer, const char *model) {
    if (reproducer->model && strcmp(reproducer->model, model) == 0) return nd_status_ok;
    const nd_zoo_entry *entry = nd_zoo_find(model);
    ND_REQUIRE(entry, nd_status_format, "model: no architecture '%s'", model);
    nd_survey_free(&reproducer->survey);
    nd_graph_free(reproducer->graph);
    reproducer->graph = NULL;
    ND_TRY(nd_zoo_build(entry, nd_zoo_blank, NULL, &reproducer->graph));
    ND_TRY(nd_graph_fold(reproducer->graph));
    ND_TRY(nd_graph_infer(reproducer->graph, &(nd_infer_settings){.batch = 1}));
    ND_TRY(nd_survey_make(reproducer->graph, &reproducer->survey));
    reproducer->model = model;
    reproducer->scale = 1;
    return reproducer->settings->graph ? compare_given(reproducer) : nd_status_ok;
}

/* --- values that follow from the architecture */

typedef struct nd_costs {
    nd_cost dense, now;
    int64_t layer_macs;  /* of the value's own layer, now */
    int64_t conv_params; /* without biases, as the paper counts them */
    int64_t extra;
} nd_costs;

static nd_status costs_at(nd_reproducer *reproducer, const nd_paper_value *value, nd_costs *out) {
    const nd_survey *survey = &reproducer->survey;
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = value->method;
    settings.target = (double)value->rank;
    settings.first_conv = value->first_conv;
    settings.layers = value->layers;
    settings.n_layers = value->n_layers;
    settings.skip = value->skip;
    settings.n_skip = value->n_skip;
    *out = (nd_costs){.dense = survey->cost, .now = survey->cost, .extra = value->extra_macs};
    nd_cost *layers = nd_alloc_array(survey->n_layers, sizeof *layers);
    ND_REQUIRE(layers, nd_status_memory, "no memory for the costs of the layers");
    for (size_t i = 0; i < survey->n_layers; i++) layers[i] = survey->layers[i].cost;
    nd_status status = nd_status_ok;
    if (value->rank) status = nd_survey_cost(reproducer->graph, survey, &settings, layers, &out->now);
    for (size_t i = 0; i < survey->n_layers; i++) {
        const nd_survey_layer *layer = &survey->layers[i];
        const bool biased = reproducer->graph->nodes[layer->node].n_in > 2;
        if (layer->conv) out->conv_params += layers[i].params - (biased ? layer->no : 0);
        if (strcmp(layer->name, value->layer) == 0) out->layer_macs = layers[i].total_macs;
    }
    free(layers);
    return status;
}

typedef double nd_quantity_value(const nd_costs *costs);

static double quantity_conv_macs(const nd_costs *costs) {
    return (double)(costs->now.conv_macs + costs->extra);
}

static double quantity_total_macs(const nd_costs *costs) {
    return (double)(costs->now.total_macs + costs->extra);
}

static double quantity_fc_macs(const nd_costs *costs) {
    return (double)(costs->now.total_macs - costs->now.conv_macs);
}

static double quantity_layer_macs(const nd_costs *costs) {
    return (double)costs->layer_macs;
}

static double quantity_conv_params(const nd_costs *costs) {
    return (double)costs->conv_params;
}

static double quantity_ratio(const nd_costs *costs) {
    return (double)(costs->dense.conv_macs + costs->extra) / quantity_conv_macs(costs);
}

static double quantity_saved(const nd_costs *costs) {
    return 100 - 100 / quantity_ratio(costs);
}

static const struct {
    const char *name;
    nd_quantity_value *value;
} nd_quantities[] = {
    {"conv_macs", quantity_conv_macs},
    {"total_macs", quantity_total_macs},
    {"fc_macs", quantity_fc_macs},
    {"layer_macs", quantity_layer_macs},
    {"conv_params", quantity_conv_params},
    {"conv_macs_ratio", quantity_ratio},
    {"saved", quantity_saved},
};

static double unit_scale(const char *unit) {
    return *unit == 'G' ? 1e-9 : *unit == 'M' ? 1e-6 : 1;
}

static nd_status set_ours(const nd_paper_value *value, const nd_costs *costs, nd_reproduced *result) {
    for (size_t i = 0; i < sizeof nd_quantities / sizeof *nd_quantities; i++) {
        if (strcmp(nd_quantities[i].name, value->quantity)) continue;
        result->ours = nd_quantities[i].value(costs) * unit_scale(value->unit);
        return nd_status_ok;
    }
    return nd_fail(nd_status_format, "quantity: '%s' is none nd computes", value->quantity);
}

/* --- values that need trained weights */

/* At the size of image that the table is about. */
static nd_cost scaled(const nd_reproducer *reproducer, nd_cost cost) {
    if (reproducer->scale == 1) return cost;
    const int64_t others = cost.total_macs - cost.conv_macs;
    cost.conv_macs = llround(reproducer->scale * (double)cost.conv_macs);
    cost.total_macs = cost.conv_macs + others;
    return cost;
}

/* A threshold decides the ranks from the weights; no images are needed. */
static nd_status costs_at_energy(const nd_reproducer *reproducer, const nd_paper_value *value,
                                 nd_costs *out) {
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = value->method;
    settings.rule = nd_rule_energy;
    settings.target = value->energy;
    settings.first_conv = value->first_conv;
    settings.skip = value->skip;
    settings.n_skip = value->n_skip;
    settings.progress = reproducer->settings->progress;
    nd_graph *graph;
    nd_decouple_report report = {0};
    ND_TRY(nd_graph_clone(reproducer->settings->graph, &graph));
    nd_status status = nd_decouple(graph, reproducer->settings->backend, &settings, &report);
    *out = (nd_costs){.dense = scaled(reproducer, report.before), .now = scaled(reproducer, report.after)};
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
    return status;
}

static nd_status reproducer_measure(nd_reproducer *reproducer, const nd_paper_value *value) {
    const nd_reproduce_settings *settings = reproducer->settings;
    const nd_accuracy_settings measure = {
        .backend = settings->backend,
        .precision = nd_precision_fp32,
        .batch = settings->batch,
        .progress = settings->progress,
    };
    if (!reproducer->measured)
        ND_TRY(nd_accuracy_measure(settings->graph, settings->data, &measure, &reproducer->original));
    reproducer->measured = true;
    if (reproducer->row && strcmp(reproducer->row, value->row) == 0) return nd_status_ok;
    ND_TRY(nd_reproduce_drop(value, settings, &reproducer->original, &reproducer->point));
    reproducer->row = value->row;
    return nd_status_ok;
}

static const char *what_is_missing(const nd_reproduce_settings *settings, const nd_paper_value *value) {
    if (!*value->needs) return NULL;
    if (!nd_method_find(value->method)) return "a method that nd does not have";
    if (strstr(value->needs, "map"))
        return "VOC2007's test images and weights: `nd eval` with --decode ssd at the ranks below";
    if (!settings->graph) return "trained weights";
    if (strstr(value->needs, "drop") && !settings->data) return "test images";
    if (strstr(value->needs, "calib") && !settings->calib) return "calibration images";
    return NULL;
}

static nd_status reproduce_value(nd_reproducer *reproducer, const nd_paper_value *value,
                                 nd_reproduced *result) {
    *result = (nd_reproduced){.missing = what_is_missing(reproducer->settings, value)};
    if (result->missing) return nd_status_ok;
    nd_costs costs = {0};
    ND_TRY(reproducer_model(reproducer, value->model));
    if (strstr(value->needs, "drop")) {
        ND_TRY(reproducer_measure(reproducer, value));
        result->drop = reproducer->point;
        costs.dense = scaled(reproducer, reproducer->point.before);
        costs.now = scaled(reproducer, reproducer->point.after);
    } else if (value->energy > 0) {
        ND_TRY(costs_at_energy(reproducer, value, &costs));
    } else {
        ND_TRY(costs_at(reproducer, value, &costs));
    }
    if (strcmp(value->quantity, "drop_top1") == 0)
        result->ours = reproducer->point.top1.points;
    else
        ND_TRY(set_ours(value, &costs, result));
    /* Half a unit of the last printed digit, and what binary fractions add to it. */
    result->same = fabs(result->ours - value->value) <= 0.5 * pow(10, -value->digits) * (1 + 1e-9);
    return nd_status_ok;
}

nd_status nd_reproduce(const nd_paper_table *table, const nd_reproduce_settings *settings,
                       nd_reproduced *results) {
    nd_reproducer reproducer = {.settings = settings};
    nd_status status = nd_status_ok;
    for (size_t i = 0; !status && i < table->n_values; i++) {
        status = reproduce_value(&reproducer, &table->values[i], &results[i]);
        if (status) nd_fail_in(status, "%s", table->values[i].row);
    }
    nd_accuracy_free(&reproducer.original);
    nd_survey_free(&reproducer.survey);
    nd_graph_free(reproducer.graph);
    return status;
}
