/* What evaluating classifiers and detectors have in common. */
#ifndef ND_CLI_EVAL_H
#define ND_CLI_EVAL_H

#include "cli/cli.h"

typedef struct nd_eval_model {
    const char *spec;
    char sha256[65];
    nd_cost cost;
    /* Of its inference, filled when it was measured. */
    double seconds;
    int64_t batch; /* images at once */
} nd_eval_model;

/* The original, where there is one, is model 0. */
typedef struct nd_eval {
    const nd_args *args;
    size_t count;
    bool original;
    nd_eval_model *models;
    nd_graph **graphs;
    nd_precision precision;
    nd_backend *backend;
    nd_batches *batches;
    nd_output *output;
} nd_eval;

/* Everything above, from the arguments. To be closed whether it fails or not; closing gives what the verb
 * comes to. */
nd_status nd_eval_open(const nd_args *args, nd_eval *eval);
nd_status nd_eval_close(nd_eval *eval, nd_status status);

/* The fields that say what was run on what, and what it costs. */
nd_status nd_eval_row(const nd_eval *eval, size_t model, nd_row *row);

/* Cells of a table: a real as `format` says, or an interval "[-0.31, 0.92]"; "-" where the row has none. */
void nd_eval_cell(nd_table *table, const nd_row *row, nd_field field, const char *format);
void nd_eval_interval(nd_table *table, const nd_row *row, nd_field lo, nd_field hi);

/* Below the table: images, preparation, backend. */
void nd_eval_print_setting(const nd_eval *eval, int64_t n, int64_t skipped);

nd_status nd_eval_detectors(const nd_eval *eval); /* with --decode */

#endif
