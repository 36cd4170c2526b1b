/* What a network is made of, what a method would cost on it and how well it would keep its layers, before
 * anything is decomposed. */
#ifndef ND_DECOUPLE_SURVEY_H
#define ND_DECOUPLE_SURVEY_H

#include "decouple/decouple.h"
#include "decouple/methods/method.h"

/* A convolution or inner product, in the order of the graph. */
typedef struct nd_survey_layer {
    int node;                       /* number in the graph */
    const char *name;               /* lives in the graph */
    bool conv;                      /* else an inner product */
    bool spatial;                   /* a 2-D convolution with constant weights and a kernel above 1x1 */
    bool first;                     /* the network's first convolution, left dense unless asked for */
    int64_t ni, no, kh, kw, stride; /* an inner product is 1x1 */
    int64_t h, w;                   /* of the output; 1x1 for an inner product */
    nd_cost cost;
} nd_survey_layer;

typedef struct nd_survey {
    nd_survey_layer *layers;
    size_t n_layers;
    nd_cost cost; /* of the whole network */
} nd_survey;

/* `graph` must be inferred and outlive the survey. */
nd_status nd_survey_make(const nd_graph *graph, nd_survey *out);
void nd_survey_free(nd_survey *survey);

/* The network's cost with the settings' method, uniform or adaptive ranks, T, layer rules and skips, by
 * nd_rule_rank. Reads no weights. `layers` takes the new cost of each layer of the survey, or is NULL. */
nd_status nd_survey_cost(const nd_graph *graph, const nd_survey *survey, const nd_decouple_settings *settings,
                         nd_cost *layers, nd_cost *total);

/* energy[T - 1] and error[T - 1] (|W' - W| / |W|) of one layer with T terms per channel; for a method with a
 * bottleneck, with a rank of T. Both in the arena. n is 0 where the method does not apply. */
typedef struct nd_survey_curve {
    size_t n;
    double *energy, *error;
} nd_survey_curve;

nd_status nd_survey_spectrum(nd_backend *backend, const nd_graph *graph, const nd_survey_layer *layer,
                             const nd_method *method, nd_arena *arena, nd_survey_curve *out);

#endif
