#include "bench/bench.h"
#include "cli/cli.h"
#include "cli/verbs/decouple_settings.h"
#include "cli/verbs/quantize_settings.h"
#include "eval/max_drop.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "quantize/quantize.h"
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
    nd_precision precision; /* of --latency-ratio and of the file with --quantize */
    nd_cli_judge judge;     /* with --quantize auto */
    nd_batches *data;       /* with --max-drop: what it is measured on */
    nd_max_drop_settings search;
    nd_drop_probe probe;
    nd_graph_clock clock; /* with --latency-ratio */
    nd_graph *original;
    nd_row time; /* of the new network against it, measured */
    nd_output *output;
    char sha256[65];
} run;

static double over(int64_t original, int64_t changed) {
    return changed > 0 ? (double)original / (double)changed : 0;
}

static const char *form_of(const nd_decouple_report *report) {
    const char *form = "none";
    for (size_t l = 0; l < report->n_layers; l++) form = nd_cli_form(form, report->layers[l].method);
    return form;
}

static nd_row row_of(const run *r, const char *method) {
    nd_row row = {0};
    nd_row_provenance(&row, r->args->argc, r->args->argv);
    nd_row_set_text(&row, nd_field_verb, "decouple");
    nd_row_set_name(&row, nd_field_model, r->model);
    nd_row_set_text(&row, nd_field_weights_sha256, r->sha256);
    nd_row_set_text(&row, nd_field_method, method);
    nd_row_set_text(&row, nd_field_ranks, r->settings.ranks == nd_ranks_uniform ? "uniform" : "adaptive");
    nd_row_set_text(&row, nd_field_settings_sha256, r->report.settings_sha256);
    nd_row_set_text(&row, nd_field_backend, r->backend->name);
    nd_row_set_text(&row, nd_field_device, r->backend->device);
    nd_row_set_text(&row, nd_field_libraries, r->backend->libraries);
    if (r->settings.calib) {
        nd_row_set_name(&row, nd_field_dataset, r->settings.calib->name);
        nd_row_set_text(&row, nd_field_dataset_sha256, r->settings.calib->sha256);
        nd_row_set_text(&row, nd_field_preprocess, r->settings.calib->preprocess);
    }
    return row;
}

static void set_drop(nd_row *row, const run *r) {
    nd_row_set_text(row, nd_field_rule, "max-drop");
    nd_row_set_real(row, nd_field_target, r->search.points);
    nd_drop_probe_row(&r->probe, r->data, row);
}

static void set_time(nd_row *row, const run *r) {
    nd_row_copy(row, &r->time);
    nd_row_set_text(row, nd_field_rule, "latency-ratio");
    nd_row_set_real(row, nd_field_target, r->settings.target);
    nd_row_set_real(row, nd_field_expected_ratio, r->report.expected_ratio);
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
        if (layer->held_error >= 0) nd_row_set_reals(&row, nd_field_held_error, &layer->held_error, 1);
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
    nd_row_set_real(&row, nd_field_seconds, report->seconds);
    if (r->data) set_drop(&row, r);
    nd_cli_judge_row(&r->judge, &row);
    if (r->original) set_time(&row, r);
    return put(r, &row);
}

static void print_time(const run *r) {
    const nd_row_value *values = r->time.values;
    nd_cli_print(
        "time    asked for %gx, %.2fx expected from the layers alone (each method timed at up to 6 ranks,\n"
        "        linear between them); measured end to end %.2fx [%.2f, %.2f], %.1f us a run of %" PRId64
        " in %s on %s%s\n",
        r->settings.target, r->report.expected_ratio, values[nd_field_ratio].r, values[nd_field_ratio_lo].r,
        values[nd_field_ratio_hi].r, values[nd_field_ns_median].r * 1e-3, r->clock.clock.batch,
        nd_precision_name(r->clock.precision), r->backend->name, values[nd_field_noisy].i ? "; noisy" : "");
}

static void print_search(const run *r) {
    const nd_drop *drop = r->search.top5 ? &r->probe.top5 : &r->probe.top1;
    nd_cli_print("top-%d   drop %.2f [%.2f, %.2f] points, at most %g allowed%s, on %" PRId64 " images of %s\n"
                 "        These images chose the ranks: measure the result on others.\n",
                 r->search.top5 ? 5 : 1, drop->points, drop->lo, drop->hi, r->search.points,
                 r->search.confident ? " for the upper end" : "", r->probe.n, r->data->name);
}

/* What the column of errors says, of which layers. */
static const char *error_text(const run *r) {
    bool after_activation = false;
    for (size_t l = 0; l < r->report.n_layers; l++)
        after_activation = after_activation || r->report.layers[l].after_activation;
    if (!r->settings.calib) return "|W' - W| / |W|";
    return after_activation
               ? "that after the activation a that follows, sqrt(E|a(y') - a(y)|^2 / var a(y)), else of "
                 "the output"
               : "that of the layer's output, sqrt(E|y' - y|^2 / var y)";
}

static bool reports_held_error(const nd_decouple_report *report) {
    for (size_t l = 0; l < report->n_layers; l++)
        if (report->layers[l].held_error >= 0) return true;
    return false;
}

static void print(const run *r) {
    const nd_decouple_report *report = &r->report;
    const bool held = reports_held_error(report);
    const char *const headings[] = {"layer",
                                    "method",
                                    "T",
                                    "R",
                                    "MMACs",
                                    "new",
                                    "x",
                                    "error",
                                    held ? "held out" : "energy",
                                    held ? "energy" : NULL,
                                    NULL};
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
        if (held) nd_table_cell(table, layer->held_error < 0 ? "-" : "%.4f", layer->held_error);
        nd_table_cell(table, layer->why ? "-" : "%.4f", layer->energy);
    }
    nd_table_print(table, stdout);
    const nd_cost *a = &report->before, *b = &report->after;
    nd_cli_print("\nconv   %14" PRId64 " -> %14" PRId64 " MACs    %.3fx\n", a->conv_macs, b->conv_macs,
                 over(a->conv_macs, b->conv_macs));
    nd_cli_print("total  %14" PRId64 " -> %14" PRId64 " MACs    %.3fx\n", a->total_macs, b->total_macs,
                 over(a->total_macs, b->total_macs));
    if (r->settings.rule == nd_rule_macs_ratio && !r->data)
        nd_cli_print("asked for %gx of the %s MACs\n", r->settings.target,
                     r->settings.conv_only ? "convolutions'" : "total");
    nd_cli_print("params %14" PRId64 " -> %14" PRId64 "         %.3fx\n", a->params, b->params,
                 over(a->params, b->params));
    if (r->data) print_search(r);
    if (r->original) print_time(r);
    nd_cli_print("\nerror is %s%s; %.2f s\nwritten to %s\n", error_text(r),
                 held ? "; held out is that of the output on one image in four, by a fit to the others" : "",
                 report->seconds, r->path);
}

static void print_probe(void *user, const nd_drop_probe *probe) {
    const run *r = user;
    const nd_drop *drop = r->search.top5 ? &probe->top5 : &probe->top1;
    if (nd_output_quiet(r->output)) return;
    nd_cli_print("%.3fx MACs: top-%d drop %5.2f [%5.2f, %5.2f] on %" PRId64 " images: %s%s\n",
                 over(probe->before.total_macs, probe->after.total_macs), r->search.top5 ? 5 : 1,
                 drop->points, drop->lo, drop->hi, probe->n, probe->within ? "within" : "too much",
                 probe->reused ? ", measured before" : "");
    fflush(stdout);
}

static nd_status open_search(run *r) {
    enum { search_batch = 32 };
    nd_dataset_settings data = {.spec = nd_args_text(r->args, "data", NULL), .batch = search_batch};
    int64_t top;
    ND_REQUIRE(data.spec, nd_status_usage, "--max-drop: on which labelled images? Give --data DATASET");
    ND_TRY(nd_args_int(r->args, "top", 1, 1, 5, &top));
    ND_REQUIRE(top == 1 || top == 5, nd_status_usage, "--top %" PRId64 ": 1 or 5", top);
    ND_TRY(nd_args_int(r->args, "first", 0, 0, INT64_MAX, &data.first));
    ND_TRY(nd_args_int(r->args, "limit", 0, 1, INT64_MAX, &data.limit));
    r->search = nd_max_drop_defaults();
    r->search.decouple = &r->settings;
    r->search.backend = r->backend;
    r->search.top5 = top == 5;
    r->search.confident = nd_args_has(r->args, "confident");
    r->search.progress = r->settings.progress;
    r->search.probe = print_probe;
    r->search.user = r;
    ND_TRY(nd_args_real(r->args, "max-drop", 1, 0, 100, &r->search.points));
    ND_TRY(nd_cli_dataset(r->args, (const nd_graph *const *)&r->graph, 1, data, &r->data));
    r->search.data = r->data;
    return nd_status_ok;
}

static nd_status find_precision(const nd_args *args, nd_precision *precision) {
    const char *dtype = nd_args_text(args, "dtype", "fp32");
    nd_precision quantised;
    ND_TRY(nd_cli_precision(dtype, precision));
    ND_TRY(nd_cli_quantizes(args, dtype, &quantised));
    if (quantised != nd_precision_fp32) *precision = quantised;
    return nd_status_ok;
}

static nd_status open_clock(run *r) {
    int64_t batch;
    ND_TRY(nd_args_int(r->args, "batch", 1, 1, 65536, &batch));
    ND_TRY(nd_cli_clock(r->args, r->backend, r->precision, batch, &r->clock, &r->settings));
    return r->settings.clock ? nd_graph_clone(r->graph, &r->original) : nd_status_ok;
}

static nd_status take_time(void *user, const nd_row *timed) {
    if (strcmp(timed->values[nd_field_implementation].text, "dense")) nd_row_copy(user, timed);
    return nd_status_ok;
}

static nd_status infer_timed(const run *r, nd_graph *graph) {
    const int64_t batch = r->clock.clock.batch;
    if (nd_precision_is_quantised(r->clock.precision) && !nd_graph_is_quantised(graph))
        return nd_clock_quantize(graph, r->backend, r->clock.precision, batch);
    ND_TRY(nd_graph_fold(graph));
    return nd_graph_infer(graph, &(nd_infer_settings){.batch = batch});
}

/* The networks as they are, one against the other: what the sum of the layers promised. */
static nd_status measure_time(run *r) {
    nd_graph *changed = NULL;
    const nd_row none = {0};
    nd_status status = nd_status_ok;
    nd_bench_network networks[2] = {0};
    nd_bench_settings settings = {.backend = r->backend,
                                  .precision = r->clock.precision,
                                  .batch = r->clock.clock.batch,
                                  .implementations = {[nd_implementation_best] = true},
                                  .timing = r->clock.timing,
                                  .common = &none,
                                  .row = take_time,
                                  .user = &r->time};
    ND_TRY_DONE(nd_graph_clone(r->graph, &changed));
    ND_TRY_DONE(nd_decouple_prepare(r->original));
    ND_TRY_DONE(infer_timed(r, r->original));
    ND_TRY_DONE(infer_timed(r, changed));
    networks[0].graph = r->original;
    networks[1].graph = changed;
    status = nd_bench_networks(networks, 2, &settings);
done:
    for (int i = 0; i < 2; i++) nd_bench_network_free(&networks[i]);
    nd_graph_free(changed);
    return status;
}

static nd_status check_quantize(const run *r) {
    if (!nd_args_has(r->args, "quantize")) return nd_status_ok;
    ND_REQUIRE(nd_cli_quantizes_auto(r->args) ? !nd_args_has(r->args, "latency-ratio")
                                              : !nd_args_has(r->args, "max-drop"),
               nd_status_usage,
               "--quantize: auto with --latency-ratio, and %s with --max-drop, would have to measure every "
               "choice of ranks again in 8 bits; use nd quantize on what they write",
               nd_precision_name(r->precision));
    ND_REQUIRE(nd_args_has(r->args, "calib"), nd_status_usage,
               "--quantize: ranges on which images? Give --calib DATASET");
    return nd_status_ok;
}

/* On the images that the network was calibrated on; with `auto`, beside what it was in fp32. */
static nd_status quantize(run *r) {
    nd_quantize_settings settings = {
        .calib = r->settings.calib, .images = r->settings.calib_images, .progress = r->settings.progress};
    nd_quantize_report report = {0};
    nd_status status = nd_status_ok;
    settings.e4m3 = r->precision == nd_precision_e4m3;
    ND_TRY_DONE(nd_cli_quantize_bound(r->args, &settings));
    ND_TRY_DONE(nd_cli_judge_open(r->args, r->graph, r->backend, &settings, &r->judge));
    ND_TRY_DONE(nd_quantize_graph(r->graph, r->backend, &settings, &report));
    ND_TRY_DONE(nd_cli_judge_finish(&r->judge, r->graph));
    if (!nd_output_quiet(r->output)) {
        nd_cli_quantize_print(&report, &settings, &r->judge);
        nd_cli_print("\n");
    }
done:
    nd_quantize_report_free(&report);
    return status;
}

/* Puts the network that was found in the place of the original. */
static nd_status search(run *r) {
    nd_graph *found = NULL;
    ND_TRY(nd_decouple_prepare(r->graph));
    ND_TRY(nd_max_drop(r->graph, &r->search, &found, &r->report, &r->probe));
    nd_graph_free(r->graph);
    r->graph = found;
    return nd_status_ok;
}

nd_status nd_verb_decouple(nd_args *args) {
    nd_progress progress = nd_cli_progress();
    run r = {.args = args, .model = args->positional[0], .path = nd_args_text(args, "output", NULL)};
    nd_status status = nd_status_ok;
    ND_REQUIRE(r.path, nd_status_usage, "where to? Give -o FILE");
    ND_TRY_DONE(find_precision(args, &r.precision));
    ND_TRY_DONE(check_quantize(&r));
    ND_TRY_DONE(nd_model_can_save(r.path));
    ND_TRY_DONE(nd_output_open(args, &r.output));
    ND_TRY_DONE(nd_cli_graph(args, r.model, 1, &r.graph));
    nd_graph_sha256(r.graph, r.sha256);
    ND_TRY_DONE(nd_cli_backend(args, &r.backend));
    ND_TRY_DONE(nd_cli_decouple_settings(args, r.graph, &progress, &r.settings));
    if (nd_args_has(args, "max-drop") && !nd_cli_quantizes_auto(args)) ND_TRY_DONE(open_search(&r));
    ND_TRY_DONE(open_clock(&r));
    status = r.data ? search(&r) : nd_decouple(r.graph, r.backend, &r.settings, &r.report);
    if (!status && nd_args_has(args, "quantize")) status = quantize(&r);
    if (status) {
        status = nd_fail_in(status, "%s", r.model);
        goto done;
    }
    ND_TRY_DONE(nd_model_save(r.graph, r.path));
    args->automatic->finished = true;
    if (r.original) ND_TRY_DONE(measure_time(&r));
    if (!nd_output_quiet(r.output)) print(&r);
    ND_TRY_DONE(layer_rows(&r));
    ND_TRY_DONE(total_row(&r));
    if (!r.report.changed && nd_args_has(args, "strict"))
        status = nd_fail(nd_status_inconclusive, "%s: no convolution was decoupled", r.model);
    else if (!r.report.changed)
        nd_log(nd_log_warn, "%s: no convolution was decoupled; the table says why", r.model);
done:
    nd_decouple_report_free(&r.report);
    nd_cli_decouple_settings_close(&r.settings);
    nd_cli_judge_close(&r.judge);
    nd_batches_close(r.data);
    nd_row_free(&r.time);
    nd_graph_free(r.original);
    nd_backend_close(r.backend);
    nd_graph_free(r.graph);
    return nd_output_close(r.output, status);
}
