#include "bench/gate/compare.h"

#include "base/rows/row_write.h"
#include "bench/timing/pairing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const verdict_names[nd_verdict_count] = {
    [nd_verdict_same] = "SAME",     [nd_verdict_faster] = "FASTER", [nd_verdict_slower] = "SLOWER",
    [nd_verdict_unsure] = "UNSURE", [nd_verdict_worse] = "WORSE",
};

const char *nd_verdict_name(nd_verdict verdict) {
    return verdict_names[verdict];
}

nd_compare_settings nd_compare_defaults(void) {
    return (nd_compare_settings){.margin = 0.03,
                                 .layer_margin = 0.10,
                                 .time_margin = 0.25,
                                 .absolute_ns = 5000,
                                 .accuracy_points = 0.1,
                                 .alpha = 0.01,
                                 .seed = 1};
}

typedef struct comparer {
    nd_row_set base, now, margins;
    const nd_compare_settings *settings;
    nd_comparison *out;
} comparer;

static nd_status refuse(const nd_row *base, const nd_row *now) {
    char what[256];
    nd_row_describe(base, what, sizeof what);
    nd_field field = nd_row_difference(base, now);
    if (field == nd_field_count) return nd_status_ok;
    char *texts[2] = {0};
    const nd_row *rows[2] = {base, now};
    nd_row only = {0};
    for (int i = 0; i < 2; i++) {
        nd_row_free(&only);
        only.values[field] = rows[i]->values[field];
        if (nd_row_to_json(&only, &texts[i])) texts[i] = NULL;
        only.values[field] = (nd_row_value){0};
    }
    nd_fail(nd_status_usage, "not comparable: %s: field %s differs: base %s, new %s", what,
            nd_field_table[field].name, texts[0] ? texts[0] : "?", texts[1] ? texts[1] : "?");
    free(texts[0]);
    free(texts[1]);
    return nd_status_usage;
}

static int count_differences(const nd_row *a, const nd_row *b) {
    int count = 0;
    for (int f = 0; f < nd_field_count; f++)
        count += nd_field_table[f].role == nd_field_role_key &&
                 !nd_row_value_equal((nd_field)f, &a->values[f], &b->values[f]);
    return count;
}

/* A base row without counterpart: the nearest new row tells what changed. */
static nd_status explain_missing(const comparer *c, const nd_row *base) {
    const nd_row *nearest = NULL;
    int fewest = nd_field_count + 1;
    for (size_t i = 0; i < c->now.n; i++) {
        int differences = count_differences(base, &c->now.rows[i]);
        if (differences < fewest) fewest = differences, nearest = &c->now.rows[i];
    }
    if (nearest) return refuse(base, nearest);
    char what[256];
    nd_row_describe(base, what, sizeof what);
    return nd_fail(nd_status_usage, "not comparable: the new rows lack %s", what);
}

static nd_status same_machine(const nd_row *base, const nd_row *now) {
    static const nd_field machine[] = {nd_field_host_cpu, nd_field_gpu};
    for (size_t i = 0; i < sizeof machine / sizeof *machine; i++) {
        const nd_row_value *a = &base->values[machine[i]], *b = &now->values[machine[i]];
        if (nd_row_value_equal(machine[i], a, b)) continue;
        return nd_fail(nd_status_usage, "not comparable: field %s differs: base \"%s\", new \"%s\"",
                       nd_field_table[machine[i]].name, a->set ? a->text : "", b->set ? b->text : "");
    }
    return nd_status_ok;
}

static double real_of(const nd_row *row, nd_field field) {
    return row->values[field].set ? row->values[field].r : NAN;
}

/* A whole network, or the stack of its convolutions. */
static bool is_sum(const nd_row *row) {
    return !row->values[nd_field_layer].set || nd_row_is(row, nd_field_layer, "conv stack");
}

static double margin_of(const comparer *c, const nd_row *row, double otherwise) {
    char key[65];
    nd_row_key(row, key);
    const nd_row *measured = nd_row_set_find(&c->margins, key);
    double margin = measured ? real_of(measured, nd_field_margin) : otherwise;
    return margin > otherwise ? margin : otherwise;
}

/* Beyond the margin, and no change ruled out: it moved. Of many single layers some will show an interval that
 * just misses no change by chance, so there its nearer end must be half the margin away. Within the margin,
 * and no change of twice that in sight: the same. An interval that spans four margins and more tells of a
 * machine that was busy with something else, not of a change. The test is added when all p are known. */
static void judge(nd_compared *r, double absolute_ns) {
    static const double least_margin =
        0.03; /* a margin of 0 asks for every change there is, not for no interval */
    double m = r->margin, value = r->change.value, ns = real_of(r->base, nd_field_ns_median);
    double moved = ns * fabs(1 / value - 1);
    bool slower = value<1 / (1 + m), faster = value> 1 + m;
    double least = r->gated && !is_sum(r->base) ? m / 2 : 0;
    bool clear = r->change.hi < 1 / (1 + least) || r->change.lo > 1 + least;
    bool wide = r->change.lo < 1 / (1 + 2 * m) || r->change.hi > 1 + 2 * m;
    bool vague = r->change.hi > r->change.lo * (1 + 4 * fmax(m, least_margin));
    r->verdict = nd_verdict_same;
    if ((slower || faster || wide) && moved < absolute_ns && ns < absolute_ns / m) {
        snprintf(r->why, sizeof r->why, "%.0f ns: below the absolute margin", moved);
    } else if ((slower || faster) && clear && !vague) {
        r->verdict = slower ? nd_verdict_slower : nd_verdict_faster;
        snprintf(r->why, sizeof r->why, "%+.1f %%, beyond the margin of %.1f %%", 100 * (value - 1), 100 * m);
    } else if (slower || faster || wide) {
        r->verdict = nd_verdict_unsure;
        snprintf(r->why, sizeof r->why, "the interval is too wide for a margin of %.1f %%", 100 * m);
    }
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
    size_t na, nb;
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

static nd_status compare_ratio(const comparer *c, nd_compared *r) {
    nd_pairs *base = NULL, *now = NULL;
    size_t n_base = 0, n_now = 0;
    nd_status status = nd_status_ok;
    r->gated = true;
    r->margin = margin_of(c, r->base, is_sum(r->base) ? c->settings->margin : c->settings->layer_margin);
    ND_TRY_DONE(nd_row_groups(&c->base, r->base, &base, &n_base));
    ND_TRY_DONE(nd_row_groups(&c->now, r->now, &now, &n_now));
    if (!n_base || n_base != n_now) {
        r->verdict = nd_verdict_unsure;
        snprintf(r->why, sizeof r->why, "no paired samples of this and of dense in both files");
        goto done;
    }
    ND_TRY_DONE(nd_stats_ratio_change(base, now, n_base, c->settings->seed, &r->change));
    if (n_base == 1 && !too_few_sessions(base, now)) ND_TRY_DONE(test_ratios(base, now, &r->p));
    judge(r, c->settings->absolute_ns);
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
        double change = real_of(base, peaks[i]) / real_of(now, peaks[i]);
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
static nd_status compare_time(const comparer *c, nd_compared *r) {
    const nd_row_value *a = &r->base->values[nd_field_samples_ns], *b = &r->now->values[nd_field_samples_ns];
    r->margin = margin_of(c, r->base, c->settings->time_margin);
    if (!a->set || !b->set || !a->i || !b->i) {
        r->change.value = real_of(r->base, nd_field_ns_median) / real_of(r->now, nd_field_ns_median);
        r->verdict = nd_verdict_same;
        snprintf(r->why, sizeof r->why, "no samples: shown, not judged");
        return nd_status_ok;
    }
    nd_pairs before = time_pairs(r->base), after = time_pairs(r->now);
    ND_TRY(nd_stats_time_change(&after, &before, c->settings->seed, &r->change));
    ND_TRY(nd_stats_mann_whitney(a->reals, (size_t)a->i, b->reals, (size_t)b->i, &r->p));
    judge(r, c->settings->absolute_ns);
    double machine = machine_change(r->base, r->now);
    bool moved = r->verdict == nd_verdict_slower || r->verdict == nd_verdict_faster;
    if (moved && fabs(machine - 1) > 0.05) {
        r->verdict = nd_verdict_unsure;
        snprintf(r->why, sizeof r->why, "dense time moved, but so did the machine's peaks (x%.2f)",
                 1 / machine);
    }
    return nd_status_ok;
}

static void compare_accuracy(const comparer *c, nd_compared *r) {
    static const nd_field fields[] = {nd_field_top1, nd_field_top5};
    double worst = INFINITY, best = -INFINITY;
    r->gated = true;
    r->margin = c->settings->accuracy_points;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        double gain = real_of(r->now, fields[i]) - real_of(r->base, fields[i]);
        if (isnan(gain)) continue;
        worst = fmin(worst, gain);
        best = fmax(best, gain);
    }
    r->verdict = worst < -c->settings->accuracy_points - 1e-9 ? nd_verdict_worse : nd_verdict_same;
    if (isfinite(worst) && (worst != 0 || best != 0))
        snprintf(r->why, sizeof r->why, "accuracy %+.2f points", worst < 0 ? worst : best);
}

static nd_status compare_pair(const comparer *c, nd_compared *r) {
    r->p = NAN;
    r->change = (nd_interval){NAN, NAN, NAN};
    if (r->base->values[nd_field_operation].set) {
        snprintf(r->why, sizeof r->why, "a single kernel: not judged");
        return nd_status_ok;
    }
    if (r->base->values[nd_field_ns_median].set) {
        if (nd_row_is(r->base, nd_field_implementation, "dense")) return compare_time(c, r);
        return compare_ratio(c, r);
    }
    if (r->base->values[nd_field_top1].set) compare_accuracy(c, r);
    return nd_status_ok;
}

/* Holm over every row with a test: a verdict it does not support becomes UNSURE. */
static nd_status correct_tests(nd_comparison *out, double alpha) {
    double *p = malloc((out->n ? out->n : 1) * sizeof *p);
    ND_REQUIRE(p, nd_status_memory, "compare: out of memory");
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++)
        if (!isnan(out->rows[i].p)) p[n++] = out->rows[i].p;
    nd_status status = nd_stats_holm(p, n);
    n = 0;
    for (size_t i = 0; i < out->n && !status; i++) {
        nd_compared *r = &out->rows[i];
        if (isnan(r->p)) continue;
        r->p = p[n++];
        if ((r->verdict != nd_verdict_slower && r->verdict != nd_verdict_faster) || r->p < alpha) continue;
        r->verdict = nd_verdict_unsure;
        snprintf(r->why, sizeof r->why, "too few sessions to be sure (p = %.3g)", r->p);
    }
    free(p);
    return status;
}

/* Sums and whole networks decide between SAME and UNSURE; single layers only where there are no sums. */
static void conclude(nd_comparison *out) {
    size_t counts[nd_verdict_count] = {0}, unsure_sums = 0, sums = 0;
    for (size_t i = 0; i < out->n; i++) {
        const nd_compared *r = &out->rows[i];
        bool sum = r->gated && is_sum(r->base);
        counts[r->verdict]++;
        sums += sum;
        unsure_sums += sum && r->verdict == nd_verdict_unsure;
    }
    bool unsure = sums ? unsure_sums > 0 : counts[nd_verdict_unsure] > 0;
    out->overall = counts[nd_verdict_worse]    ? nd_verdict_worse
                   : counts[nd_verdict_slower] ? nd_verdict_slower
                   : unsure                    ? nd_verdict_unsure
                   : counts[nd_verdict_faster] ? nd_verdict_faster
                                               : nd_verdict_same;
}

static void note_changes(nd_comparison *out, const nd_row *base, const nd_row *now) {
    static const nd_field fields[] = {nd_field_libraries, nd_field_driver, nd_field_compiler};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const nd_row_value *a = &base->values[fields[i]], *b = &now->values[fields[i]];
        size_t used = strlen(out->note);
        if (!nd_row_value_equal(fields[i], a, b))
            snprintf(out->note + used, sizeof out->note - used, "%s%s changed from \"%.60s\" to \"%.60s\"",
                     used ? "; " : "", nd_field_table[fields[i]].name, a->set ? a->text : "",
                     b->set ? b->text : "");
    }
}

static nd_status compare_all(comparer *c) {
    nd_comparison *out = c->out;
    for (size_t i = 0; i < c->base.n; i++) {
        const nd_row *base = &c->base.rows[i];
        if (nd_row_set_find(&c->base, c->base.keys[i]) != base) continue; /* a later row replaces it */
        const nd_row *now = nd_row_set_find(&c->now, c->base.keys[i]);
        if (!now) return explain_missing(c, base);
        ND_TRY(same_machine(base, now));
        nd_compared *r = &out->rows[out->n++];
        r->base = base;
        r->now = now;
        nd_status status = compare_pair(c, r);
        if (status) {
            char what[256];
            nd_row_describe(base, what, sizeof what);
            return nd_fail_in(status, "%s", what);
        }
    }
    for (size_t i = 0; i < c->now.n; i++) out->unmatched += !nd_row_set_find(&c->base, c->now.keys[i]);
    note_changes(out, &c->base.rows[0], &c->now.rows[0]);
    ND_TRY(correct_tests(out, c->settings->alpha));
    conclude(out);
    return nd_status_ok;
}

nd_status nd_compare(const nd_row *base, size_t n_base, const nd_row *now, size_t n_now,
                     const nd_compare_settings *settings, nd_comparison *out) {
    *out = (nd_comparison){0};
    ND_REQUIRE(n_base && n_now, nd_status_usage, "not comparable: %s rows are empty",
               n_base ? "the new" : "the base");
    comparer c = {.settings = settings, .out = out};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_row_set_make(base, n_base, &c.base));
    ND_TRY_DONE(nd_row_set_make(now, n_now, &c.now));
    ND_TRY_DONE(nd_row_set_make(settings->margins, settings->n_margins, &c.margins));
    out->rows = calloc(n_base, sizeof *out->rows);
    ND_REQUIRE_DONE(out->rows, nd_status_memory, "compare: out of memory");
    ND_TRY_DONE(compare_all(&c));
done:
    nd_row_set_free(&c.base);
    nd_row_set_free(&c.now);
    nd_row_set_free(&c.margins);
    if (status) nd_comparison_free(out);
    return status;
}

void nd_comparison_free(nd_comparison *comparison) {
    free(comparison->rows);
    *comparison = (nd_comparison){0};
}

void nd_compare_confirm(nd_comparison *first, const nd_comparison *second) {
    for (size_t i = 0; i < first->n; i++) {
        nd_compared *r = &first->rows[i];
        if (r->verdict != nd_verdict_slower && r->verdict != nd_verdict_faster) continue;
        bool repeated = false;
        for (size_t k = 0; k < second->n; k++)
            repeated = repeated || (second->rows[k].base == r->base && second->rows[k].verdict == r->verdict);
        if (repeated) continue;
        r->verdict = nd_verdict_unsure;
        snprintf(r->why, sizeof r->why, "a second run did not repeat it");
    }
    conclude(first);
}

nd_status nd_compare_status(const nd_comparison *comparison) {
    size_t slower = 0, worse = 0;
    for (size_t i = 0; i < comparison->n; i++) {
        slower += comparison->rows[i].verdict == nd_verdict_slower;
        worse += comparison->rows[i].verdict == nd_verdict_worse;
    }
    if (slower || worse)
        return nd_fail(nd_status_failed, "%zu of %zu rows are slower, %zu lost accuracy", slower,
                       comparison->n, worse);
    if (comparison->overall == nd_verdict_unsure)
        return nd_fail(nd_status_inconclusive, "too noisy to say; measure longer or on a quieter machine");
    return nd_status_ok;
}

void nd_compare_row(const nd_compared *compared, nd_row *row) {
    for (int f = 0; f < nd_field_count; f++)
        if (nd_field_table[f].role != nd_field_role_measured) {
            nd_row one = {0};
            one.values[f] = compared->now->values[f];
            nd_row_copy(row, &one);
        }
    nd_row_set_text(row, nd_field_verdict, nd_verdict_name(compared->verdict));
    nd_row_set_real(row, nd_field_change, compared->change.value);
    nd_row_set_real(row, nd_field_change_lo, compared->change.lo);
    nd_row_set_real(row, nd_field_change_hi, compared->change.hi);
    nd_row_set_real(row, nd_field_p_value, compared->p);
    nd_row_set_real(row, nd_field_margin, compared->margin);
}

/* What a margin is about: the ratio, or the time of a dense row. */
static double figure_of(const nd_row *row) {
    bool dense = nd_row_is(row, nd_field_implementation, "dense");
    return real_of(row, dense ? nd_field_ns_median : nd_field_ratio);
}

static double widest_change(const nd_row_set *runs, size_t n_runs, const char key[65]) {
    double lowest = INFINITY, highest = -INFINITY;
    for (size_t i = 0; i < n_runs; i++) {
        const nd_row *row = nd_row_set_find(&runs[i], key);
        double figure = row ? figure_of(row) : NAN;
        if (!(figure > 0)) return NAN;
        lowest = fmin(lowest, figure);
        highest = fmax(highest, figure);
    }
    return highest / lowest - 1;
}

nd_status nd_compare_margins(const nd_row *const *runs, const size_t *counts, size_t n_runs, nd_row **out,
                             size_t *n) {
    *out = NULL;
    *n = 0;
    ND_REQUIRE(n_runs >= 2 && counts[0], nd_status_usage, "A/A needs at least two runs with rows");
    nd_status status = nd_status_ok;
    nd_row_set *sets = calloc(n_runs, sizeof *sets);
    nd_row *margins = calloc(counts[0], sizeof *margins);
    ND_REQUIRE_DONE(sets && margins, nd_status_memory, "compare: out of memory");
    for (size_t i = 0; i < n_runs; i++) ND_TRY_DONE(nd_row_set_make(runs[i], counts[i], &sets[i]));
    for (size_t i = 0; i < counts[0]; i++) {
        double widest = widest_change(sets, n_runs, sets[0].keys[i]);
        if (isnan(widest)) continue;
        nd_row *row = &margins[(*n)++];
        for (int f = 0; f < nd_field_count; f++) {
            nd_row one = {0};
            if (nd_field_table[f].role != nd_field_role_measured) one.values[f] = runs[0][i].values[f];
            nd_row_copy(row, &one);
        }
        nd_row_set_real(row, nd_field_margin, 1.5 * widest);
    }
    ND_REQUIRE_DONE(*n, nd_status_usage, "A/A: no timed row is in every run");
    *out = margins;
    margins = NULL;
done:
    for (size_t i = 0; sets && i < n_runs; i++) nd_row_set_free(&sets[i]);
    free(sets);
    nd_rows_free(margins, margins ? *n : 0);
    return status;
}
