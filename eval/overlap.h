/* Do two streams share images? */
#ifndef ND_EVAL_OVERLAP_H
#define ND_EVAL_OVERLAP_H

#include "base/batches.h"

/* How many of the first `limit` images (0 = all) of `few` are among those of `many`, told by their prepared
 * pixels, which must have been prepared alike. Rewinds both. Memory is 8 bytes an image of `few`. */
nd_status nd_overlap_count(nd_batches *few, int64_t limit, nd_batches *many, int64_t *shared);

#endif
