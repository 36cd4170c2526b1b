#include "decouple/fit/combine_rows.h"

#include "base/machine/clones.h"

#include <string.h>

ND_CLONES static void add_one(double *restrict y, const double *restrict x, double weight, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += weight * x[i];
}

/* gcc exports the dispatcher of a function with clones, whatever its visibility; a static one has none. */
void nd_add_scaled(double *restrict y, const double *restrict x, double weight, int64_t n) {
    add_one(y, x, weight, n);
}

/* Four rows at a time: y is read and written a quarter as often. */
ND_CLONES static void add_four(const double *restrict a, const double *restrict b, const double *restrict c,
                               const double *restrict d, const double *weight, int64_t n,
                               double *restrict y) {
    const double wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3];
    for (int64_t i = 0; i < n; i++) y[i] = (((y[i] + wa * a[i]) + wb * b[i]) + wc * c[i]) + wd * d[i];
}

void nd_combine_rows(const double *rows, int64_t stride, const int32_t *index, const double *weight,
                     int64_t entries, int64_t n, double *restrict y) {
    int64_t e = 0;
    memset(y, 0, (size_t)n * sizeof *y);
    for (; e + 4 <= entries; e += 4)
        add_four(rows + index[e] * stride, rows + index[e + 1] * stride, rows + index[e + 2] * stride,
                 rows + index[e + 3] * stride, weight + e, n, y);
    for (; e < entries; e++) add_one(y, rows + index[e] * stride, weight[e], n);
}
