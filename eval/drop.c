#include "eval/drop.h"

#include <math.h>

/* Wilson's 95 % score interval of k out of n. */
typedef struct nd_drop_wilson {
    double share, lo, hi;
} nd_drop_wilson;

static nd_drop_wilson drop_wilson_of(double k, double n) {
    const double z = 1.959963984540054; /* 97.5 % point of the normal distribution */
    const double middle = 2 * k + z * z;
    const double half = z * sqrt(z * z + 4 * k * (1 - k / n));
    const double below = 2 * (n + z * z);
    /* The ends at 0 and n are exact, not what rounding leaves of them. */
    return (nd_drop_wilson){k / n, k > 0 ? (middle - half) / below : 0, k < n ? (middle + half) / below : 1};
}

/* Newcombe's phi: the correlation of the two, a positive one reduced by n/2 in the numerator but not
 * below 0. */
static double drop_correlation(double both, double first, double second, double neither) {
    const double n = both + first + second + neither;
    const double margins = (both + first) * (second + neither) * (both + second) * (first + neither);
    if (margins == 0) return 0;
    double numerator = both * neither - first * second;
    if (numerator > 0) numerator = fmax(numerator - n / 2, 0);
    return numerator / sqrt(margins);
}

nd_drop nd_drop_of(const nd_drop_counts *counts) {
    const double a = (double)counts->both, b = (double)counts->original_only,
                 c = (double)counts->changed_only, d = (double)counts->neither;
    const double n = a + b + c + d;
    if (n == 0) return (nd_drop){NAN, NAN, NAN};
    const nd_drop_wilson original = drop_wilson_of(a + b, n), changed = drop_wilson_of(a + c, n);
    const double phi = drop_correlation(a, b, c, d);
    const double down = original.share - original.lo, up = original.hi - original.share;
    const double changed_down = changed.share - changed.lo, changed_up = changed.hi - changed.share;
    const double below = sqrt(down * down - 2 * phi * down * changed_up + changed_up * changed_up);
    const double above = sqrt(changed_down * changed_down - 2 * phi * changed_down * up + up * up);
    const double difference = (b - c) / n;
    return (nd_drop){100 * difference, 100 * (difference - below), 100 * (difference + above)};
}

nd_drop_counts nd_drop_count(const uint8_t *original, const uint8_t *changed, int64_t n) {
    int64_t cells[2][2] = {{0}};
    for (int64_t i = 0; i < n; i++) cells[original[i] != 0][changed[i] != 0]++;
    return (nd_drop_counts){cells[1][1], cells[1][0], cells[0][1], cells[0][0]};
}
