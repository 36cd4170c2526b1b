#include "bench/gate/judge.h"

#include "bench/gate/judgement.h"

#include <math.h>
#include <stdlib.h>

static double margin_of(const nd_judging *judging, const nd_row *row, double otherwise) {
    char key[65];
    nd_row_key(row, key);
    const nd_row *measured = nd_row_set_find(&judging->margins, key);
    double margin = measured ? nd_row_real(measured, nd_field_margin) : otherwise;
    return margin > otherwise ? margin : otherwise;
}

/* Beyond the margin, and no change ruled out: it moved. Of many single layers some will show an interval that
 * just misses no change by chance, so there its nearer end must be half the margin away. Within the margin,
 * and no change of twice that in sight: the same. An interval that spans four margins and more tells of a
 * machine that was busy with something else, not of a change. The test is added when all p are known. */
static void judge(nd_compared *r, double absolute_ns) {
    nd_judgement *time = &r->of[nd_aspect_time];
    static const double least_margin =
        0.03; /* a margin of 0 asks for every change there is, not for no interval */
    double m = r->margin, value = r->change.value, ns = nd_row_real(r->base, nd_field_ns_median);
    double moved = ns * fabs(1 / value - 1);
    bool slower = value<1 / (1 + m), faster = value> 1 + m;
    double least = r->gated && !nd_judged_as_sum(r->base) ? m / 2 : 0;
    bool clear = r->change.hi < 1 / (1 + least) || r->change.lo > 1 + least;
    bool wide = r->change.lo < 1 / (1 + 2 * m) || r->change.hi > 1 + 2 * m;
    bool vague = r->change.hi > r->change.lo * (1 + 4 * fmax(m, least_margin));
    if ((slower || faster || wide) && moved < absolute_ns && ns < absolute_ns / m)
        nd_judgement_say(time, nd_verdict_same, "%.0f ns: below the absolute margin", moved);
    else if ((slower || faster) && clear && !vague)
        nd_judgement_say(time, slower ? nd_verdict_slower : nd_verdict_faster,
                         "%+.1f %%, beyond the margin of %.1f %%", 100 * (value - 1), 100 * m);
    else if (slower || faster || wide)
        nd_judgement_say(time, nd_verdict_unsure, "the interval is too wide for a margin of %.1f %%",
                         100 * m);
    else
        time->verdict = nd_verdict_same;
}

static int descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* What Mann-Whitney looks at: the median ratio of each session, since blocks of a session are not
 * independent, of the better half of the sessions, for the reason for which the change is that of first
 * deciles; the ratio of each block where there are no sessions to speak of. */
static nd_status test_values(const nd_pairs *group, double **values, size_t *n) {
    enum { sessions_enough = 5 };
    double *scratch = malloc(group->n * sizeof *scratch);
    *values = malloc(group->n * sizeof **values);
    if (!scratch || !*values) {
        free(scratch);
        return nd_fail(nd_status_memory, "compare: out of memory");
    }
    *n = group->n;
    if (group->n_sessions >= sessions_enough) {
        size_t all = nd_stats_session_ratios(group, scratch, *values);
        qsort(*values, all, sizeof **values, descending);
        *n = (all + 1) / 2;
    } else {
        for (size_t i = 0; i < group->n; i++) (*values)[i] = group->base[i] / group->other[i];
    }
    free(scratch);
    return nd_status_ok;
}

static nd_status test_ratios(const nd_pairs *base, const nd_pairs *now, double *p) {
    double *a = NULL, *b = NULL;
    size_t na = 0, nb = 0;
    nd_status status = test_values(base, &a, &na);
    if (!status) status = test_values(now, &b, &nb);
    if (!status) status = nd_stats_mann_whitney(a, na, b, nb, p);
    free(a);
    free(b);
    return status;
}

/* A measurement that was tight early has sessions enough for its interval, but for no test to reach alpha: of
 * 6 against 6, the halves of 12, all orders but one in 462 are less extreme, and Holm's correction takes its
 * share. */
static bool too_few_sessions(const nd_pairs *a, const nd_pairs *b) {
    enum { fewest = 16 };
    bool sessions = a->n_sessions > 1 && b->n_sessions > 1;
    return sessions && (a->n_sessions < fewest || b->n_sessions < fewest);
}

static nd_status judge_ratio(const nd_judging *judging, nd_compared *r) {
    nd_pairs *base = NULL, *now = NULL;
    size_t n_base = 0, n_now = 0;
    nd_status status = nd_status_ok;
    r->gated = true;
    r->margin =
        margin_of(judging, r->base,
                  nd_judged_as_sum(r->base) ? judging->settings->margin : judging->settings->layer_margin);
    ND_TRY_DONE(nd_row_groups(&judging->base, r->base, &base, &n_base));
    ND_TRY_DONE(nd_row_groups(&judging->now, r->now, &now, &n_now));
    if (!n_base || n_base != n_now) {
        nd_judgement_say(&r->of[nd_aspect_time], nd_verdict_unsure,
                         "no paired samples of this and of dense in both files");
        goto done;
    }
    ND_TRY_DONE(nd_stats_ratio_change(base, now, n_base, judging->settings->seed, &r->change));
    if (n_base == 1 && !too_few_sessions(base, now)) ND_TRY_DONE(test_ratios(base, now, &r->p));
    judge(r, judging->settings->absolute_ns);
done:
    free(base);
    free(now);
    return status;
}

/* How much slower the machine itself was in the new run, by its measured peaks; 1 when they say nothing. */
static double machine_change(const nd_row *base, const nd_row *now) {
    static const nd_field peaks[] = {nd_field_peak_gflops, nd_field_peak_gbps};
    double most = 1;
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++) {
        double change = nd_row_real(base, peaks[i]) / nd_row_real(now, peaks[i]);
        if (isfinite(change) && fabs(log(change)) > fabs(log(most))) most = change;
    }
    return most;
}

static nd_pairs time_pairs(const nd_row *row) {
    const nd_row_value *samples = &row->values[nd_field_samples_ns],
                       *sessions = &row->values[nd_field_sessions];
    return (nd_pairs){.base = samples->reals,
                      .n = (size_t)samples->i,
                      .sessions = sessions->ints,
                      .n_sessions = (size_t)sessions->i};
}

/* The dense baseline: its own time, widely. */
static nd_status judge_dense(const nd_judging *judging, nd_compared *r) {
    nd_judgement *time = &r->of[nd_aspect_time];
    const nd_row_value *a = &r->base->values[nd_field_samples_ns], *b = &r->now->values[nd_field_samples_ns];
    r->margin = margin_of(judging, r->base, judging->settings->time_margin);
    if (!a->set || !b->set || !a->i || !b->i) {
        r->change.value = nd_row_real(r->base, nd_field_ns_median) / nd_row_real(r->now, nd_field_ns_median);
        nd_judgement_say(time, nd_verdict_unjudged, "no samples: shown, not judged");
        return nd_status_ok;
    }
    nd_pairs before = time_pairs(r->base), after = time_pairs(r->now);
    ND_TRY(nd_stats_time_change(&after, &before, judging->settings->seed, &r->change));
    ND_TRY(nd_stats_mann_whitney(a->reals, (size_t)a->i, b->reals, (size_t)b->i, &r->p));
    judge(r, judging->settings->absolute_ns);
    double machine = machine_change(r->base, r->now);
    if (nd_verdict_moved(time->verdict) && fabs(machine - 1) > 0.05)
        nd_judgement_say(time, nd_verdict_unsure, "dense time moved, but so did the machine's peaks (x%.2f)",
                         1 / machine);
    return nd_status_ok;
}

nd_status nd_judge_time(const nd_judging *judging, nd_compared *r) {
    if (!r->base->values[nd_field_ns_median].set || !r->now->values[nd_field_ns_median].set)
        return nd_status_ok;
    const bool dense = nd_row_is(r->base, nd_field_implementation, "dense");
    return dense ? judge_dense(judging, r) : judge_ratio(judging, r);
}
