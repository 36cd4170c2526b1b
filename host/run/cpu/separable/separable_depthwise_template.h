/* The depthwise half of the separable kernel, written once over a vector type. Included by separable_<isa>.c
 * after it has defined
 *   LANES, REGISTERS    floats in a register, registers there are
 *   vec, vec_zero()     the register type
 *   vec_load(p), vec_store(p, v), vec_accumulate(sum, a, b): sum += a * b
 *   vec_load_part(p, n) the first n lanes only, 0 elsewhere
 *   vec_permute(v, index)  lane l of the result is lane index[l] of v
 * and, where images and panels are not fp32,
 *   sep_in, sep_mid     their element types
 *   vec_load_in(p), vec_load_in_part(p, n), vec_store_mid(p, v)
 * and, where blocks of twice LANES channels are dealt in halves,
 *   vec_load_even(p), vec_load_odd(p)  every other one of the channels
 * and, where images are quantised,
 *   vec_real(dw, v)     what a loaded register stands for, up to a scale
 *   vec_mid(dw, group, v)  a sum in units of the panel
 * and, where there are products of words of four bytes,
 *   ints, ints_load(p), ints_set1(x), ints_add(a, b), ints_real(v)
 *   ints_roll(word, next)  the last three bytes of every word, and the byte of the next column
 *   ints_dot(sum, a, w)    sum += unsigned bytes of a times signed bytes of w
 * and, where there are wide blocks,
 *   ints_come_apart(rows, words)  bytes of 64 channels of four rows become words of four quarters
 * and, where several registers are better narrowed at once,
 *   vec_store_mids(p, step, a, b, c, d)  at p, p + step, ...; of sums in units of the panel, before the clamp
 * No header guard: one translation unit includes it once.
 *
 * One call does one tile on one thread. A block is P horizontally adjacent pixels by S groups over the
 * same input channels: S weight loads and P input loads feed P * S FMAs per tap. Pixels whose taps all lie
 * inside the row go in blocks of 7, 4 or 1, of wide blocks also of 8; the last block overlaps its
 * neighbour rather than falling to single pixels. Rows of three taps at stride 1, which is nearly all
 * there is, have blocks of their own that load a column of the input once for the three outputs that read
 * it. Every output is the same chain of FMAs over its taps, so the blocking never shows in the bits. */
#include "run/cpu/separable/separable_kernel.h"

#define ND_UNROLL _Pragma("GCC unroll 32")
#define ND_INLINE static inline __attribute__((always_inline))

#ifndef vec_load_in
#    define sep_in           float
#    define sep_mid          float
#    define vec_load_in      vec_load
#    define vec_load_in_part vec_load_part
#    define vec_store_mid    vec_store
#endif
#ifndef vec_real
#    define vec_real(dw, v)       (v)
#    define vec_mid(dw, group, v) (v)
#endif

/* The taps of a block of pixels, and where its image and panel are. Made once a segment: the blocks' own
 * arguments travel in registers (a copied struct costs a failed store forwarding for every block). */
typedef struct sep_taps {
    const sep_in *image;
    int ky_begin, ky_end, kx_begin, kx_end;
    int64_t panel_pixel, panel_group;
} sep_taps;

/* How a run's channels are loaded: as they lie, through its permutation, every other one. */
typedef enum sep_order { sep_straight, sep_permuted, sep_even, sep_odd } sep_order;

ND_INLINE vec sep_load_run(const sep_order order, const nd_sep_run *run, const sep_in *from) {
#ifdef vec_load_even
    if (order == sep_even) return vec_load_even(from);
    if (order == sep_odd) return vec_load_odd(from);
#endif
    return order == sep_permuted ? vec_permute(vec_load_in_part(from, run->span), run->source)
                                 : vec_load_in(from);
}

/* `at`: offset in the image of tap (0, 0) of the first pixel, first channel of the run. */
ND_INLINE void sep_depthwise_block(const int pixels, const int slots, const sep_order order,
                                   const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                                   ptrdiff_t at, sep_mid *panel) {
    vec sum[7][nd_sep_slots_max];
    ND_UNROLL for (int p = 0; p < pixels; p++) {
        ND_UNROLL for (int s = 0; s < slots; s++) sum[p][s] = vec_zero();
    }
    const int64_t slot_weights = (int64_t)dw->kh * dw->kw * LANES;
    const float *weights = dw->weights + run->group * slot_weights;
    const int64_t pixel = dw->pixel, tap_column = dw->tap_column;
    const int kx_begin = taps->kx_begin, kx_end = taps->kx_end;
    for (int ky = taps->ky_begin; ky < taps->ky_end; ky++) {
        const sep_in *x = taps->image + (at + ky * dw->tap_row + kx_begin * tap_column);
        const float *w = weights + ((int64_t)ky * dw->kw + kx_begin) * LANES;
        for (int kx = kx_begin; kx < kx_end; kx++, x += tap_column, w += LANES) {
            vec tap[nd_sep_slots_max];
            ND_UNROLL for (int s = 0; s < slots; s++) tap[s] = vec_load(w + s * slot_weights);
            ND_UNROLL for (int p = 0; p < pixels; p++) {
                const sep_in *from = x + p * pixel;
                const vec v = vec_real(dw, sep_load_run(order, run, from));
                ND_UNROLL for (int s = 0; s < slots; s++) vec_accumulate(sum[p][s], v, tap[s]);
            }
        }
    }
    ND_UNROLL for (int s = 0; s < slots; s++) {
        sep_mid *out = panel + s * taps->panel_group;
        ND_UNROLL for (int p = 0; p < pixels; p++) {
            vec_store_mid(out + p * taps->panel_pixel, vec_mid(dw, run->group + s, sum[p][s]));
        }
    }
}

/* Four at a time where that is better: the last four may do some again. */
ND_INLINE void sep_store_mids(const int pixels, const vec *mid, sep_mid *out, int64_t step) {
#ifdef vec_store_mids
    ND_UNROLL for (int p = 0; pixels >= 4 && p < pixels; p += 4) {
        const int q = p + 4 > pixels ? pixels - 4 : p;
        vec_store_mids(out + q * step, step, mid[q], mid[q + 1], mid[q + 2], mid[q + 3]);
    }
    if (pixels >= 4) return;
#endif
    ND_UNROLL for (int p = 0; p < pixels; p++) vec_store_mid(out + p * step, mid[p]);
}

#ifdef ints_dot
/* Sums of integers of a block into the panel. */
ND_INLINE void sep_store_sums(const int pixels, const int slots, const nd_sep_depthwise *dw,
                              const nd_sep_run *run, const sep_taps *taps, ints (*sum)[nd_sep_slots_max],
                              sep_mid *panel) {
    ND_UNROLL for (int s = 0; s < slots; s++) {
        vec mid[8];
        ND_UNROLL for (int p = 0; p < pixels; p++) {
            mid[p] = vec_mid(dw, run->group + s, ints_real(sum[p][s]));
        }
        sep_store_mids(pixels, mid, panel + s * taps->panel_group, taps->panel_pixel);
    }
}
#endif

/* Which of a block's columns lie outside the row: its first, its last. */
enum { sep_hangs_left = 1, sep_hangs_right = 2 };

/* The same for three adjacent taps a row, where the next pixel is also the next column. */
ND_INLINE void sep_depthwise_slide(const int pixels, const int slots, const sep_order order,
                                   const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                                   ptrdiff_t at, sep_mid *panel, int hanging) {
    vec sum[7][nd_sep_slots_max];
    ND_UNROLL for (int p = 0; p < pixels; p++) {
        ND_UNROLL for (int s = 0; s < slots; s++) sum[p][s] = vec_zero();
    }
    const int64_t slot_weights = (int64_t)dw->kh * 3 * LANES, column = dw->tap_column;
    const float *w = dw->weights + run->group * slot_weights + taps->ky_begin * 3 * LANES;
    const sep_in *x = taps->image + (at + taps->ky_begin * dw->tap_row);
    for (int ky = taps->ky_begin; ky < taps->ky_end; ky++, x += dw->tap_row, w += 3 * LANES) {
        vec tap[nd_sep_slots_max][3];
        ND_UNROLL for (int s = 0; s < slots; s++) {
            ND_UNROLL for (int kx = 0; kx < 3; kx++) tap[s][kx] = vec_load(w + s * slot_weights + kx * LANES);
        }
        ND_UNROLL for (int i = 0; i < pixels + 2; i++) {
            if (i == 0 && hanging & sep_hangs_left) continue;
            if (i == pixels + 1 && hanging & sep_hangs_right) continue;
            const vec v = vec_real(dw, sep_load_run(order, run, x + i * column));
            ND_UNROLL for (int kx = 0; kx < 3; kx++) {
                const int p = i - kx;
                if (p < 0 || p >= pixels) continue;
                ND_UNROLL for (int s = 0; s < slots; s++) vec_accumulate(sum[p][s], v, tap[s][kx]);
            }
        }
    }
    ND_UNROLL for (int s = 0; s < slots; s++) {
        sep_mid *out = panel + s * taps->panel_group;
        ND_UNROLL for (int p = 0; p < pixels; p++) {
            vec_store_mid(out + p * taps->panel_pixel, vec_mid(dw, run->group + s, sum[p][s]));
        }
    }
}

#ifdef ints_dot
/* The same by words of four adjacent columns, of which the filter takes the last three: integers throughout,
 * and exact as the chain is. Columns outside hold the zero of x. */
ND_INLINE void sep_depthwise_words(const int pixels, const int slots, const sep_order order,
                                   const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                                   ptrdiff_t at, sep_mid *panel, int hanging) {
    ints sum[7][nd_sep_slots_max];
    const int64_t slot_words = (int64_t)dw->kh * LANES, column = dw->tap_column;
    const int64_t first = run->group * slot_words + taps->ky_begin * LANES;
    const int32_t *w = dw->words + first, *start = dw->starts + first;
    const sep_in *x = taps->image + (at + taps->ky_begin * dw->tap_row);
    ND_UNROLL for (int s = 0; s < slots; s++) {
        ints from = ints_set1(0);
        for (int ky = 0; ky < taps->ky_end - taps->ky_begin; ky++) {
            from = ints_add(from, ints_load(start + s * slot_words + ky * LANES));
        }
        ND_UNROLL for (int p = 0; p < pixels; p++) sum[p][s] = from;
    }
    for (int ky = taps->ky_begin; ky < taps->ky_end; ky++, x += dw->tap_row, w += LANES) {
        ints tap[nd_sep_slots_max], word = ints_set1(0);
        ND_UNROLL for (int s = 0; s < slots; s++) tap[s] = ints_load(w + s * slot_words);
        ND_UNROLL for (int i = 0; i < pixels + 2; i++) {
            const bool outside =
                (i == 0 && hanging & sep_hangs_left) || (i == pixels + 1 && hanging & sep_hangs_right);
            const ints next =
                outside ? ints_set1(dw->x_zero) : (ints)sep_load_run(order, run, x + i * column);
            word = ints_roll(word, next);
            if (i < 2) continue;
            ND_UNROLL for (int s = 0; s < slots; s++) ints_dot(sum[i - 2][s], word, tap[s]);
        }
    }
    sep_store_sums(pixels, slots, dw, run, taps, sum, panel);
}
#endif

#ifdef ints_come_apart
/* Words of a tile's columns, [column][quarter][lane]: rows and columns outside the image are the zero of x.
 * `at`: offset of tap (0, 0) of the first pixel, first channel of the block. */
static void sep_wide_words(const nd_sep_depthwise *dw, const nd_sep_segment *segment, const sep_taps *taps,
                           ptrdiff_t at, int32_t *words) {
    const int64_t columns = (segment->pixels - 1) * dw->stride + 2 * dw->dilation + 1;
    const int64_t step = dw->tap_column / dw->dilation;
    const ints zero = ints_set1((int32_t)((uint32_t)dw->x_zero * 0x01010101U));
    for (int64_t i = 0; i < columns; i++, words += 4 * LANES) {
        const bool inside = segment->column + i >= 0 && segment->column + i < dw->x_width;
        ints rows[4];
        ND_UNROLL for (int ky = 0; ky < 4; ky++) {
            const bool there = inside && ky >= taps->ky_begin && ky < taps->ky_end;
            rows[ky] = there ? ints_load(taps->image + (at + ky * dw->tap_row + i * step)) : zero;
        }
        ints_come_apart(rows, words);
    }
}

/* `words`: of the first tap of the first pixel, of the run's quarter. Where the next pixel is the next
 * column, a word is loaded once for the three filter columns that read it. */
ND_INLINE void sep_wide_block(const int pixels, const int slots, const bool slides,
                              const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                              const int32_t *words, sep_mid *panel) {
    ints sum[8][nd_sep_slots_max], tap[nd_sep_slots_max][3];
    const int64_t pixel = slides ? 4 * LANES : dw->stride * 4 * LANES, column = dw->dilation * 4 * LANES;
    ND_UNROLL for (int s = 0; s < slots; s++) {
        const int64_t group = run->group + s;
        ND_UNROLL for (int kx = 0; kx < 3; kx++) tap[s][kx] =
            ints_load(dw->columns + (group * 3 + kx) * LANES);
        const ints start = ints_load(dw->column_starts + group * LANES);
        ND_UNROLL for (int p = 0; p < pixels; p++) sum[p][s] = start;
    }
    if (slides) {
        ND_UNROLL for (int i = 0; i < pixels + 2; i++) {
            const ints word = ints_load(words + i * pixel);
            ND_UNROLL for (int kx = 0; kx < 3; kx++) {
                if (i < kx || i - kx >= pixels) continue;
                ND_UNROLL for (int s = 0; s < slots; s++) ints_dot(sum[i - kx][s], word, tap[s][kx]);
            }
        }
    } else {
        ND_UNROLL for (int kx = 0; kx < 3; kx++) {
            ND_UNROLL for (int p = 0; p < pixels; p++) {
                const ints word = ints_load(words + p * pixel + kx * column);
                ND_UNROLL for (int s = 0; s < slots; s++) ints_dot(sum[p][s], word, tap[s][kx]);
            }
        }
    }
    sep_store_sums(pixels, slots, dw, run, taps, sum, panel);
}

typedef void sep_wide_fn(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                         const int32_t *words, sep_mid *panel);

#    define ND_WIDE(name, pixels, slots, slides)                                                             \
        static void sep_##name##_##pixels##x##slots(const nd_sep_depthwise *dw, const nd_sep_run *run,       \
                                                    const sep_taps *taps, const int32_t *words,              \
                                                    sep_mid *panel) {                                        \
            sep_wide_block(pixels, slots, slides, dw, run, taps, words, panel);                              \
        }
#    define ND_WIDES(pixels)                                                                                 \
        ND_WIDE(wide, pixels, 1, false)                                                                      \
        ND_WIDE(wide, pixels, 2, false)                                                                      \
        ND_WIDE(wide, pixels, 3, false)                                                                      \
        ND_WIDE(wide_slide, pixels, 1, true)                                                                 \
        ND_WIDE(wide_slide, pixels, 2, true)                                                                 \
        ND_WIDE(wide_slide, pixels, 3, true)
ND_WIDES(1)
ND_WIDES(4)
ND_WIDES(7)
ND_WIDES(8)
#    define ND_WIDE_ROW(name, pixels)                                                                        \
        { NULL, sep_##name##_##pixels##x1, sep_##name##_##pixels##x2, sep_##name##_##pixels##x3 }
#endif

typedef void sep_depthwise_fn(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,
                              ptrdiff_t at, sep_mid *panel, int hanging);

#define ND_BLOCK(name, pixels, slots, order)                                                                 \
    static void sep_depthwise_##name(const nd_sep_depthwise *dw, const nd_sep_run *run,                      \
                                     const sep_taps *taps, ptrdiff_t at, sep_mid *panel, int hanging) {      \
        (void)hanging;                                                                                       \
        sep_depthwise_block(pixels, slots, order, dw, run, taps, at, panel);                                 \
    }                                                                                                        \
    static void sep_slide_##name(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_taps *taps,    \
                                 ptrdiff_t at, sep_mid *panel, int hanging) {                                \
        sep_depthwise_slide(pixels, slots, order, dw, run, taps, at, panel, hanging);                        \
    }
#ifdef ints_dot
#    define ND_WORDS(name, pixels, slots, order)                                                             \
        static void sep_words_##name(const nd_sep_depthwise *dw, const nd_sep_run *run,                      \
                                     const sep_taps *taps, ptrdiff_t at, sep_mid *panel, int hanging) {      \
            sep_depthwise_words(pixels, slots, order, dw, run, taps, at, panel, hanging);                    \
        }
#else
#    define ND_WORDS(name, pixels, slots, order)
#endif
#ifdef vec_load_even
#    define ND_HALVES(pixels)                                                                                \
        ND_BLOCK(pixels##x1_even, pixels, 1, sep_even)                                                       \
        ND_BLOCK(pixels##x2_even, pixels, 2, sep_even)                                                       \
        ND_BLOCK(pixels##x3_even, pixels, 3, sep_even)                                                       \
        ND_BLOCK(pixels##x1_odd, pixels, 1, sep_odd)                                                         \
        ND_BLOCK(pixels##x2_odd, pixels, 2, sep_odd)                                                         \
        ND_BLOCK(pixels##x3_odd, pixels, 3, sep_odd)
#else
#    define ND_HALVES(pixels)
#endif
#define ND_BLOCKS(pixels)                                                                                    \
    ND_BLOCK(pixels##_permuted, pixels, 1, sep_permuted)                                                     \
    ND_BLOCK(pixels##x1, pixels, 1, sep_straight)                                                            \
    ND_BLOCK(pixels##x2, pixels, 2, sep_straight)                                                            \
    ND_BLOCK(pixels##x3, pixels, 3, sep_straight)                                                            \
    ND_WORDS(pixels##_permuted, pixels, 1, sep_permuted)                                                     \
    ND_WORDS(pixels##x1, pixels, 1, sep_straight)                                                            \
    ND_WORDS(pixels##x2, pixels, 2, sep_straight)                                                            \
    ND_WORDS(pixels##x3, pixels, 3, sep_straight)                                                            \
    ND_HALVES(pixels)
ND_BLOCKS(1)
ND_BLOCKS(4)
ND_BLOCKS(7)

/* By nd_sep_run.half, where there are halves, block size (1, 4, 7 pixels), then slots; slot 0 is the permuted
 * run. */
enum { sep_sizes = 3 };
static const int sep_size[sep_sizes] = {1, 4, 7};
typedef sep_depthwise_fn *const sep_bodies[sep_sizes][nd_sep_slots_max + 1];
#define ND_ROW(name, pixels)                                                                                 \
    {                                                                                                        \
        sep_##name##_##pixels##_permuted, sep_##name##_##pixels##x1, sep_##name##_##pixels##x2,              \
            sep_##name##_##pixels##x3                                                                        \
    }
#define ND_HALF_ROW(name, pixels, half)                                                                      \
    {                                                                                                        \
        NULL, sep_##name##_##pixels##x1_##half, sep_##name##_##pixels##x2_##half,                            \
            sep_##name##_##pixels##x3_##half                                                                 \
    }
#define ND_ROWS(name)                                                                                        \
    { ND_ROW(name, 1), ND_ROW(name, 4), ND_ROW(name, 7) }
#define ND_HALF_ROWS(name, half)                                                                             \
    { ND_HALF_ROW(name, 1, half), ND_HALF_ROW(name, 4, half), ND_HALF_ROW(name, 7, half) }
#ifdef vec_load_even
static sep_bodies sep_blocks[] = {ND_ROWS(depthwise), ND_HALF_ROWS(depthwise, even),
                                  ND_HALF_ROWS(depthwise, odd)};
static sep_bodies sep_slides[] = {ND_ROWS(slide), ND_HALF_ROWS(slide, even), ND_HALF_ROWS(slide, odd)};
#else
static sep_bodies sep_blocks[] = {ND_ROWS(depthwise)};
static sep_bodies sep_slides[] = {ND_ROWS(slide)};
#endif
#ifdef ints_dot
static sep_bodies sep_words[] = {ND_ROWS(words)};
#endif

#ifdef ints_come_apart
/* Four results are narrowed at once: blocks of 8, and the smallest one that takes what is left of a row. */
enum { sep_wide_sizes = 4 };
static const int sep_wide_size[sep_wide_sizes] = {1, 4, 7, 8};
static sep_wide_fn *const sep_wides[2][sep_wide_sizes][nd_sep_slots_max + 1] = {
    {ND_WIDE_ROW(wide, 1), ND_WIDE_ROW(wide, 4), ND_WIDE_ROW(wide, 7), ND_WIDE_ROW(wide, 8)},
    {ND_WIDE_ROW(wide_slide, 1), ND_WIDE_ROW(wide_slide, 4), ND_WIDE_ROW(wide_slide, 7),
     ND_WIDE_ROW(wide_slide, 8)},
};

static int sep_wide_size_of(int left, int pixels) {
    int size = 0;
    while (size < sep_wide_sizes - 1 && sep_wide_size[size] < left && sep_wide_size[size + 1] <= pixels)
        size++;
    return size;
}

/* The wide runs of a segment, borders included. */
static void sep_wide_runs(const nd_sep_depthwise *dw, const nd_sep_segment *segment, const sep_taps *taps,
                          sep_mid *panel) {
    int32_t words[nd_sep_wide_columns * 4 * LANES] __attribute__((aligned(64)));
    const int pixels = segment->pixels;
    const bool slides = dw->stride == 1 && dw->dilation == 1;
    for (int r = 0; r < dw->wide_runs; r++) {
        const nd_sep_run *run = &dw->runs[r];
        if (r == 0 || run->first != run[-1].first)
            sep_wide_words(dw, segment, taps, segment->origin + run->first, words);
        for (int next = 0; next < pixels;) {
            const int size = sep_wide_size_of(pixels - next, pixels), step = sep_wide_size[size];
            const int p = next + step > pixels ? pixels - step : next;
            sep_wides[slides][size][run->slots](
                dw, run, taps, words + p * dw->stride * 4 * LANES + run->quarter * LANES,
                panel + run->group * taps->panel_group + p * taps->panel_pixel);
            next += step;
        }
    }
}
#endif

/* Pixels of a segment, all of whose taps lie inside the row but for the outermost columns that hang. */
typedef struct sep_range {
    int begin, end, hanging;
} sep_range;

static void sep_inner(const nd_sep_depthwise *dw, const nd_sep_run *run, const sep_bodies *bodies,
                      const sep_taps *taps, ptrdiff_t at, sep_mid *panel, sep_range range) {
    int size = sep_sizes - 1;
    while (sep_size[size] > range.end - range.begin || sep_size[size] * run->slots > REGISTERS - 4) size--;
    sep_depthwise_fn *body = bodies[run->half][size][run->permuted ? 0 : run->slots];
    const int step = sep_size[size];
    for (int next = range.begin; next < range.end; next += step) {
        const int p = next + step > range.end ? range.end - step : next;
        int hanging = 0;
        if (p == range.begin) hanging |= range.hanging & sep_hangs_left;
        if (p + step == range.end) hanging |= range.hanging & sep_hangs_right;
        body(dw, run, taps, at + p * dw->pixel, panel + p * taps->panel_pixel, hanging);
    }
}

/* A pixel that hangs over the left or right edge: its input column is `column`. */
static void sep_edge(const nd_sep_depthwise *dw, const sep_taps *row, ptrdiff_t at, sep_mid *panel,
                     int64_t column) {
    sep_taps taps = *row;
    while (taps.kx_begin < dw->kw && column + taps.kx_begin * dw->dilation < 0) taps.kx_begin++;
    while (taps.kx_end > taps.kx_begin && column + (taps.kx_end - 1) * dw->dilation >= dw->x_width) {
        taps.kx_end--;
    }
    for (int r = dw->wide_runs; r < dw->n_runs; r++) {
        const nd_sep_run *run = &dw->runs[r];
        sep_blocks[run->half][0][run->permuted ? 0 : run->slots](dw, run, &taps, at + run->first,
                                                                 panel + run->group * taps.panel_group, 0);
    }
}

/* The pixels of a segment whose taps all lie inside the row; those that sliding blocks do may hang by one
 * column at either end. */
static sep_range sep_inside(const nd_sep_depthwise *dw, const nd_sep_segment *segment) {
    const int64_t reach = (dw->kw - 1) * dw->dilation, column = segment->column;
    int begin = 0, end = segment->pixels;
    while (begin < end && column + begin * dw->stride < 0) begin++;
    while (end > begin && column + (end - 1) * dw->stride + reach >= dw->x_width) end--;
    sep_range range = {begin, end, 0};
    if (dw->kw != 3 || dw->pixel != dw->tap_column || begin == end) return range;
    if (begin > 0 && column + (begin - 1) * dw->stride + dw->dilation >= 0) {
        range.begin--;
        range.hanging |= sep_hangs_left;
    }
    if (end < segment->pixels && column + end * dw->stride + dw->dilation < dw->x_width) {
        range.end++;
        range.hanging |= sep_hangs_right;
    }
    return range;
}

static void sep_depthwise(const nd_sep_depthwise *dw, const nd_sep_segment *segments, int n_segments,
                          const void *image, void *panels, int64_t panel_pixel, int64_t panel_group) {
    sep_mid *panel = panels;
    const bool slides = dw->kw == 3 && dw->pixel == dw->tap_column;
    const sep_bodies *bodies = slides ? sep_slides : sep_blocks;
#ifdef ints_dot
    if (slides && dw->words) bodies = sep_words;
#endif
    for (int i = 0; i < n_segments; i++) {
        const nd_sep_segment *segment = &segments[i];
        const sep_taps taps = {.image = image,
                               .ky_begin = segment->ky_begin,
                               .ky_end = segment->ky_end,
                               .kx_end = dw->kw,
                               .panel_pixel = panel_pixel,
                               .panel_group = panel_group};
        const sep_range inside = sep_inside(dw, segment);
#ifdef ints_come_apart
        if (dw->wide_runs) sep_wide_runs(dw, segment, &taps, panel);
#endif
        for (int p = 0; p < segment->pixels && dw->wide_runs < dw->n_runs; p++) {
            if (p == inside.begin) p = inside.end;
            if (p >= segment->pixels) break;
            sep_edge(dw, &taps, segment->origin + p * dw->pixel, panel + p * panel_pixel,
                     segment->column + p * dw->stride);
        }
        for (int r = dw->wide_runs; r < dw->n_runs && inside.begin < inside.end; r++) {
            const nd_sep_run *run = &dw->runs[r];
            sep_inner(dw, run, bodies, &taps, segment->origin + run->first, panel + run->group * panel_group,
                      inside);
        }
        panel += segment->pixels * panel_pixel;
    }
}
