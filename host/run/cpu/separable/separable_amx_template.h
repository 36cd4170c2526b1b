/* The tiles of AMX as both kernels use them: four of sums, two of the panel, two of weights. Included once by
 * each of them, with AMX_DOT(c, a, b), the product of their element type. */
#include "run/cpu/separable/separable_kernel.h"

#include <stdint.h>

/* Layout of the register that configures the tiles (palette 1). */
typedef struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;

/* A constant, because gcc 12 takes only its first eight bytes for an input of the intrinsic. */
static const amx_config amx_tiles = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static void amx_begin(void) {
    _tile_loadconfig(&amx_tiles);
}

static void amx_end(void) {
    _tile_release();
}

/* A step reads 64 bytes of each of 32 rows of the panel: two tiles, and two of weights for four products. */
static inline __attribute__((always_inline)) void
amx_multiply_steps(const char *panel, size_t row, const char *weights, int64_t steps, const bool past) {
    const char *lower = panel + 16 * row;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < steps; step++) {
        _tile_loadd(4, panel, row);
        if (past) {
            _tile_stream_loadd(6, weights, 64);
            _tile_stream_loadd(7, weights + 1024, 64);
        } else {
            _tile_loadd(6, weights, 64);
            _tile_loadd(7, weights + 1024, 64);
        }
        _tile_loadd(5, lower, row);
        AMX_DOT(0, 4, 6);
        AMX_DOT(1, 4, 7);
        AMX_DOT(2, 5, 6);
        AMX_DOT(3, 5, 7);
        panel += 64;
        lower += 64;
        weights += 2048;
    }
}

/* A panel that fills most of L1 stays there when the weights go past it. */
static void amx_multiply_tiles(const char *panel, size_t row, const char *weights, int64_t steps) {
    enum { some = 16 << 10, most = 44 << 10 };
    if (32 * row > some && 32 * row < most)
        amx_multiply_steps(panel, row, weights, steps, true);
    else
        amx_multiply_steps(panel, row, weights, steps, false);
}

static void amx_store(void *sums) {
    const size_t out_row = nd_sep_amx_columns * sizeof(float);
    char *out = sums;
    _tile_stored(0, out, out_row);
    _tile_stored(1, out + 64, out_row);
    _tile_stored(2, out + 16 * out_row, out_row);
    _tile_stored(3, out + 16 * out_row + 64, out_row);
}

/* Whole registers are stored, zeros past the end of a row: the next row, or patch, goes over them. */
static inline __attribute__((always_inline)) void amx_patches_of(const int64_t chunks,
                                                                 const nd_sep_patches *patches,
                                                                 int64_t pixels, const char *from,
                                                                 char *panel) {
    const int64_t last = patches->row_bytes - 64 * (chunks - 1);
    const __mmask64 tail = ~0ULL >> (64 - last);
    for (int64_t p = 0; p < pixels; p++) {
        const char *row = from + p * patches->pixel_step;
        char *to = panel + p * patches->panel_pixel;
        for (int64_t r = 0; r < patches->rows; r++) {
            for (int64_t c = 0; c < chunks - 1; c++)
                _mm512_storeu_si512(to + 64 * c, _mm512_loadu_si512(row + 64 * c));
            _mm512_storeu_si512(to + 64 * (chunks - 1),
                                _mm512_maskz_loadu_epi8(tail, row + 64 * (chunks - 1)));
            row += patches->row_step;
            to += patches->row_bytes;
        }
    }
}

/* The same for rows of half a register. */
static void amx_patches_narrow(const nd_sep_patches *patches, int64_t pixels, const char *from, char *panel) {
    const __mmask32 mask = ~0U >> (32 - patches->row_bytes);
    for (int64_t p = 0; p < pixels; p++) {
        const char *row = from + p * patches->pixel_step;
        char *to = panel + p * patches->panel_pixel;
        for (int64_t r = 0; r < patches->rows; r++) {
            _mm256_storeu_si256((__m256i *)to, _mm256_maskz_loadu_epi8(mask, row));
            row += patches->row_step;
            to += patches->row_bytes;
        }
    }
}

static void amx_patches(const nd_sep_patches *patches, int64_t pixels, const char *from, char *panel) {
    const int64_t chunks = (patches->row_bytes + 63) / 64;
    if (chunks > 1) {
        amx_patches_of(chunks, patches, pixels, from, panel);
    } else if (patches->row_bytes > 32) {
        amx_patches_of(1, patches, pixels, from, panel);
    } else {
        amx_patches_narrow(patches, pixels, from, panel);
    }
}
