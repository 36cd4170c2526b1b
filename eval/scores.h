/* The scores of networks on a data set as a file that NumPy reads. */
#ifndef ND_EVAL_SCORES_H
#define ND_EVAL_SCORES_H

#include "eval/accuracy.h"

/* Whether one array can hold the scores of `count` inferred networks: those of an image are as many for each.
 * nd_status_usage where not, so that it is known before the networks run. */
nd_status nd_scores_fit(const nd_graph *const *graphs, size_t count);

/* Writes FILE (NEP 1, version 1.0) of little-endian fp32 in C order: [images][classes] of one network,
 * [networks][images][classes] of several, images in the order of the data set. The logits must have been
 * kept. Fails like nd_draft_open. */
nd_status nd_scores_write(const char *path, const nd_accuracy *accuracies, size_t count);

#endif
