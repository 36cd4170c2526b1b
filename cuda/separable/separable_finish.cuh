/* The end of a tile of the fused kernel: from sums to what is stored. */
#ifndef ND_CUDA_SEPARABLE_FINISH_CUH
#define ND_CUDA_SEPARABLE_FINISH_CUH

#include "cuda/quantized/quantized.cuh"

/* How elements of a type are summed; what a lane keeps of the channels that it always finishes, as many as it
 * stores at once: 16 bytes of them, of integers, each of which has two constants, 8. */
template <class T> struct nd_separable_sums {
    using type = float;
    static constexpr bool integers = false, quantised = false; /* quantised: finished by run/quantized.h */
    static constexpr int wide = 16 / (int)sizeof(T);
    struct lane {
        float bias[wide];
    };
};

template <> struct nd_separable_sums<nd_u8> {
    using type = int32_t;
    static constexpr bool integers = true, quantised = true;
    static constexpr int wide = 8;
    struct lane {
        float factor[wide], shift[wide];
    };
};

template <> struct nd_separable_sums<nd_e4m3> : nd_separable_sums<nd_u8> {
    using type = float;
    static constexpr bool integers = false;
};

/* Of the channels from n on, which are all there. */
template <class T>
__device__ inline void nd_separable_take(const nd_cuda_separable &p, int64_t n,
                                         typename nd_separable_sums<T>::lane &lane) {
    ND_UNROLL
    for (int i = 0; i < nd_separable_sums<T>::wide; i++) {
        if constexpr (nd_separable_sums<T>::quantised) {
            lane.factor[i] = p.integers.factor[n + i];
            lane.shift[i] = p.integers.shift[n + i];
        } else if (p.bias) {
            lane.bias[i] = p.bias[n + i];
        }
    }
}

/* Bias, residual and activation of two neighbouring channels, and the store. paired: they move at once. */
template <class T>
__device__ inline void nd_separable_finish(const nd_cuda_separable &p,
                                           const typename nd_separable_sums<T>::type *sums, int64_t pixel,
                                           int64_t n, bool paired) {
    const T *x2 = static_cast<const T *>(p.x2);
    T *y = static_cast<T *>(p.y) + pixel * p.y_pixel + n;
    if (x2) x2 += pixel * p.x2_pixel + n;
    const int count = n + 1 < p.out_channels ? 2 : 1;
    nd_pack<T, 2> out = {}, residual = {};
    if (x2 && paired) residual = *reinterpret_cast<const nd_pack<T, 2> *>(x2);
    ND_UNROLL
    for (int i = 0; i < 2; i++) {
        if (i >= count) break;
        if (x2 && !paired) residual.value[i] = x2[i];
        if constexpr (nd_separable_sums<T>::quantised) {
            const nd_cuda_integers &q = p.integers;
            nd_store(&out.value[i], nd_quantized_finish(q.requant, sums[i], q.factor[n + i], q.shift[n + i],
                                                        x2, residual.value[i]));
        } else {
            const float sum = sums[i] + (p.bias ? p.bias[n + i] : 0) + (x2 ? nd_load(residual.value[i]) : 0);
            nd_store(&out.value[i], nd_activate(p.activation, sum));
        }
    }
    if (paired) {
        *reinterpret_cast<nd_pack<T, 2> *>(y) = out;
        return;
    }
    ND_UNROLL
    for (int i = 0; i < 2; i++)
        if (i < count) y[i] = out.value[i];
}

/* Bias, residual and activation of 16 bytes of neighbouring channels. residual: NULL for none. */
template <class T, int count>
__device__ inline void nd_separable_end(const nd_cuda_separable &p, float (&sums)[count],
                                        const typename nd_separable_sums<T>::lane &lane,
                                        const nd_pack<T, count> *x2, nd_pack<T, count> &out) {
    static_assert(sizeof out == 16, "what one store takes");
    if (x2) {
        const nd_pack<T, count> residual = *x2;
        ND_UNROLL
        for (int i = 0; i < count; i++) sums[i] += lane.bias[i] + nd_load(residual.value[i]);
    } else {
        ND_UNROLL
        for (int i = 0; i < count; i++) sums[i] += lane.bias[i];
    }
    nd_activate(p.activation, sums);
    ND_UNROLL
    for (int i = 0; i < count; i++) nd_store(&out.value[i], sums[i]);
}

/* The same of integers, 8 bytes of them. */
template <class T, int count>
__device__ inline void nd_separable_end(const nd_cuda_separable &p, int32_t (&sums)[count],
                                        const typename nd_separable_sums<T>::lane &lane,
                                        const nd_pack<T, count> *x2, nd_pack<T, count> &out) {
    const nd_pack<T, count> residual = x2 ? *x2 : nd_pack<T, count>();
    ND_UNROLL
    for (int i = 0; i < count; i++)
        nd_store(&out.value[i], nd_quantized_finish(p.integers.requant, sums[i], lane.factor[i],
                                                    lane.shift[i], x2, residual.value[i]));
}

/* What nd_separable_end makes of a pixel's channels from n on, and the store. */
template <class T, int count>
__device__ inline void
nd_separable_finish_wide(const nd_cuda_separable &p, typename nd_separable_sums<T>::type (&sums)[count],
                         const typename nd_separable_sums<T>::lane &lane, int64_t pixel, int64_t n) {
    using wide = nd_pack<T, count>;
    const T *x2 = static_cast<const T *>(p.x2) + pixel * p.x2_pixel + n;
    wide out;
    nd_separable_end<T, count>(p, sums, lane, p.x2 ? reinterpret_cast<const wide *>(x2) : nullptr, out);
    *reinterpret_cast<wide *>(static_cast<T *>(p.y) + pixel * p.y_pixel + n) = out;
}

#endif
