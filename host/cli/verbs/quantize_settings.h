/* From the command line to a network in 8 bits, for every verb that quantises. */
#ifndef ND_CLI_QUANTIZE_SETTINGS_H
#define ND_CLI_QUANTIZE_SETTINGS_H

#include "cli/cli.h"
#include "eval/drop_search.h"
#include "quantize/quantize.h"

/* What the networks of these arguments are to be quantised to, nd_precision_int8 or nd_precision_e4m3, by
 * --quantize or else by `dtype` in a verb that makes networks; nd_precision_fp32: they are not.
 * nd_status_usage for another --quantize, and beside a dtype that it does not go with. */
nd_status nd_cli_quantizes(const nd_args *args, const char *dtype, nd_precision *out);
bool nd_cli_quantizes_auto(const nd_args *args);

/* Opens the images of --calib (else `otherwise`, else nd_status_usage), --calib-images of them, and reads
 * what --quantize auto is bounded by. The stream is the caller's to close. */
nd_status nd_cli_quantize_settings(const nd_args *args, const nd_graph *graph, const char *otherwise,
                                   nd_precision precision, nd_quantize_settings *out);
nd_status nd_cli_quantize_bound(const nd_args *args, nd_quantize_settings *settings);

/* Quantises a network that runs here and now: afterwards it is folded and inferred for one image. Ranges are
 * those on --calib or on synthetic images. */
nd_status nd_cli_quantize(const nd_args *args, nd_precision precision, nd_graph *graph, nd_backend *backend);

/* The drop on labelled images as the loss of --quantize auto. Must stay where it is while in use. */
typedef struct nd_cli_judge {
    nd_quantize_judge judge;
    nd_batches *data; /* NULL without --data: the loss is then counted on the calibration images */
    nd_drop_bound bound;
    nd_accuracy_settings measure;
    nd_accuracy original;
    nd_drop_probe probe; /* the last network's */
} nd_cli_judge;

/* Measures `graph`, which is folded, and hangs the judge into the settings; without --data does nothing. */
nd_status nd_cli_judge_open(const nd_args *args, nd_graph *graph, nd_backend *backend,
                            nd_quantize_settings *settings, nd_cli_judge *judge);
/* Measures what came of it once more and writes into it which images chose its layers. */
nd_status nd_cli_judge_finish(nd_cli_judge *judge, nd_graph *graph);
void nd_cli_judge_close(nd_cli_judge *judge);
void nd_cli_judge_row(const nd_cli_judge *judge, nd_row *row);

/* What became of every layer, and the loss. */
void nd_cli_quantize_print(const nd_quantize_report *report, const nd_quantize_settings *settings,
                           const nd_cli_judge *judge);

#endif
