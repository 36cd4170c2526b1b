#include "cli/verbs/decouple_settings.h"

#include "decouple/plan/survey.h"
#include "model/infer/infer.h"
#include "model/zoo/zoo.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct nd_inspection {
    nd_args *args;
    const char *model;
    nd_graph *graph;
    bool weights; /* else only shapes: an architecture without a file */
    char sha256[65];
    nd_row plain; /* model, weights, and how it was decoupled */
    nd_survey survey;
    char **methods; /* of --method; "auto" among them */
    size_t n_methods;
    int64_t *ranks; /* of --rank, or NULL (owned) */
    size_t n_ranks;
    nd_decouple_settings settings; /* of the ranks; method and target are set for each */
    nd_output *output;
    nd_arena arena;
} nd_inspection;

/* Everything is read and judged before the first line is printed. */
static nd_status inspect_options(nd_inspection *inspection) {
    nd_args *args = inspection->args;
    const char *kind = nd_args_text(args, "ranks", "uniform");
    inspection->settings = nd_decouple_defaults();
    inspection->settings.ranks = strcmp(kind, "adaptive") ? nd_ranks_uniform : nd_ranks_adaptive;
    ND_REQUIRE(inspection->settings.ranks == nd_ranks_adaptive || !strcmp(kind, "uniform"), nd_status_usage,
               "--ranks %s: uniform or adaptive", kind);
    ND_TRY(nd_cli_skips(args, &inspection->settings));
    ND_TRY(nd_args_words(args, "method", "auto", &inspection->methods, &inspection->n_methods));
    for (size_t i = 0; i < inspection->n_methods; i++)
        ND_REQUIRE(!strcmp(inspection->methods[i], "auto") || nd_method_find(inspection->methods[i]),
                   nd_status_usage, "--method %s: no such method", inspection->methods[i]);
    if (!nd_args_has(args, "rank")) return nd_status_ok;
    ND_TRY(nd_args_ints(args, "rank", 0, &inspection->ranks, &inspection->n_ranks));
    for (size_t i = 0; i < inspection->n_ranks; i++)
        ND_REQUIRE(inspection->ranks[i] >= 1 && inspection->ranks[i] <= 65536, nd_status_usage,
                   "--rank %" PRId64 ": from 1 to 65536", inspection->ranks[i]);
    return nd_status_ok;
}

/* Of a computation that there is not without weights, or of a file. */
static nd_status refuse_idle_options(const nd_args *args, const char *architecture) {
    static const char *const options[] = {"backend", "device", "threads", "isa", "input"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        ND_REQUIRE(!nd_args_has(args, options[i]), nd_status_usage,
                   "--%s does nothing without weights: %s is an architecture alone", options[i],
                   architecture);
    return nd_status_ok;
}

/* An architecture alone is built without weights: its random ones would say nothing. */
static nd_status inspect_open(nd_inspection *inspection) {
    const nd_zoo_entry *entry = nd_zoo_find(inspection->model);
    const nd_infer_settings infer = {.batch = 1, .allow_opaque = true};
    inspection->weights = !entry;
    if (entry) ND_TRY(refuse_idle_options(inspection->args, inspection->model));
    if (entry)
        ND_TRY(nd_zoo_build(entry, nd_zoo_blank, NULL, &inspection->graph));
    else
        ND_TRY(nd_cli_graph(inspection->args, inspection->model, 1, &inspection->graph));
    if (inspection->weights) nd_graph_sha256(inspection->graph, inspection->sha256);
    const char *sha256 = inspection->weights ? inspection->sha256 : NULL;
    ND_TRY(nd_cli_model_row(inspection->graph, inspection->model, sha256, &inspection->plain));
    ND_TRY(nd_graph_fold(inspection->graph));
    ND_TRY(nd_graph_infer(inspection->graph, &infer));
    return nd_survey_make(inspection->graph, &inspection->survey);
}

static nd_row inspect_row(const nd_inspection *inspection) {
    nd_row row = {0};
    nd_row_provenance(&row, inspection->args->argc, inspection->args->argv);
    nd_row_set_text(&row, nd_field_verb, "inspect");
    return row;
}

/* Of the network as it is. */
static nd_row inspect_plain_row(const nd_inspection *inspection) {
    nd_row row = inspect_row(inspection);
    nd_row_copy(&row, &inspection->plain);
    return row;
}

/* Of a method that the network does not have, but is asked about. */
static nd_row inspect_method_row(const nd_inspection *inspection, const char *method, nd_ranks ranks) {
    nd_row row = inspect_row(inspection);
    nd_row_set_name(&row, nd_field_model, inspection->model);
    if (inspection->weights) nd_row_set_text(&row, nd_field_weights_sha256, inspection->sha256);
    nd_row_set_text(&row, nd_field_method, method);
    nd_row_set_text(&row, nd_field_form, nd_cli_form("none", method));
    nd_row_set_text(&row, nd_field_ranks, ranks == nd_ranks_adaptive ? "adaptive" : "uniform");
    return row;
}

static void inspect_set_layer(nd_row *row, const nd_survey_layer *layer) {
    nd_row_set_text(row, nd_field_layer, layer->name);
    nd_row_set_int(row, nd_field_ni, layer->ni);
    nd_row_set_int(row, nd_field_no, layer->no);
    nd_row_set_int(row, nd_field_kh, layer->kh);
    nd_row_set_int(row, nd_field_kw, layer->kw);
    nd_row_set_int(row, nd_field_stride, layer->stride);
    nd_row_set_int(row, nd_field_h, layer->h);
    nd_row_set_int(row, nd_field_w, layer->w);
}

static double over(int64_t original, int64_t changed) {
    return changed > 0 ? (double)original / (double)changed : 0;
}

static void inspect_set_cost(nd_row *row, const nd_cost *cost, const nd_cost *original) {
    nd_row_set_int(row, nd_field_conv_macs, cost->conv_macs);
    nd_row_set_int(row, nd_field_total_macs, cost->total_macs);
    nd_row_set_int(row, nd_field_params, cost->params);
    if (!original) return;
    if (original->conv_macs)
        nd_row_set_real(row, nd_field_conv_macs_ratio, over(original->conv_macs, cost->conv_macs));
    nd_row_set_real(row, nd_field_total_macs_ratio, over(original->total_macs, cost->total_macs));
    nd_row_set_real(row, nd_field_params_ratio, over(original->params, cost->params));
}

/* Writes and frees. */
static nd_status inspect_put(const nd_inspection *inspection, nd_row *row) {
    nd_status status = nd_output_row(inspection->output, row);
    nd_row_free(row);
    return status;
}

/* --- the network as it is */

static nd_status inspect_layers(const nd_inspection *inspection) {
    static const char *const headings[] = {"layer",  "ni",    "no",     "kernel", "stride",
                                           "output", "MMACs", "params", NULL};
    const nd_survey *survey = &inspection->survey;
    nd_status status = nd_status_ok;
    nd_table *table = nd_table_new(headings);
    for (size_t i = 0; !status && i < survey->n_layers; i++) {
        const nd_survey_layer *layer = &survey->layers[i];
        nd_table_cell(table, "%s", layer->name);
        nd_table_cell(table, "%" PRId64, layer->ni);
        nd_table_cell(table, "%" PRId64, layer->no);
        nd_table_cell(table, layer->conv ? "%" PRId64 "x%" PRId64 : "-", layer->kh, layer->kw);
        nd_table_cell(table, layer->conv ? "%" PRId64 : "-", layer->stride);
        nd_table_cell(table, layer->conv ? "%" PRId64 "x%" PRId64 : "-", layer->h, layer->w);
        nd_table_cell(table, "%.1f", (double)layer->cost.total_macs * 1e-6);
        nd_table_cell(table, "%" PRId64, layer->cost.params);
        nd_row row = inspect_plain_row(inspection);
        inspect_set_layer(&row, layer);
        inspect_set_cost(&row, &layer->cost, NULL);
        status = inspect_put(inspection, &row);
    }
    const bool show = !status && !nd_output_quiet(inspection->output);
    nd_table_print(table, show ? stdout : NULL);
    ND_TRY(status);
    if (show)
        nd_cli_print("\n%s: conv %" PRId64 " MACs, total %" PRId64 " MACs, %" PRId64
                     " parameters, BatchNorm folded\n",
                     inspection->model, survey->cost.conv_macs, survey->cost.total_macs, survey->cost.params);
    nd_row row = inspect_plain_row(inspection);
    inspect_set_cost(&row, &survey->cost, NULL);
    return inspect_put(inspection, &row);
}

/* --- the cost at given ranks */

static nd_status inspect_rank(const nd_inspection *inspection, const nd_decouple_settings *settings,
                              nd_cost *layers, nd_table *table) {
    const nd_survey *survey = &inspection->survey;
    nd_cost total;
    ND_TRY(nd_survey_cost(inspection->graph, survey, settings, layers, &total));
    for (size_t i = 0; i <= survey->n_layers; i++) {
        const bool whole = i == survey->n_layers;
        if (!whole && !survey->layers[i].spatial) continue;
        nd_row row = inspect_method_row(inspection, settings->method, settings->ranks);
        nd_row_set_int(&row, nd_field_rank, (int64_t)settings->target);
        if (!whole) inspect_set_layer(&row, &survey->layers[i]);
        inspect_set_cost(&row, whole ? &total : &layers[i], whole ? &survey->cost : &survey->layers[i].cost);
        ND_TRY(inspect_put(inspection, &row));
    }
    nd_table_cell(table, "%s", settings->method);
    nd_table_cell(table, "%" PRId64, (int64_t)settings->target);
    nd_table_cell(table, "%.3f", (double)total.conv_macs * 1e-9);
    nd_table_cell(table, "%.2f", over(survey->cost.conv_macs, total.conv_macs));
    nd_table_cell(table, "%.3f", (double)total.total_macs * 1e-9);
    nd_table_cell(table, "%.2f", over(survey->cost.total_macs, total.total_macs));
    nd_table_cell(table, "%.2f", (double)total.params * 1e-6);
    nd_table_cell(table, "%.2f", over(survey->cost.params, total.params));
    return nd_status_ok;
}

static nd_status inspect_ranks(nd_inspection *inspection) {
    static const char *const headings[] = {"method", "T",        "conv GMACs", "x", "total GMACs",
                                           "x",      "M params", "x",          NULL};
    nd_decouple_settings settings = inspection->settings;
    nd_status status = nd_status_ok;
    nd_table *table = nd_table_new(headings);
    nd_cost *layers = nd_alloc_array(inspection->survey.n_layers, sizeof *layers);
    ND_REQUIRE_DONE(layers, nd_status_memory, "no memory for the costs of the layers");
    for (size_t i = 0; i < inspection->n_methods; i++)
        for (size_t j = 0; j < inspection->n_ranks; j++) {
            settings.method = inspection->methods[i];
            settings.target = (double)inspection->ranks[j];
            ND_TRY_DONE(inspect_rank(inspection, &settings, layers, table));
        }
done:;
    const bool show = !status && !nd_output_quiet(inspection->output);
    if (show) puts("\nWith T terms per channel; x is original / new:\n");
    nd_table_print(table, show ? stdout : NULL);
    free(layers);
    return status;
}

/* --- energy and error by rank */

enum { nd_inspect_columns = 9 };

/* Columns are T where a layer has at most nine terms per channel (3x3 kernels and smaller), else ninths of
 * the layer's full rank. */
static void inspect_print_curves(const nd_inspection *inspection, const nd_method *method,
                                 const nd_survey_curve *curves, bool by_term, bool energy) {
    static const char *const terms[] = {"layer", "1", "2", "3", "4", "5", "6", "7", "8", "9", NULL};
    static const char *const shares[] = {"layer", "1/9", "2/9", "3/9", "4/9", "5/9",
                                         "6/9",   "7/9", "8/9", "9/9", NULL};
    nd_cli_print("\n%s: %s by %s\n\n", method->name, energy ? "energy kept" : "error |W' - W| / |W|",
                 by_term ? "T" : "share of the full rank");
    nd_table *table = nd_table_new(by_term ? terms : shares);
    for (size_t i = 0; i < inspection->survey.n_layers; i++) {
        if (!curves[i].n) continue;
        nd_table_cell(table, "%s", inspection->survey.layers[i].name);
        for (size_t j = 1; j <= nd_inspect_columns; j++) {
            const size_t rank = by_term ? j : (j * curves[i].n + nd_inspect_columns - 1) / nd_inspect_columns;
            if (rank > curves[i].n)
                nd_table_cell(table, "%s", "");
            else
                nd_table_cell(table, "%.4f", energy ? curves[i].energy[rank - 1] : curves[i].error[rank - 1]);
        }
    }
    nd_table_print(table, stdout);
}

static nd_status inspect_method(nd_inspection *inspection, nd_backend *backend, const char *name) {
    const nd_survey *survey = &inspection->survey;
    const nd_method *method = nd_method_find(name);
    nd_survey_curve *curves = nd_arena_alloc(&inspection->arena, survey->n_layers * sizeof *curves);
    ND_REQUIRE(curves, nd_status_memory, "no memory for spectra");
    bool by_term = true;
    for (size_t i = 0; i < survey->n_layers; i++)
        ND_TRY(nd_survey_spectrum(backend, inspection->graph, &survey->layers[i], method, &inspection->arena,
                                  &curves[i]));
    for (size_t i = 0; i < survey->n_layers; i++) {
        if (!curves[i].n) continue;
        by_term &= curves[i].n <= nd_inspect_columns;
        nd_row row = inspect_method_row(inspection, name, nd_ranks_uniform);
        nd_row_set_text(&row, nd_field_backend, backend->name);
        nd_row_set_text(&row, nd_field_device, backend->device);
        inspect_set_layer(&row, &survey->layers[i]);
        nd_row_set_reals(&row, nd_field_energy, curves[i].energy, curves[i].n);
        nd_row_set_reals(&row, nd_field_rel_error, curves[i].error, curves[i].n);
        ND_TRY(inspect_put(inspection, &row));
    }
    if (nd_output_quiet(inspection->output)) return nd_status_ok;
    inspect_print_curves(inspection, method, curves, by_term, true);
    inspect_print_curves(inspection, method, curves, by_term, false);
    return nd_status_ok;
}

/* `auto` chooses between the two forms, so it shows both. */
static nd_status inspect_spectra(nd_inspection *inspection) {
    nd_status status = nd_status_ok;
    nd_backend *backend;
    ND_TRY(nd_cli_backend(inspection->args, &backend));
    for (size_t i = 0; i < inspection->n_methods; i++) {
        const bool both = strcmp(inspection->methods[i], "auto") == 0;
        ND_TRY_DONE(inspect_method(inspection, backend, both ? "dwpw" : inspection->methods[i]));
        if (both) ND_TRY_DONE(inspect_method(inspection, backend, "pwdw"));
    }
done:
    nd_backend_close(backend);
    return status;
}

nd_status nd_verb_inspect(nd_args *args) {
    nd_inspection inspection = {.args = args, .model = args->positional[0]};
    nd_status status;
    ND_TRY(nd_output_open(args, &inspection.output));
    ND_TRY_DONE(inspect_options(&inspection));
    ND_TRY_DONE(inspect_open(&inspection));
    ND_TRY_DONE(inspect_layers(&inspection));
    if (inspection.n_ranks) ND_TRY_DONE(inspect_ranks(&inspection));
    if (inspection.weights) do
            status = inspect_spectra(&inspection);
        while (nd_cli_elsewhere(args, status));
    else if (!nd_output_quiet(inspection.output))
        nd_cli_print("\nWithout weights there is no energy to show: try %s:weights.safetensors.\n",
                     inspection.model);
done:
    nd_graph_free(inspection.graph);
    nd_survey_free(&inspection.survey);
    nd_row_free(&inspection.plain);
    nd_arena_free(&inspection.arena);
    free(inspection.ranks);
    return nd_output_close(inspection.output, status);
}
