/* Where a block of the fused kernel of sm_90a is: its place in shared memory and among the tiles. */
#ifndef ND_CUDA_SEPARABLE_SM90A_TILE_CUH
#define ND_CUDA_SEPARABLE_SM90A_TILE_CUH

#include "cuda/kernels/ptx_sm90a.cuh"
#include "cuda/separable/separable_sm90a_shape.cuh"

#ifdef ND_PTX_SM90A
/* Where a half of a tile begins: a pixel of y. */
struct nd_hopper_origin {
    int image, row, column;
};

template <class Math, int N> struct nd_hopper_tile {
    using T = typename Math::element;
    using Sum = typename nd_separable_sums<T>::type;
    static constexpr bool integers = nd_separable_sums<T>::integers;
    static constexpr int channels = nd_hopper_channels<T>, each = nd_hopper_each<T>,
                         sharers = channels / each, abreast = nd_hopper_abreast<T>;
    static constexpr int slabs = (int)nd_hopper_half(N) / nd_hopper_slab, half = slabs * nd_hopper_slab;
    static constexpr int half_bytes = half * nd_hopper_row, term_bytes = 2 * half_bytes;

    const nd_cuda_hopper &call; /* these three in the constants of the launch, not in registers */
    const nd_cuda_separable &p;
    const nd_hopper_shape &s;
    unsigned char *shared;
    int group, warp,
        lane; /* the half that this warpgroup makes, -1: it copies; of the warpgroup's 4; of the warp's 32 */
    int share, aside; /* of the lane: which `each` channels of a pixel, column of a group */

    __device__ nd_hopper_tile(const nd_cuda_hopper &call_, const nd_hopper_shape &shape, unsigned char *bytes)
        : call(call_), p(call_.layer), s(shape), shared(bytes) {
        /* From one lane, so that the compiler sees that a warp's are the same. */
        const int number = __shfl_sync(0xffffffffu, (int)threadIdx.x / 32, 0);
        group = number / 4 - 1;
        warp = number % 4;
        lane = (int)(threadIdx.x % 32);
        share = abreast > 1 ? lane / 2 % sharers : lane;
        aside = abreast > 1 ? lane % 2 + lane / (2 * sharers) * 2 : 0;
    }

    __device__ void meet() const {
        if (call.cluster > 1)
            nd_ptx_cluster_barrier();
        else
            __syncthreads();
    }

    __device__ unsigned char *stage(int number) const {
        return shared + s.stages_at + number * s.stage;
    }

    __device__ uint64_t *full(int number) const {
        return reinterpret_cast<uint64_t *>(shared + s.barriers_at) + number;
    }

    __device__ uint64_t *empty(int number) const {
        return full(nd_hopper_stages_max + number);
    }

    /* [units][2]: pixel of the patch where its first window begins, without the column; first column, rows <<
     * 8, first row of A << 16. */
    __device__ int *units() const {
        return reinterpret_cast<int *>(shared + s.tables_at);
    }

    /* [half]: image, row and column of a half, a byte each from above; -1 past it. */
    __device__ int *places() const {
        return units() + 2 * nd_hopper_units_max;
    }

    __device__ void tables() const {
        const int at = (int)threadIdx.x, height = (int)p.patch[1];
        if (at < s.units) {
            const int segment = at % s.segments, of = at / s.segments % s.groups,
                      image = at / (s.segments * s.groups);
            const int row = segment * s.length, left = height - row;
            units()[2 * at] = (image * s.height + row * (int)p.window.stride[0]) * s.width;
            units()[2 * at + 1] = of * abreast | (left < s.length ? left : s.length) << 8 |
                                  ((image * s.groups + of) * height + row) * abreast << 16;
        }
        if (at >= half) return;
        const int run = at / abreast, row = run % height, of = run / height % s.groups,
                  image = run / (height * s.groups), column = of * abreast + at % abreast;
        const bool there = image < p.patch[0] && column < p.patch[2];
        places()[at] = there ? image << 16 | row << 8 | column : -1;
    }

    /* Items of work are numbered: tiles of channels first, then, of the clusters of tiles of pixels that are
     * not whole, parts of the rounds, then the clusters. Their halves: columns, rows, images. */
    __device__ bool is_whole(int number) const {
        return number < s.whole * s.across;
    }

    __device__ int parts(int number) const {
        return is_whole(number) ? 1 : (int)p.split;
    }

    __device__ int part(int number) const {
        return is_whole(number) ? 0 : (number / s.across - s.whole) % (int)p.split;
    }

    __device__ int channel(int number) const {
        return number % s.across * N;
    }

    __device__ nd_hopper_origin origin(int number, int second) const {
        int tile = number / s.across;
        if (tile >= s.whole) tile = s.whole + (tile - s.whole) / (int)p.split;
        tile *= (int)call.cluster;
        if (call.cluster > 1) tile += (int)nd_ptx_cluster_rank();
        const int place = 2 * tile + second, line = place / s.columns;
        return {line / s.rows * (int)p.patch[0], line % s.rows * (int)p.patch[1],
                place % s.columns * (int)p.patch[2]};
    }

    /* First round of an item, and its end. */
    __device__ int first_round(int number) const {
        return (int)p.blocks * part(number) / parts(number);
    }

    __device__ int end_round(int number) const {
        return (int)p.blocks * (part(number) + 1) / parts(number);
    }

    __device__ int first_item() const {
        return (int)(blockIdx.x / (unsigned)call.cluster);
    }

    __device__ int items_apart() const {
        return (int)(gridDim.x / (unsigned)call.cluster);
    }
};
#endif

#endif
