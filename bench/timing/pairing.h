/* Finding the rows that belong together: the same measurement in two files, and the dense partner
 * within one. */
#ifndef ND_BENCH_PAIRING_H
#define ND_BENCH_PAIRING_H

#include "base/rows/row.h"
#include "bench/timing/stats.h"

/* A set of rows with the key of each. */
typedef struct nd_row_set {
    const nd_row *rows;
    size_t n;
    char (*keys)[65];
} nd_row_set;

nd_status nd_row_set_make(const nd_row *rows, size_t n, nd_row_set *out);
void nd_row_set_free(nd_row_set *set);

/* The last row with this key; NULL when there is none. */
const nd_row *nd_row_set_find(const nd_row_set *set, const char key[65]);

/* A key field in which two rows differ, the one that tells most about the cause first; nd_field_count when
 * none. */
nd_field nd_row_difference(const nd_row *a, const nd_row *b);

/* "vgg16 conv3_1 fused T=3 fp32 batch 1 cold": for messages. */
void nd_row_describe(const nd_row *row, char *text, size_t size);

bool nd_row_is(const nd_row *row, nd_field field, const char *text);

/* The dense row that was timed in the same blocks; NULL when there is none with as many samples. */
const nd_row *nd_row_dense_partner(const nd_row_set *set, const nd_row *row);

/* The samples of a row's ratio: one group for a layer or a network, one per layer for a stack. *groups is
 * malloc'd. *n is 0 when samples are missing. */
nd_status nd_row_groups(const nd_row_set *set, const nd_row *row, nd_pairs **groups, size_t *n);

#endif
