/* What a network makes of an image by definition, for checking plans before they are timed. */
#ifndef ND_BENCH_EXPECTED_H
#define ND_BENCH_EXPECTED_H

#include "bench/subjects/outputs.h"
#include "decouple/chain.h"

/* to[nd_outputs_size]: the outputs for one image, in fp32, or of a quantised network in the integers that
 * define it, by the reference backend, but for convolutions that would take it minutes: of these, the
 * heaviest ones beyond `budget` multiply-accumulates in all, it gets what `backend` makes of them without any
 * fusion, after each was held to its definition at some places of all its channels. `bound` is of the
 * differences there, relative to the largest number; nd_status_failed names the convolution. */
nd_status nd_expect(const nd_outputs *outputs, nd_backend *backend, double budget, double bound,
                    const float *image, float *to);

/* At the corners, along the border and within: every channel of y[no][h][w] against the sums over x that
 * define it. */
nd_status nd_expect_conv(const nd_conv *conv, const float *x, const float *y, double bound);

#endif
