/* The fused separable layer for sm_90a: TMA brings the patch and the weights, wgmma multiplies.
 *
 * The tile, the blocks of 32 terms and the depthwise step are those of separable.cuh; what changes is the
 * overlap. wgmma runs in the background, so while the tensor cores multiply block b the same warps make the
 * depthwise rows of block b + 1 in another third of A:
 *
 *   wait for the copies of b -> depthwise b -> barrier -> ask for the copies of b + 2 -> start wgmma b ->
 * wait for wgmma b - 1
 *
 * A block is 2 warpgroups; each multiplies its 64 pixels by N channels at once, N/2 fp32 accumulators a
 * thread. The patch is a 4-d tensor copy whose out-of-bounds zeros are the padding. Rows of A and of the
 * weights are 32 elements, 64 bytes of 16 bits in the 64-byte swizzle or 128 bytes of tf32 in the 128-byte
 * one, which are nd_swizzle<4> and nd_swizzle<8>.
 *
 * Who may write what, when. Let barrier(b) be the __syncthreads of round b. Every thread has passed its wait
 * for wgmma b - 2 (end of round b - 1) when barrier(b) falls, so after it
 *   - weights of b - 2 are free; those of b - 1 may still be read, b and b + 1 are to come: b + 2 needs the
 * fourth stage;
 *   - the third of A that b - 2 used is free, and round b + 1 writes it;
 *   - patch, filters and offsets of b have been read by all: b + 2 takes their place, 2 stages;
 *   - the mbarrier of b - 2 has been waited for by all and may be armed for b + 2; use k of a stage waits for
 * parity k % 2. Depthwise values are written by ordinary stores and read by the asynchronous proxy: every
 * writer fences before the barrier. The same fence orders its reads of the patch before the copy that refills
 * it.
 *
 * Not yet run on a device: checked on the host under the emulator and by ptxas' register report alone. */
#include "cuda/kernels/ptx_sm90a.cuh"
#include "cuda/libs/tensor_map.h"
#include "cuda/separable/separable.cuh"
#include "cuda/separable/separable_sm90a.h"

enum { nd_hopper_weight_stages = 4, nd_hopper_tile_stages = 3, nd_hopper_stages = 2, nd_hopper_align = 1024 };

struct nd_hopper_shape {
    nd_separable_shape patch; /* its sizes; where things are is below */
    int patch_bytes, filter_bytes;
    int tiles_at, patches_at, filters_at, barriers_at, tables_at, total;
};

template <class T> inline nd_hopper_shape nd_hopper_shape_of(const nd_cuda_separable &p) {
    const int row = nd_separable_terms * (int)sizeof(T);
    nd_hopper_shape h;
    h.patch = nd_separable_shape_of<T>(p);
    h.patch_bytes = (h.patch.pixels * row + 127) / 128 * 128;
    h.filter_bytes = (h.patch.taps + 1) * nd_separable_terms * 4;
    h.tiles_at = nd_hopper_weight_stages * (int)p.tile * row;
    h.patches_at = h.tiles_at + nd_hopper_tile_stages * nd_separable_pixels * row;
    h.filters_at = h.patches_at + nd_hopper_stages * h.patch_bytes;
    h.barriers_at = h.filters_at + nd_hopper_stages * h.filter_bytes;
    const int sums = 8 * 16 * (128 + nd_separable_skew) * 4; /* the epilogue's, in place of stages */
    h.tables_at = h.barriers_at + nd_hopper_weight_stages * 8;
    if (h.tables_at < sums) h.tables_at = sums;
    h.total = h.tables_at + (h.patch.pixels + 3 * nd_separable_pixels) * 4 + nd_hopper_align;
    return h;
}

#ifdef ND_PTX_SM90A
/* A matrix in shared memory, K contiguous, rows of `row` bytes (64 or 128) in the swizzle of that width,
 * groups of 8 rows one after another; `at` begins on 8 rows, plus 32 bytes for every step of K (16 elements
 * of 16 bits, 8 of tf32). Bits 0-13 address, 16-29 leading offset (unused with a swizzle: 1), 32-45 from
 * group to group, all in 16 bytes; bits 49-51 base offset, 0 where the pattern, 8 rows, begins on a multiple
 * of itself; bits 62-63 swizzle. */
template <int row> __device__ inline uint64_t nd_hopper_matrix(const void *at) {
    static_assert(row == 64 || row == 128, "a row is as wide as a swizzle");
    const uint64_t address = nd_ptx_shared_address(at) >> 4 & 0x3fff;
    const uint64_t leading = 1, stride = 8 * row >> 4, swizzle = row == 128 ? 1 : 2;
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

template <class Math, int N> struct nd_hopper_block : nd_separable_block<Math, N> {
    using base = nd_separable_block<Math, N>;
    using T = typename Math::element;
    static constexpr int row = base::row, steps = row / 32; /* of K in a row */
    const nd_hopper_shape &h;
    uint64_t *barriers; /* [weight stages] */
    int w0, h0, n0;     /* first input pixel of the patch */
    int first, blocks;  /* of terms: this part's */

    __device__ nd_hopper_block(const nd_cuda_separable &call, const nd_hopper_shape &shape,
                               unsigned char *bytes)
        : base(call, shape.patch, bytes), h(shape) {
        barriers = reinterpret_cast<uint64_t *>(bytes + h.barriers_at);
        this->source = reinterpret_cast<int *>(bytes + h.tables_at);
        first = nd_separable_first(call, blockIdx.y);
        blocks = nd_separable_first(call, blockIdx.y + 1) - first;
    }

    __device__ void origin() {
        const nd_cuda_separable &p = this->p;
        int tile = (int)(blockIdx.x / ((p.out_channels + N - 1) / N));
        const int columns = (int)((p.out_width + p.patch[2] - 1) / p.patch[2]);
        const int rows = (int)((p.out_height + p.patch[1] - 1) / p.patch[1]);
        w0 = tile % columns * (int)(p.patch[2] * p.geometry.stride[1]) - (int)p.geometry.pad[1];
        tile /= columns;
        h0 = tile % rows * (int)(p.patch[1] * p.geometry.stride[0]) - (int)p.geometry.pad[0];
        n0 = tile / rows * (int)p.patch[0];
    }

    __device__ unsigned char *weights(int block) const {
        return this->shared + block % nd_hopper_weight_stages * N * row;
    }

    __device__ unsigned char *filters(int block) const {
        return this->shared + h.filters_at + block % nd_hopper_stages * h.filter_bytes;
    }

    __device__ unsigned char *patches(int block) const {
        return this->shared + h.patches_at + block % nd_hopper_stages * h.patch_bytes;
    }

    /* One thread asks for everything that block `block` of this part needs. */
    __device__ void ask(int block, const CUtensorMap *x, const CUtensorMap *w) const {
        const nd_cuda_separable &p = this->p;
        const int at = first + block;
        uint64_t *barrier = &barriers[block % nd_hopper_weight_stages];
        const uint32_t taps_bytes = (uint32_t)h.patch.taps * nd_separable_terms * 4,
                       offsets_bytes = nd_separable_terms * 4;
        nd_ptx_barrier_expect(barrier, (uint32_t)(h.patch.pixels + N) * row + taps_bytes + offsets_bytes);
        nd_ptx_tensor_4d(patches(block), x, p.base[at], w0, h0, n0, barrier);
        nd_ptx_tensor_2d(weights(block), w, at * nd_separable_terms, this->first_channel, barrier);
        nd_ptx_bulk(filters(block), p.filters + (int64_t)at * h.patch.taps * nd_separable_terms, taps_bytes,
                    barrier);
        nd_ptx_bulk(filters(block) + taps_bytes, p.offset + (int64_t)at * nd_separable_terms, offsets_bytes,
                    barrier);
    }

    __device__ void depthwise(int block, int slide) {
        this->tile_at = h.tiles_at + block % nd_hopper_tile_stages * nd_separable_pixels * row;
        this->depthwise_of(reinterpret_cast<const float *>(filters(block)),
                           reinterpret_cast<const T *>(patches(block)), nd_separable_terms, slide);
    }

    /* c[j]: 64 pixels of the warpgroup x channels 8 * j to + 7. */
    __device__ void multiply(int block, float (&c)[N / 8][4]) const {
        const unsigned char *tile = this->shared + this->tile_at + this->warp / 4 * 64 * row;
        nd_ptx_wgmma_fence();
        ND_UNROLL
        for (int step = 0; step < steps; step++)
            nd_hopper_mma(Math(), c, nd_hopper_matrix<row>(tile + 32 * step),
                          nd_hopper_matrix<row>(weights(block) + 32 * step), block + step > 0);
        nd_ptx_wgmma_commit();
    }

    /* As the epilogue of separable.cuh, with 16 pixels x 128 channels of a warp at a time. */
    __device__ void finish(float (&c)[N / 8][4], bool paired) const {
        constexpr int stride = 128 + nd_separable_skew;
        float *sums = reinterpret_cast<float *>(this->shared) + this->warp * 16 * stride;
        ND_UNROLL
        for (int part = 0; part < N / 128; part++) {
            __syncwarp();
            ND_UNROLL
            for (int j = 0; j < 16; j++) {
                ND_UNROLL
                for (int k = 0; k < 4; k++)
                    sums[(this->lane / 4 + 8 * (k / 2)) * stride + 8 * j + 2 * (this->lane % 4) + k % 2] =
                        c[16 * part + j][k];
            }
            __syncwarp();
            ND_UNROLL_BY(2) /* what follows an output is long */
            for (int at = this->lane; at < 16 * 64; at += 32)
                this->write(sums + at / 64 * stride + at % 64 * 2, this->warp * 16 + at / 64,
                            this->first_channel + part * 128 + at % 64 * 2, paired);
        }
    }
};
#endif

template <class Math, int N>
__global__ void __launch_bounds__(nd_separable_threads, N <= 128 ? 2 : 1)
    nd_hopper_kernel(const __grid_constant__ nd_cuda_separable p,
                     const __grid_constant__ nd_hopper_shape shape, nd_separable_access access,
                     const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w) {
#ifdef ND_PTX_SM90A
    ND_SHARED(unsigned char, bytes);
    bytes += (nd_hopper_align - nd_ptx_shared_address(bytes) % nd_hopper_align) % nd_hopper_align;
    nd_hopper_block<Math, N> block(p, shape, bytes);
    const int blocks = block.blocks;
    block.place(access);
    block.origin();
    if (threadIdx.x == 0) {
        for (int i = 0; i < nd_hopper_weight_stages; i++) nd_ptx_barrier_init(&block.barriers[i], 1);
        nd_ptx_barrier_publish();
        for (int b = 0; b < nd_hopper_stages && b < blocks; b++) block.ask(b, &x, &w);
    }
    __syncthreads();
    float c[N / 8][4]; /* the first product overwrites it */
    for (int b = 0; b < blocks; b++) {
        nd_ptx_barrier_wait(&block.barriers[b % nd_hopper_weight_stages],
                            (uint32_t)(b / nd_hopper_weight_stages % 2));
        block.depthwise(b, access.slide);
        nd_ptx_fence_async();
        __syncthreads(); /* A is whole; the patch and filters of b and the weights of b - 2 are read no more
                          */
        if (threadIdx.x == 0 && b + nd_hopper_stages < blocks) block.ask(b + nd_hopper_stages, &x, &w);
        block.multiply(b, c);
        nd_ptx_wgmma_wait<1>();
    }
    nd_ptx_wgmma_wait<0>();
    __syncthreads(); /* the sums take the place of the stages */
    block.finish(c, access.paired);
#endif
}

static bool nd_hopper_is_wide(const nd_cuda_separable *p) {
    return nd_dtype_bytes(nd_precision_storage(p->precision)) == 4;
}

/* A tensor copy is at most 256 wide in any direction: more does not fit at any price. */
size_t nd_cuda_separable_sm90a_shared(const nd_cuda_separable *call) {
    const nd_separable_shape s = nd_separable_shape_of<nd_f16>(*call);
    if (s.width > 256 || s.height > 256) return SIZE_MAX;
    return (size_t)(nd_hopper_is_wide(call) ? nd_hopper_shape_of<float>(*call)
                                            : nd_hopper_shape_of<nd_f16>(*call))
        .total;
}

/* Of x, and of the weights. */
static nd_status nd_hopper_maps(const nd_cuda_separable *p, const nd_separable_shape *shape,
                                CUtensorMap (&out)[2]) {
    const nd_dtype type = nd_precision_storage(p->precision);
    const uint64_t size = nd_dtype_bytes(type), pixel = (uint64_t)p->x_pixel * size;
    const uint64_t k = (uint64_t)p->blocks * nd_separable_terms;
    const nd_tensor_map maps[2] = {
        {"the patch of a separable layer",
         p->x,
         type,
         4,
         {(uint64_t)p->channels, (uint64_t)p->width, (uint64_t)p->height, (uint64_t)p->images},
         {size, pixel, pixel * (uint64_t)p->width, pixel * (uint64_t)(p->width * p->height)},
         {nd_separable_terms, (uint32_t)shape->width, (uint32_t)shape->height, (uint32_t)p->patch[0]},
         0},
        {"the weights of a separable layer",
         p->weights,
         type,
         2,
         {k, (uint64_t)((p->out_channels + p->tile - 1) / p->tile * p->tile)},
         {size, k * size},
         {nd_separable_terms, (uint32_t)p->tile},
         nd_separable_terms * (int)size}};
    return nd_tensor_map_encode(maps, 2, out);
}

template <class Math, int N> static nd_status nd_hopper_start(const nd_cuda_separable *p) {
    using T = typename Math::element;
    const nd_hopper_shape shape = nd_hopper_shape_of<T>(*p);
    CUtensorMap maps[2];
    ND_TRY(nd_hopper_maps(p, &shape.patch, maps));
    return nd_launch(nd_hopper_kernel<Math, N>, nd_separable_grid(p), dim3(nd_separable_threads),
                     (size_t)shape.total, p->stream, *p, shape, nd_separable_access_of<T>(p), maps[0],
                     maps[1]);
}

nd_status nd_cuda_separable_sm90a_launch(const nd_cuda_separable *p) {
    if (!p->images || !p->out_height || !p->out_width) return nd_status_ok;
    static nd_status (*const starts[nd_precision_count][2])(const nd_cuda_separable *) = {
        {}, /* nd_precision_fp32 */
        {nd_hopper_start<nd_math_tf32, 128>, nd_hopper_start<nd_math_tf32, 256>},
        {nd_hopper_start<nd_math_f16, 128>, nd_hopper_start<nd_math_f16, 256>},
        {nd_hopper_start<nd_math_bf16, 128>, nd_hopper_start<nd_math_bf16, 256>},
    };
    ND_REQUIRE(starts[p->precision][0], nd_status_unsupported, "tensor cores have no strict fp32");
    ND_TRY(starts[p->precision][p->tile == 256](p));
    return nd_separable_join(p);
}
