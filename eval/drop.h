/* The loss of accuracy on the same images, with its uncertainty. */
#ifndef ND_EVAL_DROP_H
#define ND_EVAL_DROP_H

#include <stdint.h>

/* original - new, in points, with a 95 % interval. */
typedef struct nd_drop {
    double points, lo, hi;
} nd_drop;

/* Images by which of the two networks was right. */
typedef struct nd_drop_counts {
    int64_t both, original_only, changed_only, neither;
} nd_drop_counts;

/* original[i] and changed[i] tell whether image i was right (1) or wrong (0). */
nd_drop_counts nd_drop_count(const uint8_t *original, const uint8_t *changed, int64_t n);

/* The interval is Newcombe's score interval for the difference of paired proportions (Statistics in
 * Medicine 17, 1998, method 10): Wilson's intervals of the two accuracies, combined by their correlation,
 * which is corrected for continuity. It stays inside [-100, 100] and has a width even where no image changed.
 * No image gives NaN. */
nd_drop nd_drop_of(const nd_drop_counts *counts);

#endif
