/* The fused separable layer for sm_80 and later: y = act(P (x * d) + bias + residual) without the
 * intermediate.
 *
 * Seen as a GEMM: rows are output pixels, columns output channels, and the reduction runs over the terms,
 * so the sum over terms is the K loop. Row m of A, the depthwise values of one pixel, is made in shared
 * memory by the block that multiplies it; x is read once for all terms of a channel.
 *
 * A block of 8 warps makes a tile of 128 pixels x N channels. For every block of 32 terms:
 *   1. cp.async brings the input patch (all rows, columns and images its pixels touch, the groups of 16
 * bytes of channels that these terms read; padding arrives as zeros), the 32 filters and N x 32 pointwise
 * weights, one block ahead. What does not depend on pixels is asked for before a tile's are found.
 *   2. Depthwise: a lane makes two neighbouring terms, half a warp a run of pixels of one row, so that a 3x3
 * window slides: of stride 1, 3 reads for 9 multiply-adds, or for 18 where the two terms are of one
 * channel. The channel of a term comes from `offset`, so ranks may differ from channel to channel. Other
 * windows: lane = term, a warp makes 16 pixels.
 *   3. GEMM: warp (i, j) of 4 x 2 multiplies 32 pixels by N/2 channels on tensor cores (or by FFMA: strict
 * fp32). Two barriers per block of terms. Rows of A and of the weights are 32 elements, their 16-byte
 * chunks permuted by the row number so that ldmatrix, the depthwise stores and the fp32 reads meet no bank
 * conflict.
 *   4. At the end sums go through shared memory, so that a lane finishes 16 bytes of neighbouring channels:
 * one store, and the bias stays in its registers from pixel to pixel.
 *
 * Per 32 terms and tile: 128*32 depthwise values of 9 FFMA each, 128*32*N multiply-adds of the GEMM; 32*N
 * weights from L2, 180 pixels x 32/T channels of x (8x16 patch of a 3x3). A is made once for every N output
 * channels, which is why N is as large as the registers allow: N/2 fp32 accumulators a thread.
 *
 * Where the tiles are too few for the device (a 7x7 or 14x14 plane of one image), `split` blocks share a
 * tile: each sums a run of the terms and leaves fp32 sums in `partial`, and a second kernel adds them in
 * order and finishes. No atomics, so results do not depend on timing; 8 bytes of traffic per output and
 * part, which stay in L2.
 *
 * 8-bit integers (run/quantized.h): the depthwise half is the same in fp32, and rounded to integers; the
 * padding of a patch is x's zero; sums are int32 and begin with what the zero of the depthwise results
 * adds. Not yet run on a device: checked on the host under the emulator and by ptxas'
 * register report alone. */
#ifndef ND_CUDA_SEPARABLE_CUH
#define ND_CUDA_SEPARABLE_CUH

#include "cuda/separable/separable_finish.cuh"
#include "cuda/separable/separable_math.cuh"
#include "cuda/separable/separable_pack.h"

enum { nd_separable_skew = 8 };

/* Sizes that follow from a call. */
struct nd_separable_shape {
    int height, width, pixels; /* of the input patch */
    int rows, columns;         /* of tiles, in an image */
    int taps, constants;       /* rows of a block's filters: taps, and of integers one of factors */
    int stage;                 /* bytes of one stage: patch, filters and offsets, weights */
    int filters_at, tile_at, tables_at, total;
};

template <class T> inline nd_separable_shape nd_separable_shape_of(const nd_cuda_separable &p) {
    const nd_window &g = p.window;
    const int row = nd_separable_terms * (int)sizeof(T);
    nd_separable_shape s;
    s.height = (int)((p.patch[1] - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1);
    /* Odd, so that the two rows that a warp reads at once begin in different banks. */
    s.width = (int)((p.patch[2] - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1) | 1;
    s.pixels = (int)p.patch[0] * s.height * s.width;
    s.rows = (int)nd_ceil_div(p.out_height, p.patch[1]);
    s.columns = (int)nd_ceil_div(p.out_width, p.patch[2]);
    s.taps = (int)(g.kernel[0] * g.kernel[1]);
    s.constants = s.taps + nd_separable_sums<T>::integers;
    s.filters_at = (int)p.tile * row;
    const int patch = s.filters_at + (s.constants + 1) * nd_separable_terms * 4;
    s.stage = (patch + s.pixels * (int)p.chunks * 16 + 127) / 128 * 128;
    s.tile_at = 2 * s.stage;
    const int sums = nd_separable_pixels * ((int)p.tile / 2 + nd_separable_skew) * 4; /* of the epilogue */
    s.tables_at = s.tile_at + nd_separable_pixels * row;
    if (s.tables_at < sums) s.tables_at = sums;
    s.total = s.tables_at + (s.pixels + 3 * nd_separable_pixels) * 4;
    return s;
}

/* Position of 16-byte chunk `chunk` in a row of 2, 4 or 8 (128 bytes): any 8 rows that are read together, at
 * one chunk, fall on 8 different eighths of the banks. */
template <int chunks> __device__ inline int nd_swizzle(int row, int chunk) {
    return chunk ^ (row >> (chunks == 8 ? 0 : chunks == 4 ? 1 : 2) & (chunks - 1));
}

/* Sums of part `part` for channels n and n + 1 of a pixel; an odd last channel has room for two. */
__host__ __device__ inline int64_t nd_separable_part_row(const nd_cuda_separable &p) {
    return (p.out_channels + 1) / 2 * 2;
}

template <class Sum>
__device__ inline nd_pack<Sum, 2> *nd_separable_part(const nd_cuda_separable &p, int64_t part, int64_t pixel,
                                                     int64_t n) {
    static_assert(sizeof(Sum) == sizeof *p.partial, "sums of any kind lie alike");
    const int64_t pixels = p.images * p.out_height * p.out_width;
    return reinterpret_cast<nd_pack<Sum, 2> *>(p.partial +
                                               (part * pixels + pixel) * nd_separable_part_row(p) + n);
}

/* unit: bytes of one background copy of x, see nd_chunk_copy. slide: columns that a 3x3 window moves by from
 * pixel to pixel, 1 or 2, else 0; run: pixels of a row that it makes in one go. wide, paired: 16 bytes of
 * channels of y and x2, or two channels, can move at once. */
struct nd_separable_access {
    int unit, slide, run;
    bool wide, paired;
};

template <class Math, int N> struct nd_separable_block {
    using T = typename Math::element;
    using sums_of = nd_separable_sums<T>;
    using Sum = typename sums_of::type;
    static constexpr bool integers = sums_of::integers;
    static constexpr int terms = nd_separable_terms, pixels = nd_separable_pixels,
                         threads = nd_separable_threads;
    static constexpr int row = terms * (int)sizeof(T), chunks = row / 16, per_chunk = 16 / (int)sizeof(T);
    static constexpr int tiles = N / 16; /* 8-column tiles of a warp */

    const nd_cuda_separable &p; /* these two in the constants of the launch, not in registers */
    const nd_separable_shape &s;
    unsigned char *shared;
    int tile_at; /* A, from there */
    int *source; /* [patch pixels]: pixel of x, or -1 in the padding; the tables below follow */
    int first_channel;
    int thread, warp, lane, n_runs;

    __device__ nd_separable_block(const nd_cuda_separable &call, const nd_separable_shape &shape,
                                  unsigned char *bytes)
        : p(call), s(shape), shared(bytes), tile_at(shape.tile_at) {
        source = reinterpret_cast<int *>(shared + s.tables_at);
        thread = (int)threadIdx.x;
        warp = (int)(threadIdx.x / 32 % (threads / 32)); /* so that the compiler sees how large they are */
        lane = (int)(threadIdx.x % 32);
        first_channel = (int)(blockIdx.x % (unsigned)across(p)) * N;
    }

    __device__ int *corner() const { /* [128]: patch pixel of a window's first tap, or -1 past the tile */
        return source + s.pixels;
    }

    __device__ int *target() const { /* [128]: pixel of y, or -1 */
        return corner() + pixels;
    }

    __device__ int *runs() const { /* [n_runs]: first pixel of a run, and how many times 256 */
        return target() + pixels;
    }

    /* Runs of neighbours are in neighbouring rows. */
    __device__ void place_runs(int length) {
        const int rows = (int)(p.patch[0] * p.patch[1]), width = (int)p.patch[2];
        n_runs = length ? rows * ((width + length - 1) / length) : 0;
        if (thread >= n_runs) return;
        const int column = thread / rows * length, left = width - column;
        runs()[thread] = thread % rows * width + column + (left < length ? left : length) * 256;
    }

    /* Neighbouring blocks share x and differ in channels. */
    __device__ static int across(const nd_cuda_separable &call) {
        return ((int)call.out_channels + N - 1) / N;
    }

    /* Which pixels this tile reads and writes: of either there are fewer than 2^31
     * (nd_cuda_view_is_pixels). */
    __device__ void place(const nd_separable_access &access) {
        place_runs(access.run);
        const int out_height = (int)p.out_height, out_width = (int)p.out_width, rows = (int)p.patch[1],
                  columns = (int)p.patch[2];
        const unsigned tile = blockIdx.x / (unsigned)across(p);
        const unsigned line = tile / (unsigned)s.columns, image = line / (unsigned)s.rows;
        const int w0 = (int)(tile - line * (unsigned)s.columns) * columns,
                  h0 = (int)(line - image * (unsigned)s.rows) * rows, n0 = (int)image * (int)p.patch[0];
        const int top = h0 * (int)p.window.stride[0] - (int)p.window.pad[0],
                  left = w0 * (int)p.window.stride[1] - (int)p.window.pad[1];
        for (int i = thread; i < s.pixels; i += threads) {
            const int row = i / s.width, of = row / s.height;
            const int n = n0 + of, h = top + row - of * s.height, w = left + i - row * s.width;
            const bool inside = n < p.images && h >= 0 && h < p.height && w >= 0 && w < p.width;
            source[i] = inside ? (n * (int)p.height + h) * (int)p.width + w : -1;
        }
        if (thread >= pixels) return;
        const int row = thread / columns, n = row / rows, h = row - n * rows, w = thread - row * columns;
        const bool live = n < p.patch[0] && n0 + n < p.images && h0 + h < out_height && w0 + w < out_width;
        corner()[thread] = n >= p.patch[0] ? -1
                                           : (n * s.height + h * (int)p.window.stride[0]) * s.width +
                                                 w * (int)p.window.stride[1];
        target()[thread] = live ? ((n0 + n) * out_height + h0 + h) * out_width + w0 + w : -1;
    }

    __device__ unsigned char *stage(int block) const {
        return shared + (block % 2) * s.stage;
    }

    __device__ T *patch(int block) const {
        return reinterpret_cast<T *>(stage(block) + s.filters_at + (s.constants + 1) * terms * 4);
    }

    /* The channels of a block of terms, and no more, at every pixel of the patch. */
    __device__ void fetch_patch(int block, int unit) const {
        T *to = patch(block);
        const auto span = reinterpret_cast<const nd_pack<int32_t, 2> *>(p.base)[block];
        const int first = span.value[0], wanted = span.value[1];
        const int apart = threads / wanted, chunk = thread % wanted, channel = first + chunk * per_chunk;
        const int rest = (int)p.channels - channel;
        const T *x = static_cast<const T *>(p.x);
        if (thread >= apart * wanted) return;
        ND_UNROLL_BY(1)
        for (int i = thread / wanted; i < s.pixels; i += apart) {
            const int pixel = source[i], live = pixel < 0 ? 0 : rest;
            if constexpr (integers) { /* the padding is what stands for zero */
                if (pixel < 0) {
                    const uint32_t zeros = (uint32_t)p.integers.x_zero * 0x01010101u;
                    *reinterpret_cast<nd_pack<uint32_t, 4> *>(
                        to + (i * (int)p.chunks + chunk) * per_chunk) = {zeros, zeros, zeros, zeros};
                    continue;
                }
            }
            nd_chunk_copy(unit, to + (i * (int)p.chunks + chunk) * per_chunk,
                          live > 0 ? x + pixel * p.x_pixel + channel : x, live);
        }
    }

    /* What does not depend on the pixels: filters, offsets and weights. */
    __device__ void fetch_constants(int block) const {
        unsigned char *to = stage(block);
        const float *filters = p.filters + block * s.constants * terms;
        const int32_t *offset = p.offset + block * terms;
        ND_UNROLL_BY(1)
        for (int i = thread; i < (s.constants + 1) * terms / 4; i += threads) {
            const void *from = i < s.constants * terms / 4 ? static_cast<const void *>(filters + 4 * i)
                                                           : offset + 4 * i - s.constants * terms;
            nd_ptx_copy_async<16>(to + s.filters_at + 16 * i, from, true);
        }
        const unsigned char *weights = static_cast<const unsigned char *>(p.weights);
        /* Places of all that is copied, kept from block to block, would not fit the registers. */
        ND_UNROLL_BY(1)
        for (int i = thread; i < N * chunks; i += threads) {
            const int n = i / chunks, chunk = i % chunks;
            nd_ptx_copy_async<16>(
                to + n * row + nd_swizzle<chunks>(n, chunk) * 16,
                weights + ((int64_t)(first_channel + n) * p.blocks + block) * row + chunk * 16, true);
        }
    }

    __device__ void fetch(int block, int unit) const {
        fetch_patch(block, unit);
        fetch_constants(block);
        nd_ptx_copy_commit();
    }

    __device__ T *tile_row(int m, int element) const {
        return reinterpret_cast<T *>(shared + tile_at + m * row +
                                     nd_swizzle<chunks>(m, element / per_chunk) * 16) +
               element % per_chunk;
    }

    /* One of x, less its zero: 2^23 and the integer are a number whose low bits are the integer's. */
    __device__ float load(T x) const {
        if constexpr (integers)
            return nd_ptx_f32_of_bits(0x4b000000u | x.integer) - (8388608.0f + (float)p.integers.x_zero);
        else
            return nd_load(x);
    }

    /* A depthwise result as it is multiplied; factor: of integers. */
    __device__ void store(T *to, float sum, float factor) const {
        if constexpr (integers) sum = fmaf(sum, factor, (float)p.integers.middle_zero);
        Math::store(to, sum);
    }

    /* `count` pixels from m on, of terms `first` and up of the lane's two: `each` of every one of `sources`
     * channels, whose windows begin at x. A column of a window moves on where the next pixel has it too. */
    template <int slide, int first, int sources, int each>
    __device__ void depthwise_run(const float (&weight)[9 + integers][2], const T *const (&x)[2], int m,
                                  int count, int step) const {
        constexpr int outs = sources * each, kept = 3 - slide;
        const int down = s.width * step, element = 2 * (lane % 16) + first;
        unsigned char *column = shared + tile_at + element % per_chunk * (int)sizeof(T);
        const T *from[sources];
        float window[sources][3][3];
        ND_UNROLL
        for (int k = 0; k < sources; k++) {
            from[k] = x[first + k];
            for (int h = 0; h < 3; h++)
                for (int w = 0; w < kept; w++) window[k][h][w + slide] = load(from[k][h * down + w * step]);
        }
        ND_UNROLL_BY(3) /* a window of three columns is where it was after three pixels */
        for (int i = 0; i < count; i++) {
            float sum[outs] = {};
            ND_UNROLL
            for (int k = 0; k < sources; k++) {
                for (int h = 0; h < 3; h++) {
                    for (int w = 0; w < kept; w++) window[k][h][w] = window[k][h][w + slide];
                    for (int w = kept; w < 3; w++) window[k][h][w] = load(from[k][h * down + w * step]);
                }
                from[k] += slide * step;
            }
            ND_UNROLL
            for (int tap = 0; tap < 9; tap++)
                for (int k = 0; k < outs; k++)
                    sum[k] = fmaf(weight[tap][first + k], window[k / each][tap / 3][tap % 3], sum[k]);
            nd_pack<T, outs> out;
            for (int k = 0; k < outs; k++) store(&out.value[k], sum[k], weight[8 + integers][first + k]);
            const int swizzled = nd_swizzle<chunks>(m + i, element / per_chunk) * 16;
            *reinterpret_cast<nd_pack<T, outs> *>(column + (m + i) * row + swizzled) = out;
        }
    }

    /* Filters and offsets of the block of terms, its patch of x, and the elements from pixel to pixel of
     * that. */
    template <int slide>
    __device__ void depthwise_3x3(const float *filters, const int32_t *offset, const T *x, int step) const {
        using two = nd_pack<float, 2>;
        const int pair = lane % 16;
        const int at[2] = {offset[2 * pair], offset[2 * pair + 1]};
        const bool same = !__any_sync(0xffffffffu, at[0] != at[1]);
        float weight[9 + integers][2];
        ND_UNROLL
        for (int tap = 0; tap < 9 + integers; tap++) {
            const two taps = *reinterpret_cast<const two *>(filters + tap * terms + 2 * pair);
            for (int k = 0; k < 2; k++) weight[tap][k] = taps.value[k];
        }
        for (int run = thread / 16; run < n_runs; run += threads / 16) {
            const int m = runs()[run] % 256, count = runs()[run] / 256;
            const T *const from[2] = {x + corner()[m] * step + at[0], x + corner()[m] * step + at[1]};
            if (same) {
                depthwise_run<slide, 0, 1, 2>(weight, from, m, count, step);
            } else if constexpr (N > 128) {
                depthwise_run<slide, 0, 2, 1>(weight, from, m, count, step);
            } else { /* two windows at once would not fit the registers */
                depthwise_run<slide, 0, 1, 1>(weight, from, m, count, step);
                depthwise_run<slide, 1, 1, 1>(weight, from, m, count, step);
            }
        }
    }

    __device__ void depthwise_any(const float *filters, const T *x, int step) const {
        const nd_window &g = p.window;
        for (int i = 0; i < pixels / 8; i++) {
            const int m = warp * (pixels / 8) + i, at = corner()[m];
            float sum = 0;
            for (int tap = 0; at >= 0 && tap < s.taps; tap++) {
                const int h = tap / (int)g.kernel[1], w = tap - h * (int)g.kernel[1];
                const int pixel = at + h * (int)g.dilation[0] * s.width + w * (int)g.dilation[1];
                sum = fmaf(filters[tap * terms + lane], load(x[pixel * step]), sum);
            }
            store(tile_row(m, lane), sum, filters[(s.constants - 1) * terms + lane]);
        }
    }

    __device__ void depthwise_of(const float *filters, const T *x, int step, int slide) const {
        const int32_t *offset = reinterpret_cast<const int32_t *>(filters + s.constants * terms);
        if (slide == 1)
            depthwise_3x3<1>(filters, offset, x, step);
        else if (slide == 2)
            depthwise_3x3<2>(filters, offset, x, step);
        else
            depthwise_any(filters, x + offset[lane], step);
    }

    __device__ void depthwise(int block, int slide) const {
        depthwise_of(reinterpret_cast<const float *>(stage(block) + s.filters_at), patch(block),
                     (int)p.chunks * per_chunk, slide);
    }

    /* What sums of integers begin with, in the first of their parts. */
    __device__ void begin(Sum (&c)[2][tiles][4]) const {
        if (!integers || blockIdx.y) return;
        ND_UNROLL
        for (int j = 0; j < tiles; j++) {
            const int n = first_channel + warp % 2 * (N / 2) + 8 * j + 2 * (lane % 4);
            const auto two = *reinterpret_cast<const nd_pack<int32_t, 2> *>(p.integers.start + n);
            ND_UNROLL
            for (int k = 0; k < 4; k++) c[0][j][k] = c[1][j][k] = (Sum)two.value[k % 2];
        }
    }

    /* c[i][j]: 16 pixels from 32 * (warp / 2) + 16 * i, 8 channels from N/2 * (warp % 2) + 8 * j. */
    __device__ void multiply_tensor(int block, Sum (&c)[2][tiles][4]) const {
        const unsigned char *tile = shared + tile_at, *weights = stage(block);
        ND_UNROLL_BY(1) /* addresses of further steps would not fit the registers */
        for (int step = 0; step < chunks / 2; step++) {
            uint32_t a[2][4], b[4];
            ND_UNROLL
            for (int i = 0; i < 2; i++) {
                const int m = warp / 2 * 32 + i * 16 + lane % 16;
                nd_ptx_load_matrix(a[i], tile + m * row + nd_swizzle<chunks>(m, 2 * step + lane / 16) * 16);
            }
            ND_UNROLL
            for (int j = 0; j < tiles; j += 2) {
                const int n = warp % 2 * (N / 2) + 8 * j + lane / 16 * 8 + lane % 8;
                nd_ptx_load_matrix(b,
                                   weights + n * row + nd_swizzle<chunks>(n, 2 * step + lane / 8 % 2) * 16);
                ND_UNROLL
                for (int i = 0; i < 2; i++) {
                    Math::mma(c[i][j], a[i], b[0], b[1]);
                    Math::mma(c[i][j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }

    /* The same fragments by FFMA: 4 rows x 2 columns x tiles of a thread, 4 steps of K from every 16-byte
     * read. */
    __device__ void multiply_fp32(int block, float (&c)[2][tiles][4]) const {
        const unsigned char *tile = shared + tile_at, *weights = stage(block);
        using quad = nd_pack<float, 4>;
        for (int chunk = 0; chunk < chunks; chunk++) {
            quad a[4];
            ND_UNROLL
            for (int i = 0; i < 4; i++) {
                const int m = warp / 2 * 32 + i * 8 + lane / 4;
                a[i] = *reinterpret_cast<const quad *>(tile + m * row + nd_swizzle<chunks>(m, chunk) * 16);
            }
            ND_UNROLL
            for (int j = 0; j < tiles; j++) {
                ND_UNROLL
                for (int side = 0; side < 2; side++) {
                    const int n = warp % 2 * (N / 2) + 8 * j + 2 * (lane % 4) + side;
                    const quad b = *reinterpret_cast<const quad *>(weights + n * row +
                                                                   nd_swizzle<chunks>(n, chunk) * 16);
                    ND_UNROLL
                    for (int i = 0; i < 4; i++) {
                        float sum = c[i / 2][j][2 * (i % 2) + side];
                        ND_UNROLL
                        for (int k = 0; k < 4; k++) sum = fmaf(a[i].value[k], b.value[k], sum);
                        c[i / 2][j][2 * (i % 2) + side] = sum;
                    }
                }
            }
        }
    }

    /* Two neighbouring channels of one pixel. */
    __device__ void write(const Sum *sums, int m, int64_t n, bool paired) const {
        const int pixel = target()[m];
        if (pixel < 0 || n >= p.out_channels) return;
        if (p.split > 1)
            *nd_separable_part<Sum>(p, blockIdx.y, pixel, n) = {sums[0], sums[1]};
        else
            nd_separable_finish<T>(p, sums, pixel, n, paired);
    }

    /* 16 pixels of the warp from m on, whose channels begin at n: two channels a lane, however they lie. */
    __device__ void write_pairs(const Sum *sums, int m, int n, bool paired) const {
        for (int at = lane; at < 16 * (N / 4); at += 32) {
            const int row = at / (N / 4), column = at % (N / 4) * 2;
            write(sums + row * sums_apart + column, m + row, n + column, paired);
        }
    }

    /* The same, `wide` channels a lane: always the same of one pixel after the other. */
    static constexpr int wide = sums_of::wide;

    __device__ void write_wide(const Sum *sums, int m, int n, const typename sums_of::lane &own) const {
        constexpr int lanes = N / 2 / wide, at_once = 32 / lanes;
        const int column = lane % lanes * wide;
        if (n + column >= p.out_channels) return;
        ND_UNROLL_BY(1)
        for (int row = lane / lanes; row < 16; row += at_once) {
            const int pixel = target()[m + row];
            if (pixel < 0) continue;
            Sum value[wide];
            ND_UNROLL
            for (int i = 0; i < wide; i += 4) {
                const auto four =
                    *reinterpret_cast<const nd_pack<Sum, 4> *>(sums + row * sums_apart + column + i);
                for (int k = 0; k < 4; k++) value[i + k] = four.value[k];
            }
            nd_separable_finish_wide<T>(p, value, own, pixel, n + column);
        }
    }

    /* Sums go through shared memory, 16 pixels of a warp at a time, so that a warp writes rows of
     * neighbouring channels and the code that follows every output exists once. Rows are 8 floats apart in
     * banks. */
    static constexpr int sums_apart = N / 2 + nd_separable_skew;

    __device__ void epilogue(Sum (&c)[2][tiles][4], const nd_separable_access &access) const {
        Sum *sums = reinterpret_cast<Sum *>(shared) + warp * 16 * sums_apart;
        const int n = first_channel + warp % 2 * (N / 2), first = n + lane % (N / 2 / wide) * wide;
        const bool at_once = access.wide && p.split == 1;
        typename sums_of::lane own = {};
        if (at_once && first < p.out_channels) nd_separable_take<T>(p, first, own);
        ND_UNROLL
        for (int i = 0; i < 2; i++) {
            const int m = warp / 2 * 32 + 16 * i;
            __syncwarp();
            ND_UNROLL
            for (int j = 0; j < tiles; j++) {
                ND_UNROLL
                for (int k = 0; k < 4; k += 2)
                    *reinterpret_cast<nd_pack<Sum, 2> *>(sums + (lane / 4 + 4 * k) * sums_apart + 8 * j +
                                                         2 * (lane % 4)) = {c[i][j][k], c[i][j][k + 1]};
            }
            __syncwarp();
            if (at_once)
                write_wide(sums, m, n, own);
            else
                write_pairs(sums, m, n, access.paired);
        }
    }
};

/* First block of terms of a part. */
__device__ inline int nd_separable_first(const nd_cuda_separable &p, unsigned part) {
    return (int)((unsigned)p.blocks * part / (unsigned)p.split);
}

template <class Math, int N>
__global__ void __launch_bounds__(nd_separable_threads, N <= 128 ? 2 : 1)
    nd_separable_kernel(const __grid_constant__ nd_cuda_separable p,
                        const __grid_constant__ nd_separable_shape shape, nd_separable_access access) {
    ND_SHARED(unsigned char, bytes);
    nd_separable_block<Math, N> block(p, shape, bytes);
    const int first = nd_separable_first(p, blockIdx.y), end = nd_separable_first(p, blockIdx.y + 1);
    block.fetch_constants(first); /* on their way while the pixels are found */
    block.place(access);
    __syncthreads();
    block.fetch_patch(first, access.unit);
    nd_ptx_copy_commit();
    typename nd_separable_block<Math, N>::Sum c[2][N / 16][4] = {};
    block.begin(c);
    for (int b = first; b < end; b++) {
        nd_ptx_copy_wait<0>();
        __syncthreads(); /* block b is here for all, and nobody reads the other stage or the tile any more */
        if (b + 1 < end) block.fetch(b + 1, access.unit);
        block.depthwise(b, access.slide);
        __syncthreads();
        if constexpr (Math::tensor)
            block.multiply_tensor(b, c);
        else
            block.multiply_fp32(b, c);
    }
    __syncthreads(); /* the sums take the place of the stages and the tile */
    block.epilogue(c, access);
}

/* Pixels of a run: 16 half warps take runs of the patch's rows in turn, and the start of one costs about a
 * pixel. */
inline int nd_separable_run_of(const nd_cuda_separable *p) {
    const int64_t rows = p->patch[0] * p->patch[1], width = p->patch[2], at_once = nd_separable_threads / 16;
    int64_t best = 0, least = INT64_MAX;
    for (int64_t length = 1; length <= width; length++) {
        const int64_t runs = rows * nd_ceil_div(width, length);
        const int64_t cost = nd_ceil_div(runs, at_once) * (length + 1);
        if (runs > nd_separable_pixels || cost > least) continue;
        least = cost;
        best = length;
    }
    return (int)best;
}

template <class T> inline nd_separable_access nd_separable_access_of(const nd_cuda_separable *p) {
    const nd_window *g = &p->window;
    const int64_t size = (int64_t)sizeof(T);
    const auto multiple = [](const void *pointer, int64_t bytes) {
        return (uintptr_t)pointer % (uintptr_t)bytes == 0;
    };
    nd_separable_access access = {0, 0, nd_separable_run_of(p), false, false};
    if (p->x_pixel * size % 16 == 0 && p->channels * size % 16 == 0 && multiple(p->x, 16))
        access.unit = 16;
    else if (p->x_pixel * size % 4 == 0 && p->channels * size % 4 == 0 && multiple(p->x, 4))
        access.unit = 4;
    if (g->kernel[0] == 3 && g->kernel[1] == 3 && g->dilation[0] == 1 && g->dilation[1] == 1 &&
        g->stride[1] <= 2)
        access.slide = (int)g->stride[1];
    const int64_t wide = nd_separable_sums<T>::wide;
    access.wide = p->out_channels % wide == 0 && p->y_pixel % wide == 0 && multiple(p->y, wide * size) &&
                  (!p->x2 || (p->x2_pixel % wide == 0 && multiple(p->x2, wide * size)));
    access.paired = p->out_channels % 2 == 0 && p->y_pixel % 2 == 0 && multiple(p->y, 2 * size) &&
                    (!p->x2 || (p->x2_pixel % 2 == 0 && multiple(p->x2, 2 * size)));
    return access;
}

inline dim3 nd_separable_grid(const nd_cuda_separable *p) {
    return dim3((unsigned)nd_separable_tiles(p), (unsigned)p->split);
}

template <class Math, int N> nd_status nd_separable_start(const nd_cuda_separable *p) {
    using T = typename Math::element;
    const nd_separable_shape shape = nd_separable_shape_of<T>(*p);
    return nd_launch(nd_separable_kernel<Math, N>, nd_separable_grid(p), dim3(nd_separable_threads),
                     (size_t)shape.total, p->stream, *p, shape, nd_separable_access_of<T>(p));
}

/* Bytes of the parts' sums; adds the parts in order and writes y. */
size_t nd_separable_partial_of(const nd_cuda_separable *p);
nd_status nd_separable_join(const nd_cuda_separable *p);

nd_status nd_separable_start_f16(const nd_cuda_separable *p);
nd_status nd_separable_start_bf16(const nd_cuda_separable *p);
nd_status nd_separable_start_tf32(const nd_cuda_separable *p);
nd_status nd_separable_start_fp32(const nd_cuda_separable *p);
nd_status nd_separable_start_u8(const nd_cuda_separable *p);

#endif
