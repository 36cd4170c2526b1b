/* The GEMM half of the separable kernel, written once over a vector type. Included by separable_<isa>.c after
 * separable_depthwise_template.h and after it has also defined
 *   MR, NV, STEP        pixels and registers of output channels in a full tile; words unrolled, divides WORDS
 *   vec_set1, vec_add, vec_min, vec_max, vec_store_part(p, n, v), vec_prefetch(p)
 *   vec_stream(p, v)    stores past the caches, p aligned to what is stored
 * and, where the operands of the product are narrower than fp32,
 *   WORDS               words of the panel that hold one group of one pixel
 *   sep_word, sep_acc   a word, a register of sums
 *   word_set1(p), word_load(p)  a word of the panel in every lane, a register of words of weights
 *   acc_dot(sum, a, w)  adds the products of the terms in each lane's words
 *   acc_start(gemm, v), acc_result(gemm, v, sum)  the first sums of register v, and what they come to; such
 *                       sums are exact, others begin with the bias and join by acc_join
 *   vec_residual(gemm, v, x2), vec_bounded(gemm, v, low, high)  the rest of the epilogue
 *   vec_store_real(p, n, v)  where integers may come to fp32 in y: the first n lanes
 *   vec_load_in(p), vec_load_in_part(p, n), vec_store_out(p, v)  elements of x2 and y
 *
 * A word is 32 bits: one term in fp32, two in bf16, four in int8. An MR x (NV * LANES) tile of outputs stays
 * in registers over the whole reduction; per word NV loads of weights and MR broadcasts feed MR * NV
 * products. */

#ifndef WORDS
#    define WORDS              LANES
#    define sep_word           float
#    define sep_acc            vec
#    define word_set1(p)       vec_set1(*(p))
#    define word_load(p)       vec_load(p)
#    define acc_dot(sum, a, w) vec_accumulate(sum, a, w)
#endif
#ifndef acc_start
#    define acc_start(gemm, v)              vec_load((gemm)->bias + (v)*LANES)
#    define acc_result(gemm, v, sum)        (sum)
#    define vec_residual(gemm, v, x2)       vec_add(v, x2)
#    define vec_bounded(gemm, v, low, high) vec_min(high, vec_max(low, v))
#    define acc_join(a, b)                  vec_add(a, b)
enum { sep_chain_words = 256 };
/* The registers are for the sums that are being added to. */
#    define sep_keep_in_memory(total) __asm__ volatile("" : : "r"(total) : "memory")
#endif
#ifndef vec_store_out
#    define vec_store_out vec_store
#endif

/* Registers to y: residual, then the clamp that stands for no activation, ReLU and clip alike. */
typedef enum sep_store { sep_store_part, sep_store_whole, sep_store_stream } sep_store;

ND_INLINE void sep_finish(const int pixels, const int registers, const sep_store store,
                          const nd_sep_gemm *gemm, sep_acc sum[MR][NV]) {
    const vec low = vec_set1(gemm->low), high = vec_set1(gemm->high);
    ND_UNROLL for (int v = 0; v < registers; v++) {
        const int left = gemm->columns - v * LANES, n = left < LANES ? left : LANES;
        sep_in *y = (sep_in *)gemm->y + v * LANES;
        const sep_in *x2 = gemm->x2 ? (const sep_in *)gemm->x2 + v * LANES : NULL;
        ND_UNROLL for (int p = 0; p < pixels; p++) {
            vec out = acc_result(gemm, v, sum[p][v]);
            if (x2) {
                out = vec_residual(gemm, out,
                                   store == sep_store_part ? vec_load_in_part(x2, n) : vec_load_in(x2));
                x2 += gemm->x2_pixel;
            }
            out = vec_bounded(gemm, out, low, high);
            if (store == sep_store_stream) {
                vec_stream(y, out);
            } else if (store == sep_store_whole) {
                vec_store_out(y, out);
            } else {
                vec_store_part(y, n, out);
            }
            y += gemm->y_pixel;
        }
    }
}

#ifdef vec_store_real
/* The results of integers as they are, to y in fp32. */
ND_INLINE void sep_finish_real(const int pixels, const int registers, const nd_sep_gemm *gemm,
                               sep_acc sum[MR][NV]) {
    const vec low = vec_set1(gemm->low), high = vec_set1(gemm->high);
    ND_UNROLL for (int v = 0; v < registers; v++) {
        const int left = gemm->columns - v * LANES, n = left < LANES ? left : LANES;
        float *y = (float *)gemm->y + v * LANES;
        const sep_in *x2 = gemm->x2 ? (const sep_in *)gemm->x2 + v * LANES : NULL;
        ND_UNROLL for (int p = 0; p < pixels; p++) {
            vec out = acc_result(gemm, v, sum[p][v]);
            if (x2) {
                out = vec_residual(gemm, out, vec_load_in_part(x2, n));
                x2 += gemm->x2_pixel;
            }
            vec_store_real(y, n, vec_bounded(gemm, out, low, high));
            y += gemm->y_pixel;
        }
    }
}
#endif

/* What a tile has yet to read, and what the one after it will. */
typedef struct sep_cursor {
    const sep_word *panel, *weights;
    const char *ahead;
} sep_cursor;

ND_INLINE sep_cursor sep_add_groups(const int pixels, const int registers, const int64_t groups,
                                    const int64_t ahead_step, sep_cursor at, sep_acc sum[MR][NV]) {
    for (int64_t g = 0; g < groups; g++) {
        for (int k = 0; k < WORDS; k += STEP) {
            ND_UNROLL for (int s = 0; s < STEP; s++) {
                sep_acc w[NV];
                ND_UNROLL for (int v = 0; v < registers; v++) {
                    w[v] = word_load(at.weights + (s * NV + v) * LANES);
                    vec_prefetch(at.weights + (s * NV + v + ND_PREFETCH * NV) * LANES);
                }
                ND_UNROLL for (int p = 0; p < pixels; p++) {
                    const sep_acc a = word_set1(at.panel + p * WORDS + s);
                    ND_UNROLL for (int v = 0; v < registers; v++) acc_dot(sum[p][v], a, w[v]);
                }
            }
            if (k % nd_sep_ahead_depth == 0) {
                vec_prefetch(at.ahead);
                at.ahead += ahead_step;
            }
            at.panel += STEP;
            at.weights += STEP * NV * LANES;
        }
        at.panel += (pixels - 1) * WORDS;
    }
    return at;
}

ND_INLINE void sep_tile(const int pixels, const int registers, const nd_sep_gemm *gemm) {
    sep_acc sum[MR][NV];
    ND_UNROLL for (int v = 0; v < registers; v++) {
        const sep_acc start = acc_start(gemm, v);
        ND_UNROLL for (int p = 0; p < pixels; p++) sum[p][v] = start;
    }
    sep_cursor at = {gemm->panel, gemm->weights, gemm->ahead};
#ifdef acc_join
    /* One chain of additions rounds by what it has come to, at every term: long ones are cut, and their parts
     * added in the end. */
    const int64_t chain = sep_chain_words / WORDS;
    sep_acc total[MR][NV];
    if (gemm->groups > chain) {
        ND_UNROLL for (int v = 0; v < registers; v++) {
            ND_UNROLL for (int p = 0; p < pixels; p++) total[p][v] = vec_zero();
        }
    }
    for (int64_t left = gemm->groups;; left -= chain) {
        at = sep_add_groups(pixels, registers, left < chain ? left : chain, gemm->ahead_step, at, sum);
        if (left <= chain) break;
        sep_keep_in_memory(total);
        ND_UNROLL for (int v = 0; v < registers; v++) {
            ND_UNROLL for (int p = 0; p < pixels; p++) {
                total[p][v] = acc_join(total[p][v], sum[p][v]);
                sum[p][v] = vec_zero();
            }
        }
        sep_keep_in_memory(total);
    }
    if (gemm->groups > chain) {
        ND_UNROLL for (int v = 0; v < registers; v++) {
            ND_UNROLL for (int p = 0; p < pixels; p++) sum[p][v] = acc_join(total[p][v], sum[p][v]);
        }
    }
#else
    sep_add_groups(pixels, registers, gemm->groups, gemm->ahead_step, at, sum);
#endif
#ifdef vec_store_real
    if (gemm->real) {
        sep_finish_real(pixels, registers, gemm, sum);
        return;
    }
#endif
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

/* All tiles of an MR, and the table that finds one. */
#define ND_TILES_6                                                                                           \
    ND_TILE(1)                                                                                               \
    ND_TILE(2)                                                                                               \
    ND_TILE(3)                                                                                               \
    ND_TILE(4)                                                                                               \
    ND_TILE(5)                                                                                               \
    ND_TILE(6)                                                                                               \
    static void sep_multiply(const nd_sep_gemm *gemm, int tile_pixels) {                                     \
        static sep_tile_fn *const tiles[MR][NV] = {ND_TILE_ROW(1), ND_TILE_ROW(2), ND_TILE_ROW(3),           \
                                                   ND_TILE_ROW(4), ND_TILE_ROW(5), ND_TILE_ROW(6)};          \
        tiles[tile_pixels - 1][gemm->columns > LANES](gemm);                                                 \
    }
#define ND_TILES_14                                                                                          \
    ND_TILE(1)                                                                                               \
    ND_TILE(2)                                                                                               \
    ND_TILE(3)                                                                                               \
    ND_TILE(4)                                                                                               \
    ND_TILE(5)                                                                                               \
    ND_TILE(6)                                                                                               \
    ND_TILE(7)                                                                                               \
    ND_TILE(8)                                                                                               \
    ND_TILE(9)                                                                                               \
    ND_TILE(10)                                                                                              \
    ND_TILE(11)                                                                                              \
    ND_TILE(12)                                                                                              \
    ND_TILE(13)                                                                                              \
    ND_TILE(14)                                                                                              \
    static void sep_multiply(const nd_sep_gemm *gemm, int tile_pixels) {                                     \
        static sep_tile_fn *const tiles[MR][NV] = {                                                          \
            ND_TILE_ROW(1),  ND_TILE_ROW(2),  ND_TILE_ROW(3),  ND_TILE_ROW(4), ND_TILE_ROW(5),               \
            ND_TILE_ROW(6),  ND_TILE_ROW(7),  ND_TILE_ROW(8),  ND_TILE_ROW(9), ND_TILE_ROW(10),              \
            ND_TILE_ROW(11), ND_TILE_ROW(12), ND_TILE_ROW(13), ND_TILE_ROW(14)};                             \
        tiles[tile_pixels - 1][gemm->columns > LANES](gemm);                                                 \
    }
