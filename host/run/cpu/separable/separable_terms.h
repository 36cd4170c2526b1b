/* The terms of a separable or depthwise operation dealt into groups, and the pixels of a tile into rows: what
 * every user of a depthwise half needs. */
#ifndef ND_RUN_CPU_SEPARABLE_TERMS_H
#define ND_RUN_CPU_SEPARABLE_TERMS_H

#include "run/cpu/cpu.h"

typedef struct nd_sep_terms {
    nd_sep_depthwise depthwise; /* complete; owns runs and weights */
    nd_sep_run *runs;
    float *weights;
    float *middle_factor; /* int8: of each place */
    int32_t *words;       /* int8: depthwise.words, starts, columns and column_starts */
    int64_t *place;       /* [terms]: where each went, group * lanes + lane */
    int64_t groups, lanes;
    nd_window window;
    nd_view x;
    int64_t height, width; /* of the output */
} nd_sep_terms;

/* Reads x, y.dims[2..3], window, depthwise, channel and terms of the work, and the scales of int8. */
nd_status nd_sep_terms_build(const nd_work *work, int lanes, nd_sep_deal deal, nd_sep_terms *out);
/* Adds what int8 needs: the factor of every term (nd_requant_of) where it went, the zeros, and filters in
 * words. */
nd_status nd_sep_terms_quantize(const nd_work *work, const float *middle_factor, nd_sep_terms *terms);
void nd_sep_terms_free(nd_sep_terms *terms);

/* Output pixels [begin, end) in raster order, at most nd_sep_mr_max, by row. Returns how many segments. */
int nd_sep_segments(const nd_sep_terms *terms, int64_t begin, int64_t end, nd_sep_segment *segments);

#endif
