/* The end of a tile of the fused kernel of sm_90a: sums in registers become pixels of y, or are left to the
 * kernel that joins parts. */
#ifndef ND_CUDA_SEPARABLE_SM90A_FINISH_CUH
#define ND_CUDA_SEPARABLE_SM90A_FINISH_CUH

#include "cuda/separable/separable_sm90a_tile.cuh"

#ifdef ND_PTX_SM90A
/* Four lanes with four words each, lanes 4i to 4i + 3: word i of lane j becomes word j of lane i. */
__device__ inline void nd_hopper_transpose(uint32_t (&word)[4], int lane) {
    const bool odd = lane & 1, high = lane & 2;
    ND_UNROLL
    for (int i = 0; i < 4; i += 2) {
        const uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? word[i] : word[i + 1], 1);
        (odd ? word[i] : word[i + 1]) = other;
    }
    ND_UNROLL
    for (int i = 0; i < 2; i++) {
        const uint32_t other = __shfl_xor_sync(0xffffffffu, high ? word[i] : word[i + 2], 2);
        (high ? word[i] : word[i + 2]) = other;
    }
}

/* Two neighbouring channels as they are stored, in one word or two. */
__device__ inline void nd_hopper_words(nd_f16, float x, float y, uint32_t (&word)[1]) {
    word[0] = nd_ptx_f16x2_of_f32(x, y);
}

/* In the low half; in range already, beside 2^23 they are rounded (nd_u8_of_f32). */
__device__ inline void nd_hopper_words(nd_u8, float x, float y, uint32_t (&word)[1]) {
    word[0] = nd_ptx_bytes(nd_ptx_bits_of_f32(x + 8388608.0f), nd_ptx_bits_of_f32(y + 8388608.0f), 0x4040);
}

__device__ inline void nd_hopper_words(nd_e4m3, float x, float y, uint32_t (&word)[1]) {
    word[0] = nd_ptx_e4m3x2_of_f32(x, y);
}

__device__ inline void nd_hopper_words(nd_bf16, float x, float y, uint32_t (&word)[1]) {
    word[0] = nd_ptx_bf16x2_of_f32(x, y);
}

__device__ inline void nd_hopper_words(float, float x, float y, uint32_t (&word)[2]) {
    word[0] = nd_ptx_bits_of_f32(x);
    word[1] = nd_ptx_bits_of_f32(y);
}

/* What the sums of two neighbouring channels need to be finished. */
template <class T> struct nd_hopper_ends {
    nd_pack<float, 2> bias;

    __device__ void take(const nd_cuda_separable &p, int n) {
        if (p.bias && n < p.out_channels) bias = *reinterpret_cast<const nd_pack<float, 2> *>(p.bias + n);
    }
};

template <> struct nd_hopper_ends<nd_u8> {
    nd_pack<int32_t, 2> start;
    nd_pack<float, 2> factor, shift;

    __device__ void take(const nd_cuda_separable &p, int n) { /* of whole tiles of channels */
        start = *reinterpret_cast<const nd_pack<int32_t, 2> *>(p.integers.start + n);
        factor = *reinterpret_cast<const nd_pack<float, 2> *>(p.integers.factor + n);
        shift = *reinterpret_cast<const nd_pack<float, 2> *>(p.integers.shift + n);
    }
};

template <> struct nd_hopper_ends<nd_e4m3> {
    nd_pack<float, 2> factor, shift;

    __device__ void take(const nd_cuda_separable &p, int n) { /* of whole tiles of channels */
        factor = *reinterpret_cast<const nd_pack<float, 2> *>(p.integers.factor + n);
        shift = *reinterpret_cast<const nd_pack<float, 2> *>(p.integers.shift + n);
    }
};

template <class Math, int N> struct nd_hopper_finish : nd_hopper_tile<Math, N> {
    using tile = nd_hopper_tile<Math, N>;
    using T = typename tile::T;
    using Sum = typename tile::Sum;
    using ends = nd_hopper_ends<T>;
    using tile::p, tile::s, tile::group, tile::warp, tile::lane, tile::slabs, tile::integers;
    static constexpr int words = sizeof(T) == 4 ? 2 : 1;   /* of two channels that are stored */
    static constexpr int at_once = sizeof(T) == 1 ? 8 : 4; /* eights of channels that a lane writes some of */

    using tile::tile;

    /* Bias, residual and activation of two neighbouring channels, whose sums these are; of e4m3 by the
     * definition in run/quantized.h. */
    __device__ void ended(const float *sums, const ends &own, const nd_pack<T, 2> &residual,
                          float (&value)[2]) const {
        if constexpr (nd_separable_sums<T>::quantised) {
            for (int k = 0; k < 2; k++)
                value[k] = nd_quantized_finish(p.integers.requant, sums[k], own.factor.value[k],
                                               own.shift.value[k], p.x2, residual.value[k]);
        } else {
            for (int k = 0; k < 2; k++) {
                value[k] = sums[k] + own.bias.value[k];
                if (p.x2) value[k] += nd_load(residual.value[k]);
            }
            if (p.activation.act == nd_act_relu)
                for (int k = 0; k < 2; k++) value[k] = fmaxf(value[k], 0); /* of NaN: 0, as elsewhere */
            if (p.activation.act == nd_act_clip)
                for (int k = 0; k < 2; k++) value[k] = fminf(fmaxf(value[k], p.activation.a), p.activation.b);
        }
    }

    /* The same of integers, by the definition in run/quantized.h. */
    __device__ void ended(const int32_t *sums, const ends &own, const nd_pack<T, 2> &residual,
                          float (&value)[2]) const {
        for (int k = 0; k < 2; k++)
            value[k] = nd_quantized_finish(p.integers.requant, sums[k] + own.start.value[k],
                                           own.factor.value[k], own.shift.value[k], p.x2, residual.value[k]);
    }

    /* Of channels n and n + 1, and of those 8 further on and so forth. */
    __device__ void residuals(int64_t pixel, int n, nd_pack<T, 2> (&to)[at_once]) const {
        if (!p.x2 || pixel < 0) return;
        const T *x2 = static_cast<const T *>(p.x2) + pixel * p.x2_pixel + n;
        ND_UNROLL
        for (int k = 0; k < at_once; k++)
            if (n + 8 * k < (int)p.out_channels) to[k] = *reinterpret_cast<const nd_pack<T, 2> *>(x2 + 8 * k);
    }

    /* What four lanes have of 32 channels of a pixel from n on, 2 of every 8, becomes 8 neighbours for each.
     */
    __device__ void write(const uint32_t (&out)[4][1], int64_t pixel, int n) const {
        uint32_t word[4] = {out[0][0], out[1][0], out[2][0], out[3][0]};
        nd_hopper_transpose(word, lane);
        n += 8 * (lane % 4);
        if (pixel < 0 || n >= p.out_channels) return;
        *reinterpret_cast<nd_pack<uint32_t, 4> *>(static_cast<T *>(p.y) + pixel * p.y_pixel +
                                                  n) = {word[0], word[1], word[2], word[3]};
    }

    /* Bytes, of 64 channels: a word has 2 of one eight and 2 of the next, so that 16 neighbours come to a
     * lane, those of the first eight in the lower halves. */
    __device__ void write(const uint32_t (&out)[8][1], int64_t pixel, int n) const {
        uint32_t word[4];
        ND_UNROLL
        for (int i = 0; i < 4; i++) word[i] = nd_ptx_bytes(out[2 * i][0], out[2 * i + 1][0], 0x5410);
        nd_hopper_transpose(word, lane);
        n += 16 * (lane % 4);
        if (pixel < 0 || n >= p.out_channels) return;
        *reinterpret_cast<nd_pack<uint32_t, 4> *>(static_cast<T *>(p.y) + pixel * p.y_pixel + n) = {
            nd_ptx_bytes(word[0], word[1], 0x5410), nd_ptx_bytes(word[2], word[3], 0x5410),
            nd_ptx_bytes(word[0], word[1], 0x7632), nd_ptx_bytes(word[2], word[3], 0x7632)};
    }

    /* 4-byte elements: the four lanes' pairs of 8 channels are a sector of memory as they are. */
    __device__ void write(const uint32_t (&out)[4][2], int64_t pixel, int n) const {
        T *y = static_cast<T *>(p.y) + pixel * p.y_pixel;
        ND_UNROLL
        for (int k = 0; k < 4; k++) {
            const int at = n + 8 * k + 2 * (lane % 4);
            if (pixel >= 0 && at < p.out_channels)
                *reinterpret_cast<nd_pack<uint32_t, 2> *>(y + at) = {out[k][0], out[k][1]};
        }
    }

    /* Pixel of y that row m of the half is, or -1. */
    __device__ int64_t target(const nd_hopper_origin &i, int m) const {
        const int place = tile::places()[m];
        const int image = i.image + (place >> 16), row = i.row + (place >> 8 & 0xff),
                  column = i.column + (place & 0xff);
        const bool there = place >= 0 && image < p.images && row < p.out_height && column < p.out_width;
        return there ? (int64_t)(int)((image * (int)p.out_height + row) * (int)p.out_width + column) : -1;
    }

    /* Sums of channels n and n + 1, and of those 8 further on and so forth, for another kernel to finish; of
     * integers what they begin with is the first part's. */
    __device__ void leave(int part, const Sum (*c)[4], int side, const ends (&own)[at_once], int64_t pixel,
                          int n) const {
        ND_UNROLL
        for (int k = 0; k < at_once; k++) {
            nd_pack<Sum, 2> left = {c[k][2 * side], c[k][2 * side + 1]};
            if constexpr (integers)
                for (int i = 0; i < 2; i++) left.value[i] += part ? 0 : own[k].start.value[i];
            if (pixel >= 0 && n + 8 * k < p.out_channels)
                *reinterpret_cast<nd_pack<Sum, 2> *>(
                    p.partial + (part * s.left_pixels + pixel - s.left_first) * nd_separable_part_row(p) + n +
                    8 * k) = left;
        }
    }

    /* From registers, a slab: c[j] has columns 8j + 2 (lane % 4) and the next of rows lane / 4 and 8 more of
     * the warp's 16. */
    __device__ void finish_slab(int number, const nd_hopper_origin &i, int slab, Sum (&c)[N / 8][4],
                                bool whole) const {
        const int m = slab * nd_hopper_slab + warp * 16 + lane / 4;
        const int64_t pixels[2] = {target(i, m), target(i, m + 8)};
        ND_UNROLL
        for (int j = 0; j < N / 8; j += at_once) {
            const int n = tile::channel(number) + 8 * j, first = n + 2 * (lane % 4);
            ends own[at_once] = {};
            ND_UNROLL
            for (int k = 0; k < at_once; k++)
                if (whole || integers) own[k].take(p, first + 8 * k);
            ND_UNROLL
            for (int side = 0; side < 2; side++) {
                if (!whole) {
                    leave(tile::part(number), &c[j], side, own, pixels[side], first);
                    continue;
                }
                nd_pack<T, 2> residual[at_once] = {};
                uint32_t out[at_once][words];
                residuals(pixels[side], first, residual);
                ND_UNROLL
                for (int k = 0; k < at_once; k++) {
                    float value[2];
                    ended(&c[j + k][2 * side], own[k], residual[k], value);
                    nd_hopper_words(T(), value[0], value[1], out[k]);
                }
                write(out, pixels[side], n);
            }
        }
    }

    __device__ void finish(int number, Sum (&c)[slabs][N / 8][4]) const {
        const nd_hopper_origin i = tile::origin(number, group);
        const bool whole = tile::is_whole(number);
        ND_UNROLL
        for (int slab = 0; slab < slabs; slab++) finish_slab(number, i, slab, c[slab], whole);
    }
};
#endif

#endif
