/* The two halves of the separable kernel, written once over a vector type. Included by separable_<isa>.c
 * after it has defined
 *   LANES, MR, NV       floats in a register; pixels and registers of output channels in a full tile
 *   vec                 the register type
 *   vec_zero, vec_set1, vec_load, vec_store, vec_fma(a, b, c) = a * b + c, vec_add, vec_mul, vec_min, vec_max
 *   vec_load_part(p, n), vec_store_part(p, n, v)   the first n lanes only; loads give 0 elsewhere
 *   vec_stream(p, v)                               store past the caches, p aligned to the register
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

/* The taps of a block of pixels, and where its image and panel are. Made once a segment: the blocks' own
 * arguments travel in registers (a copied struct costs a failed store forwarding for every block). */
typedef struct sep_taps {
    const float *image;
    int ky_begin, ky_end, kx_begin, kx_end;
    int64_t panel_pixel, panel_group;
} sep_taps;

/* `at`: offset in the image of tap (0, 0) of the first pixel, first channel of the run. */
ND_INLINE void sep_depthwise_block(const int pixels, const int slots, const bool permuted,
                                   const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                                   ptrdiff_t at, float *panel) {
    vec sum[7][nd_sep_slots_max];
    ND_UNROLL for (int p = 0; p < pixels; p++) {
        ND_UNROLL for (int s = 0; s < slots; s++) sum[p][s] = vec_zero();
    }
    const int64_t slot_weights = (int64_t)dw->kh * dw->kw * LANES;
    const float *weights = dw->weights + run->group * slot_weights;
    const int64_t pixel = dw->pixel, tap_column = dw->tap_column;
    const int kx_begin = taps->kx_begin, kx_end = taps->kx_end;
    for (int ky = taps->ky_begin; ky < taps->ky_end; ky++) {
        const float *x = taps->image + (at + ky * dw->tap_row + kx_begin * tap_column);
        const float *w = weights + ((int64_t)ky * dw->kw + kx_begin) * LANES;
        for (int kx = kx_begin; kx < kx_end; kx++, x += tap_column, w += LANES) {
            vec tap[nd_sep_slots_max];
            ND_UNROLL for (int s = 0; s < slots; s++) tap[s] = vec_load(w + s * slot_weights);
            ND_UNROLL for (int p = 0; p < pixels; p++) {
                const float *from = x + p * pixel;
                vec v = permuted ? vec_permute(vec_load_part(from, run->span), run->source) : vec_load(from);
                ND_UNROLL for (int s = 0; s < slots; s++) vec_accumulate(sum[p][s], v, tap[s]);
            }
        }
    }
    ND_UNROLL for (int s = 0; s < slots; s++) {
        float *out = panel + s * taps->panel_group;
        ND_UNROLL for (int p = 0; p < pixels; p++) vec_store(out + p * taps->panel_pixel, sum[p][s]);
    }
}

typedef void sep_depthwise_fn(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                              ptrdiff_t at, float *panel);

#define ND_BLOCK(name, pixels, slots, permuted)                                                              \
    static void sep_depthwise_##name(const nd_sep_depthwise *dw, const nd_sep_run *run,                      \
                                     const sep_taps *taps, ptrdiff_t at, float *panel) {                     \
        sep_depthwise_block(pixels, slots, permuted, dw, run, taps, at, panel);                              \
    }
#define ND_BLOCKS(pixels)                                                                                    \
    ND_BLOCK(pixels##_permuted, pixels, 1, true)                                                             \
    ND_BLOCK(pixels##x1, pixels, 1, false)                                                                   \
    ND_BLOCK(pixels##x2, pixels, 2, false)                                                                   \
    ND_BLOCK(pixels##x3, pixels, 3, false)                                                                   \
    ND_BLOCK(pixels##x4, pixels, 4, false)
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

/* Pixels [begin, end) of a segment, all of whose taps lie inside the row. */
static void sep_inner(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps, ptrdiff_t at,
                      float *panel, int begin, int end) {
    int size = sep_sizes - 1;
    while (sep_size[size] > end - begin) size--;
    sep_depthwise_fn *body = sep_blocks[size][run->permuted ? 0 : run->slots];
    const int step = sep_size[size];
    for (int next = begin; next < end; next += step) {
        const int p = next + step > end ? end - step : next;
        body(dw, run, taps, at + p * dw->pixel, panel + p * taps->panel_pixel);
    }
}

/* A pixel that hangs over the left or right edge: its input column is `column`. */
static void sep_edge(const nd_sep_depthwise *dw, const sep_taps *row, ptrdiff_t at, float *panel,
                     int64_t column) {
    sep_taps taps = *row;
    while (taps.kx_begin < dw->kw && column + taps.kx_begin * dw->dilation < 0) taps.kx_begin++;
    while (taps.kx_end > taps.kx_begin && column + (taps.kx_end - 1) * dw->dilation >= dw->x_width) {
        taps.kx_end--;
    }
    for (int r = 0; r < dw->n_runs; r++) {
        const nd_sep_run *run = &dw->runs[r];
        sep_blocks[0][run->permuted ? 0 : run->slots](dw, run, &taps, at + run->first,
                                                      panel + run->group * taps.panel_group);
    }
}

static void sep_depthwise(const nd_sep_depthwise *dw, const nd_sep_segment *segments, int n_segments,
                          const float *image, float *panel, int64_t panel_pixel, int64_t panel_group) {
    const int64_t reach = (dw->kw - 1) * dw->dilation;
    for (int i = 0; i < n_segments; i++) {
        const nd_sep_segment *segment = &segments[i];
        const sep_taps taps = {.image = image,
                               .ky_begin = segment->ky_begin,
                               .ky_end = segment->ky_end,
                               .kx_end = dw->kw,
                               .panel_pixel = panel_pixel,
                               .panel_group = panel_group};
        int begin = 0, end = segment->pixels;
        while (begin < end && segment->column + begin * dw->stride < 0) begin++;
        while (end > begin && segment->column + (end - 1) * dw->stride + reach >= dw->x_width) end--;
        for (int p = 0; p < segment->pixels; p++) {
            if (p == begin) p = end;
            if (p >= segment->pixels) break;
            sep_edge(dw, &taps, segment->origin + p * dw->pixel, panel + p * panel_pixel,
                     segment->column + p * dw->stride);
        }
        for (int r = 0; r < dw->n_runs && begin < end; r++) {
            const nd_sep_run *run = &dw->runs[r];
            sep_inner(dw, run, &taps, segment->origin + run->first, panel + run->group * panel_group, begin,
                      end);
        }
        panel += segment->pixels * panel_pixel;
    }
}

/* Registers to y: residual, then the clamp that stands for no activation, ReLU and clip alike. */
typedef enum sep_store { sep_store_part, sep_store_whole, sep_store_stream } sep_store;

ND_INLINE void sep_finish(const int pixels, const int registers, const sep_store store,
                          const nd_sep_gemm *gemm, vec sum[MR][NV]) {
    const vec low = vec_set1(gemm->low), high = vec_set1(gemm->high);
    ND_UNROLL for (int v = 0; v < registers; v++) {
        const int left = gemm->columns - v * LANES, n = left < LANES ? left : LANES;
        float *y = gemm->y + v * LANES;
        const float *x2 = gemm->x2 ? gemm->x2 + v * LANES : NULL;
        ND_UNROLL for (int p = 0; p < pixels; p++) {
            vec out = sum[p][v];
            if (x2) {
                out = vec_add(out, store == sep_store_part ? vec_load_part(x2, n) : vec_load(x2));
                x2 += gemm->x2_pixel;
            }
            out = vec_min(high, vec_max(low, out));
            if (store == sep_store_stream) {
                vec_stream(y, out);
            } else if (store == sep_store_whole) {
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
    const char *ahead = gemm->ahead;
    const int64_t ahead_step = gemm->ahead_step;
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
            if (k % nd_sep_ahead_depth == 0) {
                vec_prefetch(ahead);
                ahead += ahead_step;
            }
            panel += STEP;
            weights += STEP * NV * LANES;
        }
        panel += (pixels - 1) * LANES;
    }
    if (gemm->columns < registers * LANES) {
        sep_finish(pixels, registers, sep_store_part, gemm, sum);
    } else if (gemm->stream) {
        sep_finish(pixels, registers, sep_store_stream, gemm, sum);
    } else {
        sep_finish(pixels, registers, sep_store_whole, gemm, sum);
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
