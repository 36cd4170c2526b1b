/* What the driver of the separable kernel (separable.c) and its per-ISA halves (separable_<isa>.c) agree on.
 *
 * Terms are dealt into groups of `lanes`, one SIMD register each. A tile is at most `mr` consecutive output
 * pixels of one image. Its panel is [group][pixel][lane], in the type of the activations: the depthwise half
 * writes whole registers, the GEMM half broadcasts words of `pack` lanes at constant offsets: one in fp32,
 * two in bf16, four in int8, what one instruction multiplies and adds in each of its lanes. The pointwise
 * weights are packed as [block][group * lanes / pack][nr][pack] with zeros for unused lanes and past the last
 * channel. */
#ifndef ND_RUN_CPU_SEPARABLE_KERNEL_H
#define ND_RUN_CPU_SEPARABLE_KERNEL_H

#include "run/quantized.h"

#include <stddef.h>

enum { nd_sep_lanes_max = 16, nd_sep_mr_max = 32, nd_sep_slots_max = 3, nd_sep_ahead_depth = 4 };

/* Channels of a wide block, columns of words that a tile of it may span; channels of a block in halves. */
enum { nd_sep_wide = 64, nd_sep_wide_columns = 72, nd_sep_halves = 32 };

/* How terms are dealt: term t to group t / lanes, lane t % lanes, wherever lanes allow (nd_sep_terms.place
 * says so); or for speed, in blocks of `lanes` channels, and before them in blocks of 32 channels of bf16,
 * which come apart into even and odd ones by an instruction each, or in wide blocks where the work is in
 * integers and allows them. */
typedef enum nd_sep_deal {
    nd_sep_in_order,
    nd_sep_blocks,
    nd_sep_half_blocks,
    nd_sep_wide_blocks
} nd_sep_deal;

/* Consecutive groups that read the same input channels. With `permuted` it is one group whose lane l reads
 * channel first + source[l], from `span` channels; else every group reads channels first..first+lanes-1, or
 * the part of the block from `first` on that nd_sep_part_channel says. */
typedef struct nd_sep_run {
    int64_t first;
    int group, slots;
    bool permuted;
    int quarter, span;
    int half; /* 1: the even channels of a block in halves, 2: the odd ones */
    int32_t source[nd_sep_lanes_max];
} nd_sep_run;

/* Geometry in elements of x, shared by all tiles. `x_width` is in pixels. */
typedef struct nd_sep_depthwise {
    const nd_sep_run *runs; /* the wide ones first */
    int n_runs, wide_runs;  /* all, where the wide ones end */
    const float *weights;   /* [group][kh * kw][lanes] */
    int kh, kw;
    int64_t tap_row, tap_column; /* element steps between vertically and horizontally adjacent taps */
    int64_t pixel;               /* element step between horizontally adjacent outputs */
    int64_t stride, dilation;    /* horizontal, in pixels */
    int64_t x_width;
    /* int8 (run/quantized.h): the panel holds fma(sum of (q - x_zero) * w, middle_factor, middle_zero). */
    const float *middle_factor; /* [group][lanes] */
    float middle_zero;
    int32_t x_zero;
    /* Integer filters of three columns, for products of words: 0 and the three taps of a row, and what the
     * zero of x makes of them. NULL where sums might not fit. */
    const int32_t *words, *starts; /* [group][kh][lanes] */
    /* The same for products of columns, of at most four rows: the taps of a column, and of all. */
    const int32_t *columns;       /* [group][kw][lanes] */
    const int32_t *column_starts; /* [group][lanes] */
} nd_sep_depthwise;

/* Output pixels of one tile that lie in one output row. Offsets may point outside the image: only taps inside
 * it are read. */
typedef struct nd_sep_segment {
    ptrdiff_t origin; /* element offset in the image of tap (0, 0) of the first pixel */
    int64_t column;   /* its input column */
    int pixels;
    int ky_begin, ky_end; /* rows of taps inside the image */
} nd_sep_segment;

/* One block of at most nr output channels of one tile. */
typedef struct nd_sep_gemm {
    const void *panel;
    const void *weights; /* [groups * lanes / pack][nr] words */
    int64_t groups;
    int columns;       /* output channels that exist in this block */
    const float *bias; /* [nr] */
    const void *x2;    /* residual of the first pixel, or NULL */
    int64_t x2_pixel;
    void *y;
    int64_t y_pixel;
    float low, high; /* y = min(high, max(low, ...)) */
    /* int8 (run/quantized.h): bias is `shift`; sums start from what the zero of the panel makes of the
     * weights. */
    const int32_t *start; /* [nr] */
    const float *factor;  /* [nr] */
    nd_requant requant;
    bool real;      /* y is fp32 */
    bool saturates; /* the zero of y is 0, high is 255, and what is above fits 32 bits: narrowing bounds it */
    bool stream;    /* y is aligned to the register and better written past the caches */
    const char *ahead; /* one line is prefetched from here for every nd_sep_ahead_depth terms */
    int64_t ahead_step;
} nd_sep_gemm;

/* Channel of a block of `parts` registers that lane `lane` of a part has: of halves every other one, of
 * quarters as bytes of 64 channels come apart into words. */
static inline int nd_sep_part_channel(int parts, int part, int lane) {
    if (parts == 4) return lane / 4 * 16 + part * 4 + lane % 4;
    return parts * lane + part;
}

typedef struct nd_sep_isa {
    const char *name;
    int lanes, mr, nr;
    int element; /* bytes of an element of x, x2, y and the panel */
    int pack;    /* terms of a word */
    nd_sep_deal deal;
    void (*depthwise)(const nd_sep_depthwise *depthwise, const nd_sep_segment *segments, int n_segments,
                      const void *image, void *panel, int64_t panel_pixel, int64_t panel_group);
    void (*multiply)(const nd_sep_gemm *gemm, int tile_pixels);
} nd_sep_isa;

extern const nd_sep_isa nd_sep_scalar, nd_sep_avx2, nd_sep_avx512, nd_sep_avx512_bf16;
extern const nd_sep_isa nd_sep_scalar_int8, nd_sep_avx2_vnni, nd_sep_avx512_vnni;

/* bf16 and int8 on AMX. The panel is [pixel][term] with nd_sep_amx_pixels rows and a row step of the caller's
 * choice; terms are padded to whole steps of `depth`, 64 bytes. The pointwise weights are packed as
 * [block][step][half of the columns][words][16 columns][terms of a word]. */
enum { nd_sep_amx_pixels = 32, nd_sep_amx_columns = 32 };

/* The patches of a convolution as the rows of the image that they are cut from. All in bytes. */
typedef struct nd_sep_patches {
    int64_t rows, row_bytes;      /* of one patch; adjacent in the panel */
    int64_t row_step, pixel_step; /* from one row of a patch to the next, and to that of the next pixel */
    int64_t panel_pixel;          /* at least a patch and 64 */
} nd_sep_patches;

typedef struct nd_sep_amx {
    int element; /* bytes */
    int depth;   /* terms of a step */
    nd_sep_deal deal;
    void (*begin)(void); /* configures this thread's tiles */
    void (*end)(void);
    void (*depthwise)(const nd_sep_depthwise *depthwise, const nd_sep_segment *segments, int n_segments,
                      const void *image, void *panel, int64_t panel_pixel, int64_t panel_group);
    /* Patches of `pixels` adjacent outputs. What lies between one and the next is zero afterwards or belongs
     * to the patch before. */
    void (*patches)(const nd_sep_patches *patches, int64_t pixels, const char *from, char *panel);
    /* The tiles become panel (32 rows) times one block of weights; out[32][32] what is in them: fp32, or
     * int32. The product goes on while something else runs between the two. */
    void (*multiply)(const void *panel, int64_t panel_pixel, const void *weights, int64_t steps);
    void (*store)(void *out);
    /* The epilogue of the GEMM for `pixels` rows of `out`. */
    void (*finish)(const nd_sep_gemm *gemm, int pixels, const void *out);
} nd_sep_amx;

extern const nd_sep_amx nd_sep_amx_bf16, nd_sep_amx_int8;

#endif
