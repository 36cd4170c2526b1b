#include "bench/gate/judgement.h"

#include "bench/timing/pairing.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void nd_judgement_say(nd_judgement *judgement, nd_verdict verdict, const char *format, ...) {
    va_list list;
    judgement->verdict = verdict;
    va_start(list, format);
    (void)vsnprintf(judgement->why, sizeof judgement->why, format, list);
    va_end(list);
}

void nd_judgement_add(nd_judgement *judgement, const char *format, ...) {
    const size_t used = strlen(judgement->why), size = sizeof judgement->why;
    va_list list;
    if (used) snprintf(judgement->why + used, size - used, "; ");
    const size_t start = strlen(judgement->why);
    va_start(list, format);
    (void)vsnprintf(judgement->why + start, size - start, format, list);
    va_end(list);
}

void nd_compared_settle(nd_compared *r) {
    r->verdict = nd_verdict_unjudged;
    for (int a = 0; a < nd_aspect_count; a++)
        if (r->of[a].verdict > r->verdict) r->verdict = r->of[a].verdict;
}

bool nd_verdict_moved(nd_verdict verdict) {
    return verdict == nd_verdict_slower || verdict == nd_verdict_faster;
}

bool nd_judged_as_sum(const nd_row *row) {
    return !row->values[nd_field_layer].set || nd_row_is(row, nd_field_layer, "conv stack");
}
