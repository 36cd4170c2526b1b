/* What fits of any rank find alike from the same moments, such as their least-squares kernel: found once and
 * kept with the moments, so that a survey of many ranks pays for it once. */
#ifndef ND_DECOUPLE_FOUND_H
#define ND_DECOUPLE_FOUND_H

#include "decouple/fit/moments.h"

typedef nd_status nd_finder(nd_backend *backend, const nd_conv *conv, const nd_moments *moments, double *out);

/* The `count` numbers that `by` finds with the ridge that the moments have: found now, from zeros on, or
 * before. They live until the moments or their ridge change; several threads may ask at once. */
nd_status nd_moments_find(nd_backend *backend, const nd_conv *conv, const nd_moments *moments, nd_finder *by,
                          size_t count, const double **out);

/* For those who change moments, and own them: an empty one, and without what it has. */
nd_status nd_finds_new(nd_finds **out);
void nd_finds_clear(nd_finds *found);
void nd_finds_free(nd_finds *found); /* NULL is legal */

#endif
