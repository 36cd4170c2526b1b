#include "base/rng.h"
#include "bench/timing/stats.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { many = 64 };

static void fill(double *values, size_t n, double centre, double noise, nd_rng *rng) {
    for (size_t i = 0; i < n; i++) values[i] = centre * exp(noise * nd_rng_normal(rng));
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

Test(stats, summary_of_known_values) {
    const double values[] = {4, 1, 3, 2};
    nd_summary summary;
    cr_assert_eq(nd_stats_summary(values, 4, &summary), nd_status_ok);
    cr_expect_eq(summary.median, 2.5);
    cr_expect_eq(summary.q1, 1.75);
    cr_expect_eq(summary.q3, 3.25);
    cr_expect_eq(summary.min, 1);
    cr_assert_eq(nd_stats_summary(NULL, 0, &summary), nd_status_ok);
    cr_expect(isnan(summary.median));
}

Test(stats, median_is_the_middle_of_the_sorted_values) {
    nd_rng rng = nd_rng_seed(1);
    for (size_t n = 1; n < 40; n++)
        for (int round = 0; round < 20; round++) {
            double values[many], sorted[many];
            for (size_t i = 0; i < n; i++) values[i] = (double)nd_rng_below(&rng, 1 + round);
            memcpy(sorted, values, sizeof sorted);
            qsort(sorted, n, sizeof *sorted, ascending);
            double expected = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
            cr_expect_eq(nd_stats_median(values, n), expected, "n = %zu", n);
        }
}

Test(stats, midmean_is_the_mean_of_the_middle_half) {
    double one[] = {7}, two[] = {1, 3}, four[] = {100, 2, 4, -50}, five[] = {9, 1, 2, 4, 3};
    cr_expect_eq(nd_stats_midmean(one, 1), 7);
    cr_expect_eq(nd_stats_midmean(two, 2), 2);
    cr_expect_eq(nd_stats_midmean(four, 4), 3);
    /* a quarter of five is one and a quarter: of 2 and of 4 three quarters are left */
    cr_expect_float_eq(nd_stats_midmean(five, 5), (0.75 * 2 + 3 + 0.75 * 4) / 2.5, 1e-15);
}

/* Sessions that something else spoiled, in either partner, move neither a ratio nor its end of the interval
 * far. */
Test(stats, spoiled_sessions_do_not_decide) {
    enum { sessions = 24, blocks = 2, n = sessions * blocks };
    nd_rng rng = nd_rng_seed(31);
    double a[n], b[n];
    int64_t sizes[sessions];
    fill(a, n, 2, 0.01, &rng);
    fill(b, n, 1, 0.01, &rng);
    for (int s = 0; s < sessions; s++) sizes[s] = blocks;
    for (int k = 0; k < blocks; k++) {
        a[3 * blocks + k] *= 8;
        b[7 * blocks + k] *= 40;
        b[12 * blocks + k] *= 15;
    }
    nd_pairs pairs = {.base = a, .other = b, .n = n, .count = 1, .sessions = sizes, .n_sessions = sessions};
    nd_interval ratio;
    cr_assert_eq(nd_stats_ratio(&pairs, 1, 31, &ratio), nd_status_ok);
    cr_expect_float_eq(ratio.value, 2, 0.02);
    cr_expect(ratio.lo > 1.95 && ratio.hi < 2.05, "%g to %g", ratio.lo, ratio.hi);
}

Test(stats, ratio_of_a_run_with_itself_is_one) {
    nd_rng rng = nd_rng_seed(2);
    double a[many];
    fill(a, many, 5, 0.2, &rng);
    nd_pairs pairs = {.base = a, .other = a, .n = many, .count = 1};
    nd_interval ratio;
    cr_assert_eq(nd_stats_ratio(&pairs, 1, 3, &ratio), nd_status_ok);
    cr_expect(ratio.value == 1 && ratio.lo == 1 && ratio.hi == 1);
}

Test(stats, ratio_scales_and_repeats) {
    nd_rng rng = nd_rng_seed(3);
    double a[many], b[many], doubled[many];
    fill(a, many, 7, 0.1, &rng);
    fill(b, many, 3, 0.1, &rng);
    for (int i = 0; i < many; i++) doubled[i] = 2 * a[i];
    nd_pairs one = {.base = a, .other = b, .n = many, .count = 1};
    nd_pairs two = {.base = doubled, .other = b, .n = many, .count = 1};
    nd_interval x, y, again;
    cr_assert_eq(nd_stats_ratio(&one, 1, 4, &x), nd_status_ok);
    cr_assert_eq(nd_stats_ratio(&one, 1, 4, &again), nd_status_ok);
    cr_assert_eq(nd_stats_ratio(&two, 1, 4, &y), nd_status_ok);
    cr_expect(x.value == again.value && x.lo == again.lo && x.hi == again.hi);
    cr_expect(y.value == 2 * x.value && y.lo == 2 * x.lo && y.hi == 2 * x.hi);
    cr_expect(x.lo < x.value && x.value < x.hi);
}

/* Noise that both subjects of a block share must not widen the interval: that is what pairing is for. */
Test(stats, noise_shared_by_a_block_cancels) {
    nd_rng rng = nd_rng_seed(5);
    double a[many], b[many], unpaired[many];
    for (int i = 0; i < many; i++) {
        double load = exp(0.3 * nd_rng_normal(&rng));
        a[i] = 6 * load;
        b[i] = 2 * load;
        unpaired[i] = 2 * exp(0.3 * nd_rng_normal(&rng));
    }
    nd_pairs paired = {.base = a, .other = b, .n = many, .count = 1};
    nd_pairs loose = {.base = a, .other = unpaired, .n = many, .count = 1};
    nd_interval tight, wide;
    cr_assert_eq(nd_stats_ratio(&paired, 1, 6, &tight), nd_status_ok);
    cr_assert_eq(nd_stats_ratio(&loose, 1, 6, &wide), nd_status_ok);
    cr_expect_float_eq(tight.value, 3, 1e-12);
    cr_expect_lt(tight.hi - tight.lo, 1e-9);
    cr_expect_gt(wide.hi - wide.lo, 0.1);
}

Test(stats, sums_weigh_groups_by_their_count) {
    const double two[] = {2, 2, 2}, three[] = {3, 3, 3}, one[] = {1, 1, 1};
    nd_pairs groups[] = {{.base = two, .other = one, .n = 3, .count = 1},
                         {.base = three, .other = two, .n = 3, .count = 4}};
    nd_interval ratio;
    cr_assert_eq(nd_stats_ratio(groups, 2, 7, &ratio), nd_status_ok);
    cr_expect_eq(ratio.value, (2.0 + 4 * 3) / (1.0 + 4 * 2));
    cr_expect(ratio.lo == ratio.value && ratio.hi == ratio.value);
}

/* The 95 % interval holds the true ratio about 95 times in 100; seeded, so the count is always the same. */
Test(stats, interval_covers) {
    nd_rng rng = nd_rng_seed(8);
    int covered = 0, rounds = 200;
    for (int round = 0; round < rounds; round++) {
        double a[40], b[40];
        fill(a, 40, 9, 0.05, &rng);
        fill(b, 40, 3, 0.05, &rng);
        nd_pairs pairs = {.base = a, .other = b, .n = 40, .count = 1};
        nd_interval ratio;
        cr_assert_eq(nd_stats_ratio(&pairs, 1, (uint64_t)round, &ratio), nd_status_ok);
        covered += ratio.lo <= 3 && 3 <= ratio.hi;
    }
    cr_expect(covered >= 180 && covered <= 198, "%d of %d", covered, rounds);
}

Test(stats, change_of_a_ratio) {
    nd_rng rng = nd_rng_seed(9);
    double dense[many], before[many], after[many];
    fill(dense, many, 9, 0.01, &rng);
    fill(before, many, 3, 0.01, &rng);
    for (int i = 0; i < many; i++) after[i] = before[i] * 1.05;
    nd_pairs a = {.base = dense, .other = before, .n = many, .count = 1};
    nd_pairs b = {.base = dense, .other = after, .n = many, .count = 1};
    nd_interval change, slower;
    cr_assert_eq(nd_stats_ratio_change(&a, &b, 1, 10, &change), nd_status_ok);
    cr_expect_float_eq(change.value, 1 / 1.05, 1e-12);
    cr_expect(change.lo < change.value && change.value < change.hi && change.hi < 1);
    nd_pairs old_time = {.base = before, .n = many}, new_time = {.base = after, .n = many};
    cr_assert_eq(nd_stats_time_change(&old_time, &new_time, 10, &slower), nd_status_ok);
    cr_expect_float_eq(slower.value, 1.05, 1e-12);
    cr_expect_gt(slower.lo, 1);
}

/* Two runs of the same code of which one had the slow kind of buffers in a quarter of its sessions, the other
 * in three: no change; and 5 % more in both kinds is 5 %. */
Test(stats, change_looks_at_fast_sessions) {
    enum { sessions = 40, blocks = 6, all = sessions * blocks };
    nd_rng rng = nd_rng_seed(15);
    double dense[all], few[all], most[all];
    int64_t sizes[sessions];
    fill(dense, all, 9, 0.01, &rng);
    fill(few, all, 3, 0.01, &rng);
    fill(most, all, 3, 0.01, &rng);
    for (int s = 0; s < sessions; s++) {
        sizes[s] = blocks;
        for (int i = s * blocks; i < (s + 1) * blocks; i++) {
            if (s % 4 == 0) few[i] *= 1.15;
            if (s % 4 != 0) most[i] *= 1.15;
        }
    }
    nd_pairs a = {
        .base = dense, .other = few, .n = all, .count = 1, .sessions = sizes, .n_sessions = sessions};
    nd_pairs b = a;
    b.other = most;
    nd_interval change;
    cr_assert_eq(nd_stats_ratio_change(&a, &b, 1, 16, &change), nd_status_ok);
    cr_expect_float_eq(change.value, 1, 0.01, "%g", change.value);
    cr_expect(change.lo > 0.95 && change.hi < 1.05, "%g..%g", change.lo, change.hi);
    for (int i = 0; i < all; i++) most[i] *= 1.05;
    cr_assert_eq(nd_stats_ratio_change(&a, &b, 1, 16, &change), nd_status_ok);
    cr_expect_float_eq(change.value, 1 / 1.05, 0.01, "%g", change.value);
}

/* A shift that all blocks of a session share shows only between sessions: the interval must be as wide as
 * that. */
Test(stats, interval_is_over_sessions) {
    enum { sessions = 8, blocks = 8 };
    nd_rng rng = nd_rng_seed(14);
    int covered[2] = {0}, rounds = 100;
    for (int round = 0; round < rounds; round++) {
        double a[many], b[many];
        int64_t sizes[sessions];
        for (int s = 0; s < sessions; s++) {
            double shift = exp(0.03 * nd_rng_normal(&rng));
            sizes[s] = blocks;
            for (int k = 0; k < blocks; k++) {
                a[s * blocks + k] = 2 * shift * exp(0.003 * nd_rng_normal(&rng));
                b[s * blocks + k] = exp(0.003 * nd_rng_normal(&rng));
            }
        }
        for (int clustered = 0; clustered < 2; clustered++) {
            nd_pairs pairs = {.base = a, .other = b, .n = many, .count = 1};
            pairs.sessions = clustered ? sizes : NULL;
            pairs.n_sessions = clustered ? sessions : 0;
            nd_interval ratio;
            cr_assert_eq(nd_stats_ratio(&pairs, 1, (uint64_t)round, &ratio), nd_status_ok);
            covered[clustered] += ratio.lo <= 2 && 2 <= ratio.hi;
        }
    }
    cr_expect(covered[1] >= 80, "over sessions: %d of %d", covered[1], rounds);
    cr_expect(covered[0] < 70, "over blocks alone it would be %d of %d", covered[0], rounds);
}

Test(stats, ratios_of_sessions) {
    const double a[] = {2, 4, 6, 9}, b[] = {1, 2, 2, 3};
    const int64_t sizes[] = {1, 3};
    double scratch[4], out[4];
    nd_pairs pairs = {.base = a, .other = b, .n = 4, .sessions = sizes, .n_sessions = 2};
    cr_assert_eq(nd_stats_session_ratios(&pairs, scratch, out), 2);
    cr_expect(out[0] == 2 && out[1] == 3);
    pairs.n_sessions = 0;
    cr_assert_eq(nd_stats_session_ratios(&pairs, scratch, out), 1);
    cr_expect_eq(out[0], 2.5);
}

Test(stats, bad_samples_are_refused) {
    const double good[] = {1, 2}, bad[] = {1, 0};
    const int64_t three[] = {3};
    nd_pairs none = {.base = good, .other = good, .count = 1};
    nd_pairs zero = {.base = good, .other = bad, .n = 2, .count = 1};
    nd_pairs torn = {.base = good, .other = good, .n = 2, .count = 1, .sessions = three, .n_sessions = 1};
    nd_interval out;
    cr_expect_eq(nd_stats_ratio(&none, 1, 1, &out), nd_status_format);
    cr_expect_eq(nd_stats_ratio(&zero, 1, 1, &out), nd_status_format);
    cr_expect_eq(nd_stats_ratio(&torn, 1, 1, &out), nd_status_format);
    cr_expect_eq(nd_stats_ratio(NULL, 0, 1, &out), nd_status_usage);
}

static double pair_count(const double *a, size_t na, const double *b, size_t nb) {
    double u = 0;
    for (size_t i = 0; i < na; i++)
        for (size_t k = 0; k < nb; k++) u += (a[i] > b[k]) + 0.5 * (a[i] == b[k]);
    return u;
}

/* By definition: over every split of the pooled values into na and nb, how often U is at least as far from
 * its middle. */
static double permutation_p(const double *a, size_t na, const double *b, size_t nb) {
    double pooled[16], x[16], y[16], middle = (double)(na * nb) / 2;
    memcpy(pooled, a, na * sizeof *a);
    memcpy(pooled + na, b, nb * sizeof *b);
    double seen = fabs(pair_count(a, na, b, nb) - middle);
    int64_t far = 0, all = 0;
    for (unsigned mask = 0; mask < 1u << (na + nb); mask++) {
        size_t in_x = 0, in_y = 0;
        for (size_t i = 0; i < na + nb; i++) *(mask >> i & 1 ? &x[in_x++] : &y[in_y++]) = pooled[i];
        if (in_x != na) continue;
        all++;
        far += fabs(pair_count(x, na, y, nb) - middle) >= seen - 1e-9;
    }
    return (double)far / (double)all;
}

Test(stats, mann_whitney_is_exact_for_small_samples) {
    nd_rng rng = nd_rng_seed(11);
    for (size_t na = 1; na <= 6; na++)
        for (size_t nb = 1; nb <= 6; nb++)
            for (int round = 0; round < 3; round++) {
                double a[6], b[6], p;
                for (size_t i = 0; i < na; i++) a[i] = nd_rng_uniform(&rng) + 0.3 * round;
                for (size_t i = 0; i < nb; i++) b[i] = nd_rng_uniform(&rng);
                cr_assert_eq(nd_stats_mann_whitney(a, na, b, nb, &p), nd_status_ok);
                double expected = permutation_p(a, na, b, nb);
                cr_expect_float_eq(p, expected, 1e-12, "%zu and %zu: %g, by definition %g", na, nb, p,
                                   expected);
            }
}

Test(stats, mann_whitney_known_values) {
    const double low[] = {1, 2, 3, 4, 5}, high[] = {6, 7, 8, 9, 10}, mixed[] = {5.5, 1.5, 2.5, 3.5, 9};
    double p;
    cr_assert_eq(nd_stats_mann_whitney(low, 5, high, 5, &p), nd_status_ok);
    cr_expect_float_eq(p, 2.0 / 252, 1e-15);
    cr_assert_eq(nd_stats_mann_whitney(low, 3, high, 3, &p), nd_status_ok);
    cr_expect_float_eq(p, 0.1, 1e-15);
    double forwards, backwards;
    nd_stats_mann_whitney(low, 5, mixed, 5, &forwards);
    nd_stats_mann_whitney(mixed, 5, low, 5, &backwards);
    cr_expect_eq(forwards, backwards);
    cr_assert_eq(nd_stats_mann_whitney(low, 0, high, 5, &p), nd_status_ok);
    cr_expect_eq(p, 1);
}

Test(stats, mann_whitney_normal_form_is_near_the_exact_one) {
    nd_rng rng = nd_rng_seed(12);
    for (int round = 0; round < 10; round++) {
        double a[7], b[7], normal;
        for (int i = 0; i < 7; i++) {
            a[i] = (double)nd_rng_below(&rng, 6) + round * 0.25;
            b[i] = (double)nd_rng_below(&rng, 6);
        }
        a[0] = b[0]; /* a tie, so that the normal form is taken */
        cr_assert_eq(nd_stats_mann_whitney(a, 7, b, 7, &normal), nd_status_ok);
        cr_expect_float_eq(normal, permutation_p(a, 7, b, 7), 0.06);
    }
    const double same[] = {2, 2, 2, 2};
    double p;
    cr_assert_eq(nd_stats_mann_whitney(same, 4, same, 4, &p), nd_status_ok);
    cr_expect_eq(p, 1);
}

/* Under the null p is uniform: about a twentieth of them lies below 0.05, with large samples too. */
Test(stats, mann_whitney_keeps_its_level) {
    nd_rng rng = nd_rng_seed(13);
    int below = 0, rounds = 1000;
    for (int round = 0; round < rounds; round++) {
        double a[30], b[40], p;
        fill(a, 30, 1, 0.1, &rng);
        fill(b, 40, 1, 0.1, &rng);
        cr_assert_eq(nd_stats_mann_whitney(a, 30, b, 40, &p), nd_status_ok);
        below += p < 0.05;
    }
    cr_expect(below >= 30 && below <= 70, "%d of %d", below, rounds);
}

Test(stats, holm_known_values) {
    double p[] = {0.01, 0.04, 0.03, 0.005};
    const double expected[] = {0.03, 0.06, 0.06, 0.02};
    cr_assert_eq(nd_stats_holm(p, 4), nd_status_ok);
    for (int i = 0; i < 4; i++) cr_expect_float_eq(p[i], expected[i], 1e-15);
    double large[] = {0.9, 0.8};
    cr_assert_eq(nd_stats_holm(large, 2), nd_status_ok);
    cr_expect(large[0] == 1 && large[1] == 1);
    cr_expect_eq(nd_stats_holm(NULL, 0), nd_status_ok);
}
