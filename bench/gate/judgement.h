/* Words and verdicts on a row, and what is asked of it for them. */
#ifndef ND_BENCH_JUDGEMENT_H
#define ND_BENCH_JUDGEMENT_H

#include "bench/gate/compare.h"

/* In place of what was said before; or beside it, with "; " between. */
void nd_judgement_say(nd_judgement *judgement, nd_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void nd_judgement_add(nd_judgement *judgement, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The verdict of the pair, after one of its judgements changed. */
void nd_compared_settle(nd_compared *r);

bool nd_verdict_moved(nd_verdict verdict); /* to slower or faster */

/* A whole network, or the stack of its convolutions. */
bool nd_judged_as_sum(const nd_row *row);

#endif
