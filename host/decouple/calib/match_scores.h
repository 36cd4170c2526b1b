/* The last step of a calibration pass: gains and biases of all fitted layers that make the scores of the
 * whole network follow the original's on the calibration images, without labels (method.md, "Matched
 * scores"). */
#ifndef ND_DECOUPLE_MATCH_SCORES_H
#define ND_DECOUPLE_MATCH_SCORES_H

#include "decouple/plan/plan.h"

/* chains[n_layers] are those of the layers in `current`, empty where a layer is the original's. Their last
 * stages and biases change, and `current` with them; nothing does where one image in four, held out, says
 * that it does not help, or where the network has no class scores, or there are fewer than 8 images. */
nd_status nd_match_scores(const nd_graph *original, nd_graph *current, nd_backend *backend,
                          const nd_decouple_settings *settings, const nd_plan *plan, nd_chain *chains);

#endif
