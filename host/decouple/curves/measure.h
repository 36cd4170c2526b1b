/* Measuring one layer: its fits on images, judged by images that they have not seen or at the scores. */
#ifndef ND_DECOUPLE_MEASURE_H
#define ND_DECOUPLE_MEASURE_H

#include "decouple/calib/activation_cache.h"
#include "decouple/curves/curve.h"
#include "decouple/curves/score_loss.h"

/* The network, its images at the layer that is measured, and what is asked of the fits; all borrowed. */
typedef struct nd_curve_pass {
    const nd_graph *graph;
    nd_backend *backend;
    const nd_decouple_settings *settings;
    nd_activation_cache *activations;
    nd_known_heads *heads; /* on the images that are measured on */
    nd_score_tail *tail;   /* opened once something is measured at the scores */
    int last;              /* node of the last layer that is measured */
    bool scales;           /* wanted: what an error in a layer does to the scores */
    int next;              /* node of the next layer that is measured, or 0 */
} nd_curve_pass;

/* Images that layers are fitted to. */
int64_t nd_curve_images(const nd_decouple_settings *settings);

/* The curves of one layer in several methods at once, so that the images pass the network once:
 * curves[n_methods], at the ranks of nd_curve_grid. `by` is the method that the scale is wanted of, or NULL.
 */
nd_status nd_curve_measure(const nd_curve_pass *pass, const nd_layer *layer, const nd_method *const *methods,
                           int n_methods, nd_curve *curves, const nd_method *by, nd_scale *scale);

#endif
