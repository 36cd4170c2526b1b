/* The emulator itself: it must see the mistakes it is there for. */
#include "cuda/kernels/launch.cuh"
#include "tests/simt/compare.h"

static void nd_test_warps(int *y) {
    const int lane = (int)threadIdx.x % 32;
    y[threadIdx.x] =
        __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 1) * 1000 + __shfl_down_sync(0xffffffffu, lane, 4);
}

/* Every thread reads its neighbour's word; without the barrier the answer depends on the order. */
static void nd_test_exchange(int *y, bool barrier) {
    ND_SHARED(int, words);
    words[threadIdx.x] = (int)threadIdx.x;
    if (barrier) __syncthreads();
    y[threadIdx.x] = words[(threadIdx.x + 1) % blockDim.x];
}

static void nd_test_copy(const int *x, int *y, bool wait) {
    ND_SHARED(int, words);
    nd_ptx_copy_async<4>(&words[threadIdx.x], &x[threadIdx.x], threadIdx.x != 3);
    nd_ptx_copy_commit();
    if (wait) nd_ptx_copy_wait<0>();
    y[threadIdx.x] = words[threadIdx.x];
    nd_ptx_copy_wait<0>();
}

static void nd_test_half_barrier(int *y) {
    if (threadIdx.x < 16) __shfl_xor_sync(0xffffffffu, y[0], 1);
}

static void nd_test_overrun(const int *x) {
    ND_SHARED(int, words);
    nd_ptx_copy_async<16>(words + 4 * threadIdx.x + 4, x, true);
    nd_ptx_copy_commit();
    nd_ptx_copy_wait<0>();
}

template <class Kernel, class... Arguments>
static bool nd_test_neighbours(Kernel kernel, nd_simt_order order, Arguments... arguments) {
    int y[64] = {};
    nd_simt_set_order(order, 3);
    if (nd_launch(kernel, dim3(1), dim3(64), 64 * sizeof(int), nullptr, y, arguments...)) return false;
    for (int i = 0; i < 64; i++)
        if (y[i] != (i + 1) % 64) return false;
    return true;
}

/* One 16x8 tile by ldmatrix and mma against the plain triple loop. */
static void nd_test_tile(const uint16_t *a, const uint16_t *b, float *c) {
    ND_SHARED(uint16_t,
              tile); /* a[16][16], then b[8][16], K contiguous; a second copy of b fills the x4 load */
    const int lane = (int)threadIdx.x;
    for (int i = lane; i < 16 * 16; i += 32) tile[i] = a[i];
    for (int i = lane; i < 16 * 16; i += 32) tile[256 + i] = b[i % 128];
    __syncthreads();
    uint32_t fa[4], fb[4];
    nd_ptx_load_matrix(fa, tile + lane % 16 * 16 + lane / 16 * 8);
    nd_ptx_load_matrix(fb, tile + 256 + (lane / 16 * 8 + lane % 8) * 16 + lane / 8 % 2 * 8);
    float sum[4] = {};
    nd_ptx_mma_f16(sum, fa, fb[0], fb[1]);
    for (int i = 0; i < 4; i++) c[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = sum[i];
}

static bool nd_test_tile_is_right() {
    const std::vector<float> a = nd_test_integers(256, -3, 3, 1), b = nd_test_integers(128, -3, 3, 2);
    uint16_t ha[256], hb[128];
    float c[128];
    for (int i = 0; i < 256; i++) ha[i] = nd_f32_to_f16(a[(size_t)i]);
    for (int i = 0; i < 128; i++) hb[i] = nd_f32_to_f16(b[(size_t)i]);
    if (nd_launch(nd_test_tile, dim3(1), dim3(32), 1024, nullptr, ha, hb, c)) return false;
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += a[(size_t)(m * 16 + k)] * b[(size_t)(n * 16 + k)];
            if (c[m * 8 + n] != sum) return false;
        }
    return true;
}

static bool nd_test_copy_is(nd_simt_order order, bool wait) {
    int x[32], y[32];
    for (int i = 0; i < 32; i++) x[i] = i + 1;
    nd_simt_set_order(order, 3);
    if (nd_launch(nd_test_copy, dim3(1), dim3(32), sizeof x, nullptr, x, y, wait)) return false;
    for (int i = 0; i < 32; i++)
        if (y[i] != (i == 3 ? 0 : i + 1)) return false;
    return true;
}

void nd_test_machine() {
    int y[64] = {};
    for (int order = 0; order < nd_simt_order_count; order++) {
        nd_simt_set_order((nd_simt_order)order, 3);
        nd_test_expect(!nd_launch(nd_test_warps, dim3(1), dim3(64), 0, nullptr, y) && y[33] == 32005 &&
                           y[0] == 1004,
                       "shuffles move values between lanes");
        nd_test_expect(nd_test_neighbours(nd_test_exchange, (nd_simt_order)order, true),
                       "a barrier orders a block");
        nd_test_expect(nd_test_copy_is((nd_simt_order)order, true), "a background copy lands by its wait");
    }
    nd_test_expect(!nd_test_neighbours(nd_test_exchange, nd_simt_forward, false), "a missing barrier shows");
    nd_test_expect(!nd_test_copy_is(nd_simt_forward, false), "a missing wait shows");
    nd_simt_set_order(nd_simt_forward, 3);
    nd_test_expect(nd_test_tile_is_right(), "ldmatrix and mma make a tile");
    nd_test_expect(nd_launch(nd_test_half_barrier, dim3(1), dim3(32), 0, nullptr, y) != nd_status_ok,
                   "lanes that never meet are reported");
    nd_test_expect(nd_launch(nd_test_overrun, dim3(1), dim3(16), 256, nullptr, y) != nd_status_ok,
                   "a copy past shared memory is reported");
}
