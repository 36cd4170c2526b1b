/* Which results are worth choosing: no other is at least as good in both accuracy and cost, and better in
 * one. */
#ifndef ND_EVAL_PARETO_H
#define ND_EVAL_PARETO_H

#include "base/rows/row.h"

/* best[i] says whether point i is on the front: gain high, cost low. A NaN is on no front. Equal points share
 * their fate. O(n log n). */
nd_status nd_pareto_front(const double *gain, const double *cost, size_t n, bool *best);

/* Sets `pareto` in every row that has an accuracy and total MACs, among the rows of the same model, data set,
 * backend and dtype; and `pareto_time` in those that were timed against the original and in the original's,
 * among those of all dtypes. Gain is top-1. */
nd_status nd_pareto_mark(nd_row *rows, size_t n);

/* ns of the original as it was timed beside networks of the dtype, backend and batch of `like`: the geometric
 * mean over those rows. NaN where there is none. */
double nd_pareto_original_ns(const nd_row *const *rows, size_t n, const nd_row *like);

#endif
