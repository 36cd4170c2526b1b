/* Double-precision evaluation of single pixels of a chain of convolutions, for nd_rig_check. */
#ifndef ND_BENCH_RIG_CHECK_H
#define ND_BENCH_RIG_CHECK_H

#include "bench/subjects/rig.h"

/* value[no] and the sum of |w||x| of each (for error bounds) of the last stage at output pixel (y, x) of
 * one image image[ni][in_h][in_w]; no activation. */
nd_status nd_rig_evaluate(const nd_conv *stages, int n, const float *image, int64_t y, int64_t x,
                          double *value, double *scale);

/* Largest relative rounding of one product of this precision, and of a chain of sums of `length` products. */
double nd_rig_rounding(nd_precision precision, int64_t length);

#endif
