/* The cheapest network whose measured loss of accuracy stays within a bound: a search over the target of a
 * rule with a budget (decouple/decouple.h), every probe a network that is decoupled and measured on labelled
 * images.
 *
 * Those images have then chosen the network, so the drop on them is no test result: the set's name and
 * SHA-256 go into the model ("nd.search"), and `nd eval` says so when it meets them again. */
#ifndef ND_EVAL_MAX_DROP_H
#define ND_EVAL_MAX_DROP_H

#include "decouple/decouple.h"
#include "eval/drop_search.h"

typedef struct nd_max_drop_settings {
    const nd_decouple_settings *decouple; /* nd_rule_macs_ratio; its target is what is searched for */
    nd_backend *backend;
    nd_batches *data; /* labelled */
    double points;    /* the bound, 0 to 100 */
    bool top5;        /* of top-5 accuracy; else top-1 */
    bool confident;   /* the upper end of the 95 % interval must be within it, not only the drop itself */
    double step;      /* the search ends when the ratios around the bound are this close: 1.02 is 2 % */
    const nd_progress *progress;
    void (*probe)(void *user, const nd_drop_probe *probe); /* called for each as it comes; NULL is legal */
    void *user;
} nd_max_drop_settings;

nd_max_drop_settings nd_max_drop_defaults(void); /* 1 point of top-1, 2 % */

/* *out is `graph`, which is prepared (nd_decouple_prepare), decoupled at the largest ratio that bisection
 * between 1 and what is within reach finds, with *report and *best, its probe. The drop is noisy and need not
 * fall with the ratio: of all probes the one with the fewest MACs that is within the bound is taken.
 * Candidates are measured once. Finished probes are kept in decouple->cache. nd_status_failed when no probe
 * was within the bound, nd_status_usage when an image has no label, or when a tenth or more of the images
 * calibrated on are among `data`: on images that were fitted to, the drop is flattered. */
nd_status nd_max_drop(const nd_graph *graph, const nd_max_drop_settings *settings, nd_graph **out,
                      nd_decouple_report *report, nd_drop_probe *best);

/* Did these images choose the ranks of this model? `exactly` means the same images in the same order;
 * otherwise any range of a set of the same name counts. */
bool nd_max_drop_met(const nd_graph *graph, const nd_batches *data, bool *exactly);

#endif
