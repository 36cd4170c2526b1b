#include "bench/gate/compare.h"

#include "base/rows/row_write.h"
#include "bench/gate/judge.h"
#include "bench/gate/judgement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const verdict_names[nd_verdict_count] = {
    [nd_verdict_unjudged] = "UNJUDGED", [nd_verdict_same] = "SAME",       [nd_verdict_faster] = "FASTER",
    [nd_verdict_unsure] = "UNSURE",     [nd_verdict_missing] = "MISSING", [nd_verdict_slower] = "SLOWER",
    [nd_verdict_worse] = "WORSE",
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

void nd_compared_why(const nd_compared *compared, char *text, size_t size) {
    text[0] = 0;
    for (int a = 0; a < nd_aspect_count; a++) {
        const size_t used = strlen(text);
        const char *why = compared->of[a].why;
        if (*why) snprintf(text + used, size - used, "%s%s", used ? "; " : "", why);
    }
}

typedef struct comparer {
    nd_judging judging;
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
    for (size_t i = 0; i < c->judging.now.n; i++) {
        int differences = count_differences(base, &c->judging.now.rows[i]);
        if (differences < fewest) fewest = differences, nearest = &c->judging.now.rows[i];
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
        nd_judgement *time = &r->of[nd_aspect_time];
        if (isnan(r->p)) continue;
        r->p = p[n++];
        if (!nd_verdict_moved(time->verdict) || r->p < alpha) continue;
        nd_judgement_say(time, nd_verdict_unsure, "too few sessions to be sure (p = %.3g)", r->p);
        nd_compared_settle(r);
    }
    free(p);
    return status;
}

/* The worst; but sums and whole networks decide between SAME and UNSURE, single layers only where there are
 * no sums. */
static void conclude(nd_comparison *out) {
    size_t sums = 0;
    for (size_t i = 0; i < out->n; i++) sums += out->rows[i].gated && nd_judged_as_sum(out->rows[i].base);
    out->overall = nd_verdict_unjudged;
    for (size_t i = 0; i < out->n; i++) {
        const nd_compared *r = &out->rows[i];
        const bool decides = !sums || (r->gated && nd_judged_as_sum(r->base));
        const nd_verdict verdict = r->verdict == nd_verdict_unsure && !decides ? nd_verdict_same : r->verdict;
        if (verdict > out->overall) out->overall = verdict;
    }
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
    for (size_t i = 0; i < c->judging.base.n; i++) {
        const nd_row *base = &c->judging.base.rows[i];
        if (nd_row_set_find(&c->judging.base, c->judging.base.keys[i]) != base)
            continue; /* a later row replaces it */
        const nd_row *now = nd_row_set_find(&c->judging.now, c->judging.base.keys[i]);
        if (!now) return explain_missing(c, base);
        ND_TRY(same_machine(base, now));
        nd_compared *r = &out->rows[out->n++];
        r->base = base;
        r->now = now;
        nd_status status = nd_judge_pair(&c->judging, r);
        if (status) {
            char what[256];
            nd_row_describe(base, what, sizeof what);
            return nd_fail_in(status, "%s", what);
        }
    }
    for (size_t i = 0; i < c->judging.now.n; i++)
        out->unmatched += !nd_row_set_find(&c->judging.base, c->judging.now.keys[i]);
    note_changes(out, &c->judging.base.rows[0], &c->judging.now.rows[0]);
    ND_TRY(correct_tests(out, c->judging.settings->alpha));
    conclude(out);
    ND_REQUIRE(out->overall != nd_verdict_unjudged, nd_status_usage,
               "nothing to compare: no row has a time with its samples or an accuracy");
    return nd_status_ok;
}

nd_status nd_compare(const nd_row *base, size_t n_base, const nd_row *now, size_t n_now,
                     const nd_compare_settings *settings, nd_comparison *out) {
    *out = (nd_comparison){0};
    ND_REQUIRE(n_base && n_now, nd_status_usage, "not comparable: %s rows are empty",
               n_base ? "the new" : "the base");
    comparer c = {.judging = {.settings = settings}, .out = out};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_row_set_make(base, n_base, &c.judging.base));
    ND_TRY_DONE(nd_row_set_make(now, n_now, &c.judging.now));
    ND_TRY_DONE(nd_row_set_make(settings->margins, settings->n_margins, &c.judging.margins));
    out->rows = calloc(n_base, sizeof *out->rows);
    ND_REQUIRE_DONE(out->rows, nd_status_memory, "compare: out of memory");
    ND_TRY_DONE(compare_all(&c));
done:
    nd_row_set_free(&c.judging.base);
    nd_row_set_free(&c.judging.now);
    nd_row_set_free(&c.judging.margins);
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
        nd_judgement *time = &r->of[nd_aspect_time];
        if (!nd_verdict_moved(time->verdict)) continue;
        bool repeated = false;
        for (size_t k = 0; k < second->n; k++)
            repeated = repeated || (second->rows[k].base == r->base &&
                                    second->rows[k].of[nd_aspect_time].verdict == time->verdict);
        if (repeated) continue;
        nd_judgement_say(time, nd_verdict_unsure, "a second run did not repeat it");
        nd_compared_settle(r);
    }
    conclude(first);
}

nd_status nd_compare_status(const nd_comparison *comparison) {
    size_t counts[nd_verdict_count] = {0};
    for (size_t i = 0; i < comparison->n; i++) counts[comparison->rows[i].verdict]++;
    const size_t slower = counts[nd_verdict_slower], worse = counts[nd_verdict_worse],
                 missing = counts[nd_verdict_missing];
    if (slower || worse || missing)
        return nd_fail(nd_status_failed, "%zu of %zu rows are slower, %zu lost accuracy, %zu lack a measure",
                       slower, comparison->n, worse, missing);
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
    return nd_row_real(row, dense ? nd_field_ns_median : nd_field_ratio);
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
