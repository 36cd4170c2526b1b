/* The two halves of the separable kernel, written once over a vector type. Included by separable_<isa>.c
 * after it has defined
 *   LANES, MR, NV       floats in a register; pixels and registers of output channels in a full tile
 *   vec                 the register type
 *   vec_zero, vec_set1, vec_load, vec_store, vec_fma(a, b, c) = a * b + c, vec_add, vec_mul, vec_min, vec_max
 *   vec_load_part(p, n), vec_store_part(p, n, v)   the first n lanes only; loads give 0 elsewhere
 *   vec_permute(v, index)                          lane l of the result is lane index[l] of v
 * No header guard: one translation unit includes it once.
 *
 * Depthwise: threads nothing, one tile a call. A block is P horizontally adjacent pixels by S groups over the
 * same input channels: S weight loads and P input loads feed P * S FMAs per tap. Pixels whose taps all lie
 * inside the row go in blocks of 7, 4 or 1; the last block overlaps its neighbour rather than falling to
 * single pixels. Every output is the same chain of FMAs over its taps, so the blocking never shows in the
 * bits.
 *
 * GEMM: an MR x (NV * LANES) tile of outputs stays in registers over the whole reduction; per step NV loads
 * of weights and MR broadcasts feed MR * NV FMAs. */
#include "run/cpu/separable_kernel.h"

#define ND_UNROLL _Pragma("GCC unroll 32")
#define ND_INLINE static inline __attribute__((always_inline))

typedef struct sep_block {
    const float *image;
    ptrdiff_t at; /* offset of tap (0, 0) of the first pixel, first channel of the run */
    int ky_begin, ky_end, kx_begin, kx_end;
    float *panel; /* first pixel, first group of the run */
    int64_t panel_pixel, panel_group;
} sep_block;

ND_INLINE void sep_depthwise_block(const int pixels, const int slots, const bool permuted,
                                   const nd_sep_depthwise *dw, const nd_sep_run *run,
                                   const sep_block *block) {
    vec sum[7][nd_sep_slots_max];
    ND_UNROLL for (int p = 0; p < pixels; p++) {
        ND_UNROLL for (int s = 0; s < slots; s++) sum[p][s] = vec_zero();
    }
    const int64_t slot_weights = (int64_t)dw->kh * dw->kw * LANES;
    const float *weights = dw->weights + run->group * slot_weights;
    const int64_t pixel = dw->pixel;
    for (int ky = block->ky_begin; ky < block->ky_end; ky++) {
        const float *x = block->image + (block->at + ky * dw->tap_row + block->kx_begin * dw->tap_column);
        const float *w = weights + ((int64_t)ky * dw->kw + block->kx_begin) * LANES;
        for (int kx = block->kx_begin; kx < block->kx_end; kx++, x += dw->tap_column, w += LANES) {
            vec tap[nd_sep_slots_max];
            ND_UNROLL for (int s = 0; s < slots; s++) tap[s] = vec_load(w + s * slot_weights);
            ND_UNROLL for (int p = 0; p < pixels; p++) {
                const float *at = x + p * pixel;
                vec v = permuted ? vec_permute(vec_load_part(at, run->span), run->source) : vec_load(at);
                ND_UNROLL for (int s = 0; s < slots; s++) vec_accumulate(sum[p][s], v, tap[s]);
            }
        }
    }
    ND_UNROLL for (int s = 0; s < slots; s++) {
        float *panel = block->panel + s * block->panel_group;
        ND_UNROLL for (int p = 0; p < pixels; p++) vec_store(panel + p * block->panel_pixel, sum[p][s]);
    }
}

typedef void sep_depthwise_fn(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_block *block);

#define ND_BLOCK(pixels, slots)                                                                              \
    static void sep_depthwise_##pixels##x##slots(const nd_sep_depthwise *dw, const nd_sep_run *run,          \
                                                 const sep_block *block) {                                   \
        sep_depthwise_block(pixels, slots, false, dw, run, block);                                           \
    }
#define ND_BLOCKS(pixels)                                                                                    \
    ND_BLOCK(pixels, 1)                                                                                      \
    ND_BLOCK(pixels, 2)                                                                                      \
    ND_BLOCK(pixels, 3)                                                                                      \
    ND_BLOCK(pixels, 4)                                                                                      \
    static void sep_depthwise_##pixels##_permuted(const nd_sep_depthwise *dw, const nd_sep_run *run,         \
                                                  const sep_block *block) {                                  \
        sep_depthwise_block(pixels, 1, true, dw, run, block);                                                \
    }
ND_BLOCKS(1)
ND_BLOCKS(4)
ND_BLOCKS(7)

/* By block size (1, 4, 7 pixels), then slots; slot 0 is the permuted run. */
enum { sep_sizes = 3 };
static const int sep_size[sep_sizes] = {1, 4, 7};
#define ND_BLOCK_ROW(pixels)                                                                                 \
    {                                                                                                        \
        sep_depthwise_##pixels##_permuted, sep_depthwise_##pixels##x1, sep_depthwise_##pixels##x2,           \
            sep_depthwise_##pixels##x3, sep_depthwise_##pixels##x4                                           \
    }
static sep_depthwise_fn *const sep_blocks[sep_sizes][nd_sep_slots_max + 1] = {
    ND_BLOCK_ROW(1), ND_BLOCK_ROW(4), ND_BLOCK_ROW(7)};

/* Pixels [begin, end) of the segment, all of whose taps lie inside the row. */
static void sep_inner(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_block *first, int begin,
                      int end) {
    int size = sep_sizes - 1;
    while (sep_size[size] > end - begin) size--;
    sep_depthwise_fn *body = sep_blocks[size][run->permuted ? 0 : run->slots];
    const int step = sep_size[size];
    for (int at = begin; at < end; at += step) {
        const int p = at + step > end ? end - step : at;
        sep_block block = *first;
        block.at += p * dw->pixel;
        block.panel += p * first->panel_pixel;
        body(dw, run, &block);
    }
}

/* A pixel that hangs over the left or right edge. */
static void sep_edge(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_block *first, int p,
                     int64_t column) {
    sep_block block = *first;
    block.at += p * dw->pixel;
    block.panel += p * first->panel_pixel;
    while (block.kx_begin < dw->kw && column + block.kx_begin * dw->dilation < 0) block.kx_begin++;
    while (block.kx_end > block.kx_begin && column + (block.kx_end - 1) * dw->dilation >= dw->x_width) {
        block.kx_end--;
    }
    sep_blocks[0][run->permuted ? 0 : run->slots](dw, run, &block);
}

static void sep_depthwise(const nd_sep_depthwise *dw, const nd_sep_segment *segments, int n_segments,
                          const float *image, float *panel, int64_t panel_pixel, int64_t panel_group) {
    const int64_t reach = (dw->kw - 1) * dw->dilation;
    for (int i = 0; i < n_segments; i++) {
        const nd_sep_segment *segment = &segments[i];
        int begin = 0, end = segment->pixels;
        while (begin < end && segment->column + begin * dw->stride < 0) begin++;
        while (end > begin && segment->column + (end - 1) * dw->stride + reach >= dw->x_width) end--;
        for (int r = 0; r < dw->n_runs; r++) {
            const nd_sep_run *run = &dw->runs[r];
            const sep_block block = {.image = image,
                                     .at = segment->origin + run->first,
                                     .ky_begin = segment->ky_begin,
                                     .ky_end = segment->ky_end,
                                     .kx_end = dw->kw,
                                     .panel = panel + run->group * panel_group,
                                     .panel_pixel = panel_pixel,
                                     .panel_group = panel_group};
            for (int p = 0; p < begin; p++) sep_edge(dw, run, &block, p, segment->column + p * dw->stride);
            if (end > begin) sep_inner(dw, run, &block, begin, end);
            for (int p = end; p < segment->pixels; p++)
                sep_edge(dw, run, &block, p, segment->column + p * dw->stride);
        }
        panel += segment->pixels * panel_pixel;
    }
}

/* Registers to y: residual, then the clamp that stands for no activation, ReLU and clip alike. */
ND_INLINE void sep_finish(const int pixels, const int registers, const bool whole, const nd_sep_gemm *gemm,
                          vec sum[MR][NV]) {
    const vec low = vec_set1(gemm->low), high = vec_set1(gemm->high);
    ND_UNROLL for (int v = 0; v < registers; v++) {
        const int left = gemm->columns - v * LANES, n = left < LANES ? left : LANES;
        float *y = gemm->y + v * LANES;
        const float *x2 = gemm->x2 ? gemm->x2 + v * LANES : NULL;
        ND_UNROLL for (int p = 0; p < pixels; p++) {
            vec out = sum[p][v];
            if (x2) {
                out = vec_add(out, whole ? vec_load(x2) : vec_load_part(x2, n));
                x2 += gemm->x2_pixel;
            }
            out = vec_min(high, vec_max(low, out));
            if (whole) {
                vec_store(y, out);
            } else {
                vec_store_part(y, n, out);
            }
            y += gemm->y_pixel;
        }
    }
}

ND_INLINE void sep_tile(const int pixels, const int registers, const nd_sep_gemm *gemm) {
    vec sum[MR][NV];
    ND_UNROLL for (int v = 0; v < registers; v++) {
        const vec bias = vec_load(gemm->bias + v * LANES);
        ND_UNROLL for (int p = 0; p < pixels; p++) sum[p][v] = bias;
    }
    const float *panel = gemm->panel, *weights = gemm->weights;
    for (int64_t g = 0; g < gemm->groups; g++) {
        for (int k = 0; k < LANES; k += STEP) {
            ND_UNROLL for (int s = 0; s < STEP; s++) {
                vec w[NV];
                ND_UNROLL for (int v = 0; v < registers; v++) {
                    w[v] = vec_load(weights + (s * NV + v) * LANES);
                    vec_prefetch(weights + (s * NV + v + ND_PREFETCH * NV) * LANES);
                }
                ND_UNROLL for (int p = 0; p < pixels; p++) {
                    const vec a = vec_set1(panel[p * LANES + s]);
                    ND_UNROLL for (int v = 0; v < registers; v++) vec_accumulate(sum[p][v], a, w[v]);
                }
            }
            panel += STEP;
            weights += STEP * NV * LANES;
        }
        panel += (pixels - 1) * LANES;
    }
    if (gemm->columns == registers * LANES) {
        sep_finish(pixels, registers, true, gemm, sum);
    } else {
        sep_finish(pixels, registers, false, gemm, sum);
    }
}

typedef void sep_tile_fn(const nd_sep_gemm *gemm);

#define ND_TILE(pixels)                                                                                      \
    static void sep_tile_##pixels##x1(const nd_sep_gemm *gemm) {                                             \
        sep_tile(pixels, 1, gemm);                                                                           \
    }                                                                                                        \
    static void sep_tile_##pixels##x2(const nd_sep_gemm *gemm) {                                             \
        sep_tile(pixels, 2, gemm);                                                                           \
    }
#define ND_TILE_ROW(pixels)                                                                                  \
    { sep_tile_##pixels##x1, sep_tile_##pixels##x2 }
