/* Decoding ahead of inference: worker threads load and preprocess pictures of a source into a ring of slots,
 * and the stream takes them out in order. Memory is the ring and one batch, whatever the length of
 * the set. */
#ifndef ND_DATASETS_PREFETCH_H
#define ND_DATASETS_PREFETCH_H

#include "datasets/image/preprocess.h"
#include "datasets/source.h"

typedef struct nd_prefetch nd_prefetch;

typedef struct nd_prefetch_settings {
    const nd_source *source; /* must outlive the prefetch */
    const nd_preprocess *preprocess;
    int64_t first, count; /* the range of pictures */
    int64_t height, width;
    int64_t ahead; /* slots: pictures that may be ready and not yet taken */
    int workers;
} nd_prefetch_settings;

nd_status nd_prefetch_open(const nd_prefetch_settings *settings, nd_prefetch **out);
void nd_prefetch_close(nd_prefetch *prefetch); /* waits for the workers; NULL is legal */

/* The next picture in order, copied to dst, where it lies in that, and its place in the source. *index is
 * -1 after the last one. A picture that could not be read gives the status of its family (nd_error()
 * names it), and the stream goes on after it. */
nd_status nd_prefetch_take(nd_prefetch *prefetch, float *dst, nd_frame *frame, int64_t *index);

void nd_prefetch_rewind(nd_prefetch *prefetch);

#endif
