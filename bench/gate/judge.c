#include "bench/gate/judge.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

double nd_judge_real(const nd_row *row, nd_field field) {
    return row->values[field].set ? row->values[field].r : NAN;
}

bool nd_judge_is_sum(const nd_row *row) {
    return !row->values[nd_field_layer].set || nd_row_is(row, nd_field_layer, "conv stack");
}

void nd_judge_say(nd_judgement *judgement, nd_verdict verdict, const char *format, ...) {
    va_list list;
    judgement->verdict = verdict;
    va_start(list, format);
    (void)vsnprintf(judgement->why, sizeof judgement->why, format, list);
    va_end(list);
}

nd_status nd_judge_accuracy(const nd_judging *judging, nd_compared *r) {
    static const nd_field fields[] = {nd_field_top1, nd_field_top5};
    const double points = judging->settings->accuracy_points;
    double worst = INFINITY, best = -INFINITY;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        double gain = nd_judge_real(r->now, fields[i]) - nd_judge_real(r->base, fields[i]);
        if (isnan(gain)) continue;
        worst = fmin(worst, gain);
        best = fmax(best, gain);
    }
    if (!isfinite(worst)) return nd_status_ok;
    r->gated = true;
    if (isnan(r->margin)) r->margin = points;
    nd_judgement *accuracy = &r->of[nd_aspect_accuracy];
    accuracy->verdict = worst < -points - 1e-9 ? nd_verdict_worse : nd_verdict_same;
    if (worst != 0 || best != 0)
        nd_judge_say(accuracy, accuracy->verdict, "accuracy %+.2f points", worst < 0 ? worst : best);
    return nd_status_ok;
}

void nd_judge_settle(nd_compared *r) {
    r->verdict = nd_verdict_same;
    for (int a = 0; a < nd_aspect_count; a++)
        if (r->of[a].verdict > r->verdict) r->verdict = r->of[a].verdict;
}

nd_status nd_judge_pair(const nd_judging *judging, nd_compared *r) {
    r->p = r->margin = NAN;
    r->change = (nd_interval){NAN, NAN, NAN};
    if (r->base->values[nd_field_operation].set) {
        nd_judge_say(&r->of[nd_aspect_time], nd_verdict_same, "a single kernel: not judged");
        return nd_status_ok;
    }
    ND_TRY(nd_judge_time(judging, r));
    ND_TRY(nd_judge_accuracy(judging, r));
    nd_judge_settle(r);
    return nd_status_ok;
}
