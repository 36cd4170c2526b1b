/* DW+PW: depthwise filters d_r on input channel c(r), then one pointwise conv P: W'[o,i] = sum over the terms
 * r of channel i of P[o,r] d_r (method.md, "Two forms"). */
#ifndef ND_DECOUPLE_DWPW_H
#define ND_DECOUPLE_DWPW_H

#include "decouple/methods/method.h"

/* The two stages with kept[ni] terms per channel (sum `rank`, rank/groups per group), weights zero. The
 * depthwise stage gathers its channels unless all keep the same number. */
nd_status nd_dwpw_layout(const nd_conv *conv, const int32_t *kept, int64_t rank, nd_chain *out);

/* Splits the norm of every term evenly between filter and column, and makes the largest |entry| of the filter
 * positive. */
void nd_dwpw_balance(nd_chain *chain);

/* Filters as they are before descent, for n ranks in rising order: each rank has the first kept[n][ni] of
 * every channel. `out` gets those of the last one and a pointwise stage of zeros (method.md, "Choosing
 * filters"). */
nd_status nd_dwpw_choose(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int n, const int64_t *rank,
                         const nd_moments *moments, int32_t *kept, nd_chain *out);

/* Filters chosen and fitted on data (method.md, "Choosing filters" and "Refit"), with so many rounds of
 * descent: nd_dwpw_rounds is the usual number. */
enum { nd_dwpw_rounds = 2 };
nd_status nd_dwpw_fit(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank, int rounds,
                      const nd_moments *moments, nd_chain *out);
/* One more round for a chain of nd_dwpw_fit, on the moments of more images. */
nd_status nd_dwpw_refine(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                         nd_chain *chain);

#endif
