/* How nd times things (DESIGN, section 6).
 *
 * Subjects are measured together: every block samples each of them once, in random order, so that whatever the machine
 * does meanwhile (clocks, neighbours) falls on all alike and cancels in the ratio. Sampling ends when the 95 % interval
 * of every subject's ratio to the first is tighter than asked, or at the time limit, and then says "noisy".
 *
 * A block during which the kernel took the processor away from this process is discarded as a whole, so that pairs stay
 * pairs; discards are counted. On a machine so busy that few blocks would be left, all are kept and the result is marked
 * noisy, since a biased choice would be worse. */
#ifndef ND_BENCH_TIMING_H
#define ND_BENCH_TIMING_H

#include "bench/stats.h"

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
    double limit_seconds; /* for all subjects together */
    double warm_seconds;  /* for each subject, and at least 3 runs */
    double sample_ns;     /* runs are repeated until a sample is at least this long */
    int64_t min_blocks, max_blocks;
    uint64_t seed; /* of the order within blocks, and of the bootstrap */
    /* NULL: the monotonic clock, and the involuntary context switches of this process. Tests give their own. */
    double (*now)(void *user); /* seconds */
    int64_t (*interruptions)(void *user);
    void *user;
} nd_timing_settings;

nd_timing_settings nd_timing_defaults(void);

typedef struct nd_timing {
    int n_subjects;
    int64_t n;         /* accepted blocks */
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

/* 1 <= count <= nd_subjects_max. A sample that fails ends it with that status. */
nd_status nd_timing_measure(const nd_subject *subjects, int count, const nd_timing_settings *settings,
                            nd_timing *out);
void nd_timing_free(nd_timing *timing);

#endif
