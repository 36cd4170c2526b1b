/* How a separable layer is laid out for the fused kernels: terms in blocks, filters and pointwise weights
 * block by block, and which output pixels make a tile. Plain host code. */
#ifndef ND_CUDA_SEPARABLE_PACK_H
#define ND_CUDA_SEPARABLE_PACK_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of 8-bit integers, and but for `start` of e4m3: what follows the sums, of channels up to `rows`, and the
 * factors of depthwise results. All owned. */
typedef struct nd_separable_integers {
    int64_t rows;
    nd_requant requant;
    int32_t *start; /* see nd_cuda_integers */
    float *factor, *shift;
    float *middle; /* [terms] */
} nd_separable_integers;

nd_status nd_separable_integers_make(const nd_work *work, int64_t rows, nd_separable_integers *integers);
void nd_separable_integers_free(nd_separable_integers *integers);

/* Terms in order, cut into blocks of at most nd_separable_terms whose channels lie within nd_separable_terms
 * of an aligned first one; short blocks are filled with zero terms. All arrays are owned. */
typedef struct nd_separable_pack {
    int64_t blocks, chunks;
    float *weights;    /* [rows][blocks * terms], fp32; rows past out_channels are zero */
    int64_t rows;      /* out_channels up to a multiple of the tile */
    int64_t constants; /* kh*kw, and of 8-bit integers 1 more: of the factors of depthwise results */
    float *filters;    /* [blocks][constants][terms] */
    int32_t *base;     /* [blocks][2] */
    int32_t *offset;   /* [blocks][terms] */
    nd_separable_integers integers; /* of u8 */
} nd_separable_pack;

/* `tile`: output channels of a tile. Storage type decides the alignment of base: 16 bytes; u8: the work is of
 * nd_precision_int8. */
nd_status nd_separable_pack_make(const nd_work *work, nd_dtype storage, int64_t tile,
                                 nd_separable_pack *pack);
void nd_separable_pack_free(nd_separable_pack *pack);

/* Images, rows and columns of output pixels that make the fewest tiles of at most nd_separable_pixels, with
 * the smallest input patch among equals; false when not even one pixel fits `shared_limit` bytes, which
 * `shared` counts for a kernel. Sets call->patch. */
typedef size_t nd_separable_shared(const nd_cuda_separable *call);
bool nd_separable_patch_choose(nd_cuda_separable *call, size_t shared_limit, nd_separable_shared *shared);

/* Tiles of pixels and output channels, by call->patch and call->tile. */
int64_t nd_separable_tiles(const nd_cuda_separable *call);

/* Sets call->split, by tiles and blocks of terms and the `resident` thread blocks that the device runs at
 * once: more than 1 only where the tiles leave some of them idle. */
void nd_separable_split_choose(nd_cuda_separable *call, int64_t resident);

/* A layer in two steps, slice by slice. The library's GEMM is taken to make tiles of
 * nd_separable_slice_pixels pixels by nd_separable_slice_channels channels, one a multiprocessor at a time.
 */
typedef struct nd_separable_slices {
    int64_t rows, width; /* of outputs: rows of all images one after the other, pixels of a row */
    int64_t most;        /* rows of a slice */
    int64_t out_channels, multiprocessors;
    bool strict; /* fp32 */
} nd_separable_slices;

enum { nd_separable_slice_pixels = 128 };
int64_t nd_separable_slice_channels(const nd_separable_slices *s);

/* Waves of such tiles that a GEMM of so many rows takes. */
int64_t nd_separable_slice_waves(const nd_separable_slices *s, int64_t rows);

/* Rows of a slice, at least 1 and at most `most`, that take the fewest waves in all. */
int64_t nd_separable_slice_choose(const nd_separable_slices *s);

#ifdef __cplusplus
}
#endif

#endif
