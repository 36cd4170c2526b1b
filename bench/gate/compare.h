/* The nightly gate: two sets of rows, a verdict for each pair and one for all (docs/measuring.md has the
 * table).
 *
 * What is gated is the ratio dense / decoupled, measured in interleaved blocks of one process: clocks and
 * neighbours cancel in it. A row is called SLOWER or FASTER only when all of these hold: the ratio moved by
 * more than the relative margin and the time by more than the absolute one, the 95 % interval of the change
 * excludes "no change" and spans less than four margins, and for a layer Mann-Whitney on the sessions'
 * ratios, corrected by Holm over all rows, rejects it as well. Absolute time is watched with a wider margin,
 * and only believed when the machine's peaks did not move. Accuracy is compared exactly, with its
 * own margin. */
#ifndef ND_BENCH_COMPARE_H
#define ND_BENCH_COMPARE_H

#include "base/rows/row.h"
#include "bench/timing/stats.h"

/* In this order: the verdict on several things is the largest of theirs. */
typedef enum nd_verdict {
    nd_verdict_unjudged, /* nothing was compared */
    nd_verdict_same,
    nd_verdict_faster,
    nd_verdict_unsure,
    nd_verdict_missing, /* a measure of the base is not in the new row */
    nd_verdict_slower,
    nd_verdict_worse, /* accuracy was lost */
    nd_verdict_count,
} nd_verdict;

const char *nd_verdict_name(nd_verdict verdict); /* "SAME", ... */

typedef struct nd_compare_settings {
    double margin;          /* of the ratio of a stack or a network: 0.03 = within 3 % is the same */
    double layer_margin;    /* of the ratio of one layer, which depends on where its few buffers lie */
    double time_margin;     /* of absolute time */
    double absolute_ns;     /* changes below this are the same, whatever their ratio */
    double accuracy_points; /* of top-1, average precision and all else in per cent (docs/measuring.md) */
    double alpha;           /* level of the Mann-Whitney tests together */
    const nd_row *margins;  /* measured by nd_compare_margins; they replace the above where they are wider */
    size_t n_margins;
    uint64_t seed;
} nd_compare_settings;

nd_compare_settings nd_compare_defaults(void);

/* What a row is judged by. */
typedef enum nd_aspect { nd_aspect_time, nd_aspect_accuracy, nd_aspect_cost, nd_aspect_count } nd_aspect;

typedef struct nd_judgement {
    nd_verdict verdict;
    char why[160];
} nd_judgement;

typedef struct nd_compared {
    const nd_row *base, *now;
    nd_verdict verdict; /* the worst of the judgements */
    nd_judgement of[nd_aspect_count];
    nd_interval change; /* new ratio / base ratio, above 1 is faster; base time / new time for dense rows */
    double p;           /* NaN where no test applies */
    double margin;      /* of the time; of a row without one, of the accuracy */
    bool gated;         /* a decoupled ratio or an accuracy, against a dense row's time */
} nd_compared;

/* The reasons of all judgements: "; " between them. */
void nd_compared_why(const nd_compared *compared, char *text, size_t size);

typedef struct nd_comparison {
    nd_compared *rows;
    size_t n;
    size_t unmatched; /* new rows without a base: no verdict */
    nd_verdict overall;
    char note[512]; /* what changed that may explain differences: libraries, driver, compiler; or empty */
} nd_comparison;

/* Pairs rows whose key fields are all equal. nd_status_usage, naming row and field, where a base row has no
 * counterpart or the machines differ, and where no row has anything to judge; nothing is guessed. The
 * comparison points into the rows. */
nd_status nd_compare(const nd_row *base, size_t n_base, const nd_row *now, size_t n_now,
                     const nd_compare_settings *settings, nd_comparison *out);
void nd_comparison_free(nd_comparison *comparison);

/* A second measurement of the new side: a SLOWER or FASTER that it does not repeat becomes UNSURE. */
void nd_compare_confirm(nd_comparison *first, const nd_comparison *second);

/* nd_verdict_slower, _worse and _missing fail; the message counts them. _unsure is nd_status_inconclusive,
 * and otherwise ok. */
nd_status nd_compare_status(const nd_comparison *comparison);

/* One row per pair: key fields, verdict, change, p_value, margin. */
void nd_compare_row(const nd_compared *compared, nd_row *row);

/* Noise of this machine from repeated runs of one build (A/A): for every row that all runs have, the largest
 * change between any two runs plus half of it again, as a row with `margin`. `runs` are arrays of rows. */
nd_status nd_compare_margins(const nd_row *const *runs, const size_t *counts, size_t n_runs, nd_row **out,
                             size_t *n);

#endif
