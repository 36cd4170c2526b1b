/* The layers of a network that may be decoupled, and what is to become of each. */
#ifndef ND_DECOUPLE_PLAN_H
#define ND_DECOUPLE_PLAN_H

#include "decouple/decouple.h"
#include "decouple/plan/allocate.h"

enum { nd_methods_max = 32 };

typedef struct nd_layer {
    const char *name; /* of the graph's node */
    int node;
    nd_conv conv;    /* borrows the graph's weights */
    const char *why; /* not NULL: stays dense, because */
    bool spatial;    /* has a spatial kernel: the others are here to be refitted on data */
    int64_t dense_macs;
    double *metric; /* NULL, or its output metric (decouple/calib/output_metric.h; owned) */

    /* What the settings say about this layer alone; NULL and 0 where nothing. */
    const nd_method *only;
    int64_t terms;

    /* The decision; method NULL = dense. */
    const nd_method *method;
    int64_t rank;
} nd_layer;

/* A convolution that nd cannot read, and why: the node that stands in the way. */
typedef struct nd_left {
    const char *name, *why;
} nd_left;

typedef struct nd_plan {
    nd_layer *layers; /* every convolution that nd can read, in topological order */
    int n_layers;
    nd_left *left; /* the others */
    int n_left;
    size_t left_capacity;
    nd_arena arena;                           /* their texts */
    const nd_method *methods[nd_methods_max]; /* allowed where a layer has no setting of its own */
    int n_methods;
    bool automatic; /* the settings leave the methods to the images */
    nd_cost before;
    double ratio; /* after an allocation: total cost / new cost */
} nd_plan;

/* Which layers, by the settings alone. The graph must be folded and inferred. */
nd_status nd_plan_open(const nd_graph *graph, const nd_decouple_settings *settings, nd_plan *out);
void nd_plan_close(nd_plan *plan);

/* The methods a layer may use: its own setting, else the plan's, without those that do not apply. */
int nd_plan_methods(const nd_plan *plan, const nd_layer *layer, const nd_method **methods);

/* Ranks by the rules that look at one layer: count, energy, Frobenius norm. */
nd_status nd_plan_by_layer(nd_backend *backend, const nd_decouple_settings *settings, nd_plan *plan);

/* Candidates of all layers at each useful rank, dense among them, with the relative error of the kernel;
 * *out malloc'd. */
nd_status nd_plan_candidates(nd_backend *backend, const nd_decouple_settings *settings, const nd_plan *plan,
                             nd_candidate **out, size_t *count);

/* Allocates total / settings->target over the candidates and writes the decisions into the plan. Layers that
 * read fewer channels make those before them cheaper too: what that saves in MACs is spent again, as far as
 * the network's preview stays within its budget. */
nd_status nd_plan_allocate(const nd_graph *graph, const nd_decouple_settings *settings,
                           const nd_candidates *candidates, nd_plan *plan);

/* Decides again for the layers from number `first` on, those before it as they are: the costs of all their
 * candidates may sum to `allowance`, what they make cheaper in other layers not counted. */
nd_status nd_plan_reallocate(const nd_decouple_settings *settings, const nd_candidates *candidates,
                             int64_t allowance, int first, nd_plan *plan);
/* The sum of the costs of the candidates that the plan has chosen, and of what no candidate stands for. */
int64_t nd_plan_cost(const nd_candidates *candidates, const nd_plan *plan);

/* The multiply-accumulates that a ratio is of. */
int64_t nd_counted_macs(const nd_decouple_settings *settings, const nd_cost *cost);

/* total / settings->target */
int64_t nd_candidates_budget(const nd_decouple_settings *settings, const nd_candidates *candidates);

/* Infers the graph of a network for the image that its input says, or what else it takes. */
nd_status nd_decouple_infer(nd_graph *graph);

/* Measures what the settings' rule chooses from: losses by curves or from the weights, costs in its unit. */
nd_status nd_plan_measure(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                          const nd_plan *plan, nd_candidates *out);

/* Smallest change of rank: the method's own step, made a multiple of settings->round. */
int64_t nd_plan_step(const nd_decouple_settings *settings, const nd_method *method, const nd_conv *conv);
/* The rank of T terms per channel: up to the next step, and no more than the method's largest. */
int64_t nd_plan_rank(const nd_decouple_settings *settings, const nd_method *method, const nd_conv *conv,
                     int64_t terms);

#endif
