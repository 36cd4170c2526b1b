#include "bench/timing.h"

#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double monotonic_seconds(void *user) {
    (void)user;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
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
        .warm_seconds = 0.05,
        .sample_ns = 500e3,
        .min_blocks = 30,
        .max_blocks = 2000,
        .seed = 1,
        .now = monotonic_seconds,
        .interruptions = context_switches,
    };
}

/* Everything sampled, disturbed blocks included: samples[block * subjects + subject]. */
typedef struct run {
    const nd_subject *subjects;
    int count;
    const nd_timing_settings *settings;
    int64_t repeats[nd_subjects_max];
    double *samples;
    bool *disturbed;
    int64_t blocks, capacity, clean;
    nd_rng rng;
} run;

static nd_status sample(run *r, int subject, int64_t repeats, double *ns) {
    const nd_subject *s = &r->subjects[subject];
    ND_TRY(s->sample(s->context, repeats, ns));
    /* A clock too coarse for the work gives 0; ratios need a positive time. */
    if (!(*ns > 0)) *ns = 1e-3;
    return nd_status_ok;
}

/* Runs until warm, then sets how many runs make one sample. */
static nd_status warm_up(run *r, int subject) {
    const nd_timing_settings *s = r->settings;
    double start = s->now(s->user), ns = 0, fastest = INFINITY;
    for (int64_t runs = 0; runs < 3 || s->now(s->user) - start < s->warm_seconds; ++runs) {
        ND_TRY(sample(r, subject, 1, &ns));
        if (ns < fastest) fastest = ns;
        if (runs >= 100000) break;
    }
    double repeats = ceil(s->sample_ns / fastest);
    r->repeats[subject] = repeats < 1 ? 1 : repeats > 1e6 ? 1000000 : (int64_t)repeats;
    return nd_status_ok;
}

static nd_status grow(run *r) {
    if (r->blocks < r->capacity) return nd_status_ok;
    int64_t capacity = r->capacity ? 2 * r->capacity : 64;
    double *samples = realloc(r->samples, (size_t)(capacity * r->count) * sizeof *samples);
    if (samples) r->samples = samples;
    bool *disturbed = realloc(r->disturbed, (size_t)capacity * sizeof *disturbed);
    if (disturbed) r->disturbed = disturbed;
    ND_REQUIRE(samples && disturbed, nd_status_memory, "timing: out of memory");
    r->capacity = capacity;
    return nd_status_ok;
}

static nd_status sample_block(run *r) {
    ND_TRY(grow(r));
    int order[nd_subjects_max];
    for (int i = 0; i < r->count; ++i) {
        int at = (int)nd_rng_below(&r->rng, i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    int64_t before = r->settings->interruptions(r->settings->user);
    for (int i = 0; i < r->count; ++i) {
        int subject = order[i];
        double ns;
        ND_TRY(sample(r, subject, r->repeats[subject], &ns));
        r->samples[r->blocks * r->count + subject] = ns / (double)r->repeats[subject];
    }
    bool disturbed = r->settings->interruptions(r->settings->user) != before;
    r->disturbed[r->blocks++] = disturbed;
    r->clean += !disturbed;
    return nd_status_ok;
}

/* Whether enough undisturbed blocks are there to do without the others. */
static bool can_discard(const run *r) {
    return r->clean >= r->settings->min_blocks || 2 * r->clean >= r->blocks;
}

/* Gathers the accepted samples and their statistics. */
static nd_status summarise(const run *r, nd_timing *out) {
    bool discard = can_discard(r);
    nd_timing_free(out);
    out->n_subjects = r->count;
    out->n = discard ? r->clean : r->blocks;
    out->discarded = r->blocks - out->n;
    for (int s = 0; s < r->count; ++s) {
        struct nd_timed *timed = &out->subjects[s];
        timed->repeats = r->repeats[s];
        timed->samples = malloc((size_t)(out->n ? out->n : 1) * sizeof *timed->samples);
        ND_REQUIRE(timed->samples, nd_status_memory, "timing: out of memory");
        int64_t kept = 0;
        for (int64_t b = 0; b < r->blocks; ++b)
            if (!discard || !r->disturbed[b]) timed->samples[kept++] = r->samples[b * r->count + s];
        ND_TRY(nd_stats_summary(timed->samples, (size_t)out->n, &timed->summary));
    }
    for (int s = 0; s < r->count; ++s) {
        nd_pairs pairs = {out->subjects[0].samples, out->subjects[s].samples, (size_t)out->n, 1};
        ND_TRY(nd_stats_ratio(&pairs, 1, r->settings->seed, &out->subjects[s].ratio));
    }
    return nd_status_ok;
}

static double widest(const nd_timing *timing) {
    double width = 0;
    for (int s = 1; s < timing->n_subjects; ++s) {
        const nd_interval *ratio = &timing->subjects[s].ratio;
        double half = (ratio->hi - ratio->lo) / (2 * ratio->value);
        if (half > width) width = half;
    }
    return width;
}

static nd_status sample_until_tight(run *r, nd_timing *out) {
    const nd_timing_settings *s = r->settings;
    double start = s->now(s->user);
    int64_t look_at = s->min_blocks;
    for (;;) {
        ND_TRY(sample_block(r));
        bool late = s->now(s->user) - start >= s->limit_seconds || r->blocks >= s->max_blocks;
        if (r->clean < look_at && !late) continue;
        ND_TRY(summarise(r, out));
        bool enough = out->n >= s->min_blocks, tight = widest(out) <= s->half_width;
        if (enough && tight && can_discard(r)) return nd_status_ok;
        if (late) {
            out->noisy = true;
            out->why = !can_discard(r) ? "the machine is busy: most blocks were interrupted"
                       : !enough       ? "too few blocks within the time limit"
                                       : "the interval is still wide at the time limit";
            return nd_status_ok;
        }
        look_at = r->clean + (r->clean / 4 > 8 ? r->clean / 4 : 8);
    }
}

nd_status nd_timing_measure(const nd_subject *subjects, int count, const nd_timing_settings *settings,
                            nd_timing *out) {
    *out = (nd_timing){0};
    ND_REQUIRE(count >= 1 && count <= nd_subjects_max, nd_status_usage,
               "timing: %d subjects; 1 to %d are possible", count, nd_subjects_max);
    nd_timing_settings given = *settings;
    if (!given.now) given.now = monotonic_seconds;
    if (!given.interruptions) given.interruptions = context_switches;
    run r = {.subjects = subjects, .count = count, .settings = &given, .rng = nd_rng_seed(given.seed)};
    nd_status status = nd_status_ok;
    for (int i = 0; i < count && !status; ++i) status = warm_up(&r, i);
    if (!status) status = sample_until_tight(&r, out);
    free(r.samples);
    free(r.disturbed);
    if (status) nd_timing_free(out);
    return status;
}

void nd_timing_free(nd_timing *timing) {
    for (int s = 0; s < nd_subjects_max; ++s) free(timing->subjects[s].samples);
    *timing = (nd_timing){0};
}
