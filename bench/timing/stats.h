/* Statistics of timing samples: medians, intervals by resampling, and tests that assume no distribution.
 *
 * Sources: quantiles as Hyndman and Fan's type 7 (1996); percentile bootstrap (Efron and Tibshirani 1993, ch.
 * 13); Mann and Whitney (1947), the normal form with tie and continuity correction; Holm (1979). */
#ifndef ND_BENCH_STATS_H
#define ND_BENCH_STATS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct nd_summary {
    size_t n;
    double median, q1, q3, min;
} nd_summary;

/* NaN throughout when n is 0. */
nd_status nd_stats_summary(const double *samples, size_t n, nd_summary *out);

/* Median of n >= 1 values, which are reordered. */
double nd_stats_median(double *values, size_t n);

/* The mean of the middle half of n >= 1 values, which are reordered: a quarter of them, or a part of one, is
 * left out at each end (Tukey's midmean). */
double nd_stats_midmean(double *values, size_t n);

typedef struct nd_interval {
    double value, lo, hi;
} nd_interval;

/* Two subjects measured together: base[i] and other[i] come from the same block. `count` is how often the
 * group occurs in what is added up (a layer that a network has three times). */
typedef struct nd_pairs {
    const double *base, *other;
    size_t n;
    double count;
    const int64_t *sessions; /* samples of each session, in order, adding up to n; NULL: all of one */
    size_t n_sessions;
} nd_pairs;

/* sum count * centre(base) / sum count * centre(other) with a 95 % percentile bootstrap interval; the centre
 * is the midmean over sessions of each one's median, and the median where there are no sessions. Samples of a
 * session share its state (where the buffers lie, what else the machine does), so sessions are drawn first,
 * with replacement, and then blocks within each, both of a block together, each group on its own (Kalibera
 * and Jones 2013). The same seed gives the same interval. Every group needs n >= 1 and positive samples, else
 * nd_status_format. */
nd_status nd_stats_ratio(const nd_pairs *groups, size_t n_groups, uint64_t seed, nd_interval *out);

/* How a ratio changed between two runs: ratio(b) / ratio(a), with an interval over both runs' resamples. `a`
 * and `b` hold the same groups. The centre is here the first decile over sessions: neighbours and unlucky
 * places of buffers only add time, and in how many sessions they do changes from run to run, so the fast
 * sessions are what two runs of the same code agree on. */
nd_status nd_stats_ratio_change(const nd_pairs *a, const nd_pairs *b, size_t n_groups, uint64_t seed,
                                nd_interval *out);

/* The median of base / other in each session: out[n_sessions], or of all samples in out[0]. Returns
 * how many. */
size_t nd_stats_session_ratios(const nd_pairs *pairs, double *scratch, double *out);

/* The same for times: median(b) / median(a) of two independent runs; `other` is not looked at. */
nd_status nd_stats_time_change(const nd_pairs *a, const nd_pairs *b, uint64_t seed, nd_interval *out);

/* Two-sided p of "a and b come from the same distribution": exact without ties up to 20 values a side, normal
 * otherwise. 1 when either is empty. */
nd_status nd_stats_mann_whitney(const double *a, size_t na, const double *b, size_t nb, double *p);

/* Replaces p-values by Holm's adjusted ones: rejecting those below alpha keeps the chance of any false
 * rejection below alpha. */
nd_status nd_stats_holm(double *p, size_t n);

#endif
