/* How much the scores of the network suffer from other kernels in one layer, all else being original. */
#ifndef ND_DECOUPLE_SCORE_LOSS_H
#define ND_DECOUPLE_SCORE_LOSS_H

#include "decouple/calib/activation_cache.h"
#include "decouple/curves/score_rest.h"
#include "decouple/plan/plan.h"

typedef struct nd_score_loss nd_score_loss;

/* Whether the rest of the network can be run after this layer. */
bool nd_score_loss_possible(const nd_graph *graph, const nd_layer *layer);

/* The heads of the original on the first images, which are the same whichever layer is measured: where one
 * measurement has left them, the next ones need not run what lies behind their layers for them. Zeroed is
 * none. For as many images every time. */
typedef struct nd_known_heads {
    int n, value[nd_heads_max];
    float *data[nd_heads_max]; /* [images][size] */
} nd_known_heads;

void nd_known_heads_free(nd_known_heads *known);

/* For up to n_trials kernels of a layer, where the activations stand at it, on the first `images` images.
 * `tail` is borrowed. */
nd_status nd_score_loss_open(const nd_activation_cache *activations, nd_backend *backend,
                             const nd_graph *graph, const nd_layer *layer, int64_t batch, int n_trials,
                             int64_t images, nd_known_heads *known, const nd_score_tail *tail,
                             nd_score_loss **out);
nd_status nd_score_loss_add(nd_score_loss *loss, const nd_chain *chain); /* copies its kernel */

/* The squared change at each head, relative to how much it varies itself, their mean over the images:
 * losses[] in the order of adding. Once. */
nd_status nd_score_loss_measure(nd_score_loss *loss, nd_activation_cache *activations, double *losses);
void nd_score_loss_close(nd_score_loss *loss); /* NULL is legal */

#endif
