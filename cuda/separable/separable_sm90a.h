/* The fused kernel for sm_90a alone (separable_sm90a.cu), and what it wants prepared. Windows of 3x3 without
 * dilation, strides 1 and 2, activations none, ReLU and clip (of int8 and e4m3 leaky ReLU as well), not
 * strict fp32, pixels of x on multiples of 16 bytes; of int8 filters that are integers. */
#ifndef ND_CUDA_SEPARABLE_SM90A_H
#define ND_CUDA_SEPARABLE_SM90A_H

#include "cuda/separable/separable_pack.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    nd_hopper_row = 64,  /* bytes of a pixel in shared memory: 32 channels of 16 bits, 16 of tf32, 64 of 8 */
    nd_hopper_slab = 64, /* pixels of one product */
    nd_hopper_terms = 3, /* of a round, at most */
    nd_hopper_taps = 9,
    nd_hopper_integer_words = 5,          /* of a channel and term of int8: rows of taps, start, factor */
    nd_hopper_integer_start = 0x4b400000, /* the bits of 1.5 * 2^23: separable_sm90a_depthwise.cuh */
    nd_hopper_threads = 384,
};

#ifdef __cplusplus
#    define ND_HOPPER_CONSTANT constexpr /* for the host, and where the device wants a constant */
#else
#    define ND_HOPPER_CONSTANT static inline
#endif

/* Pixels of a half tile, at most, by its output channels. */
ND_HOPPER_CONSTANT int64_t nd_hopper_half(int64_t tile) {
    return tile > 128 ? nd_hopper_slab : 2 * nd_hopper_slab;
}

/* Channels that a lane makes at once; the columns that the 32 of a warp then make, of channels of so many
 * bytes. */
ND_HOPPER_CONSTANT int nd_hopper_lane(bool int8) {
    return int8 ? 4 : 2;
}

ND_HOPPER_CONSTANT int nd_hopper_columns(int64_t bytes, int lane) {
    return (int)(32 * lane * bytes / nd_hopper_row);
}

/* Of `layer`: window, precision, sizes, distances, tile (64, 128 or 256), split, partial, bias, activation,
 * x, x2 and y; patch is that of a half tile, and `blocks` counts rounds. Its weights, filters, base, offset
 * and chunks are not read. A tile is two half tiles, one after the other. */
typedef struct nd_cuda_hopper {
    nd_cuda_separable layer;
    int64_t terms;    /* of a round, at most */
    int64_t cluster;  /* blocks that share weights: 1 or 2 */
    int64_t whole;    /* clusters of tiles whose rounds are summed by one block; of the rest layer.split */
    int64_t resident; /* blocks that the device runs at once */
    const int32_t
        *rounds; /* [blocks][2]: first channel | terms << 24, and where its constants begin, in 16 bytes */
    const void *constants;   /* see nd_hopper_pack */
    int64_t constants_bytes; /* of the output channels of one tile */
} nd_cuda_hopper;

nd_status nd_cuda_hopper_launch(const nd_cuda_hopper *call);
size_t
nd_cuda_hopper_shared(const nd_cuda_hopper *call); /* SIZE_MAX where its patch cannot be copied at once */
/* Of layer.partial; layer.y and x2 say how they are aligned. */
size_t nd_cuda_hopper_partial(const nd_cuda_hopper *call);
bool nd_cuda_hopper_takes(const nd_work *work,
                          nd_precision precision); /* in pixels of neighbouring channels */

/* A round is nd_hopper_row bytes of channels and their next terms, up to nd_hopper_terms: a channel with
 * fewer has zeros. constants, tile after tile of output channels and round after round: for each of its terms
 * the pointwise weights of all channels of the tile, rows of nd_hopper_row bytes in the 64-byte swizzle; then
 * the filters, fp32 [9][pairs of channels][terms][2], of the first two terms and then of the third, of e4m3
 * times the factor of the depthwise result. Of int8, for each of its terms, words [5][channels]: three rows
 * of taps, signed bytes with the first in the lowest and none in the highest; nd_hopper_integer_start less
 * the taps' sum times x's zero; the factor of the depthwise result, fp32. All owned. */
typedef struct nd_hopper_pack {
    int64_t rounds, terms;          /* terms: of the round with most */
    int32_t *table;                 /* as nd_cuda_hopper.rounds */
    unsigned char *constants;       /* on 16 bytes */
    size_t tile_bytes, bytes;       /* of one tile of channels, of all */
    nd_separable_integers integers; /* of int8 and e4m3: of channels up to whole tiles */
} nd_hopper_pack;

nd_status nd_hopper_pack_make(const nd_work *work, nd_precision precision, int64_t tile,
                              nd_hopper_pack *pack);
void nd_hopper_pack_free(nd_hopper_pack *pack);

/* The largest number of clusters of tiles, at most `most`, after which a row of half tiles begins: what
 * nd_cuda_hopper.whole may be. */
int64_t nd_hopper_whole(const nd_cuda_hopper *call, int64_t most);

/* Sets patch, cluster, split and whole, by sizes, tile, terms, blocks and resident; false when not even one
 * pixel fits `shared_limit` bytes. */
bool nd_hopper_plan(nd_cuda_hopper *call, size_t shared_limit);

#ifdef __cplusplus
}
#endif

#endif
