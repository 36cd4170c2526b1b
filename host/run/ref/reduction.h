/* What a reduction is, in double: a start, a step for each of `count` elements, a finish. log_sum_exp is of
 * the elements less their largest, which takes a pass of nd_reduction_max first. */
#ifndef ND_RUN_REF_REDUCTION_H
#define ND_RUN_REF_REDUCTION_H

#include "run/backend.h"

#include <math.h>

static inline double nd_reduction_step(nd_reduction reduction, double sum, double x, double largest) {
    switch (reduction) {
    case nd_reduction_max:
        return x > sum || isnan(x) ? x : sum;
    case nd_reduction_min:
        return x < sum || isnan(x) ? x : sum;
    case nd_reduction_prod:
        return sum * x;
    case nd_reduction_l1:
        return sum + fabs(x);
    case nd_reduction_l2:
    case nd_reduction_sum_square:
        return sum + x * x;
    case nd_reduction_log_sum_exp:
        return sum + exp(x - largest);
    case nd_reduction_mean:
    case nd_reduction_sum:
    case nd_reduction_log_sum:
    case nd_reduction_count:
        break;
    }
    return sum + x;
}

static inline double nd_reduction_start(nd_reduction reduction) {
    if (reduction == nd_reduction_max) return -INFINITY;
    if (reduction == nd_reduction_min) return INFINITY;
    return reduction == nd_reduction_prod;
}

static inline double nd_reduction_finish(nd_reduction reduction, double sum, double count, double largest) {
    if (reduction == nd_reduction_mean) return sum / count;
    if (reduction == nd_reduction_l2) return sqrt(sum);
    if (reduction == nd_reduction_log_sum) return log(sum);
    if (reduction == nd_reduction_log_sum_exp) return largest + log(sum);
    return sum;
}

#endif
