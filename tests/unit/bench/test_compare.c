/* The gate on synthetic measurements: seeded noise, drift between runs, planted changes. */
#include "base/rng.h"
#include "base/rows/row_write.h"
#include "bench/gate/compare.h"
#include "bench/timing/pairing.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { layers = 5, per_layer = 2, rows_of_run = layers * per_layer + 2, blocks = 40 };

typedef struct machine {
    uint64_t seed;
    double noise;   /* of a sample */
    double speed;   /* of everything: another clock */
    double planted; /* factor on the decoupled time */
    double peak;
} machine;

static void key_fields(nd_row *row, const char *implementation, const char *layer) {
    nd_row_set_int(row, nd_field_schema, 1);
    nd_row_set_text(row, nd_field_verb, "bench");
    nd_row_set_text(row, nd_field_model, "synthetic");
    nd_row_set_text(row, nd_field_backend, "cpu");
    nd_row_set_text(row, nd_field_device, "a machine");
    nd_row_set_text(row, nd_field_host_cpu, "a processor");
    nd_row_set_text(row, nd_field_dtype, "fp32");
    nd_row_set_int(row, nd_field_batch, 1);
    nd_row_set_int(row, nd_field_threads, 2);
    nd_row_set_flag(row, nd_field_cold, true);
    nd_row_set_text(row, nd_field_implementation, implementation);
    nd_row_set_text(row, nd_field_layer, layer);
    bool dense = !strcmp(implementation, "dense");
    nd_row_set_text(row, nd_field_method, dense ? "none" : "dwpw");
    if (!dense) nd_row_set_int(row, nd_field_rank, 3);
}

static void set_times(nd_row *row, const double *samples, const double *dense, const machine *m) {
    nd_summary summary;
    nd_pairs pairs = {.base = dense, .other = samples, .n = blocks, .count = 1};
    nd_interval ratio;
    cr_assert_eq(nd_stats_summary(samples, blocks, &summary), nd_status_ok);
    cr_assert_eq(nd_stats_ratio(&pairs, 1, 1, &ratio), nd_status_ok);
    nd_row_set_reals(row, nd_field_samples_ns, samples, blocks);
    nd_row_set_real(row, nd_field_ns_median, summary.median);
    nd_row_set_real(row, nd_field_ratio, ratio.value);
    nd_row_set_real(row, nd_field_peak_gflops, m->peak);
    nd_row_set_real(row, nd_field_peak_gbps, m->peak / 10);
    nd_row_set_int(row, nd_field_layers, 2);
}

/* One run: dense and fused per layer, load shared within a block, and the stacks. */
static nd_row *make_run(machine m) {
    nd_rng rng = nd_rng_seed(m.seed);
    nd_row *rows = calloc(rows_of_run, sizeof *rows);
    cr_assert(rows);
    for (int l = 0; l < layers; l++) {
        char name[16];
        double dense[blocks], fused[blocks];
        snprintf(name, sizeof name, "conv%d", l);
        for (int b = 0; b < blocks; b++) {
            double load = m.speed * exp(0.1 * nd_rng_normal(&rng));
            dense[b] = 1e6 * (l + 1) * load * exp(m.noise * nd_rng_normal(&rng));
            fused[b] = 4e5 * (l + 1) * load * m.planted * exp(m.noise * nd_rng_normal(&rng));
        }
        key_fields(&rows[2 * l], "dense", name);
        key_fields(&rows[2 * l + 1], "fused", name);
        set_times(&rows[2 * l], dense, dense, &m);
        set_times(&rows[2 * l + 1], fused, dense, &m);
    }
    for (int s = 0; s < 2; s++) {
        nd_row *stack = &rows[2 * layers + s];
        key_fields(stack, s ? "fused" : "dense", "conv stack");
        double ns = 0;
        for (int l = 0; l < layers; l++) ns += 2 * rows[2 * l + s].values[nd_field_ns_median].r;
        nd_row_set_real(stack, nd_field_ns_median, ns);
        nd_row_set_real(stack, nd_field_ratio, s ? 2.5 / m.planted : 1);
    }
    return rows;
}

static const machine quiet = {.seed = 1, .noise = 0.01, .speed = 1, .planted = 1, .peak = 100};

static nd_comparison compare_runs(machine a, machine b, nd_row **base, nd_row **now) {
    nd_compare_settings settings = nd_compare_defaults();
    nd_comparison out;
    *base = make_run(a);
    *now = make_run(b);
    cr_assert_eq(nd_compare(*base, rows_of_run, *now, rows_of_run, &settings, &out), nd_status_ok, "%s",
                 nd_error());
    return out;
}

static void release(nd_comparison *comparison, nd_row *base, nd_row *now) {
    nd_comparison_free(comparison);
    nd_rows_free(base, rows_of_run);
    nd_rows_free(now, rows_of_run);
}

static nd_verdict overall(machine a, machine b) {
    nd_row *base, *now;
    nd_comparison out = compare_runs(a, b, &base, &now);
    nd_verdict verdict = out.overall;
    release(&out, base, now);
    return verdict;
}

/* A/A: another seed is another run of the same build. */
Test(compare, the_same_build_is_never_slower_or_faster) {
    for (uint64_t seed = 2; seed < 14; seed++) {
        machine again = quiet;
        again.seed = seed;
        nd_row *base, *now;
        nd_comparison out = compare_runs(quiet, again, &base, &now);
        cr_expect_eq(out.overall, nd_verdict_same, "seed %d: %s", (int)seed, nd_verdict_name(out.overall));
        for (size_t i = 0; i < out.n; i++)
            cr_expect(out.rows[i].verdict != nd_verdict_slower && out.rows[i].verdict != nd_verdict_faster);
        release(&out, base, now);
    }
}

Test(compare, five_per_cent_slower_is_found) {
    int found = 0;
    for (uint64_t seed = 2; seed < 12; seed++) {
        machine slow = quiet;
        slow.seed = seed;
        slow.planted = 1.05;
        nd_verdict verdict = overall(quiet, slow);
        found += verdict == nd_verdict_slower;
        cr_expect(verdict != nd_verdict_faster);
    }
    cr_expect_geq(found, 9);
}

Test(compare, faster_is_found_and_passes) {
    machine fast = quiet;
    fast.seed = 5;
    fast.planted = 0.9;
    nd_row *base, *now;
    nd_comparison out = compare_runs(quiet, fast, &base, &now);
    cr_expect_eq(out.overall, nd_verdict_faster);
    cr_expect_eq(nd_compare_status(&out), nd_status_ok);
    release(&out, base, now);
}

/* A slower clock slows dense and decoupled alike: the ratio holds, and the moved peaks explain the dense
 * times. */
Test(compare, a_slower_machine_is_not_a_slower_build) {
    machine throttled = quiet;
    throttled.seed = 6;
    throttled.speed = 1.6;
    throttled.peak = quiet.peak / 1.6;
    nd_row *base, *now;
    nd_comparison out = compare_runs(quiet, throttled, &base, &now);
    cr_expect_eq(out.overall, nd_verdict_same);
    for (size_t i = 0; i < out.n; i++) cr_expect(out.rows[i].verdict != nd_verdict_slower);
    release(&out, base, now);
}

Test(compare, a_slower_dense_baseline_is_seen_when_the_peaks_held) {
    machine slow = quiet;
    slow.seed = 7;
    slow.speed = 1.6;
    nd_row *base, *now;
    nd_comparison out = compare_runs(quiet, slow, &base, &now);
    cr_expect_eq(out.overall, nd_verdict_slower);
    cr_expect_eq(nd_compare_status(&out), nd_status_failed);
    release(&out, base, now);
}

Test(compare, noise_gives_unsure_not_a_guess) {
    machine noisy = quiet, planted = quiet;
    noisy.noise = planted.noise = 0.6;
    planted.seed = 8;
    planted.planted = 1.04;
    nd_row *base, *now;
    nd_comparison out = compare_runs(noisy, planted, &base, &now);
    cr_expect_eq(out.overall, nd_verdict_unsure);
    cr_expect_eq(nd_compare_status(&out), nd_status_inconclusive);
    release(&out, base, now);
}

/* Six busy neighbours can make every ratio of a run a multiple of what it is, with an interval to match. */
Test(compare, a_vague_change_is_no_verdict) {
    for (uint64_t seed = 2; seed < 8; seed++) {
        machine busy = quiet;
        busy.seed = seed;
        busy.noise = 1.5;
        busy.planted = 0.2;
        cr_expect_eq(overall(quiet, busy), nd_verdict_unsure);
    }
}

Test(compare, tiny_times_need_an_absolute_change) {
    machine slow = quiet;
    slow.seed = 9;
    slow.planted = 1.2;
    nd_row *base = make_run(quiet), *now = make_run(slow);
    nd_compare_settings settings = nd_compare_defaults();
    settings.absolute_ns = 1e9;
    nd_comparison out;
    cr_assert_eq(nd_compare(base, rows_of_run, now, rows_of_run, &settings, &out), nd_status_ok);
    cr_expect_eq(out.overall, nd_verdict_same);
    release(&out, base, now);
}

Test(compare, confirmation_must_repeat) {
    machine slow = quiet, fine = quiet;
    slow.seed = 10;
    slow.planted = 1.1;
    fine.seed = 11;
    nd_row *base, *now;
    nd_comparison first = compare_runs(quiet, slow, &base, &now), second = {0};
    nd_row *again = make_run(slow), *better = make_run(fine);
    nd_compare_settings settings = nd_compare_defaults();
    cr_assert_eq(nd_compare(base, rows_of_run, again, rows_of_run, &settings, &second), nd_status_ok);
    nd_compare_confirm(&first, &second);
    cr_expect_eq(first.overall, nd_verdict_slower);
    nd_comparison_free(&second);
    cr_assert_eq(nd_compare(base, rows_of_run, better, rows_of_run, &settings, &second), nd_status_ok);
    nd_compare_confirm(&first, &second);
    cr_expect_eq(first.overall, nd_verdict_unsure);
    nd_comparison_free(&second);
    nd_rows_free(again, rows_of_run);
    nd_rows_free(better, rows_of_run);
    release(&first, base, now);
}

Test(compare, what_differs_is_named) {
    static const struct {
        nd_field field;
        const char *text;
    } changes[] = {{nd_field_device, "device"},
                   {nd_field_model, "model"},
                   {nd_field_dtype, "dtype"},
                   {nd_field_settings_sha256, "settings_sha256"},
                   {nd_field_dataset_sha256, "dataset_sha256"},
                   {nd_field_host_cpu, "host_cpu"},
                   {nd_field_gpu, "gpu"},
                   {nd_field_preprocess, "preprocess"}};
    nd_compare_settings settings = nd_compare_defaults();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        nd_row *base = make_run(quiet), *now = make_run(quiet);
        for (int r = 0; r < rows_of_run; r++) nd_row_set_text(&now[r], changes[i].field, "changed");
        nd_comparison out;
        cr_expect_eq(nd_compare(base, rows_of_run, now, rows_of_run, &settings, &out), nd_status_usage);
        char expected[64];
        snprintf(expected, sizeof expected, "field %s differs", changes[i].text);
        cr_expect(strstr(nd_error(), expected), "%s: %s", changes[i].text, nd_error());
        cr_expect(strstr(nd_error(), "changed"), "%s", nd_error());
        cr_expect_null(out.rows);
        nd_rows_free(base, rows_of_run);
        nd_rows_free(now, rows_of_run);
    }
}

Test(compare, a_missing_row_is_refused) {
    nd_row *base = make_run(quiet), *now = make_run(quiet);
    nd_compare_settings settings = nd_compare_defaults();
    nd_comparison out;
    cr_expect_eq(nd_compare(base, rows_of_run, now, 4, &settings, &out), nd_status_usage);
    cr_expect_eq(nd_compare(base, rows_of_run, now, 0, &settings, &out), nd_status_usage);
    cr_expect_eq(nd_compare(base, 0, now, 4, &settings, &out), nd_status_usage);
    cr_assert_eq(nd_compare(base, 4, now, rows_of_run, &settings, &out), nd_status_ok, "%s", nd_error());
    cr_expect_eq(out.unmatched, rows_of_run - 4);
    release(&out, base, now);
}

static nd_row accuracy_row(double top1, double top5) {
    nd_row row = {0};
    nd_row_set_text(&row, nd_field_verb, "eval");
    nd_row_set_int(&row, nd_field_n, 1000);
    nd_row_set_real(&row, nd_field_top1, top1);
    nd_row_set_real(&row, nd_field_top5, top5);
    return row;
}

Test(compare, lost_accuracy_fails) {
    static const struct {
        double top1, top5;
        nd_verdict verdict;
    } cases[] = {{70, 90, nd_verdict_same},
                 {69.95, 90, nd_verdict_same},
                 {69.5, 90, nd_verdict_worse},
                 {75, 89, nd_verdict_worse},
                 {75, 95, nd_verdict_same}};
    nd_compare_settings settings = nd_compare_defaults();
    nd_row base = accuracy_row(70, 90);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_row now = accuracy_row(cases[i].top1, cases[i].top5);
        nd_comparison out;
        cr_assert_eq(nd_compare(&base, 1, &now, 1, &settings, &out), nd_status_ok, "%s", nd_error());
        cr_expect_eq(out.overall, cases[i].verdict, "%g/%g: %s", cases[i].top1, cases[i].top5,
                     nd_verdict_name(out.overall));
        nd_comparison_free(&out);
        nd_row_free(&now);
    }
    nd_row_free(&base);
}

/* What `nd sweep --bench` makes: a row that has both. Its time was the same or slower, its accuracy the same
 * or less; neither hides the other, whether the time can be judged or not. */
Test(compare, a_row_is_judged_by_its_time_and_by_its_accuracy) {
    static const struct {
        double planted, top1;
        bool samples;
        nd_verdict verdict;
    } cases[] = {{1, 70, true, nd_verdict_same},    {1.2, 70, true, nd_verdict_slower},
                 {1, 20, true, nd_verdict_worse},   {1.2, 20, true, nd_verdict_worse},
                 {1, 20, false, nd_verdict_worse},  {1, 70, false, nd_verdict_unsure},
                 {0.8, 70, true, nd_verdict_faster}};
    enum { timed = 1 };
    nd_compare_settings settings = nd_compare_defaults();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        machine other = quiet;
        other.seed = 12;
        other.planted = cases[i].planted;
        nd_row *base = make_run(quiet), *now = make_run(other);
        nd_row_set_real(&base[timed], nd_field_top1, 70);
        nd_row_set_real(&now[timed], nd_field_top1, cases[i].top1);
        const size_t first = cases[i].samples ? 0 : timed; /* without the dense row of the same blocks */
        nd_comparison out;
        cr_assert_eq(nd_compare(base + first, 2 - first, now + first, 2 - first, &settings, &out),
                     nd_status_ok, "%s", nd_error());
        const nd_compared *r = &out.rows[out.n - 1];
        char why[512];
        nd_compared_why(r, why, sizeof why);
        cr_expect_eq(r->verdict, cases[i].verdict, "case %zu: %s: %s", i, nd_verdict_name(r->verdict), why);
        cr_expect_eq(out.overall, cases[i].verdict, "case %zu: %s", i, nd_verdict_name(out.overall));
        cr_expect_eq(strstr(why, "-50.00 points") != NULL, cases[i].top1 < 70, "case %zu: %s", i, why);
        cr_expect_eq(strstr(why, "beyond the margin") != NULL, cases[i].planted != 1, "case %zu: %s", i, why);
        release(&out, base, now);
    }
}

static nd_row measured_row(nd_field field, double value) {
    nd_row row = {0};
    nd_row_set_text(&row, nd_field_verb, "eval");
    nd_row_set_real(&row, field, value);
    return row;
}

/* Classifiers and detectors alike: what is in per cent may fall by --points, and must not go away. */
Test(compare, every_accuracy_is_judged_by_points) {
    static const nd_field fields[] = {
        nd_field_top1,    nd_field_top5,     nd_field_agreement, nd_field_ap,        nd_field_ap50,
        nd_field_ap75,    nd_field_ap_small, nd_field_ap_medium, nd_field_ap_large,  nd_field_ar1,
        nd_field_ar10,    nd_field_ar100,    nd_field_ar_small,  nd_field_ar_medium, nd_field_ar_large,
        nd_field_voc2007, nd_field_voc2010,  nd_field_agree_ap,  nd_field_agree_ap50};
    static const struct {
        double now; /* NAN: null */
        nd_verdict verdict;
    } cases[] = {{50, nd_verdict_same},
                 {49.95, nd_verdict_same},
                 {60, nd_verdict_same},
                 {1, nd_verdict_worse},
                 {NAN, nd_verdict_missing}};
    nd_compare_settings settings = nd_compare_defaults();
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            nd_row base = measured_row(fields[f], 50), now = measured_row(fields[f], cases[i].now);
            const char *name = nd_field_table[fields[f]].name;
            nd_comparison out;
            char why[512];
            cr_assert_eq(nd_compare(&base, 1, &now, 1, &settings, &out), nd_status_ok, "%s", nd_error());
            nd_compared_why(&out.rows[0], why, sizeof why);
            cr_expect_eq(out.overall, cases[i].verdict, "%s %g: %s", name, cases[i].now,
                         nd_verdict_name(out.overall));
            cr_expect_eq(strstr(why, name) != NULL, cases[i].now != 50, "%s %g: %s", name, cases[i].now, why);
            cr_expect_eq(nd_compare_status(&out) == nd_status_failed, out.overall != nd_verdict_same);
            nd_comparison_free(&out);
            nd_row_free(&base);
            nd_row_free(&now);
        }
}

/* A time or an accuracy that is gone is told whatever else the row says. */
Test(compare, a_measure_that_is_gone_is_no_pass) {
    static const nd_field gone[] = {nd_field_ns_median, nd_field_samples_ns, nd_field_top5};
    nd_compare_settings settings = nd_compare_defaults();
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        nd_row *base = make_run(quiet), *now = make_run(quiet);
        for (int r = 0; r < 2; r++) {
            nd_row_set_real(&base[r], nd_field_top5, 90);
            nd_row_set_real(&now[r], nd_field_top5, 90);
        }
        now[1].values[gone[i]] = (nd_row_value){0};
        nd_comparison out;
        cr_assert_eq(nd_compare(base, 2, now, 2, &settings, &out), nd_status_ok, "%s", nd_error());
        cr_expect_eq(out.rows[0].verdict, nd_verdict_same);
        cr_expect_eq(out.rows[1].verdict, nd_verdict_missing, "%s: %s", nd_field_table[gone[i]].name,
                     nd_verdict_name(out.rows[1].verdict));
        cr_expect_eq(nd_compare_status(&out), nd_status_failed);
        cr_expect(strstr(nd_error(), "1 lack a measure"), "%s", nd_error());
        release(&out, base, now);
    }
}

/* Rows of nd inspect: MACs are told where they change, and are no verdict. */
Test(compare, without_anything_to_judge_there_is_no_verdict) {
    nd_compare_settings settings = nd_compare_defaults();
    nd_row rows[2][2];
    for (int side = 0; side < 2; side++) {
        rows[side][0] = accuracy_row(70, 90);
        rows[side][1] = (nd_row){0};
        nd_row_set_text(&rows[side][1], nd_field_verb, "inspect");
        nd_row_set_int(&rows[side][1], nd_field_conv_macs, side ? 5000 : 500);
    }
    nd_comparison out;
    char why[512];
    cr_expect_eq(nd_compare(&rows[0][1], 1, &rows[1][1], 1, &settings, &out), nd_status_usage);
    cr_expect(strstr(nd_error(), "nothing to compare"), "%s", nd_error());
    cr_assert_eq(nd_compare(rows[0], 2, rows[1], 2, &settings, &out), nd_status_ok, "%s", nd_error());
    cr_expect_eq(out.overall, nd_verdict_same);
    cr_expect_eq(out.rows[1].verdict, nd_verdict_unjudged);
    nd_compared_why(&out.rows[1], why, sizeof why);
    cr_expect_str_eq(why, "conv_macs from 500 to 5000");
    nd_comparison_free(&out);
    for (int i = 0; i < 4; i++) nd_row_free(&rows[i / 2][i % 2]);
}

/* A second run that is not slower takes that back, and nothing else. */
Test(compare, a_confirmed_loss_of_accuracy_stays) {
    machine slow = quiet, fine = quiet;
    slow.planted = 1.2;
    fine.seed = 13;
    nd_row *base = make_run(quiet), *now = make_run(slow), *again = make_run(fine);
    nd_row *const runs[] = {base, now, again};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        nd_row_set_real(&runs[i][1], nd_field_top1, i ? 60 : 70);
    nd_compare_settings settings = nd_compare_defaults();
    nd_comparison first, second;
    cr_assert_eq(nd_compare(base, 2, now, 2, &settings, &first), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_compare(base, 2, again, 2, &settings, &second), nd_status_ok, "%s", nd_error());
    nd_compare_confirm(&first, &second);
    cr_expect_eq(first.rows[1].of[nd_aspect_time].verdict, nd_verdict_unsure);
    cr_expect_eq(first.overall, nd_verdict_worse);
    cr_expect_eq(nd_compare_status(&first), nd_status_failed);
    nd_comparison_free(&second);
    nd_rows_free(again, rows_of_run);
    release(&first, base, now);
}

Test(compare, measured_margins_widen_the_gate) {
    enum { n_runs = 4 };
    nd_row *runs[n_runs];
    size_t counts[n_runs];
    for (int i = 0; i < n_runs; i++) {
        machine m = quiet;
        m.seed = 20 + (uint64_t)i;
        m.planted = 1 + 0.04 * (i % 2); /* a machine whose layers have two speeds */
        runs[i] = make_run(m);
        counts[i] = rows_of_run;
    }
    nd_compare_settings settings = nd_compare_defaults();
    nd_row *margins;
    nd_comparison out;
    cr_assert_eq(
        nd_compare_margins((const nd_row *const *)runs, counts, n_runs, &margins, &settings.n_margins),
        nd_status_ok, "%s", nd_error());
    cr_expect_eq(settings.n_margins, rows_of_run);
    settings.margins = margins;
    machine slow = quiet;
    slow.seed = 30;
    slow.planted = 1.045;
    nd_row *base = make_run(quiet), *now = make_run(slow);
    cr_assert_eq(nd_compare(base, rows_of_run, now, rows_of_run, &settings, &out), nd_status_ok);
    cr_expect(out.overall != nd_verdict_slower, "within what the machine does by itself");
    for (size_t i = 0; i < out.n; i++)
        if (out.rows[i].gated) cr_expect_gt(out.rows[i].margin, 0.05);
    release(&out, base, now);
    nd_rows_free(margins, settings.n_margins);
    const nd_row *one[] = {runs[0]};
    cr_expect_eq(nd_compare_margins(one, counts, 1, &margins, &settings.n_margins), nd_status_usage);
    for (int i = 0; i < n_runs; i++) nd_rows_free(runs[i], rows_of_run);
}

Test(compare, rows_of_verdicts_keep_the_key) {
    nd_row *base, *now;
    machine slow = quiet;
    slow.planted = 1.2;
    nd_comparison out = compare_runs(quiet, slow, &base, &now);
    nd_row row = {0};
    nd_compare_row(&out.rows[1], &row);
    cr_expect_str_eq(row.values[nd_field_layer].text, "conv0");
    cr_expect_str_eq(row.values[nd_field_verdict].text, "SLOWER");
    cr_expect(!row.values[nd_field_samples_ns].set);
    cr_expect_lt(row.values[nd_field_change_hi].r, 0.9);
    nd_row_free(&row);
    release(&out, base, now);
}
