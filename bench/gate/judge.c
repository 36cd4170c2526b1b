#include "bench/gate/judge.h"

#include "bench/gate/judgement.h"

#include <inttypes.h>
#include <math.h>

/* All that is compared. Accuracies are in per cent, and more is better. */
static const nd_field times[] = {nd_field_ns_median, nd_field_samples_ns};
static const nd_field accuracies[] = {
    nd_field_top1,    nd_field_top5,     nd_field_agreement, nd_field_ap,        nd_field_ap50,
    nd_field_ap75,    nd_field_ap_small, nd_field_ap_medium, nd_field_ap_large,  nd_field_ar1,
    nd_field_ar10,    nd_field_ar100,    nd_field_ar_small,  nd_field_ar_medium, nd_field_ar_large,
    nd_field_voc2007, nd_field_voc2010,  nd_field_agree_ap,  nd_field_agree_ap50};
static const nd_field costs[] = {nd_field_conv_macs, nd_field_total_macs, nd_field_params};

#define MEASURES(fields)                                                                                     \
    { fields, sizeof fields / sizeof *fields }
static const struct measures {
    const nd_field *fields;
    size_t n;
} measures[nd_aspect_count] = {
    [nd_aspect_time] = MEASURES(times),
    [nd_aspect_accuracy] = MEASURES(accuracies),
    [nd_aspect_cost] = MEASURES(costs),
};

/* By what was lost most, or else was won most. */
static nd_status judge_accuracy(const nd_judging *judging, nd_compared *r) {
    nd_judgement *accuracy = &r->of[nd_aspect_accuracy];
    const double points = judging->settings->accuracy_points;
    double worst = INFINITY, best = -INFINITY;
    nd_field lost = nd_field_count, won = nd_field_count;
    for (size_t i = 0; i < measures[nd_aspect_accuracy].n; i++) {
        const nd_field field = measures[nd_aspect_accuracy].fields[i];
        const double gain = nd_row_real(r->now, field) - nd_row_real(r->base, field);
        if (gain < worst) worst = gain, lost = field;
        if (gain > best) best = gain, won = field;
    }
    if (!isfinite(worst)) return nd_status_ok;
    r->gated = true;
    if (isnan(r->margin)) r->margin = points;
    accuracy->verdict = worst < -points - 1e-9 ? nd_verdict_worse : nd_verdict_same;
    const double gain = worst < 0 ? worst : best;
    if (gain != 0)
        nd_judgement_say(accuracy, accuracy->verdict, "%s %+.2f points",
                         nd_field_table[worst < 0 ? lost : won].name, gain);
    return nd_status_ok;
}

/* Counted, not measured: another count for the same settings is worth a word, and no verdict. */
static nd_status judge_cost(const nd_judging *judging, nd_compared *r) {
    (void)judging;
    for (size_t i = 0; i < measures[nd_aspect_cost].n; i++) {
        const nd_field field = measures[nd_aspect_cost].fields[i];
        const nd_row_value *base = &r->base->values[field], *now = &r->now->values[field];
        if (base->set && now->set && base->i != now->i)
            nd_judgement_add(&r->of[nd_aspect_cost], "%s from %" PRId64 " to %" PRId64,
                             nd_field_table[field].name, base->i, now->i);
    }
    return nd_status_ok;
}

/* What the base has measured and the new row has not: nobody can say that it is the same. */
static void find_missing(nd_compared *r, nd_aspect aspect) {
    nd_judgement *judgement = &r->of[aspect];
    for (size_t i = 0; i < measures[aspect].n; i++) {
        const nd_field field = measures[aspect].fields[i];
        if (!r->base->values[field].set || r->now->values[field].set) continue;
        if (judgement->verdict < nd_verdict_missing) judgement->verdict = nd_verdict_missing;
        nd_judgement_add(judgement, "no %s any more", nd_field_table[field].name);
    }
}

nd_status nd_judge_pair(const nd_judging *judging, nd_compared *r) {
    static nd_status (*const judges[nd_aspect_count])(const nd_judging *, nd_compared *) = {
        [nd_aspect_time] = nd_judge_time,
        [nd_aspect_accuracy] = judge_accuracy,
        [nd_aspect_cost] = judge_cost,
    };
    r->p = r->margin = NAN;
    r->change = (nd_interval){NAN, NAN, NAN};
    if (r->base->values[nd_field_operation].set) {
        nd_judgement_say(&r->of[nd_aspect_time], nd_verdict_unjudged, "a single kernel: not judged");
        return nd_status_ok;
    }
    for (int a = 0; a < nd_aspect_count; a++) {
        ND_TRY(judges[a](judging, r));
        find_missing(r, (nd_aspect)a);
    }
    nd_compared_settle(r);
    return nd_status_ok;
}
