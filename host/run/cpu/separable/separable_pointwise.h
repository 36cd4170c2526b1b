/* The pointwise half as the drivers of the separable kernel keep it: packed weights, and per output channel
 * what the epilogue adds and multiplies by. */
#ifndef ND_RUN_CPU_SEPARABLE_POINTWISE_H
#define ND_RUN_CPU_SEPARABLE_POINTWISE_H

#include "run/cpu/separable/separable_terms.h"

typedef struct nd_sep_pointwise {
    char *weights;  /* packed by the driver, zeros at first */
    float *bias;    /* [columns] */
    float *factor;  /* int8 */
    int32_t *start; /* int8 */
} nd_sep_pointwise;

/* Views that all drivers take, and activations that one clamp stands for (none, ReLU, clip; int8: all it
 * has). */
bool nd_sep_pointwise_supports(const nd_work *work, nd_precision precision);

/* Room for `depth` terms of `columns` channels, padding included; the epilogue of the work into `gemm`.
 * Filters in `terms` are rounded to bf16, or completed for int8. */
nd_status nd_sep_pointwise_new(const nd_work *work, nd_precision precision, int64_t columns, int64_t depth,
                               nd_sep_terms *terms, nd_sep_gemm *gemm, nd_sep_pointwise *out);
/* The same for the weights of a convolution, [depth] places a channel. */
nd_status nd_sep_pointwise_of_patches(const nd_work *work, nd_precision precision, int64_t columns,
                                      int64_t depth, nd_sep_gemm *gemm, nd_sep_pointwise *out);
/* Whether the epilogue has the activation. */
bool nd_sep_pointwise_takes(nd_activation activation, nd_precision precision);
void nd_sep_pointwise_free(nd_sep_pointwise *pointwise);

/* Points a GEMM at the epilogue of a block of channels. */
static inline void nd_sep_pointwise_at(const nd_sep_pointwise *pointwise, int64_t channel,
                                       nd_sep_gemm *gemm) {
    gemm->bias = pointwise->bias + channel;
    gemm->factor = pointwise->factor + channel;
    gemm->start = pointwise->start + channel;
}

/* One weight as an element of 4 bytes (fp32), 2 (bf16) or 1 (int8, already an integer). */
void nd_sep_store_weight(int element, char *place, float weight);

#endif
