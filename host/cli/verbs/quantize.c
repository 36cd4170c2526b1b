#include "quantize/quantize.h"
#include "cli/cli.h"
#include "cli/verbs/quantize_settings.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "run/plugins.h"

#include <string.h>

typedef struct nd_quantize_run {
    nd_args *args;
    const char *model, *path;
    nd_graph *graph;
    nd_backend *backend;
    nd_precision precision; /* 8 bits of which kind */
    nd_quantize_settings settings;
    nd_quantize_report report;
    nd_cli_judge judge;
    nd_output *output;
    char sha256[65];
} nd_quantize_run;

static nd_status quantize_options(nd_quantize_run *run) {
    const nd_args *args = run->args;
    run->path = nd_args_text(args, "output", NULL);
    ND_REQUIRE(run->path, nd_status_usage, "where to? Give -o FILE");
    ND_REQUIRE(nd_args_has(args, "calib"), nd_status_usage, "ranges on which images? Give --calib DATASET");
    /* int8 where nothing is said */
    const char *kind = nd_args_text(args, "quantize", "int8");
    ND_TRY(nd_cli_quantizes(args, strcmp(kind, "auto") ? kind : "int8", &run->precision));
    const size_t length = strlen(run->path);
    ND_REQUIRE(length > 5 && !strcmp(run->path + length - 5, ".onnx"), nd_status_usage,
               "%s: the name must end in .onnx", run->path);
    return nd_model_can_save(run->path);
}

static nd_status quantize_skips(nd_quantize_run *run) {
    nd_args *args = run->args;
    size_t count = 0;
    while (nd_args_nth(args, "skip", count)) count++;
    const char **skip = nd_arena_alloc(&args->arena, (count + 1) * sizeof *skip);
    ND_REQUIRE(skip, nd_status_memory, "no memory for --skip");
    for (size_t i = 0; i < count; i++) skip[i] = nd_args_nth(args, "skip", i);
    run->settings.skip = skip;
    run->settings.n_skip = count;
    return nd_status_ok;
}

static nd_row common_row(const nd_quantize_run *run) {
    nd_row row = {0};
    nd_row_provenance(&row, run->args->argc, run->args->argv);
    nd_row_set_text(&row, nd_field_verb, "quantize");
    nd_row_set_name(&row, nd_field_model, run->model);
    nd_row_set_text(&row, nd_field_weights_sha256, run->sha256);
    nd_row_set_text(&row, nd_field_backend, run->backend->name);
    nd_row_set_text(&row, nd_field_dtype, nd_precision_name(run->precision));
    nd_row_set_name(&row, nd_field_dataset, run->settings.calib->name);
    nd_row_set_text(&row, nd_field_dataset_sha256, run->settings.calib->sha256);
    nd_row_set_text(&row, nd_field_preprocess, run->settings.calib->preprocess);
    return row;
}

static nd_status put_row(const nd_quantize_run *run, nd_row *row) {
    const nd_status status = nd_output_row(run->output, row);
    nd_row_free(row);
    return status;
}

/* One for the network, and with --quantize auto one for every layer before it. */
static nd_status quantize_rows(const nd_quantize_run *run) {
    for (int l = 0; l < run->report.n; l++) {
        const nd_quantize_layer *layer = &run->report.of[l];
        nd_row row = common_row(run);
        nd_row_set_text(&row, nd_field_layer, layer->name);
        nd_row_set_text(&row, nd_field_dtype, layer->in_integers ? "int8" : "fp32");
        nd_row_set_int(&row, nd_field_total_macs, layer->macs);
        ND_TRY(put_row(run, &row));
    }
    nd_row row = common_row(run);
    if (run->settings.automatic) {
        nd_row_set_text(&row, nd_field_rule, "max-drop");
        nd_row_set_real(&row, nd_field_target, run->settings.points);
        nd_row_set_real(&row, nd_field_logit_rel_mse, run->report.error);
        if (run->report.ns > 0) nd_row_set_real(&row, nd_field_ns_min, run->report.ns);
        nd_cli_judge_row(&run->judge, &row);
    }
    return put_row(run, &row);
}

/* Folded here already: what is judged is judged beside the network in fp32. */
static nd_status quantize(nd_quantize_run *run) {
    ND_TRY(nd_graph_fold(run->graph));
    ND_TRY(nd_cli_judge_open(run->args, run->graph, run->backend, &run->settings, &run->judge));
    ND_TRY(nd_quantize_graph(run->graph, run->backend, &run->settings, &run->report));
    return nd_cli_judge_finish(&run->judge, run->graph);
}

nd_status nd_verb_quantize(nd_args *args) {
    nd_quantize_run run = {.args = args, .model = args->positional[0]};
    const nd_progress progress = nd_cli_progress();
    nd_status status = nd_status_ok;
    ND_TRY(quantize_options(&run));
    ND_TRY_DONE(nd_output_open(args, &run.output));
    ND_TRY_DONE(nd_cli_graph(args, run.model, 1, &run.graph));
    nd_graph_sha256(run.graph, run.sha256);
    ND_TRY_DONE(nd_cli_backend(args, &run.backend));
    ND_TRY_DONE(nd_cli_quantize_settings(args, run.graph, NULL, run.precision, &run.settings));
    ND_TRY_DONE(quantize_skips(&run));
    run.settings.progress = &progress;
    status = quantize(&run);
    if (status) {
        status = nd_fail_in(status, "%s", run.model);
        goto done;
    }
    ND_TRY_DONE(nd_model_save(run.graph, run.path));
    args->automatic->finished = true;
    if (!nd_output_quiet(run.output)) {
        nd_cli_quantize_print(&run.report, &run.settings, &run.judge);
        nd_cli_print("written to %s\n", run.path);
    }
    ND_TRY_DONE(quantize_rows(&run));
done:
    nd_quantize_report_free(&run.report);
    nd_cli_judge_close(&run.judge);
    nd_batches_close(run.settings.calib);
    nd_backend_close(run.backend);
    nd_graph_free(run.graph);
    return nd_output_close(run.output, status);
}
