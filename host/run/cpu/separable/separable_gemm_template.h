/* The GEMM half of the separable kernel, written once over a vector type. Included by separable_<isa>.c after
 * separable_depthwise_template.h and after it has also defined
 *   MR, NV, STEP        pixels and registers of output channels in a full tile; terms unrolled, divides LANES
 *   vec_set1, vec_add, vec_min, vec_max, vec_store_part(p, n, v), vec_prefetch(p)
 *   vec_stream(p, v)    stores past the caches, p aligned to the register
 *
 * An MR x (NV * LANES) tile of outputs stays in registers over the whole reduction; per term NV loads of
 * weights and MR broadcasts feed MR * NV FMAs. */

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
