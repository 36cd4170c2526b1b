/* A sweep over a detector: with --decode, what networks find in place of how often they are right. */
#ifndef ND_CLI_SWEEP_DETECT_H
#define ND_CLI_SWEEP_DETECT_H

#include "cli/cli.h"
#include "run/backend.h"

typedef struct nd_sweep_detector {
    const char *decode;
    double score; /* from which on the original's detections are what is to be found */
    nd_backend *backend;
    nd_precision precision;
    const nd_progress *progress;
} nd_sweep_detector;

/* --decode and --score; decode NULL: a classifier. */
nd_status nd_sweep_detector_open(const nd_args *args, nd_sweep_detector *out);

/* Fills what a row says of `graph`, beside `original` or of the original itself where that is NULL. Both are
 * inferred for the batch. */
nd_status nd_sweep_detect(const nd_sweep_detector *detector, const nd_graph *original, const nd_graph *graph,
                          nd_batches *batches, nd_row *row);

#endif
