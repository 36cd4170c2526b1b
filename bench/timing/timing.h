/* How nd times things (measuring.md).
 *
 * Subjects are measured together: every block samples each of them once, in random order, so that whatever
 * the machine does meanwhile (clocks, neighbours) falls on all alike and cancels in the ratio. Sampling ends
 * when the 95 % interval of every subject's ratio to the first is tighter than asked, or at the time limit,
 * and then says "noisy".
 *
 * Samples come in sessions: each begins with fresh buffers (where the caller gives them) and at another
 * moment, because where memory happens to lie and what a neighbour happens to run are the same for all blocks
 * of one session and can shift a ratio by several per cent. The interval is over sessions, so it covers that.
 *
 * A block during which the kernel took the processor away from this process is discarded as a whole, so that
 * pairs stay pairs; discards are counted. On a machine so busy that few blocks would be left, all are kept
 * and the result is marked noisy, since a biased choice would be worse. */
#ifndef ND_BENCH_TIMING_H
#define ND_BENCH_TIMING_H

#include "bench/timing/stats.h"

#include <stdbool.h>

/* One thing to time. `sample` makes `repeats` runs and gives the time they took together, in ns. */
typedef struct nd_subject {
    const char *name;
    nd_status (*sample)(void *context, int64_t repeats, double *ns);
    void *context;
} nd_subject;

enum { nd_subjects_max = 32 };

typedef struct nd_timing_settings {
    double half_width;    /* of the ratio's interval, relative: 0.01 */
    double limit_seconds; /* for all subjects and sessions together */
    double warm_seconds;  /* for each subject and session, and at least 3 runs */
    double sample_ns;     /* runs are repeated until a sample is at least this long */
    int64_t sessions;     /* at most; at least 8, when the interval is tight by then */
    int64_t blocks;       /* undisturbed blocks a session, as long as the limit allows */
    uint64_t seed;        /* of the order within blocks, and of the bootstrap */
    /* NULL: the monotonic clock, and the involuntary context switches of this process. Tests give
     * their own. */
    double (*now)(void *user); /* seconds */
    int64_t (*interruptions)(void *user);
    void *user;
} nd_timing_settings;

nd_timing_settings nd_timing_defaults(void);
double nd_timing_now(const nd_timing_settings *settings); /* seconds, by its clock */

typedef struct nd_timing {
    int n_subjects;
    int64_t n;         /* accepted blocks */
    int64_t *sessions; /* of them in each session */
    int64_t n_sessions;
    int64_t discarded; /* blocks thrown away */
    bool noisy;
    const char *why; /* why noisy; NULL otherwise */
    struct nd_timed {
        double *samples; /* [n], ns a run, in order */
        int64_t repeats; /* runs a sample */
        nd_summary summary;
        nd_interval ratio; /* first subject's time / this one's */
    } subjects[nd_subjects_max];
} nd_timing;

/* A measurement in progress, for callers that set up anew for every session. */
typedef struct nd_timer nd_timer;

/* 1 <= count <= nd_subjects_max. */
nd_status nd_timer_new(int count, const nd_timing_settings *settings, nd_timer **out);
void nd_timer_free(nd_timer *timer); /* NULL is legal */

/* One session of the subjects, `count` of them and in the same order every time. *enough says that no further
 * session is needed. A sample that fails ends it with that status. */
nd_status nd_timer_session(nd_timer *timer, const nd_subject *subjects, bool *enough);
nd_status nd_timer_result(const nd_timer *timer, nd_timing *out);

/* All sessions with the same subjects. */
nd_status nd_timing_measure(const nd_subject *subjects, int count, const nd_timing_settings *settings,
                            nd_timing *out);
void nd_timing_free(nd_timing *timing);

/* The samples of two subjects, the first one's over this one's. Points into the timing. */
nd_pairs nd_timing_pairs(const nd_timing *timing, int base, int other, double count);

#endif
