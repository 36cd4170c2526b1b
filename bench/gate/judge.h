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

/* Of their times alone; where one of them has none it stays nd_verdict_unjudged. */
nd_status nd_judge_time(const nd_judging *judging, nd_compared *r);

#endif
