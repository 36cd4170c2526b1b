/* Sums of rows with weights, the inner loops of fits. A sum is of its terms in their order. */
#ifndef ND_DECOUPLE_COMBINE_ROWS_H
#define ND_DECOUPLE_COMBINE_ROWS_H

#include <stdint.h>

/* y[n] += weight x[n] */
void nd_add_scaled(double *restrict y, const double *restrict x, double weight, int64_t n);

/* y[n] = sum over e of weight[e] rows[index[e]][n], of rows that are `stride` apart. */
void nd_combine_rows(const double *rows, int64_t stride, const int32_t *index, const double *weight,
                     int64_t entries, int64_t n, double *restrict y);

#endif
