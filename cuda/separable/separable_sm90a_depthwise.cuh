/* The depthwise half of the fused kernel of sm_90a, as one lane makes it: the window of a few neighbouring
 * channels, which slides down a column, under the filters of up to three terms. What a lane keeps and how it
 * sums; the walk over pixels is in separable_sm90a.cu, how constants lie in separable_sm90a.h.
 *
 * Real numbers: two channels, fp32, nine multiply-adds a result. e4m3 as well: filters are fp32, and have
 * the factor of what is stored in them.
 *
 * Integers: four channels, which are one word of a pixel, and the products of a row of the window one dp4a:
 * three instructions for the nine taps of a result where multiply-adds would be nine, and as exact. A dp4a
 * sums over the bytes of a word, which are channels where pixels lie and must be taps, so that a row, its
 * three pixels a, b and c of channels 0 to 3, is turned when it comes into the window, once for the three
 * rows of results and all the terms that read it:
 *
 *     a0 a1 a2 a3                     a0 b0 c0 .
 *     b0 b1 b2 b3   six permutes of   a1 b1 c1 .    the fourth byte is anything: its tap is 0
 *     c0 c1 c2 c3      bytes to       a2 b2 c2 .
 *                                     a3 b3 c3 .
 *
 * Nothing converts a sum to fp32: it begins with the bits of 1.5 * 2^23, whose last ones count in units, so
 * that the word of a sum of less than 2^22 either way is that of 1.5 * 2^23 and the sum as fp32. It also
 * begins with what the zero of x brings: taps are summed over x as it is, with its zero where the window is
 * outside. */
#ifndef ND_CUDA_SEPARABLE_SM90A_DEPTHWISE_CUH
#define ND_CUDA_SEPARABLE_SM90A_DEPTHWISE_CUH

#include "cuda/kernels/ptx_sm90a.cuh"
#include "cuda/separable/separable_sm90a_shape.cuh"

/* Elements of two neighbouring channels. */
template <class T> __device__ inline void nd_hopper_load(const T *from, float (&to)[2]) {
    const auto both = *reinterpret_cast<const nd_pack<T, 2> *>(from);
    to[0] = nd_load(both.value[0]);
    to[1] = nd_load(both.value[1]);
}

__device__ inline void nd_hopper_load(const nd_e4m3 *from, float (&to)[2]) {
    nd_ptx_f32x2_of_e4m3x2(*reinterpret_cast<const uint16_t *>(from), to);
}

/* By the definition in run/quantized.h. */
struct nd_math_e4m3 {
    using element = nd_e4m3;
    __device__ static void store_pair(void *to, float x, float y) {
        *static_cast<uint16_t *>(to) = nd_ptx_e4m3x2_of_f32(x, y);
    }
};

/* `lane` is the lane's place among those that share a pixel. */
template <class Math> struct nd_hopper_depthwise {
    using T = typename Math::element;
    static constexpr int channels = nd_hopper_channels<T>, each = nd_hopper_each<T>;

    struct row {
        float pixel[3][each];
    };

    template <int terms> struct constants { float filter[nd_hopper_taps][terms][each]; };

    __device__ static void load(const T *x, row &to) {
        ND_UNROLL
        for (int w = 0; w < 3; w++) nd_hopper_load(x + w * channels, to.pixel[w]);
    }

    /* Terms `first` and up of the lane's, `count` of them: [tap][lane][count][2]. */
    template <int first, int count, int terms>
    __device__ static void take_some(const unsigned char *from, int lane, constants<terms> &to) {
        constexpr int pairs = channels / each;
        using piece = nd_pack<float, each * count>;
        const auto *at =
            reinterpret_cast<const piece *>(from) + first / count * nd_hopper_taps * pairs + lane;
        ND_UNROLL
        for (int tap = 0; tap < nd_hopper_taps; tap++) {
            const piece taps = at[tap * pairs];
            ND_UNROLL
            for (int i = 0; i < each * count; i++) to.filter[tap][first + i / each][i % each] = taps.value[i];
        }
    }

    template <int terms>
    __device__ static void take(const unsigned char *from, int lane, constants<terms> &to) {
        if constexpr (terms > 1) take_some<0, 2>(from, lane, to);
        if constexpr (terms % 2) take_some<terms - 1, 1>(from, lane, to);
    }

    template <int terms>
    __device__ static void sum(const nd_cuda_integers &, const row (&window)[3], const constants<terms> &own,
                               float (&sums)[terms][each]) {
        ND_UNROLL
        for (int tap = 0; tap < nd_hopper_taps; tap++)
            for (int t = 0; t < terms; t++)
                for (int k = 0; k < each; k++)
                    sums[t][k] = fmaf(own.filter[tap][t][k], window[tap / 3].pixel[tap % 3][k], sums[t][k]);
    }

    __device__ static void store(unsigned char *to, const float (&sums)[each]) {
        Math::store_pair(to, sums[0], sums[1]);
    }
};

template <> struct nd_hopper_depthwise<nd_math_u8> {
    static constexpr int channels = nd_hopper_channels<nd_u8>, each = nd_hopper_each<nd_u8>;
    using quad = nd_pack<uint32_t, each>;

    struct row {
        uint32_t channel[each];
    };

    template <int terms> struct constants {
        uint32_t filter[terms][3][each];
        int32_t start[terms][each];
        float factor[terms][each];
    };

    __device__ static void load(const nd_u8 *x, row &to) {
        const auto *pixel = reinterpret_cast<const uint32_t *>(x);
        const uint32_t a = pixel[0], b = pixel[channels / 4], c = pixel[channels / 2];
        const uint32_t low = nd_ptx_bytes(a, b, 0x5140), high = nd_ptx_bytes(a, b, 0x7362);
        to.channel[0] = nd_ptx_bytes(low, c, 0x4410);
        to.channel[1] = nd_ptx_bytes(low, c, 0x5532);
        to.channel[2] = nd_ptx_bytes(high, c, 0x6610);
        to.channel[3] = nd_ptx_bytes(high, c, 0x7732);
    }

    /* [term][rows of taps, start, factor][lane][4]. */
    template <int terms>
    __device__ static void take(const unsigned char *from, int lane, constants<terms> &to) {
        const auto *at = reinterpret_cast<const quad *>(from) + lane;
        ND_UNROLL
        for (int t = 0; t < terms; t++) {
            quad words[nd_hopper_integer_words];
            ND_UNROLL
            for (int i = 0; i < nd_hopper_integer_words; i++)
                words[i] = at[(t * nd_hopper_integer_words + i) * (channels / each)];
            ND_UNROLL
            for (int k = 0; k < each; k++) {
                for (int i = 0; i < 3; i++) to.filter[t][i][k] = words[i].value[k];
                to.start[t][k] = (int32_t)words[3].value[k];
                to.factor[t][k] = nd_ptx_f32_of_bits(words[4].value[k]);
            }
        }
    }

    template <int terms>
    __device__ static void sum(const nd_cuda_integers &integers, const row (&window)[3],
                               const constants<terms> &own, float (&sums)[terms][each]) {
        ND_UNROLL
        for (int t = 0; t < terms; t++)
            for (int k = 0; k < each; k++) {
                int32_t sum = own.start[t][k];
                for (int i = 0; i < 3; i++)
                    sum = nd_ptx_dot_u8(window[i].channel[k], own.filter[t][i][k], sum);
                const float chain =
                    nd_ptx_f32_of_bits((uint32_t)sum) - nd_ptx_f32_of_bits(nd_hopper_integer_start);
                sums[t][k] = fmaf(chain, own.factor[t][k], (float)integers.middle_zero);
            }
    }

    __device__ static void store(unsigned char *to, const float (&sums)[each]) {
        const uint32_t low = nd_ptx_bytes(nd_u8_of_f32(sums[0]), nd_u8_of_f32(sums[1]), 0x4040),
                       high = nd_ptx_bytes(nd_u8_of_f32(sums[2]), nd_u8_of_f32(sums[3]), 0x4040);
        *reinterpret_cast<uint32_t *>(to) = nd_ptx_bytes(low, high, 0x5410);
    }
};

#endif
