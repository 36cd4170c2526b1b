/* Methods in a row: one method's stages decomposed again by another (paper, a.10). */
#ifndef ND_DECOUPLE_COMBINE_H
#define ND_DECOUPLE_COMBINE_H

#include "decouple/moments.h"

/* Moments of stage 0 or of the last stage of a chain seen as a convolution of its own, ridged: from the patches
 * of the conv alone, no image is looked at again. The target of the last stage is the layer's own; that of
 * stage 0 is what stage 0 puts out now. */
nd_status nd_moments_of_stage(const nd_moments *moments, const nd_conv *conv, const nd_chain *chain,
                              int index, nd_moments **out);

#endif
