#include "cli/verbs/sweep/sweep_detect.h"

#include "cli/args/args.h"
#include "eval/detect/detection.h"

nd_status nd_sweep_detector_open(const nd_args *args, nd_sweep_detector *out) {
    *out = (nd_sweep_detector){.decode = nd_args_text(args, "decode", NULL)};
    return nd_args_real(args, "score", 0.25, 0, 1, &out->score);
}

/* Both networks run in every point: what is compared are all their raw numbers, which nobody keeps. */
nd_status nd_sweep_detect(const nd_sweep_detector *detector, const nd_graph *original, const nd_graph *graph,
                          nd_batches *batches, nd_row *row) {
    const nd_graph *graphs[] = {original ? original : graph, graph};
    const nd_detection_settings settings = {.backend = detector->backend,
                                            .precision = detector->precision,
                                            .decoder = detector->decode,
                                            .progress = detector->progress};
    const size_t count = original ? 2 : 1;
    nd_found found[2] = {0};
    nd_truth truth = {0};
    ND_TRY(nd_detection_run(graphs, count, batches, &settings, found, &truth));
    const nd_detection_rows rows = {.batches = batches,
                                    .truth = &truth,
                                    .original = original ? &found[0] : NULL,
                                    .score = detector->score,
                                    .draws = nd_detection_draws};
    nd_row_set_text(row, nd_field_decode, detector->decode);
    const nd_status status = nd_detection_row(&rows, &found[count - 1], row);
    char text[512];
    if (!status && !original && nd_detection_blind(&rows, &found[0], row, text, sizeof text))
        nd_log(nd_log_warn, "%s: %s", graph->name, text);
    for (size_t k = 0; k < count; k++) nd_found_free(&found[k]);
    nd_truth_free(&truth);
    return status;
}
