/* From the command line to nd_decouple_settings, for every verb that decouples. */
#ifndef ND_CLI_DECOUPLE_SETTINGS_H
#define ND_CLI_DECOUPLE_SETTINGS_H

#include "bench/timing/graph_clock.h"
#include "cli/cli.h"
#include "decouple/decouple.h"

/* Reads --method, --ranks, the rules, --layer, --skip and what goes with --calib, and judges them as far as
 * that can be done without a network. Lists live in args' arena. */
nd_status nd_cli_decouple_read(nd_args *args, nd_decouple_settings *out);

/* --skip PATTERN leaves layers dense; `none` takes the first convolution as well. */
nd_status nd_cli_skips(nd_args *args, nd_decouple_settings *settings);

/* The same, and opens the calibration stream into settings->calib. `graph` is the model the images
 * are for. */
nd_status nd_cli_decouple_settings(nd_args *args, const nd_graph *graph, const nd_progress *progress,
                                   nd_decouple_settings *out);
/* Gives settings with --latency-ratio the clock they need, by --time-limit; others are left alone. */
nd_status nd_cli_clock(const nd_args *args, nd_backend *backend, nd_precision precision, int64_t batch,
                       nd_graph_clock *clock, nd_decouple_settings *settings);

void nd_cli_decouple_settings_close(nd_decouple_settings *settings);

#endif
