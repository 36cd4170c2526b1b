/* Searching how far a network can be pressed: what a search tries, measures and keeps. */
#ifndef ND_EVAL_DROP_SEARCH_H
#define ND_EVAL_DROP_SEARCH_H

#include "eval/accuracy.h"
#include "model/cost.h"

/* One setting, tried. */
typedef struct nd_drop_probe {
    double setting; /* ratio of MACs, or threshold of energy */
    nd_cost before, after;
    nd_drop top1, top5;
    int64_t n;   /* images */
    bool within; /* the bound */
    bool reused; /* measured before: by an earlier run, or for another setting that gives the same network */
} nd_drop_probe;

/* Bisection: 0 is the original, 1 the harshest network within reach; ends when the two turns around the bound
 * are no more than `finest` apart. */
typedef nd_status nd_drop_try(void *user, double turn, bool *within);
nd_status nd_drop_bisect(double finest, nd_drop_try *attempt, void *user);

/* Runs `graph` over the images of `original`, all of them labelled or not, and counts who was right. */
nd_status nd_drop_measure(const nd_graph *graph, nd_batches *data, const nd_accuracy_settings *settings,
                          const nd_accuracy *original, nd_drop_counts *top1, nd_drop_counts *top5);

#endif
