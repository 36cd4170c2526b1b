/* Small text parsing used by options, layer patterns and file lists. */
#ifndef ND_BASE_TEXT_H
#define ND_BASE_TEXT_H

#include "base/memory.h"

/* '*' any run, '?' one character, the rest literal; the whole name must match. */
bool nd_text_match(const char *pattern, const char *name);

/* Whole-string numbers: false when there is anything else in the text, or it is out of range. */
bool nd_text_int(const char *text, int64_t *out);
bool nd_text_real(const char *text, double *out);

/* "2,3,4", "1..9", "1..9+2", "1..64*2" and mixtures of them. *out is malloc'd. At most 100,000 values. */
nd_status nd_text_ints(const char *text, int64_t **out, size_t *count);

/* Splits at `separator` into a NULL-ended array in the arena. */
nd_status nd_text_split(nd_arena *arena, const char *text, char separator, char ***out, size_t *count);

#endif
