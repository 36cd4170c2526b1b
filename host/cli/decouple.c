#include "cli/cli.h"
#include "cli/decouple_settings.h"
#include "model/model.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <string.h>

typedef struct run {
    nd_args *args;
    const char *model, *path;
    nd_graph *graph;
    nd_backend *backend;
    nd_decouple_settings settings;
    nd_decouple_report report;
    nd_output *output;
    char sha256[65];
} run;

static double over(int64_t original, int64_t changed) {
    return changed > 0 ? (double)original / (double)changed : 0;
}

static const char *form_of(const nd_decouple_report *report) {
    const char *form = NULL;
    for (size_t l = 0; l < report->n_layers; l++) {
        const char *method = report->layers[l].method;
        if (!strcmp(method, "dense")) continue;
        if (form && strcmp(form, method)) return "mixed";
        form = method;
    }
    if (!form) return "none";
    return strcmp(form, "dwpw") && strcmp(form, "pwdw") ? "mixed" : form;
}

static nd_row row_of(const run *r, const char *method) {
    nd_row row = {0};
    nd_row_provenance(&row, r->args->argc, r->args->argv);
    nd_row_set_text(&row, nd_field_verb, "decouple");
    nd_row_set_text(&row, nd_field_model, r->model);
    nd_row_set_text(&row, nd_field_weights_sha256, r->sha256);
    nd_row_set_text(&row, nd_field_method, method);
    nd_row_set_text(&row, nd_field_ranks, r->settings.ranks == nd_ranks_uniform ? "uniform" : "adaptive");
    nd_row_set_text(&row, nd_field_settings_sha256, r->report.settings_sha256);
    nd_row_set_text(&row, nd_field_backend, r->backend->name);
    nd_row_set_text(&row, nd_field_device, r->backend->device);
    nd_row_set_text(&row, nd_field_libraries, r->backend->libraries);
    if (r->settings.calib) {
        nd_row_set_text(&row, nd_field_dataset, r->settings.calib->name);
        nd_row_set_text(&row, nd_field_dataset_sha256, r->settings.calib->sha256);
        nd_row_set_text(&row, nd_field_preprocess, r->settings.calib->preprocess);
    }
    return row;
}

static nd_status put(const run *r, nd_row *row) {
    nd_status status = nd_output_row(r->output, row);
    nd_row_free(row);
    return status;
}

static nd_status layer_rows(const run *r) {
    for (size_t l = 0; l < r->report.n_layers; l++) {
        const nd_layer_report *layer = &r->report.layers[l];
        bool dense = !strcmp(layer->method, "dense");
        nd_row row = row_of(r, layer->method);
        if (dense) nd_row_set_text(&row, nd_field_ranks, "dense");
        nd_row_set_text(&row, nd_field_layer, layer->name);
        if (!dense) nd_row_set_int(&row, nd_field_rank, layer->rank);
        nd_row_set_int(&row, nd_field_conv_macs, layer->new_macs);
        nd_row_set_int(&row, nd_field_params, layer->new_params);
        nd_row_set_real(&row, nd_field_conv_macs_ratio, over(layer->macs, layer->new_macs));
        nd_row_set_real(&row, nd_field_params_ratio, over(layer->params, layer->new_params));
        nd_row_set_reals(&row, nd_field_rel_error, &layer->error, 1);
        nd_row_set_reals(&row, nd_field_energy, &layer->energy, 1);
        ND_TRY(put(r, &row));
    }
    return nd_status_ok;
}

static nd_status total_row(const run *r) {
    const nd_decouple_report *report = &r->report;
    nd_row row = row_of(r, r->settings.method);
    nd_row_set_text(&row, nd_field_form, form_of(report));
    if (r->settings.rule == nd_rule_rank && !r->settings.n_layers)
        nd_row_set_int(&row, nd_field_rank, (int64_t)r->settings.target);
    nd_row_set_int(&row, nd_field_conv_macs, report->after.conv_macs);
    nd_row_set_int(&row, nd_field_total_macs, report->after.total_macs);
    nd_row_set_int(&row, nd_field_params, report->after.params);
    nd_row_set_real(&row, nd_field_conv_macs_ratio, over(report->before.conv_macs, report->after.conv_macs));
    nd_row_set_real(&row, nd_field_total_macs_ratio,
                    over(report->before.total_macs, report->after.total_macs));
    nd_row_set_real(&row, nd_field_params_ratio, over(report->before.params, report->after.params));
    nd_row_set_real(&row, nd_field_seconds, report->decompose_seconds);
    return put(r, &row);
}

static void print(const run *r) {
    static const char *const headings[] = {"layer", "method", "T",     "R",      "MMACs",
                                           "new",   "x",      "error", "energy", NULL};
    const nd_decouple_report *report = &r->report;
    nd_table *table = nd_table_new(headings);
    for (size_t l = 0; l < report->n_layers; l++) {
        const nd_layer_report *layer = &report->layers[l];
        nd_table_cell(table, "%s", layer->name);
        if (layer->why)
            nd_table_cell(table, "dense (%s)", layer->why);
        else
            nd_table_cell(table, "%s", layer->method);
        nd_table_cell(table, layer->why ? "-" : "%.2f", layer->terms);
        nd_table_cell(table, layer->why ? "-" : "%" PRId64, layer->rank);
        nd_table_cell(table, "%.2f", (double)layer->macs * 1e-6);
        nd_table_cell(table, "%.2f", (double)layer->new_macs * 1e-6);
        nd_table_cell(table, "%.2f", over(layer->macs, layer->new_macs));
        nd_table_cell(table, layer->why ? "-" : "%.4f", layer->error);
        nd_table_cell(table, layer->why ? "-" : "%.4f", layer->energy);
    }
    nd_table_print(table, stdout);
    const nd_cost *a = &report->before, *b = &report->after;
    printf("\nconv   %14" PRId64 " -> %14" PRId64 " MACs    %.3fx\n", a->conv_macs, b->conv_macs,
           over(a->conv_macs, b->conv_macs));
    printf("total  %14" PRId64 " -> %14" PRId64 " MACs    %.3fx\n", a->total_macs, b->total_macs,
           over(a->total_macs, b->total_macs));
    printf("params %14" PRId64 " -> %14" PRId64 "         %.3fx\n", a->params, b->params,
           over(a->params, b->params));
    printf("\nerror is %s; %.2f s\nwritten to %s\n",
           r->settings.calib ? "that of the layer's output, sqrt(E|y' - y|^2 / var y)" : "|W' - W| / |W|",
           report->decompose_seconds, r->path);
}

nd_status nd_verb_decouple(nd_args *args) {
    nd_progress progress = nd_cli_progress();
    run r = {.args = args, .model = args->positional[0], .path = nd_args_text(args, "output", NULL)};
    nd_status status = nd_status_ok;
    ND_REQUIRE(r.path, nd_status_usage, "where to? Give -o FILE");
    ND_TRY_DONE(nd_output_open(args, &r.output));
    ND_TRY_DONE(nd_cli_graph(args, r.model, 1, &r.graph));
    nd_graph_sha256(r.graph, r.sha256);
    ND_TRY_DONE(nd_cli_backend(args, &r.backend));
    ND_TRY_DONE(nd_cli_decouple_settings(args, r.graph, &progress, &r.settings));
    status = nd_decouple(r.graph, r.backend, &r.settings, &r.report);
    if (status) {
        status = nd_fail_in(status, "%s", r.model);
        goto done;
    }
    ND_TRY_DONE(nd_model_save(r.graph, r.path));
    if (!nd_output_quiet(r.output)) print(&r);
    ND_TRY_DONE(layer_rows(&r));
    ND_TRY_DONE(total_row(&r));
done:
    nd_decouple_report_free(&r.report);
    nd_cli_decouple_settings_close(&r.settings);
    nd_backend_close(r.backend);
    nd_graph_free(r.graph);
    nd_status closed = nd_output_close(r.output);
    return status ? status : closed;
}
