/* Methods in a row: one method's stages decomposed again by another (method.md, "Combinations"). */
#ifndef ND_DECOUPLE_COMBINE_H
#define ND_DECOUPLE_COMBINE_H

#include "decouple/fit/moments.h"
#include "decouple/methods/method.h"

/* Moments of a stage of a chain seen as a convolution of its own, ridged: from the patches of the conv alone,
 * no image is looked at again. The target of the last stage is the layer's own; that of the others is what
 * they put out now. A stage between the first and the last may have only pointwise ones after it. */
nd_status nd_moments_of_stage(const nd_moments *moments, nd_backend *backend, const nd_conv *conv,
                              const nd_chain *chain, int index, nd_moments **out);

/* Moments of `slim`, which is the conv on channel[slim->ni] of its input channels, as many of every group. */
nd_status nd_moments_gather(const nd_moments *moments, const nd_conv *conv, const nd_conv *slim,
                            const int32_t *channel, nd_moments **out);

/* Decomposes a stage again, by another method at a rank with uniform terms; with moments on those of the
 * stage. */
nd_status nd_chain_redo_stage(nd_backend *backend, const nd_method *method, int index, int64_t rank,
                              const nd_conv *conv, const nd_moments *moments, nd_chain *chain);

/* Answers nd_method.spectrum by decomposing at every rank, for methods whose error has no closed form. */
nd_status nd_spectrum_by_rank(nd_backend *backend, const nd_method *method, const nd_conv *conv,
                              nd_ranks ranks, double **error2, double **energy, size_t *count);

#endif
