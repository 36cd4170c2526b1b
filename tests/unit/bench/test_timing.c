/* The timing method against a simulated machine: its clock, its noise and its interruptions are
 * all seeded. */
#include "base/rng.h"
#include "bench/timing/timing.h"

#include <criterion/criterion.h>
#include <math.h>

typedef struct machine {
    double seconds;
    double load; /* shared by everything that runs at about the same time */
    int64_t interruptions;
    double noise, drift, interruption_rate;
    nd_rng rng;
} machine;

typedef struct task {
    machine *host;
    double ns;
    int64_t runs, samples;
    int64_t fail_at; /* sample that fails; 0 = none */
} task;

static double machine_now(void *user) {
    return ((machine *)user)->seconds;
}

static int64_t machine_interruptions(void *user) {
    return ((machine *)user)->interruptions;
}

static nd_status task_sample(void *context, int64_t repeats, double *ns) {
    task *t = context;
    machine *host = t->host;
    t->samples++;
    t->runs += repeats;
    if (t->samples == t->fail_at) return nd_fail(nd_status_device, "the device fell off");
    host->load += host->drift * nd_rng_normal(&host->rng);
    *ns = t->ns * (double)repeats * exp(host->load + host->noise * nd_rng_normal(&host->rng));
    if (nd_rng_uniform(&host->rng) < host->interruption_rate) {
        host->interruptions++;
        *ns *= 20;
    }
    host->seconds += 1e-9 * *ns;
    return nd_status_ok;
}

static nd_timing_settings settings_of(machine *host) {
    nd_timing_settings settings = nd_timing_defaults();
    settings.now = machine_now;
    settings.interruptions = machine_interruptions;
    settings.user = host;
    return settings;
}

static nd_timing measure(machine *host, task *a, task *b, const nd_timing_settings *settings) {
    nd_subject subjects[] = {{"a", task_sample, a}, {"b", task_sample, b}};
    nd_timing timing;
    cr_assert_eq(nd_timing_measure(subjects, 2, settings, &timing), nd_status_ok, "%s", nd_error());
    (void)host;
    return timing;
}

Test(timing, quiet_machine_stops_early_and_is_right) {
    machine host = {.noise = 0.003, .rng = nd_rng_seed(1)};
    task a = {.host = &host, .ns = 3e6}, b = {.host = &host, .ns = 1e6};
    nd_timing_settings settings = settings_of(&host);
    nd_timing timing = measure(&host, &a, &b, &settings);
    cr_expect(!timing.noisy);
    cr_expect_null(timing.why);
    cr_expect_eq(timing.discarded, 0);
    cr_expect_eq(timing.n_sessions, 8);
    cr_expect_eq(timing.n, 8 * 12);
    for (int s = 0; s < 8; s++) cr_expect_eq(timing.sessions[s], 12);
    cr_expect_float_eq(timing.subjects[1].ratio.value, 3, 0.02);
    cr_expect_eq(timing.subjects[0].ratio.value, 1);
    nd_timing_free(&timing);
}

/* Drift far larger than the noise: times wander by tens of per cent, the ratio does not. */
Test(timing, drift_cancels) {
    machine host = {.noise = 0.005, .drift = 0.02, .rng = nd_rng_seed(2)};
    task a = {.host = &host, .ns = 2e6}, b = {.host = &host, .ns = 1e6};
    nd_timing_settings settings = settings_of(&host);
    nd_timing timing = measure(&host, &a, &b, &settings);
    cr_expect_float_eq(timing.subjects[1].ratio.value, 2, 0.03);
    double spread = timing.subjects[0].summary.q3 / timing.subjects[0].summary.q1;
    cr_expect_gt(spread, 1.02);
    nd_timing_free(&timing);
}

Test(timing, interrupted_blocks_are_discarded_as_pairs) {
    machine host = {.noise = 0.01, .interruption_rate = 0.1, .rng = nd_rng_seed(3)};
    task a = {.host = &host, .ns = 3e6}, b = {.host = &host, .ns = 1e6};
    nd_timing_settings settings = settings_of(&host);
    nd_timing timing = measure(&host, &a, &b, &settings);
    cr_expect(!timing.noisy);
    cr_expect_gt(timing.discarded, 0);
    for (int64_t i = 0; i < timing.n; i++) {
        cr_expect_lt(timing.subjects[0].samples[i], 6e6);
        cr_expect_lt(timing.subjects[1].samples[i], 2e6);
    }
    nd_timing_free(&timing);
}

Test(timing, busy_machine_keeps_all_and_says_noisy) {
    machine host = {.noise = 0.01, .interruption_rate = 0.95, .rng = nd_rng_seed(4)};
    task a = {.host = &host, .ns = 3e6}, b = {.host = &host, .ns = 1e6};
    nd_timing_settings settings = settings_of(&host);
    settings.limit_seconds = 5;
    nd_timing timing = measure(&host, &a, &b, &settings);
    cr_expect(timing.noisy);
    cr_expect_not_null(timing.why);
    cr_expect_eq(timing.discarded, 0);
    cr_expect_gt(timing.n, 0);
    nd_timing_free(&timing);
}

Test(timing, wide_interval_at_the_limit_is_noisy) {
    machine host = {.noise = 0.5, .rng = nd_rng_seed(5)};
    task a = {.host = &host, .ns = 3e6}, b = {.host = &host, .ns = 1e6};
    nd_timing_settings settings = settings_of(&host);
    settings.limit_seconds = 1;
    nd_timing timing = measure(&host, &a, &b, &settings);
    cr_expect(timing.noisy);
    cr_expect_lt(host.seconds, 2);
    nd_timing_free(&timing);
}

Test(timing, short_runs_are_repeated_within_a_sample) {
    machine host = {.noise = 0.01, .rng = nd_rng_seed(6)};
    task a = {.host = &host, .ns = 1e3}, b = {.host = &host, .ns = 5e6};
    nd_timing_settings settings = settings_of(&host);
    nd_timing timing = measure(&host, &a, &b, &settings);
    cr_expect(timing.subjects[0].repeats >= 500 && timing.subjects[0].repeats < 600);
    cr_expect_eq(timing.subjects[1].repeats, 1);
    cr_expect_float_eq(timing.subjects[0].summary.median, 1e3, 50);
    nd_timing_free(&timing);
}

Test(timing, every_session_warms_up) {
    machine host = {.rng = nd_rng_seed(7)};
    task a = {.host = &host, .ns = 1e6}, b = {.host = &host, .ns = 1e6};
    nd_timing_settings settings = settings_of(&host);
    nd_timing timing = measure(&host, &a, &b, &settings);
    cr_expect_geq(a.samples, timing.n + 3 * timing.n_sessions);
    cr_expect_geq((double)(a.samples - timing.n) * 1e-3, 0.9 * 0.01 * (double)timing.n_sessions);
    nd_timing_free(&timing);
}

/* Sessions that differ among themselves need more of them, or are noisy; the interval says so. */
Test(timing, sessions_that_differ_widen_the_interval) {
    nd_timing_settings settings;
    nd_timing timing;
    nd_timer *timer;
    machine host = {.noise = 0.001, .rng = nd_rng_seed(10)};
    task a = {.host = &host, .ns = 3e6}, b = {.host = &host, .ns = 1e6};
    settings = settings_of(&host);
    cr_assert_eq(nd_timer_new(2, &settings, &timer), nd_status_ok);
    nd_subject subjects[] = {{"a", task_sample, &a}, {"b", task_sample, &b}};
    bool enough = false;
    for (int session = 0; !enough; session++) {
        b.ns = session % 2 ? 1.1e6 : 1e6;
        cr_assert_eq(nd_timer_session(timer, subjects, &enough), nd_status_ok);
    }
    cr_assert_eq(nd_timer_result(timer, &timing), nd_status_ok);
    cr_expect_eq(timing.n_sessions, settings.sessions);
    cr_expect(timing.noisy);
    cr_expect(timing.subjects[1].ratio.lo < 2.8 && timing.subjects[1].ratio.hi > 2.9);
    cr_expect_eq(nd_timer_session(timer, subjects, &enough), nd_status_usage, "no session past the last");
    nd_timing_free(&timing);
    nd_timer_free(timer);
}

Test(timing, failure_of_a_subject_is_the_result) {
    for (int64_t at = 1; at < 60; at += 9) {
        machine host = {.rng = nd_rng_seed(9)};
        task a = {.host = &host, .ns = 1e7, .fail_at = at};
        nd_subject subject = {"a", task_sample, &a};
        nd_timing_settings settings = settings_of(&host);
        settings.blocks = 100;
        nd_timing timing;
        cr_expect_eq(nd_timing_measure(&subject, 1, &settings, &timing), nd_status_device);
        cr_expect_eq(timing.n, 0);
        cr_expect_null(timing.subjects[0].samples);
    }
    nd_timing timing;
    nd_timing_settings settings = nd_timing_defaults();
    cr_expect_eq(nd_timing_measure(NULL, 0, &settings, &timing), nd_status_usage);
}
