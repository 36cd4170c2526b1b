/* A published table beside ours: every value that follows from an architecture alone, and, given trained
 * weights and images, the measured ones. */
#ifndef ND_EVAL_REPRODUCE_H
#define ND_EVAL_REPRODUCE_H

#include "eval/drop_search.h"
#include "eval/paper.h"

typedef struct nd_reproduce_settings {
    const nd_graph *graph; /* trained, folded and inferred; NULL: what needs no weights */
    nd_backend *backend;   /* needed with `graph` */
    nd_batches *data;      /* labelled test images; NULL: no accuracies */
    nd_batches *calib;     /* unlabelled training images; NULL: data-free methods only */
    int64_t calib_images;
    int64_t batch;
    double points;     /* drop at which methods are compared (nd_reproduce_by_top1); the paper's is 1.0 */
    int steps;         /* bisections of a method's knob; the interval that stays is 2^-steps of it */
    const char *cache; /* folder that keeps what is measured; NULL: nowhere */
    const nd_progress *progress;
} nd_reproduce_settings;

nd_reproduce_settings nd_reproduce_defaults(void);

/* Methods are compared at a drop of top-5, as the paper does, or of top-1 where the network knows fewer than
 * 50 classes. */
bool nd_reproduce_by_top1(const nd_graph *graph);

/* What became of one published value. */
typedef struct nd_reproduced {
    const char *missing; /* NULL, or what it takes to compute it (static text) */
    double ours;         /* in the unit of the published value */
    bool same;           /* rounds to the digits that were printed */
    nd_drop_probe drop;  /* where the knob stood and what was lost there; n = 0 where it was not turned */
} nd_reproduced;

/* Fills results[table->n_values]. nd_status_usage when the graph is not the network the table is about (by
 * its MACs) and has not its convolutions either. Where it has those, for images of another size or other
 * classes, MACs of convolutions count as at the table's size. */
nd_status nd_reproduce(const nd_paper_table *table, const nd_reproduce_settings *settings,
                       nd_reproduced *results);

/* Turns a method's knob until accuracy has dropped by `points`: the energy threshold of dwpw and pwdw
 * (method.md, "Ranks"), else one ratio of MACs for every layer. The cheapest network found that loses no
 * more, which for a knob whose every setting loses more is the original. Settings that round to the same
 * ranks are measured once a run, and what is measured is kept: a run that was killed goes on where it was. */
nd_status nd_reproduce_drop(const nd_paper_value *value, const nd_reproduce_settings *settings,
                            const nd_accuracy *original, nd_drop_probe *out);

#endif
