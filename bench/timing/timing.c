#include "bench/timing/timing.h"

#include "base/parallel.h"

#include "base/machine/clock.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static double monotonic_seconds(void *user) {
    (void)user;
    return nd_seconds();
}

static int64_t context_switches(void *user) {
    (void)user;
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (int64_t)usage.ru_nivcsw;
}

nd_timing_settings nd_timing_defaults(void) {
    return (nd_timing_settings){
        .half_width = 0.01,
        .limit_seconds = 15,
        .warm_seconds = 0.01,
        .sample_ns = 500e3,
        .sessions = 10,
        .blocks = 12,
        .seed = 1,
        .now = monotonic_seconds,
        .interruptions = context_switches,
    };
}

double nd_timing_now(const nd_timing_settings *settings) {
    return settings->now ? settings->now(settings->user) : monotonic_seconds(NULL);
}

enum { fewest_sessions = 8, fewest_blocks = 3, sessions_max = 1000 };

/* Everything sampled, disturbed blocks included: samples[block * count + subject]. */
struct nd_timer {
    int count;
    nd_timing_settings settings;
    int64_t repeats[nd_subjects_max]; /* of the last session */
    double *samples;
    bool *disturbed;
    int64_t blocks, capacity;
    int64_t ends[sessions_max]; /* blocks up to the end of each session */
    int64_t n_sessions;
    double seconds; /* spent in sessions */
    nd_rng rng;
    bool tight, late;
};

nd_status nd_timer_new(int count, const nd_timing_settings *settings, nd_timer **out) {
    *out = NULL;
    ND_REQUIRE(count >= 1 && count <= nd_subjects_max, nd_status_usage,
               "timing: %d subjects; 1 to %d are possible", count, nd_subjects_max);
    ND_REQUIRE(settings->sessions >= 1 && settings->sessions <= sessions_max && settings->blocks >= 1,
               nd_status_usage, "timing: 1 to %d sessions of at least one block", sessions_max);
    nd_timer *timer = calloc(1, sizeof *timer);
    ND_REQUIRE(timer, nd_status_memory, "timing: out of memory");
    timer->count = count;
    timer->settings = *settings;
    if (!timer->settings.interruptions) timer->settings.interruptions = context_switches;
    timer->rng = nd_rng_seed(settings->seed);
    *out = timer;
    return nd_status_ok;
}

void nd_timer_free(nd_timer *timer) {
    if (!timer) return;
    free(timer->samples);
    free(timer->disturbed);
    free(timer);
}

static double now(const nd_timer *timer) {
    return nd_timing_now(&timer->settings);
}

static nd_status sample(const nd_subject *subject, int64_t repeats, double *ns) {
    ND_TRY(subject->sample(subject->context, repeats, ns));
    /* A clock too coarse for the work gives 0; ratios need a positive time. */
    if (!(*ns > 0)) *ns = 1e-3;
    return nd_status_ok;
}

/* Runs until warm, then sets how many runs make one sample. */
static nd_status warm_up(nd_timer *timer, const nd_subject *subject, int64_t *repeats) {
    double start = now(timer), ns = 0, fastest = INFINITY;
    for (int64_t runs = 0; runs < 3 || now(timer) - start < timer->settings.warm_seconds; runs++) {
        ND_TRY(sample(subject, 1, &ns));
        if (ns < fastest) fastest = ns;
        if (runs >= 100000) break;
    }
    double wanted = ceil(timer->settings.sample_ns / fastest);
    *repeats = wanted < 1 ? 1 : wanted > 1e6 ? 1000000 : (int64_t)wanted;
    return nd_status_ok;
}

static nd_status grow(nd_timer *timer) {
    if (timer->blocks < timer->capacity) return nd_status_ok;
    int64_t capacity = timer->capacity ? 2 * timer->capacity : 64;
    double *samples = realloc(timer->samples, (size_t)(capacity * timer->count) * sizeof *samples);
    if (samples) timer->samples = samples;
    bool *disturbed = realloc(timer->disturbed, (size_t)capacity * sizeof *disturbed);
    if (disturbed) timer->disturbed = disturbed;
    ND_REQUIRE(samples && disturbed, nd_status_memory, "timing: out of memory");
    timer->capacity = capacity;
    return nd_status_ok;
}

static nd_status sample_block(nd_timer *timer, const nd_subject *subjects) {
    ND_TRY(grow(timer));
    int order[nd_subjects_max];
    for (int i = 0; i < timer->count; i++) {
        int at = (int)nd_rng_below(&timer->rng, i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    int64_t before = timer->settings.interruptions(timer->settings.user);
    for (int i = 0; i < timer->count; i++) {
        int s = order[i];
        double ns;
        ND_TRY(sample(&subjects[s], timer->repeats[s], &ns));
        timer->samples[timer->blocks * timer->count + s] = ns / (double)timer->repeats[s];
    }
    timer->disturbed[timer->blocks++] = timer->settings.interruptions(timer->settings.user) != before;
    return nd_status_ok;
}

static int64_t session_start(const nd_timer *timer, int64_t session) {
    return session ? timer->ends[session - 1] : 0;
}

static int64_t count_clean(const nd_timer *timer, int64_t first, int64_t end) {
    int64_t clean = 0;
    for (int64_t b = first; b < end; b++) clean += !timer->disturbed[b];
    return clean;
}

/* A session does without its disturbed blocks when enough others are left. */
static bool can_discard(const nd_timer *timer, int64_t session) {
    int64_t first = session_start(timer, session), end = timer->ends[session];
    int64_t clean = count_clean(timer, first, end);
    return clean >= fewest_blocks && (clean >= timer->settings.blocks || 2 * clean >= end - first);
}

static nd_status sample_session(nd_timer *timer, const nd_subject *subjects) {
    int64_t first = timer->blocks, clean = 0;
    double share = timer->settings.limit_seconds / (double)timer->settings.sessions, start = now(timer);
    for (int s = 0; s < timer->count; s++) ND_TRY(warm_up(timer, &subjects[s], &timer->repeats[s]));
    while (clean < timer->settings.blocks) {
        ND_TRY(sample_block(timer, subjects));
        clean = count_clean(timer, timer->blocks - 1, timer->blocks) + clean;
        if (timer->blocks - first >= fewest_blocks && now(timer) - start >= share) break;
    }
    timer->ends[timer->n_sessions++] = timer->blocks;
    timer->seconds += now(timer) - start;
    return nd_status_ok;
}

static double widest(const nd_timing *timing) {
    double width = 0;
    for (int s = 1; s < timing->n_subjects; s++) {
        const nd_interval *ratio = &timing->subjects[s].ratio;
        double half = (ratio->hi - ratio->lo) / (2 * ratio->value);
        if (half > width) width = half;
    }
    return width;
}

nd_status nd_timer_session(nd_timer *timer, const nd_subject *subjects, bool *enough) {
    *enough = false;
    ND_REQUIRE(timer->n_sessions < timer->settings.sessions, nd_status_usage,
               "timing: all sessions are done");
    const bool adaptive = nd_threads_adapt(false);
    const nd_status status = sample_session(timer, subjects);
    nd_threads_adapt(adaptive);
    ND_TRY(status);
    timer->late =
        timer->n_sessions == timer->settings.sessions || timer->seconds >= timer->settings.limit_seconds;
    if (timer->n_sessions < fewest_sessions && !timer->late) return nd_status_ok;
    nd_timing timing;
    ND_TRY(nd_timer_result(timer, &timing));
    timer->tight = widest(&timing) <= timer->settings.half_width;
    nd_timing_free(&timing);
    *enough = timer->tight || timer->late;
    return nd_status_ok;
}

static nd_status allocate_result(const nd_timer *timer, nd_timing *out) {
    out->n_subjects = timer->count;
    out->n_sessions = timer->n_sessions;
    out->sessions = calloc((size_t)timer->n_sessions + 1, sizeof *out->sessions);
    bool complete = out->sessions != NULL;
    for (int s = 0; s < timer->count; s++) {
        out->subjects[s].repeats = timer->repeats[s];
        out->subjects[s].samples = malloc((size_t)(timer->blocks + 1) * sizeof *out->subjects[s].samples);
        complete = complete && out->subjects[s].samples;
    }
    return complete ? nd_status_ok : nd_fail(nd_status_memory, "timing: out of memory");
}

static void take_blocks(const nd_timer *timer, nd_timing *out) {
    for (int64_t session = 0; session < timer->n_sessions; session++) {
        bool discard = can_discard(timer, session);
        for (int64_t b = session_start(timer, session); b < timer->ends[session]; b++) {
            if (discard && timer->disturbed[b]) continue;
            for (int s = 0; s < timer->count; s++)
                out->subjects[s].samples[out->n] = timer->samples[b * timer->count + s];
            out->n++;
            out->sessions[session]++;
        }
    }
    out->discarded = timer->blocks - out->n;
}

static void say_noisy(const nd_timer *timer, nd_timing *out) {
    int64_t busy = 0;
    for (int64_t s = 0; s < timer->n_sessions; s++) busy += !can_discard(timer, s);
    bool mostly_busy = 2 * busy > timer->n_sessions, wide = timer->late && !timer->tight;
    out->noisy = mostly_busy || wide;
    if (out->noisy)
        out->why = mostly_busy ? "the machine is busy: most blocks were interrupted"
                               : "the interval is still wide at the limit";
}

nd_status nd_timer_result(const nd_timer *timer, nd_timing *out) {
    *out = (nd_timing){0};
    nd_status status = nd_status_ok;
    ND_REQUIRE(timer->n_sessions, nd_status_usage, "timing: no session yet");
    ND_TRY_DONE(allocate_result(timer, out));
    take_blocks(timer, out);
    say_noisy(timer, out);
    for (int s = 0; s < timer->count; s++) {
        struct nd_timed *timed = &out->subjects[s];
        nd_pairs pairs = nd_timing_pairs(out, 0, s, 1);
        ND_TRY_DONE(nd_stats_summary(timed->samples, (size_t)out->n, &timed->summary));
        ND_TRY_DONE(nd_stats_ratio(&pairs, 1, timer->settings.seed, &timed->ratio));
    }
done:
    if (status) nd_timing_free(out);
    return status;
}

nd_status nd_timing_measure(const nd_subject *subjects, int count, const nd_timing_settings *settings,
                            nd_timing *out) {
    *out = (nd_timing){0};
    nd_timer *timer;
    ND_TRY(nd_timer_new(count, settings, &timer));
    nd_status status = nd_status_ok;
    for (bool enough = false; !enough && !status;) status = nd_timer_session(timer, subjects, &enough);
    if (!status) status = nd_timer_result(timer, out);
    nd_timer_free(timer);
    return status;
}

nd_pairs nd_timing_pairs(const nd_timing *timing, int base, int other, double count) {
    return (nd_pairs){.base = timing->subjects[base].samples,
                      .other = timing->subjects[other].samples,
                      .n = (size_t)timing->n,
                      .count = count,
                      .sessions = timing->sessions,
                      .n_sessions = (size_t)timing->n_sessions};
}

void nd_timing_free(nd_timing *timing) {
    for (int s = 0; s < nd_subjects_max; s++) free(timing->subjects[s].samples);
    free(timing->sessions);
    *timing = (nd_timing){0};
}
