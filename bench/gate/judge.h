/* What the gate says of two rows with the same key. */
#ifndef ND_BENCH_JUDGE_H
#define ND_BENCH_JUDGE_H

#include "bench/gate/compare.h"
#include "bench/timing/pairing.h"

/* Both files, where the dense partners of timed rows lie, and what the machine does by itself. */
typedef struct nd_judging {
    nd_row_set base, now, margins;
    const nd_compare_settings *settings;
} nd_judging;

/* Judges `base` and `now` of *r by everything that they have. */
nd_status nd_judge_pair(const nd_judging *judging, nd_compared *r);

/* The verdict of the pair, after one of its judgements changed. */
void nd_judge_settle(nd_compared *r);

void nd_judge_say(nd_judgement *judgement, nd_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One judgement each, where the rows have what it takes. */
nd_status nd_judge_time(const nd_judging *judging, nd_compared *r);
nd_status nd_judge_accuracy(const nd_judging *judging, nd_compared *r);

/* A whole network, or the stack of its convolutions. */
bool nd_judge_is_sum(const nd_row *row);

/* NaN where the field is null. */
double nd_judge_real(const nd_row *row, nd_field field);

#endif
