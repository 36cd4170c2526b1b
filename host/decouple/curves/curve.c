#include "decouple/curves/curve.h"

#include <math.h>

static const double least_loss = 1e-12;

void nd_curve_tidy(nd_curve *curve) {
    for (int p = curve->n - 1; p >= 0; p--) {
        curve->loss[p] = fmax(curve->loss[p], least_loss);
        if (p + 1 < curve->n) curve->loss[p] = fmax(curve->loss[p], curve->loss[p + 1]);
    }
}

double nd_curve_at(const nd_curve *curve, int64_t rank) {
    int p = 0;
    while (p + 2 < curve->n && rank > curve->rank[p + 1]) p++;
    if (curve->n == 1 || curve->loss[p] == curve->loss[p + 1]) return curve->loss[p]; /* not an ulp apart */
    double x0 = log((double)curve->rank[p]), x1 = log((double)curve->rank[p + 1]);
    double share = (log((double)rank) - x0) / (x1 - x0);
    return exp(log(curve->loss[p]) * (1 - share) + log(curve->loss[p + 1]) * share);
}

void nd_scale_tidy(nd_scale *scale) {
    int n = 0;
    for (int p = 0; p < scale->n; p++) {
        const double error = fmax(scale->error[p], least_loss), loss = fmax(scale->loss[p], least_loss);
        if (n && (error >= scale->error[n - 1] || loss >= scale->loss[n - 1])) continue;
        scale->error[n] = error;
        scale->loss[n++] = loss;
    }
    scale->n = n;
}

double nd_scale_at(const nd_scale *scale, double error) {
    int p = scale->n - 2; /* from the largest error to the least */
    if (!scale->n) return error;
    if (error >= scale->error[0]) return scale->loss[0] * error / scale->error[0];
    if (error <= scale->error[scale->n - 1])
        return scale->loss[scale->n - 1] * error / scale->error[scale->n - 1];
    while (p > 0 && error > scale->error[p]) p--;
    const double x0 = log(scale->error[p]), x1 = log(scale->error[p + 1]);
    const double share = (log(error) - x0) / (x1 - x0);
    return exp(log(scale->loss[p]) * (1 - share) + log(scale->loss[p + 1]) * share);
}
