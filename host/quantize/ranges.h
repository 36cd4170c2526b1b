/* Ranges of activations over calibration images. */
#ifndef ND_QUANTIZE_RANGES_H
#define ND_QUANTIZE_RANGES_H

#include "base/batches.h"
#include "run/executor.h"
#include "run/quantized.h"

typedef struct nd_range {
    float lo, hi; /* lo <= 0 <= hi */
    double error; /* sqrt(E|q(x) - x|^2 / E|x|^2) in 8 bits */
    bool e4m3;    /* these are of e4m3, lo being -hi; else integers */
} nd_range;

/* The range of least expected error of each value, in e4m3 or in 8-bit integers. */
nd_status nd_ranges_find(const nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                         const int *values, int n, bool e4m3, nd_range *out);

/* (E |x|^16)^(1/16) per channel of each value, over the images: near the largest, but few pixels do not
 * decide it. magnitudes[i] is the caller's, zeros, [dims[1]]. */
nd_status nd_ranges_channels(const nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                             const int *values, int n, double *const *magnitudes);

/* Adds the values of the images to real[i], and what they are once stored in ranges[i] to stored[i],
 * divided by how many images there are: both [elements of an image]. */
nd_status nd_ranges_means(const nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                          const int *values, int n, const nd_range *ranges, float *const *real,
                          float *const *stored);

/* How 8 bits stand for a range. */
nd_quant nd_range_quant(const nd_range *range);

/* What a range costs of these counts: counts[bins] lie evenly over [from, to]; for the tests. */
double nd_range_error(const double *counts, int bins, float from, float to, const nd_range *range);

#endif
