#include "cli/verbs/bench_networks.h"

#include "cli/args/args.h"
#include "cli/verbs/decouple_settings.h"
#include "cli/verbs/quantize_settings.h"
#include "cli/verbs/sweep/sweep_points.h"

#include <string.h>

bool nd_bench_has_rule(const nd_args *args) {
    return nd_args_has(args, "energy") || nd_args_has(args, "frobenius") || nd_args_has(args, "macs-ratio");
}

static void add_original(const nd_graph *original, nd_bench_list *list) {
    nd_cost cost = nd_cost_graph(original);
    nd_bench_network *network = &list->networks[list->n++];
    network->graph = original;
    nd_row_set_text(&network->row, nd_field_method, "none");
    nd_row_set_text(&network->row, nd_field_form, "none");
    nd_row_set_text(&network->row, nd_field_ranks, "dense");
    nd_cli_cost_row(&cost, &cost, &network->row);
}

/* A network that was decoupled before. */
static nd_status add_file(nd_args *args, const nd_graph *original, nd_bench_list *list) {
    const char *spec = args->positional[0];
    nd_bench_network *network = &list->networks[list->n];
    nd_graph **graph = &list->graphs[list->n++];
    char sha256[65];
    ND_TRY(nd_cli_folded(args, spec, graph, sha256));
    nd_cost cost = nd_cost_graph(*graph), before = nd_cost_graph(original);
    network->graph = *graph;
    nd_row_set_name(&network->row, nd_field_original, nd_args_text(args, "original", NULL));
    nd_cli_cost_row(&cost, &before, &network->row);
    return nd_cli_model_row(*graph, spec, sha256, &network->row);
}

/* A network decoupled here and now. */
static nd_status add_point(nd_args *point, const nd_graph *original, const char *sha256, nd_backend *backend,
                           const nd_progress *progress, nd_bench_list *list) {
    nd_bench_network *network = &list->networks[list->n];
    nd_graph **graph = &list->graphs[list->n++];
    nd_decouple_settings settings = {0};
    nd_decouple_report report = {0};
    nd_status status = nd_status_ok;
    double target;
    const char *rule = nd_sweep_rule(point, &target);
    ND_TRY(nd_graph_clone(original, graph));
    network->graph = *graph;
    ND_TRY(nd_cli_decouple_settings(point, *graph, progress, &settings));
    ND_TRY_DONE(nd_decouple(*graph, backend, &settings, &report));
    ND_TRY_DONE(nd_cli_model_row(*graph, point->positional[0], sha256, &network->row));
    if (strcmp(rule, "rank")) {
        nd_row_set_text(&network->row, nd_field_rule, rule);
        nd_row_set_real(&network->row, nd_field_target, target);
    }
    nd_row_set_name(&network->row, nd_field_calib, nd_args_text(point, "calib", NULL));
    nd_cli_cost_row(&report.after, &report.before, &network->row);
done:
    nd_decouple_report_free(&report);
    nd_cli_decouple_settings_close(&settings);
    return status;
}

static nd_status make_points(nd_args *args, nd_sweep_points *points) {
    const nd_sweep_settings settings = {.rank = "3", .method = "dwpw"};
    ND_TRY(nd_sweep_points_make(args, &settings, points));
    ND_REQUIRE(points->count < nd_subjects_max, nd_status_usage,
               "bench: %zu networks at once; %d are possible", points->count, nd_subjects_max - 1);
    return nd_status_ok;
}

static nd_status add_points(nd_args *args, const nd_graph *original, const char *sha256, nd_backend *backend,
                            const nd_progress *progress, nd_bench_list *list) {
    nd_sweep_points points;
    ND_TRY(make_points(args, &points));
    for (size_t i = 0; i < points.count; i++) {
        nd_args point;
        ND_TRY(nd_sweep_point(&points, i, &point));
        nd_status status = add_point(&point, original, sha256, backend, progress, list);
        nd_args_free(&point);
        ND_TRY(status);
    }
    return nd_status_ok;
}

nd_status nd_bench_list_check(nd_args *args) {
    nd_sweep_points points;
    if (nd_args_has(args, "original")) return nd_status_ok;
    ND_TRY(make_points(args, &points));
    return nd_sweep_points_check(&points);
}

/* What is in 8 bits already stays as it is. */
static nd_status quantise_all(nd_args *args, nd_backend *backend, nd_precision precision,
                              nd_bench_list *list) {
    if (!list->graphs[0]) {
        ND_TRY(nd_graph_clone(list->networks[0].graph, &list->graphs[0]));
        list->networks[0].graph = list->graphs[0];
    }
    for (size_t i = 0; i < list->n; i++)
        if (!nd_graph_is_quantised(list->graphs[i]))
            ND_TRY(nd_cli_quantize(args, precision, list->graphs[i], backend));
    return nd_status_ok;
}

nd_status nd_bench_list_open(nd_args *args, const nd_graph *original, const char *sha256, nd_backend *backend,
                             nd_precision quantised, const nd_progress *progress, nd_bench_list *out) {
    *out = (nd_bench_list){0};
    add_original(original, out);
    nd_status status = nd_args_has(args, "original")
                           ? add_file(args, original, out)
                           : add_points(args, original, sha256, backend, progress, out);
    if (!status && quantised != nd_precision_fp32) status = quantise_all(args, backend, quantised, out);
    if (status) nd_bench_list_close(out);
    return status;
}

void nd_bench_list_close(nd_bench_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        nd_bench_network_free(&list->networks[i]);
        nd_graph_free(list->graphs[i]);
    }
    *list = (nd_bench_list){0};
}
