/* Top-1/top-5 of a network on a data set, and beside an original: the drop, agreement, distance of the
 * scores. */
#ifndef ND_EVAL_ACCURACY_H
#define ND_EVAL_ACCURACY_H

#include "base/batches.h"
#include "base/log.h"
#include "base/rows/row.h"
#include "eval/drop.h"
#include "run/executor.h"

/* Per image, in the order of the data set. A tie in a score is broken in favour of the lower class number; an
 * image with a score that is not a number is never a hit. */
typedef struct nd_accuracy {
    int64_t n, skipped;
    int64_t unlabelled; /* images whose class is unknown: counted in n, in neither hit1 nor hit5 */
    int64_t nan_images; /* with a NaN among their scores */
    int64_t classes;
    int64_t top1_correct, top5_correct;
    int64_t one_above, one_below; /* images whose best class is the one after, before their label */
    /* [n - unlabelled], the images whose class is known in order: 1 where it is among the best one, five */
    uint8_t *hit1, *hit5;
    int32_t *best;        /* [n]: best class, -1 where a score is NaN: such images agree with nothing */
    float *logits;        /* [n][classes] when asked for, else NULL */
    double logit_rel_mse; /* against graph 0 of nd_accuracy_measure_all; NaN where there is none */
    double seconds;       /* of this network's own inference, decoding left out */
    int64_t batch;        /* images that it took at once */
} nd_accuracy;

typedef struct nd_accuracy_settings {
    nd_backend *backend;
    nd_precision precision;
    int64_t batch; /* images a run; 0 = the stream's */
    bool keep_logits;
    const nd_progress *progress;
} nd_accuracy_settings;

/* Runs all of `batches` (rewound first) through the inferred graph; of its outputs, the one that
 * nd_graph_class_scores finds is the score of each class. nd_status_usage where network and stream do not fit
 * each other, nd_status_format where no image could be read. Memory beside network and batch is 6 bytes an
 * image, and 4 a score where logits are kept. */
nd_status nd_accuracy_measure(const nd_graph *graph, nd_batches *batches,
                              const nd_accuracy_settings *settings, nd_accuracy *out);

/* Several networks side by side, so that each image is decoded once; out[i] belongs to graphs[i], and
 * graphs[0] is what the others' scores are compared with. On failure all of `out` is empty. */
nd_status nd_accuracy_measure_all(const nd_graph *const *graphs, size_t count, nd_batches *batches,
                                  const nd_accuracy_settings *settings, nd_accuracy *out);

int64_t nd_accuracy_labelled(const nd_accuracy *accuracy); /* images whose class is known */

/* Whether the labels look as if they were not the network's: enough of them, and top-1 no better than
 * guessing. Writes what it looks like. */
bool nd_accuracy_at_chance(const nd_accuracy *accuracy, char *text, size_t size);

void nd_accuracy_free(nd_accuracy *accuracy); /* leaves it empty */

/* Fills the accuracy fields: dataset, dataset_sha256, preprocess, n, skipped and, over the images that have a
 * label, top-1 and top-5 where there is one; with `original`, also the drops, agreement and logit_rel_mse
 * (where it was measured, or both kept logits). The two must come from the same images: nd_status_usage. */
nd_status nd_accuracy_row(const nd_accuracy *accuracy, const nd_accuracy *original, const nd_batches *batches,
                          nd_row *row);
void nd_accuracy_drop_row(const nd_drop *top1, const nd_drop *top5, nd_row *row); /* the drops alone */

#endif
