#include "cli/verbs/quantize_settings.h"

#include "model/infer/infer.h"

#include <inttypes.h>

enum { judge_batch = 32 };

static nd_status judge_loss(void *user, const nd_graph *graph, double *points) {
    nd_cli_judge *judge = user;
    nd_drop_counts top1, top5;
    ND_TRY(nd_drop_measure(graph, judge->data, &judge->measure, &judge->original, &top1, &top5));
    judge->probe = (nd_drop_probe){
        .setting = 1, .top1 = nd_drop_of(&top1), .top5 = nd_drop_of(&top5), .n = judge->original.n};
    *points = nd_drop_judged(&judge->bound, &judge->probe);
    return nd_status_ok;
}

nd_status nd_cli_judge_open(const nd_args *args, nd_graph *graph, nd_backend *backend,
                            nd_quantize_settings *settings, nd_cli_judge *judge) {
    nd_dataset_settings data = {.spec = nd_args_text(args, "data", NULL), .batch = judge_batch};
    const nd_graph *model = graph;
    int64_t top;
    *judge = (nd_cli_judge){0};
    if (!settings->automatic || !data.spec) return nd_status_ok;
    ND_TRY(nd_args_int(args, "top", 1, 1, 5, &top));
    ND_REQUIRE(top == 1 || top == 5, nd_status_usage, "--top %" PRId64 ": 1 or 5", top);
    ND_TRY(nd_args_int(args, "first", 0, 0, INT64_MAX, &data.first));
    ND_TRY(nd_args_int(args, "limit", 0, 1, INT64_MAX, &data.limit));
    judge->bound = (nd_drop_bound){settings->points, top == 5, nd_args_has(args, "confident")};
    judge->measure = (nd_accuracy_settings){.backend = backend};
    judge->judge = (nd_quantize_judge){judge_loss, judge};
    ND_TRY(nd_cli_dataset(args, &model, 1, data, &judge->data));
    ND_TRY(nd_drop_disjoint(settings->calib, settings->images, judge->data));
    ND_TRY(nd_drop_original(graph, judge->data, &judge->measure, &judge->original));
    settings->judge = &judge->judge;
    return nd_status_ok;
}

nd_status nd_cli_judge_finish(nd_cli_judge *judge, nd_graph *graph) {
    const nd_infer_settings infer = nd_infer_image(graph);
    nd_graph *runs = NULL;
    double points;
    nd_status status = nd_status_ok;
    if (!judge->data) return nd_status_ok;
    ND_TRY_DONE(nd_graph_clone(graph, &runs));
    ND_TRY_DONE(nd_graph_fold(runs));
    ND_TRY_DONE(nd_graph_infer(runs, &infer));
    ND_TRY_DONE(judge_loss(judge, runs, &points));
    ND_REQUIRE_DONE(points <= judge->bound.points, nd_status_internal, "a drop of %g points, then of %g",
                    judge->bound.points, points);
    status = nd_drop_write(graph, judge->data, &judge->bound, &judge->probe);
done:
    nd_graph_free(runs);
    return status;
}

void nd_cli_judge_close(nd_cli_judge *judge) {
    nd_accuracy_free(&judge->original);
    nd_batches_close(judge->data);
    *judge = (nd_cli_judge){0};
}

void nd_cli_judge_row(const nd_cli_judge *judge, nd_row *row) {
    if (judge->data) nd_drop_probe_row(&judge->probe, judge->data, row);
}

static void print_layers(const nd_quantize_report *report) {
    static const char *const headings[] = {"layer", "MMACs", "fp32 costs us", "error", "precision",
                                           "why",   NULL};
    const bool timed = report->all_ns > 0;
    nd_table *table = nd_table_new(headings);
    for (int l = 0; l < report->n; l++) {
        const nd_quantize_layer *layer = &report->of[l];
        nd_table_cell(table, "%s%s", layer->name, layer->pair ? " and pointwise" : "");
        nd_table_cell(table, "%.2f", (double)layer->macs * 1e-6);
        nd_table_cell(table, timed ? "%.1f" : "-", layer->cost_ns * 1e-3);
        nd_table_cell(table, "%.6f", layer->error);
        nd_table_cell(table, "%s", layer->in_integers ? "int8" : "fp32");
        if (layer->faster)
            nd_table_cell(table, "faster in fp32");
        else if (!layer->turn)
            nd_table_cell(table, "-");
        else if (layer->in_integers)
            nd_table_cell(table, "in fp32 at turn %d, in the end not needed", layer->turn);
        else
            nd_table_cell(table, "turn %d: most error off for its %s", layer->turn, timed ? "time" : "MACs");
    }
    nd_table_print(table, stdout);
    nd_cli_print(
        "with that layer alone in fp32: what an image takes longer, what goes of the scores' relative "
        "squared error\n");
}

void nd_cli_quantize_print(const nd_quantize_report *report, const nd_quantize_settings *settings,
                           const nd_cli_judge *judge) {
    if (settings->automatic) print_layers(report);
    nd_cli_print("%d of %d layers in %s, %d tensors in %s (mean error %.4f), %d pairs balanced\n",
                 report->quantised, report->layers, settings->e4m3 ? "e4m3" : "int8", report->tensors,
                 settings->e4m3 ? "e4m3" : "u8", report->mean_error, report->balanced);
    if (!settings->automatic) return;
    nd_cli_print("loss    %.2f points with all in int8, %.2f so, at most %g allowed%s; squared error of the "
                 "scores %.5f, %.5f so; %d networks measured\n",
                 report->all_points, report->points, settings->points,
                 judge->data && judge->bound.confident ? " for the upper end" : "", report->all_error,
                 report->error, report->runs);
    if (report->all_ns > 0)
        nd_cli_print("time    %.1f us an image in fp32, %.1f with all in int8, %.1f so\n",
                     report->real_ns * 1e-3, report->all_ns * 1e-3, report->ns * 1e-3);
    if (judge->data)
        nd_cli_print("        top-%d drop on %" PRId64
                     " images of %s. These images chose the layers: measure the "
                     "result on others.\n",
                     judge->bound.top5 ? 5 : 1, judge->probe.n, judge->data->name);
    else
        nd_cli_print("        per cent of the calibration images with another best class\n");
}
