#include "bench/timing/stats.h"

#include "base/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { resamples = 1000 };

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double *copy_of(const double *values, size_t n) {
    double *copy = malloc((n ? n : 1) * sizeof *copy);
    if (copy && n) memcpy(copy, values, n * sizeof *copy);
    return copy;
}

/* The p-quantile, 0 <= p <= 1, n >= 1; `sorted` ascends. */
static double quantile(const double *sorted, size_t n, double p) {
    double at = p * (double)(n - 1);
    size_t below = (size_t)at;
    if (below + 1 >= n) return sorted[n - 1];
    return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

nd_status nd_stats_summary(const double *samples, size_t n, nd_summary *out) {
    *out = (nd_summary){.n = n, .median = NAN, .q1 = NAN, .q3 = NAN, .min = NAN};
    if (!n) return nd_status_ok;
    double *sorted = copy_of(samples, n);
    ND_REQUIRE(sorted, nd_status_memory, "statistics: out of memory");
    qsort(sorted, n, sizeof *sorted, ascending);
    out->median = quantile(sorted, n, 0.5);
    out->q1 = quantile(sorted, n, 0.25);
    out->q3 = quantile(sorted, n, 0.75);
    out->min = sorted[0];
    free(sorted);
    return nd_status_ok;
}

/* Hoare's selection: values[k] becomes what it would be if sorted, smaller ones before it. */
static void select_kth(double *values, size_t n, size_t k) {
    size_t lo = 0, hi = n - 1;
    while (lo < hi) {
        double pivot = values[lo + (hi - lo) / 2];
        size_t i = lo, j = hi;
        for (;;) {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i >= j) break;
            double swap = values[i];
            values[i++] = values[j];
            values[j--] = swap;
        }
        if (k <= j)
            hi = j;
        else
            lo = j + 1;
    }
}

double nd_stats_median(double *values, size_t n) {
    size_t k = (n - 1) / 2;
    select_kth(values, n, k);
    if (n % 2) return values[k];
    double next = values[k + 1];
    for (size_t i = k + 2; i < n; i++)
        if (values[i] < next) next = values[i];
    return (values[k] + next) / 2;
}

/* Scratch for one resample: the samples of a session, and the medians of all sessions. */
typedef struct scratch {
    double *base, *other;
    double *base_medians, *other_medians;
} scratch;

static bool sessions_fit(const nd_pairs *group) {
    int64_t total = 0;
    for (size_t s = 0; s < group->n_sessions; s++) {
        if (group->sessions[s] < 1) return false;
        total += group->sessions[s];
    }
    return !group->n_sessions || total == (int64_t)group->n;
}

static void scratch_free(scratch *space) {
    free(space->base);
    free(space->other);
    free(space->base_medians);
    free(space->other_medians);
}

static nd_status scratch_new(const nd_pairs *groups, size_t n_groups, scratch *out) {
    size_t most = 1, sessions = 1;
    for (size_t g = 0; g < n_groups; g++) {
        ND_REQUIRE(groups[g].n, nd_status_format, "statistics: a group has no samples");
        ND_REQUIRE(sessions_fit(&groups[g]), nd_status_format,
                   "statistics: sessions do not add up to the samples");
        if (groups[g].n > most) most = groups[g].n;
        if (groups[g].n_sessions > sessions) sessions = groups[g].n_sessions;
        for (size_t i = 0; i < groups[g].n; i++)
            ND_REQUIRE(groups[g].base[i] > 0 && groups[g].other[i] > 0, nd_status_format,
                       "statistics: a time is not positive");
    }
    *out = (scratch){
        .base = malloc(most * sizeof *out->base),
        .other = malloc(most * sizeof *out->other),
        .base_medians = malloc(sessions * sizeof *out->base_medians),
        .other_medians = malloc(sessions * sizeof *out->other_medians),
    };
    if (out->base && out->other && out->base_medians && out->other_medians) return nd_status_ok;
    scratch_free(out);
    return nd_fail(nd_status_memory, "statistics: out of memory");
}

/* Medians of `size` samples from `first` on, drawn with replacement when `rng` is given, of both partners. */
static void take_medians(const nd_pairs *group, size_t first, size_t size, nd_rng *rng, scratch *space,
                         size_t session) {
    for (size_t i = 0; i < size; i++) {
        size_t pick = first + (rng ? (size_t)nd_rng_below(rng, (int64_t)size) : i);
        space->base[i] = group->base[pick];
        space->other[i] = group->other[pick];
    }
    space->base_medians[session] = nd_stats_median(space->base, size);
    space->other_medians[session] = nd_stats_median(space->other, size);
}

double nd_stats_midmean(double *values, size_t n) {
    qsort(values, n, sizeof *values, ascending);
    double cut = (double)n / 4, sum = 0;
    for (size_t i = 0; i < n; i++) {
        double kept = fmin((double)(i + 1), (double)n - cut) - fmax((double)i, cut);
        if (kept > 0) sum += kept * values[i];
    }
    return sum / ((double)n - 2 * cut);
}

static double decile(double *values, size_t n) {
    qsort(values, n, sizeof *values, ascending);
    return quantile(values, n, 0.1);
}

/* What stands for all sessions of a run, from the median of each. */
typedef double session_centre(double *medians, size_t n);

/* The median stands against single samples, the centre over sessions against sessions in which something else
 * had the processor most of the time. Where sessions fall into two groups, which buffers and neighbours bring
 * about, the midmean does not jump from one group to the other as a median over sessions would, and the first
 * decile is that of the fast group, however many there are of the slow one. */
static void centre_of(const nd_pairs *group, session_centre *centre, nd_rng *rng, scratch *space,
                      double *base, double *other) {
    size_t count = group->n_sessions > 1 ? group->n_sessions : 1;
    if (count == 1) take_medians(group, 0, group->n, rng, space, 0);
    for (size_t s = 0, first; s < group->n_sessions && count > 1; s++) {
        size_t pick = rng ? (size_t)nd_rng_below(rng, (int64_t)count) : s;
        for (size_t k = first = 0; k < pick; k++) first += (size_t)group->sessions[k];
        take_medians(group, first, (size_t)group->sessions[pick], rng, space, s);
    }
    *base = centre(space->base_medians, count);
    *other = centre(space->other_medians, count);
}

/* The ratio of sums; of a resample when `rng` is given, of the samples themselves otherwise. */
static double ratio_of(const nd_pairs *groups, size_t n_groups, session_centre *centre, nd_rng *rng,
                       scratch *space) {
    double base = 0, other = 0;
    for (size_t g = 0; g < n_groups; g++) {
        double a, b;
        centre_of(&groups[g], centre, rng, space, &a, &b);
        base += groups[g].count * a;
        other += groups[g].count * b;
    }
    return base / other;
}

size_t nd_stats_session_ratios(const nd_pairs *pairs, double *space, double *out) {
    const int64_t all = (int64_t)pairs->n;
    const int64_t *sessions = pairs->n_sessions ? pairs->sessions : &all;
    size_t count = pairs->n_sessions ? pairs->n_sessions : 1, first = 0;
    for (size_t s = 0; s < count; s++) {
        size_t n = (size_t)sessions[s];
        for (size_t i = 0; i < n; i++) space[i] = pairs->base[first + i] / pairs->other[first + i];
        out[s] = nd_stats_median(space, n);
        first += n;
    }
    return count;
}

static void interval_of(double *draws, nd_interval *out) {
    qsort(draws, resamples, sizeof *draws, ascending);
    out->lo = quantile(draws, resamples, 0.025);
    out->hi = quantile(draws, resamples, 0.975);
}

nd_status nd_stats_ratio(const nd_pairs *groups, size_t n_groups, uint64_t seed, nd_interval *out) {
    scratch space;
    ND_REQUIRE(n_groups, nd_status_usage, "statistics: nothing to compare");
    ND_TRY(scratch_new(groups, n_groups, &space));
    nd_rng rng = nd_rng_seed(seed);
    double draws[resamples];
    out->value = ratio_of(groups, n_groups, nd_stats_midmean, NULL, &space);
    for (int i = 0; i < resamples; i++) draws[i] = ratio_of(groups, n_groups, nd_stats_midmean, &rng, &space);
    interval_of(draws, out);
    scratch_free(&space);
    return nd_status_ok;
}

nd_status nd_stats_ratio_change(const nd_pairs *a, const nd_pairs *b, size_t n_groups, uint64_t seed,
                                nd_interval *out) {
    scratch space_a, space_b;
    ND_REQUIRE(n_groups, nd_status_usage, "statistics: nothing to compare");
    ND_TRY(scratch_new(a, n_groups, &space_a));
    nd_status status = scratch_new(b, n_groups, &space_b);
    if (status) {
        scratch_free(&space_a);
        return status;
    }
    nd_rng rng = nd_rng_seed(seed);
    double draws[resamples];
    out->value =
        ratio_of(b, n_groups, decile, NULL, &space_b) / ratio_of(a, n_groups, decile, NULL, &space_a);
    for (int i = 0; i < resamples; i++) {
        double before = ratio_of(a, n_groups, decile, &rng, &space_a);
        draws[i] = ratio_of(b, n_groups, decile, &rng, &space_b) / before;
    }
    interval_of(draws, out);
    scratch_free(&space_a);
    scratch_free(&space_b);
    return nd_status_ok;
}

/* A time is the ratio to a partner that always takes 1. */
nd_status nd_stats_time_change(const nd_pairs *a, const nd_pairs *b, uint64_t seed, nd_interval *out) {
    size_t most = a->n > b->n ? a->n : b->n;
    double *one = malloc((most ? most : 1) * sizeof *one);
    ND_REQUIRE(one, nd_status_memory, "statistics: out of memory");
    for (size_t i = 0; i < most; i++) one[i] = 1;
    nd_pairs before = *a, after = *b;
    before.other = after.other = one;
    before.count = after.count = 1;
    nd_status status = nd_stats_ratio_change(&before, &after, 1, seed, out);
    free(one);
    return status;
}

typedef struct ranked {
    double value;
    bool first; /* of sample a */
} ranked;

static int ranked_ascending(const void *a, const void *b) {
    return ascending(&((const ranked *)a)->value, &((const ranked *)b)->value);
}

/* Sum of the ranks of sample a (ties share the mean rank), and sum of t^3 - t over groups of t
 * tied values. */
static void rank_sums(const ranked *all, size_t n, double *ranks_a, double *ties) {
    *ranks_a = *ties = 0;
    for (size_t i = 0, end; i < n; i = end) {
        size_t in_a = 0;
        for (end = i; end < n && all[end].value == all[i].value; end++) in_a += all[end].first;
        double tied = (double)(end - i), mean_rank = (double)(i + 1 + end) / 2;
        *ranks_a += mean_rank * (double)in_a;
        *ties += tied * tied * tied - tied;
    }
}

/* P(U <= u) from the number of arrangements with each U: the coefficients of the Gaussian binomial
 * prod (1 - x^(nb+i)) / (1 - x^i), i = 1..na, built factor by factor. */
static nd_status exact_tail(size_t na, size_t nb, double u, double *p) {
    size_t degree = na * nb;
    double *counts = calloc(degree + 1, sizeof *counts);
    ND_REQUIRE(counts, nd_status_memory, "statistics: out of memory");
    counts[0] = 1;
    for (size_t i = 1; i <= na; i++) {
        for (size_t k = degree; k >= nb + i; k--) counts[k] -= counts[k - nb - i];
        for (size_t k = i; k <= degree; k++) counts[k] += counts[k - i];
    }
    double below = 0, all = 0;
    for (size_t k = 0; k <= degree; k++) {
        all += counts[k];
        if ((double)k <= u) below += counts[k];
    }
    free(counts);
    *p = below / all;
    return nd_status_ok;
}

nd_status nd_stats_mann_whitney(const double *a, size_t na, const double *b, size_t nb, double *p) {
    enum { exact_limit = 20 };
    *p = 1;
    if (!na || !nb) return nd_status_ok;
    size_t n = na + nb;
    ranked *all = malloc(n * sizeof *all);
    ND_REQUIRE(all, nd_status_memory, "statistics: out of memory");
    for (size_t i = 0; i < na; i++) all[i] = (ranked){a[i], true};
    for (size_t i = 0; i < nb; i++) all[na + i] = (ranked){b[i], false};
    qsort(all, n, sizeof *all, ranked_ascending);
    double ranks_a, ties;
    rank_sums(all, n, &ranks_a, &ties);
    free(all);

    double pairs = (double)na * (double)nb;
    double u = ranks_a - (double)na * ((double)na + 1) / 2;
    double smaller = u < pairs - u ? u : pairs - u;
    if (ties == 0 && na <= exact_limit && nb <= exact_limit) {
        ND_TRY(exact_tail(na, nb, smaller, p));
        *p = *p * 2 < 1 ? *p * 2 : 1;
        return nd_status_ok;
    }
    double total = (double)n;
    double variance = pairs / 12 * (total + 1 - ties / (total * (total - 1)));
    if (variance <= 0) return nd_status_ok; /* all values equal */
    double distance = pairs / 2 - smaller - 0.5;
    *p = distance <= 0 ? 1 : erfc(distance / sqrt(2 * variance));
    return nd_status_ok;
}

typedef struct indexed {
    double p;
    size_t index;
} indexed;

static int indexed_ascending(const void *a, const void *b) {
    return ascending(&((const indexed *)a)->p, &((const indexed *)b)->p);
}

nd_status nd_stats_holm(double *p, size_t n) {
    indexed *order = malloc((n ? n : 1) * sizeof *order);
    ND_REQUIRE(order, nd_status_memory, "statistics: out of memory");
    for (size_t i = 0; i < n; i++) order[i] = (indexed){p[i], i};
    qsort(order, n, sizeof *order, indexed_ascending);
    double highest = 0;
    for (size_t i = 0; i < n; i++) {
        double adjusted = order[i].p * (double)(n - i);
        if (adjusted > 1) adjusted = 1;
        if (adjusted > highest) highest = adjusted;
        p[order[i].index] = highest;
    }
    free(order);
    return nd_status_ok;
}
