#include "cli/verbs/quantize_settings.h"

#include "model/infer/infer.h"

#include <string.h>

/* Synthetic images are for networks whose answers nobody reads, to be timed: few do. */
enum { quantize_batch = 16, quantize_images = 256, quantize_synthetic = 16 };

nd_status nd_cli_quantizes(const nd_args *args, const char *dtype, nd_precision *out) {
    const char *asked = nd_args_text(args, "quantize", NULL);
    const char *kind = !asked ? dtype : !strcmp(asked, "auto") ? "int8" : asked;
    const bool known = nd_precision_find(kind, out) && nd_precision_is_quantised(*out);
    ND_REQUIRE(!asked || known, nd_status_usage, "--quantize %s: there are int8, e4m3 and auto", asked);
    ND_REQUIRE(!asked || !strcmp(dtype, kind) || !strcmp(dtype, "fp32"), nd_status_usage,
               "--quantize %s and --dtype %s: what is not in %s is in fp32", asked, dtype, kind);
    if (!known) *out = nd_precision_fp32;
    return nd_status_ok;
}

bool nd_cli_quantizes_auto(const nd_args *args) {
    return !strcmp(nd_args_text(args, "quantize", "int8"), "auto");
}

nd_status nd_cli_quantize_bound(const nd_args *args, nd_quantize_settings *settings) {
    settings->automatic = settings->timed = nd_cli_quantizes_auto(args);
    return settings->automatic ? nd_args_real(args, "max-drop", 1, 0, 100, &settings->points) : nd_status_ok;
}

nd_status nd_cli_quantize_settings(const nd_args *args, const nd_graph *graph, const char *otherwise,
                                   nd_precision precision, nd_quantize_settings *out) {
    nd_dataset_settings data = {.calibration = true, .batch = quantize_batch};
    const bool given = nd_args_has(args, "calib");
    *out = (nd_quantize_settings){.e4m3 = precision == nd_precision_e4m3};
    ND_REQUIRE(given || otherwise, nd_status_usage, "ranges of %s on which images? Give --calib DATASET",
               nd_precision_name(precision));
    ND_TRY(nd_args_int(args, "calib-images", given ? quantize_images : quantize_synthetic, 1, 1 << 30,
                       &out->images));
    data.spec = nd_args_text(args, "calib", otherwise);
    data.limit = out->images;
    ND_TRY(nd_cli_quantize_bound(args, out));
    return nd_cli_dataset(args, &graph, 1, data, &out->calib);
}

nd_status nd_cli_quantize(const nd_args *args, nd_precision precision, nd_graph *graph, nd_backend *backend) {
    const nd_infer_settings infer = nd_infer_image(graph);
    nd_quantize_settings settings;
    nd_quantize_report report;
    ND_TRY(nd_graph_infer(graph, &infer));
    ND_TRY(nd_cli_quantize_settings(args, graph, "synthetic", precision, &settings));
    const nd_status status = nd_quantize_graph(graph, backend, &settings, &report);
    nd_batches_close(settings.calib);
    nd_quantize_report_free(&report);
    if (status) return nd_fail_in(status, "%s", nd_precision_name(precision));
    ND_TRY(nd_graph_fold(graph));
    return nd_graph_infer(graph, &infer);
}
