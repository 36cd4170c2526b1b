/* Searching how far a network can be pressed: what a search tries, measures and keeps. */
#ifndef ND_EVAL_DROP_SEARCH_H
#define ND_EVAL_DROP_SEARCH_H

#include "eval/accuracy.h"
#include "model/cost.h"

/* One setting, tried. */
typedef struct nd_drop_probe {
    double setting; /* ratio of MACs, or threshold of energy; 1 where precision alone changes */
    nd_cost before, after;
    nd_drop top1, top5;
    int64_t n;   /* images */
    bool within; /* the bound */
    bool reused; /* measured before: by an earlier run, or for another setting that gives the same network */
} nd_drop_probe;

/* What a network may lose. */
typedef struct nd_drop_bound {
    double points;
    bool top5;      /* of top-5 accuracy; else top-1 */
    bool confident; /* the upper end of the 95 % interval must be within it, not only the drop itself */
} nd_drop_bound;

/* Fills the drops, and which images they were measured on. */
void nd_drop_probe_row(const nd_drop_probe *probe, const nd_batches *data, nd_row *row);

double nd_drop_judged(const nd_drop_bound *bound, const nd_drop_probe *probe); /* what is held against it */

/* Whether drops on `data` are worth measuring of a network that was fitted to the first `images` (0 = all) of
 * `calib` (NULL: to none): nd_status_usage where pictures are made up or a tenth of those are among them. */
nd_status nd_drop_disjoint(nd_batches *calib, int64_t images, nd_batches *data);

/* The accuracy of the original; nd_status_usage when an image has no label. */
nd_status nd_drop_original(const nd_graph *graph, nd_batches *data, const nd_accuracy_settings *settings,
                           nd_accuracy *out);

/* Who reports the drop of this model must know which images it was chosen on: metadata "nd.search". */
nd_status nd_drop_write(nd_graph *graph, const nd_batches *data, const nd_drop_bound *bound,
                        const nd_drop_probe *probe);

/* Bisection: 0 is the original, 1 the harshest network within reach; ends when the two turns around the bound
 * are no more than `finest` apart. */
typedef nd_status nd_drop_try(void *user, double turn, bool *within);
nd_status nd_drop_bisect(double finest, nd_drop_try *attempt, void *user);

/* Runs `graph` over the images of `original`, all of them labelled or not, and counts who was right. */
nd_status nd_drop_measure(const nd_graph *graph, nd_batches *data, const nd_accuracy_settings *settings,
                          const nd_accuracy *original, nd_drop_counts *top1, nd_drop_counts *top5);

#endif
