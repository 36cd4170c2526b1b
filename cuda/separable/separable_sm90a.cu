/* The fused separable layer for sm_90a: the copy engine brings the patch and the constants, wgmma multiplies.
 *
 * As in separable.cuh the sum over terms is the K loop of a GEMM whose rows, depthwise values of output
 * pixels, are made on the fly. A tile is two halves of N channels, each of them a warpgroup's with a patch of
 * its own, so that any two are a tile: 64 pixels of 256 channels, 128 of fewer, which is what the sums of a
 * warpgroup's registers hold. A round is 64 bytes of channels and up to three of their terms, whose patch is
 * read once: K = 96 of 16 bits, 48 of tf32, 192 of 8 bits. Its constants, weights as wgmma wants them and
 * filters, are one piece of memory (separable_sm90a.h).
 *
 *   copy thread  waits until a stage is free in all blocks of the cluster, then asks for the next round's
 * patches and for its share of the constants, which goes to all of them: the cluster reads the weights once
 *   warpgroup    waits for the stage; makes its rows of A: a lane two neighbouring channels, of integers
 * four, a run of pixels down a column, so that the 3x3 window slides (separable_sm90a_depthwise.cuh); waits
 * for the wgmma before, gives its stage back and meets its other warps; starts wgmma
 *
 * so that the tensor cores multiply a round while the same warps make the next, of the next tile too: what is
 * summed is only finished (bias, residual, activation, store) once the first rows of the next tile are made.
 * Blocks are persistent: as many as the device runs at once take all tiles in turn, neighbours in time the
 * same pixels.
 *
 * Banks: lanes of a warp take neighbouring columns of the patch (2 of 16-bit channels and of integers, 4 of
 * tf32; of e4m3 one, whose 64 channels take all lanes) and write neighbouring rows of A, so that both are
 * 128 bytes in one piece. Neighbouring lanes take the same channels of two columns: of filters, which both
 * read, every access is then half of what it would be (a rule of the load unit from sm_70 on that NVIDIA's
 * forum gives, "Unexpected shared memory bank conflict": two of the four parts of a 16-byte load go at once
 * where lanes n and n ^ 1 read the same). Order of pixels in a half: [image][group of columns][row][column].
 *
 * 8-bit integers (run/quantized.h): products are of unsigned depthwise results, which hold their zero, with
 * signed weights, and wgmma sums them in int32; what that zero adds is a constant of the output channel and
 * goes off when a tile is finished. The copy engine knows only one number for what is outside of x, 0, where
 * x's own zero is meant: each warpgroup writes that over the edges of its patch before it reads it.
 *
 * Who may write what, when. Round g writes half g % 2 of A, which wgmma g - 2 read: all warps of the
 * warpgroup waited for that before they met in round g - 1, and only this warpgroup touches its rows. A stage
 * is refilled when all 8 warps of all blocks of the cluster have arrived at its `empty`, each after its wait
 * for the wgmma that read it; patch and filters were read before that wgmma began. Rows of A are written by
 * ordinary stores and read by the asynchronous proxy: every writer fences before the warpgroup meets, and the
 * same fence orders its reads of the patch before the copy that refills it. No block ends before the whole
 * cluster has: others write to its shared memory.
 *
 * Not yet run on a device: checked on the host under the emulator and by ptxas' register report alone. */
#include "cuda/libs/tensor_map.h"
#include "cuda/separable/separable_sm90a_depthwise.cuh"
#include "cuda/separable/separable_sm90a_finish.cuh"

#ifdef ND_PTX_SM90A
/* A matrix in shared memory, K contiguous, rows of 64 bytes in the swizzle of that width, groups of 8 rows
 * one after another; `at` begins on 8 rows, plus 32 bytes for every step of K (16 elements of 16 bits, 8 of
 * tf32, 32 of 8 bits). Bits 0-13 address, 16-29 leading offset (unused with a swizzle: 1), 32-45 from group
 * to group, all in 16 bytes; bits 49-51 base offset, 0 where the pattern, 8 rows, begins on a multiple of
 * itself; bits 62-63 swizzle. */
__device__ inline uint64_t nd_hopper_matrix(const void *at) {
    const uint64_t address = nd_ptx_shared_address(at) >> 4 & 0x3fff;
    const uint64_t leading = 1, stride = 8 * 64 >> 4, swizzle = 2;
    return address | leading << 16 | stride << 32 | swizzle << 62;
}

template <int tiles>
__device__ void nd_hopper_mma(nd_math_f16, float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_ptx_wgmma_f16(c, a, b, add);
}

template <int tiles>
__device__ void nd_hopper_mma(nd_math_bf16, float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_ptx_wgmma_bf16(c, a, b, add);
}

template <int tiles>
__device__ void nd_hopper_mma(nd_math_tf32, float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_ptx_wgmma_tf32(c, a, b, add);
}

template <int tiles>
__device__ void nd_hopper_mma(nd_math_e4m3, float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_ptx_wgmma_e4m3(c, a, b, add);
}

template <int tiles>
__device__ void nd_hopper_mma(nd_math_u8, int32_t (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_ptx_wgmma_u8(c, a, b, add);
}

/* One of the stages, and how often all of them have been gone through. */
struct nd_hopper_turn {
    int stage = 0;
    uint32_t parity = 0;

    __device__ void next(int stages) {
        if (++stage < stages) return;
        stage = 0;
        parity ^= 1;
    }
};

template <class Math, int N> struct nd_hopper_block : nd_hopper_finish<Math, N> {
    using tile = nd_hopper_tile<Math, N>;
    using T = typename tile::T;
    using Sum = typename tile::Sum;
    using half_of = nd_hopper_depthwise<Math>;
    using tile::call, tile::p, tile::s, tile::shared, tile::group, tile::warp, tile::lane, tile::share;
    using tile::channels, tile::each, tile::abreast, tile::slabs, tile::half_bytes, tile::term_bytes;
    using tile::stage, tile::full, tile::empty, tile::units, tile::channel, tile::origin, tile::first_round,
        tile::end_round, tile::first_item, tile::items_apart, tile::aside;

    using nd_hopper_finish<Math, N>::nd_hopper_finish;

    /* Asks for the patches of a round and for this block's share of its constants, those of a tile of
     * channels at `from`. */
    __device__ void ask(const nd_hopper_origin (&halves)[2], const unsigned char *from, int round, int to,
                        const CUtensorMap *x) const {
        const int channel = call.rounds[2 * round] & 0xffffff, terms = call.rounds[2 * round] >> 24;
        const int constants = terms * (s.weights + nd_hopper_constants<T> * channels * 4);
        from += (int64_t)call.rounds[2 * round + 1] * 16;
        nd_ptx_barrier_expect(full(to), (uint32_t)(constants + 2 * s.patch_bytes));
        ND_UNROLL
        for (int k = 0; k < 2; k++)
            nd_ptx_tensor_4d(stage(to) + s.patch_at + k * s.patch_next, x, channel,
                             halves[k].column * (int)p.window.stride[1] - (int)p.window.pad[1],
                             halves[k].row * (int)p.window.stride[0] - (int)p.window.pad[0], halves[k].image,
                             full(to));
        if (call.cluster == 1) return nd_ptx_bulk(stage(to), from, (uint32_t)constants, full(to));
        const int share = constants / 2, at = (int)nd_ptx_cluster_rank() * share;
        nd_ptx_bulk_multicast(stage(to) + at, from + at, (uint32_t)share, full(to), 3);
    }

    /* One thread of the warpgroup that copies. */
    __device__ void copy(const CUtensorMap *x) const {
        nd_hopper_turn turn;
        for (int number = first_item(); number < s.items; number += items_apart()) {
            const nd_hopper_origin halves[2] = {origin(number, 0), origin(number, 1)};
            const unsigned char *from = static_cast<const unsigned char *>(call.constants) +
                                        channel(number) / N * call.constants_bytes;
            const int end = end_round(number);
            for (int round = first_round(number); round < end; round++) {
                nd_ptx_barrier_wait(empty(turn.stage), turn.parity ^ 1); /* true at once when it is new */
                ask(halves, from, round, turn.stage, x);
                turn.next(s.stages);
            }
        }
    }

    /* The copy engine writes zeros where x is not. Of integers x's own zero belongs there; the warpgroup
     * meets before it reads what was mended. */
    __device__ void mend(const nd_hopper_origin &begin, unsigned char *patch) const {
        const int top = begin.row * (int)p.window.stride[0] - (int)p.window.pad[0],
                  left = begin.column * (int)p.window.stride[1] - (int)p.window.pad[1];
        const uint32_t zeros = (uint32_t)p.integers.x_zero * 0x01010101u;
        if (top >= 0 && left >= 0 && top + s.height <= p.height && left + s.width <= p.width) return;
        for (int i = warp * 32 + lane; i < (int)p.patch[0] * s.height * s.width; i += 128) {
            const int line = i / s.width, h = top + line % s.height, w = left + i - line * s.width;
            if (h >= 0 && h < p.height && w >= 0 && w < p.width) continue;
            ND_UNROLL
            for (int k = 0; k < nd_hopper_row; k += 16)
                *reinterpret_cast<nd_pack<uint32_t, 4> *>(patch + i * nd_hopper_row + k) = {zeros, zeros,
                                                                                            zeros, zeros};
        }
        nd_ptx_part_barrier(1 + group, 128);
    }

    /* A run of `count` rows of one column, of the lane's channels and `terms` terms of each: windows begin at
     * x, `down` elements are to the next row; its first row of A is m of the half at `rows`. */
    template <int terms, int slide>
    __device__ void run(const typename half_of::template constants<terms> &own, const T *x, int down,
                        int count, unsigned char *rows, int m) const {
        constexpr int kept = 3 - slide, bytes = each * (int)sizeof(T);
        const int chunk = share * bytes / 16 << 4, within = share * bytes % 16;
        typename half_of::row window[3];
        ND_UNROLL
        for (int h = 0; h < kept; h++) half_of::load(x + h * down, window[h + slide]);
        x += kept * down;
        ND_UNROLL_BY(3) /* a window of three rows is where it was after three */
        for (int i = 0; i < count; i++, m += abreast) {
            float sums[terms][each] = {};
            ND_UNROLL
            for (int h = 0; h < kept; h++) window[h] = window[h + slide];
            ND_UNROLL
            for (int h = kept; h < 3; h++) half_of::load(x + (h - kept) * down, window[h]);
            x += slide * down;
            half_of::sum(p.integers, window, own, sums);
            unsigned char *to = rows + m * nd_hopper_row + (chunk ^ (m >> 1 & 3) << 4) + within;
            ND_UNROLL
            for (int t = 0; t < terms; t++) half_of::store(to + t * term_bytes, sums[t]);
        }
    }

    /* This warp's runs of its half; rows of the first term at `rows`. */
    template <int terms, int slide> __device__ void runs(int from, unsigned char *rows) const {
        const unsigned char *constants = stage(from);
        const int down = s.width * channels, last = (int)p.patch[2] - 1, right = (int)p.window.stride[1];
        typename half_of::template constants<terms> own;
        half_of::take(constants + terms * s.weights, share, own);
        const T *patch =
            reinterpret_cast<const T *>(constants + s.patch_at + group * s.patch_next) + share * each;
        for (int u = warp; u < s.units; u += 4) {
            const int corner = units()[2 * u], more = units()[2 * u + 1];
            int column = (more & 0xff) + aside;
            if (column > last) column = last; /* past the half: makes a row that nobody asks for */
            run<terms, slide>(own, patch + (corner + column * right) * channels, down, more >> 8 & 0xff, rows,
                              (more >> 16) + aside);
        }
    }

    template <int terms> __device__ void depthwise_of(int from, unsigned char *rows) const {
        p.window.stride[0] == 1 ? runs<terms, 1>(from, rows) : runs<terms, 2>(from, rows);
    }

    __device__ void depthwise(int from, int terms, unsigned char *rows) const {
        if (terms == 3)
            depthwise_of<3>(from, rows);
        else if (terms == 2)
            depthwise_of<2>(from, rows);
        else
            depthwise_of<1>(from, rows);
    }

    /* c[i][j]: 64 pixels of the half from 64 * i on x channels 8 * j to + 7. In one piece of code for any
     * number of terms the compiler would put a fence before every product. */
    template <int terms>
    __device__ void multiply(int from, const unsigned char *rows, bool first,
                             Sum (&c)[slabs][N / 8][4]) const {
        const unsigned char *weights = stage(from);
        nd_ptx_wgmma_fence();
        ND_UNROLL
        for (int k = 0; k < 2 * terms; k++) {
            const int t = k / 2, step = k % 2 * 32;
            ND_UNROLL
            for (int i = 0; i < slabs; i++)
                nd_hopper_mma(Math(), c[i],
                              nd_hopper_matrix(rows + t * term_bytes + i * nd_hopper_slab_bytes + step),
                              nd_hopper_matrix(weights + t * s.weights + step), !first || k > 0);
        }
        nd_ptx_wgmma_commit();
    }

    /* The stage is free as far as this warp goes: to every block that fills it. */
    __device__ void release(int number) const {
        if (lane < call.cluster) nd_ptx_barrier_arrive(empty(number), (uint32_t)lane);
    }

    /* A warpgroup's half of every tile. `g` counts rounds over all of them. */
    __device__ void work() const {
        unsigned char *const rows = shared + group * half_bytes;
        Sum c[slabs][N / 8][4]; /* the first product overwrites it */
        nd_hopper_turn turn;
        int before = 0, previous = -1; /* the item, and the stage of the round, before */
        uint32_t odd = 0;
        for (int number = first_item(); number < s.items; number += items_apart()) {
            const int end = end_round(number);
            bool opens = true;
            for (int round = first_round(number); round < end; round++) {
                const int terms = __shfl_sync(0xffffffffu, call.rounds[2 * round] >> 24, 0);
                unsigned char *now = rows + odd * (uint32_t)s.round_bytes;
                nd_ptx_barrier_wait(full(turn.stage), turn.parity);
                if constexpr (tile::integers)
                    mend(origin(number, group), stage(turn.stage) + s.patch_at + group * s.patch_next);
                depthwise(turn.stage, terms, now);
                nd_ptx_fence_async();
                nd_ptx_wgmma_wait<0>(); /* for the round before */
                if (previous >= 0) release(previous);
                nd_ptx_part_barrier(1 + group, 128);
                if (opens && previous >= 0) this->finish(before, c);
                if (terms == 3)
                    multiply<3>(turn.stage, now, opens, c);
                else if (terms == 2)
                    multiply<2>(turn.stage, now, opens, c);
                else
                    multiply<1>(turn.stage, now, opens, c);
                opens = false;
                previous = turn.stage;
                turn.next(s.stages);
                odd ^= 1;
            }
            before = number;
        }
        nd_ptx_wgmma_wait<0>();
        if (previous >= 0) this->finish(before, c);
    }
};
#endif

/* The first warpgroup copies, and lends the others what it has of registers. */
template <class Math, int N>
__global__ void __launch_bounds__(nd_hopper_threads, 1)
    nd_hopper_kernel(const __grid_constant__ nd_cuda_hopper call,
                     const __grid_constant__ nd_hopper_shape shape, const __grid_constant__ CUtensorMap x) {
#ifdef ND_PTX_SM90A
    ND_SHARED(unsigned char, bytes);
    bytes += (nd_hopper_align - nd_ptx_shared_address(bytes) % nd_hopper_align) % nd_hopper_align;
    const nd_hopper_block<Math, N> block(call, shape, bytes);
    if (threadIdx.x == 0) {
        for (int i = 0; i < shape.stages; i++) {
            nd_ptx_barrier_init(block.full(i), 1);
            nd_ptx_barrier_init(block.empty(i), (uint32_t)(8 * call.cluster));
        }
        nd_ptx_barrier_publish();
    }
    block.tables();
    block.meet(); /* tables are there, and the barriers for the copies of the whole cluster */
    if (block.group < 0) {
        nd_ptx_registers_give<40>();
        if (threadIdx.x == 0) block.copy(&x);
    } else {
        nd_ptx_registers_take<232>();
        block.work();
    }
    __syncwarp();
    if (call.cluster > 1) nd_ptx_cluster_barrier();
#endif
}

static nd_status nd_hopper_map(const nd_cuda_hopper *call, const nd_hopper_shape *shape, CUtensorMap *out) {
    const nd_cuda_separable *p = &call->layer;
    const nd_dtype type = nd_precision_storage(p->precision);
    const uint64_t size = nd_dtype_bytes(type), pixel = (uint64_t)p->x_pixel * size;
    const nd_tensor_map map = {
        "the patches of a separable layer",
        p->x,
        type,
        4,
        {(uint64_t)p->channels, (uint64_t)p->width, (uint64_t)p->height, (uint64_t)p->images},
        {size, pixel, pixel * (uint64_t)p->width, pixel * (uint64_t)(p->width * p->height)},
        {(uint32_t)(nd_hopper_row / size), (uint32_t)shape->width, (uint32_t)shape->height,
         (uint32_t)p->patch[0]},
        0};
    return nd_tensor_map_encode(&map, 1, out);
}

static nd_hopper_shape nd_hopper_shape_by_type(const nd_cuda_hopper *call) {
    switch (call->layer.precision) {
    case nd_precision_int8:
        return nd_hopper_shape_of<nd_u8>(*call);
    case nd_precision_e4m3:
        return nd_hopper_shape_of<nd_e4m3>(*call);
    case nd_precision_fp16:
    case nd_precision_bf16:
        return nd_hopper_shape_of<nd_f16>(*call);
    default:
        return nd_hopper_shape_of<float>(*call);
    }
}

/* A tensor copy is at most 256 wide in any direction, and a place's row and column are bytes. */
size_t nd_cuda_hopper_shared(const nd_cuda_hopper *call) {
    const nd_hopper_shape s = nd_hopper_shape_by_type(call);
    return s.width > 256 || s.height > 256 || !s.units ? SIZE_MAX : (size_t)s.total;
}

/* The pixels whose parts are to be joined, as a layer of one row. */
static nd_cuda_separable nd_hopper_left(const nd_cuda_hopper *call) {
    const nd_hopper_shape s = nd_hopper_shape_by_type(call);
    const size_t size = nd_dtype_bytes(nd_precision_storage(call->layer.precision));
    nd_cuda_separable left = call->layer;
    left.images = left.out_height = 1;
    left.out_width = s.left_pixels;
    left.y = static_cast<char *>(left.y) + (size_t)(s.left_first * left.y_pixel) * size;
    if (left.x2) left.x2 = static_cast<const char *>(left.x2) + (size_t)(s.left_first * left.x2_pixel) * size;
    return left;
}

size_t nd_cuda_hopper_partial(const nd_cuda_hopper *call) {
    const nd_cuda_separable left = nd_hopper_left(call);
    return nd_separable_partial_of(&left);
}

template <class Math, int N> static nd_status nd_hopper_start(const nd_cuda_hopper *call) {
    using T = typename Math::element;
    const nd_hopper_shape shape = nd_hopper_shape_of<T>(*call);
    const int64_t wanted = shape.items * call->cluster, most = call->resident / call->cluster * call->cluster;
    ND_REQUIRE(shape.items < INT32_MAX - call->resident, nd_status_unsupported,
               "a separable layer of too many tiles");
    CUtensorMap map;
    ND_TRY(nd_hopper_map(call, &shape, &map));
    return nd_launch_clusters(nd_hopper_kernel<Math, N>, dim3((unsigned)(wanted < most ? wanted : most)),
                              dim3(nd_hopper_threads), (unsigned)call->cluster, (size_t)shape.total,
                              call->layer.stream, *call, shape, map);
}

nd_status nd_cuda_hopper_launch(const nd_cuda_hopper *call) {
    const nd_cuda_separable *p = &call->layer;
    if (!p->images || !p->out_height || !p->out_width) return nd_status_ok;
    static nd_status (*const starts[nd_precision_count][3])(const nd_cuda_hopper *) = {
        {}, /* nd_precision_fp32 */
        {nd_hopper_start<nd_math_tf32, 64>, nd_hopper_start<nd_math_tf32, 128>,
         nd_hopper_start<nd_math_tf32, 256>},
        {nd_hopper_start<nd_math_f16, 64>, nd_hopper_start<nd_math_f16, 128>,
         nd_hopper_start<nd_math_f16, 256>},
        {nd_hopper_start<nd_math_bf16, 64>, nd_hopper_start<nd_math_bf16, 128>,
         nd_hopper_start<nd_math_bf16, 256>},
        {nd_hopper_start<nd_math_u8, 64>, nd_hopper_start<nd_math_u8, 128>, nd_hopper_start<nd_math_u8, 256>},
        {nd_hopper_start<nd_math_e4m3, 64>, nd_hopper_start<nd_math_e4m3, 128>,
         nd_hopper_start<nd_math_e4m3, 256>},
    };
    ND_REQUIRE(starts[p->precision][0], nd_status_unsupported, "tensor cores have no strict fp32");
    ND_TRY(starts[p->precision][p->tile / 128](call));
    const nd_cuda_separable left = nd_hopper_left(call);
    return left.out_width ? nd_separable_join(&left) : nd_status_ok;
}
