/* Which ranks of a layer are measured. */
#ifndef ND_DECOUPLE_CURVE_RANKS_H
#define ND_DECOUPLE_CURVE_RANKS_H

#include "decouple/plan/plan.h"

/* The largest rank within a share of the dense cost, the least there is where none is; 0 where that costs no
 * less than the layer. */
int64_t nd_curve_rank_within(const nd_decouple_settings *settings, const nd_method *method,
                             const nd_layer *layer, double share);

/* Ranks at rising shares of the cost, each once, to ranks[count]; returns how many. */
int nd_curve_ranks(const nd_decouple_settings *settings, const nd_method *method, const nd_layer *layer,
                   const double *shares, int count, int64_t *ranks);

/* Ranks worth measuring: below dense and within reach of the target, to ranks[nd_curve_points]. */
int nd_curve_grid(const nd_decouple_settings *settings, const nd_method *method, const nd_layer *layer,
                  int64_t *ranks);

#endif
