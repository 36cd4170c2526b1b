/* The loss of accuracy on the same images, with its uncertainty. */
#ifndef ND_EVAL_DROP_H
#define ND_EVAL_DROP_H

#include <stdint.h>

/* original - new, in points, with a 95 % interval. */
typedef struct nd_drop {
    double points, lo, hi;
} nd_drop;

/* original[i] and changed[i] tell whether image i was right (1) or wrong (0). The interval is Newcombe's
 * score interval for the difference of paired proportions (Statistics in Medicine 17, 1998, method 10):
 * Wilson's intervals of the two accuracies, combined by their correlation, which is corrected for continuity.
 * It stays inside [-100, 100] and has a width even where no image changed. n = 0 gives NaN. */
nd_drop nd_drop_paired(const uint8_t *original, const uint8_t *changed, int64_t n);

/* The same from the 2 x 2 table: both right, only the original right, only the changed right, both wrong. */
nd_drop nd_drop_table(int64_t both, int64_t original_only, int64_t changed_only, int64_t neither);

#endif
