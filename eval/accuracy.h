/* Top-1/top-5, the drop against the original with its paired interval, and agreement. */
#ifndef ND_EVAL_ACCURACY_H
#define ND_EVAL_ACCURACY_H

#include "base/batches.h"
#include "base/log.h"
#include "base/row.h"
#include "run/executor.h"

/* Per image, in the order of the data set. Ties in a logit are broken in favour of the lower class number. */
typedef struct nd_accuracy {
    int64_t n, skipped;
    int64_t classes;
    int64_t top1_correct, top5_correct;
    uint8_t *hit1, *hit5; /* [n]: 1 where the label is among the best one, five */
    int32_t *best;        /* [n]: best class */
    float *logits;        /* [n][classes] when asked for, else NULL */
    double seconds;
} nd_accuracy;

typedef struct nd_accuracy_settings {
    nd_backend *backend;
    nd_precision precision;
    int64_t batch;
    bool keep_logits;
    const nd_progress *progress;
} nd_accuracy_settings;

/* Runs all of `batches` (rewound first) through the inferred graph; its first output is the score of each
 * class. */
nd_status nd_accuracy_measure(const nd_graph *graph, nd_batches *batches,
                              const nd_accuracy_settings *settings, nd_accuracy *out);
void nd_accuracy_free(nd_accuracy *accuracy);

/* Paired drop in points with a 95 % interval: from the discordant pairs b (original right, new wrong) and c
 * (the reverse), (b - c)/n with Newcombe's score interval for paired proportions (1998, method 10). */
typedef struct nd_drop {
    double points, lo, hi;
} nd_drop;

nd_drop nd_drop_paired(const uint8_t *original, const uint8_t *changed, int64_t n);

/* Fills the accuracy fields; with `original`, also the drops, agreement and (when both kept logits)
 * logit_rel_mse. */
nd_status nd_accuracy_row(const nd_accuracy *accuracy, const nd_accuracy *original, const nd_batches *batches,
                          nd_row *row);

#endif
