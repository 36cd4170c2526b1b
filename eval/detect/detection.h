/* What detectors find in the images of a data set, several networks side by side, and how they compare:
 * with the annotations where there are any, and with what the original finds where there are none. */
#ifndef ND_EVAL_DETECT_DETECTION_H
#define ND_EVAL_DETECT_DETECTION_H

#include "base/batches.h"
#include "base/log.h"
#include "base/rows/row.h"
#include "eval/detect/decode.h"
#include "eval/detect/measures.h"
#include "run/executor.h"

/* One network, in the order of the data set. */
typedef struct nd_found {
    int64_t n, skipped;
    int64_t *index;     /* [n]: place in the set */
    nd_detections *of;  /* [n] */
    int64_t detections; /* in all */
    nd_decode decode;
    /* By group of raw numbers: sum |r' - r|^2 / sum |r - mean r|^2 against network 0, the mean being that
     * of each number over the images; NaN where there is none, or the heads differ. */
    double rel_mse[nd_decode_groups_max];
    double seconds; /* of its own inference */
    int64_t batch;  /* images that it took at once */
} nd_found;

/* The objects to be found in the same images. */
typedef struct nd_truth {
    int64_t n, objects;
    int32_t classes;
    nd_object **of; /* [n] */
    size_t *counts; /* [n] */
    nd_arena arena;
} nd_truth;

typedef struct nd_detection_settings {
    nd_backend *backend;
    nd_precision precision;
    const char *decoder;
    const nd_progress *progress;
} nd_detection_settings;

/* Runs all of `batches` (rewound first) through the inferred graphs; out[i] belongs to graphs[i]. Fills
 * `truth` with the annotations where the set has them and boxes are found, else leaves it empty.
 * nd_status_usage where networks, decoder and stream do not fit each other, nd_status_format where no image
 * could be read. On failure all is empty. */
nd_status nd_detection_run(const nd_graph *const *graphs, size_t count, nd_batches *batches,
                           const nd_detection_settings *settings, nd_found *out, nd_truth *truth);

/* The detections of a network whose score is at least `score`, as objects. */
nd_status nd_truth_of(const nd_found *found, double score, nd_truth *out);

void nd_found_free(nd_found *found); /* leaves it empty */
void nd_truth_free(nd_truth *truth); /* likewise */

/* Which detections of a network found an object of the truth. */
nd_status nd_detection_match(const nd_found *found, const nd_truth *truth, nd_match_rule rule,
                             nd_matches *out);

/* Of detections with at least `score`, the mean overlap of those that found an object of their class, and
 * how many these are. */
double nd_detection_overlap(const nd_matches *matches, double score, int64_t *count);

/* Fills what a row says of a network: images, detections, errors of raw heads; against annotations all
 * measures, with `original` the drops of AP, AP50 and VOC's mAP with paired bootstrap intervals; with
 * `original` agreement with its detections above `score`. `truth` may be empty. */
typedef struct nd_detection_rows {
    const nd_batches *batches;
    const nd_truth *truth;
    const nd_found *original; /* or NULL */
    double score;
    int draws; /* of the bootstrap */
} nd_detection_rows;

enum { nd_detection_draws = 1000 }; /* the usual number */

nd_status nd_detection_row(const nd_detection_rows *rows, const nd_found *found, nd_row *row);

/* Whether the images look as if they were not prepared for the network, whose row is filled: it finds nothing
 * with a score of at least that of `rows` in any, or next to none of what is annotated. Writes what it looks
 * like. */
bool nd_detection_blind(const nd_detection_rows *rows, const nd_found *found, const nd_row *row, char *text,
                        size_t size);

/* The measures of each class against `truth`, out[classes] each: AP, AP50, VOC's of 2007, and objects to
 * be found. */
typedef struct nd_detection_classes {
    double *ap, *ap50, *voc2007;
    int64_t *objects;
    int32_t classes;
} nd_detection_classes;

nd_status nd_detection_by_class(const nd_found *found, const nd_truth *truth, nd_detection_classes *out);
void nd_detection_classes_free(nd_detection_classes *classes);

#endif
