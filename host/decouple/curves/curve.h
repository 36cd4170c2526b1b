/* What the network loses by one layer, between the points that were measured (method.md, "Measured curves"
 * and "Quick"). */
#ifndef ND_DECOUPLE_CURVE_H
#define ND_DECOUPLE_CURVE_H

#include <stdint.h>

enum { nd_curve_points = 16 };

/* Loss to the network's output of one layer in one method, at rising ranks. */
typedef struct nd_curve {
    int n;
    int64_t rank[nd_curve_points];
    double loss[nd_curve_points];
} nd_curve;

/* What squared output errors of a layer, falling, do to the scores. */
enum { nd_scale_points = 3 };
typedef struct nd_scale {
    int n;
    double error[nd_scale_points], loss[nd_scale_points];
} nd_scale;

/* More rank never loses more; what measures otherwise is noise. */
void nd_curve_tidy(nd_curve *curve);
/* Linear in both logarithms; the rank is within those of the curve, which has points. */
double nd_curve_at(const nd_curve *curve, int64_t rank);

/* Points in falling order, without those that say nothing. */
void nd_scale_tidy(nd_scale *scale);
/* The loss of an output error: both logarithms linear between the measured points, in proportion outside; the
 * error itself where there are none. */
double nd_scale_at(const nd_scale *scale, double error);

#endif
