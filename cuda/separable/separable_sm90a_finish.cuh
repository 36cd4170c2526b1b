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

__device__ inline void nd_hopper_words(nd_bf16, float x, float y, uint32_t (&word)[1]) {
    word[0] = nd_ptx_bf16x2_of_f32(x, y);
}

__device__ inline void nd_hopper_words(float, float x, float y, uint32_t (&word)[2]) {
    word[0] = nd_ptx_bits_of_f32(x);
    word[1] = nd_ptx_bits_of_f32(y);
}

template <class Math, int N> struct nd_hopper_finish : nd_hopper_tile<Math, N> {
    using tile = nd_hopper_tile<Math, N>;
    using T = typename tile::T;
    using tile::p, tile::s, tile::group, tile::warp, tile::lane, tile::slabs, tile::load;
    static constexpr int words = (int)sizeof(typename tile::two) / 4;

    using tile::tile;

    /* Bias, residual and activation of two neighbouring channels n and n + 1 of a pixel, whose sums these
     * are. */
    __device__ void finished(const float *sums, const nd_pack<float, 2> &bias, int64_t pixel, int n,
                             uint32_t (&out)[words]) const {
        float value[2] = {sums[0] + bias.value[0], sums[1] + bias.value[1]};
        if (p.x2 && pixel >= 0 && n < p.out_channels) {
            float residual[2];
            load(static_cast<const T *>(p.x2) + pixel * p.x2_pixel + n, residual);
            value[0] += residual[0];
            value[1] += residual[1];
        }
        if (p.activation.act == nd_act_relu)
            for (int k = 0; k < 2; k++) value[k] = fmaxf(value[k], 0); /* of NaN: 0, as elsewhere */
        if (p.activation.act == nd_act_clip)
            for (int k = 0; k < 2; k++) value[k] = fminf(fmaxf(value[k], p.activation.a), p.activation.b);
        nd_hopper_words(T(), value[0], value[1], out);
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

    /* Sums of columns n + 2 (lane % 4) and the next of every 8 of 32, for another kernel to finish. */
    __device__ void leave(int part, const float (*c)[4], int side, int64_t pixel, int n) const {
        ND_UNROLL
        for (int k = 0; k < 4; k++) {
            const int at = n + 8 * k + 2 * (lane % 4);
            if (pixel >= 0 && at < p.out_channels)
                *reinterpret_cast<nd_pack<float, 2> *>(
                    p.partial + (part * s.left_pixels + pixel - s.left_first) * nd_separable_part_row(p) +
                    at) = {c[k][2 * side], c[k][2 * side + 1]};
        }
    }

    /* From registers, a slab: c[j] has columns 8j + 2 (lane % 4) and the next of rows lane / 4 and 8 more of
     * the warp's 16. */
    __device__ void finish_slab(int number, const nd_hopper_origin &i, int slab, float (&c)[N / 8][4],
                                bool whole) const {
        const int m = slab * nd_hopper_slab + warp * 16 + lane / 4;
        const int64_t pixels[2] = {target(i, m), target(i, m + 8)};
        ND_UNROLL
        for (int j = 0; j < N / 8; j += 4) {
            const int n = tile::channel(number) + 8 * j, own = n + 2 * (lane % 4);
            nd_pack<float, 2> bias[4] = {};
            ND_UNROLL
            for (int k = 0; k < 4; k++)
                if (whole && p.bias && own + 8 * k < p.out_channels)
                    bias[k] = *reinterpret_cast<const nd_pack<float, 2> *>(p.bias + own + 8 * k);
            ND_UNROLL
            for (int side = 0; side < 2; side++) {
                if (!whole) {
                    leave(tile::part(number), &c[j], side, pixels[side], n);
                    continue;
                }
                uint32_t out[4][words];
                ND_UNROLL
                for (int k = 0; k < 4; k++)
                    finished(&c[j + k][2 * side], bias[k], pixels[side], own + 8 * k, out[k]);
                write(out, pixels[side], n);
            }
        }
    }

    __device__ void finish(int number, float (&c)[slabs][N / 8][4]) const {
        const nd_hopper_origin i = tile::origin(number, group);
        const bool whole = tile::is_whole(number);
        ND_UNROLL
        for (int slab = 0; slab < slabs; slab++) finish_slab(number, i, slab, c[slab], whole);
    }
};
#endif

#endif
