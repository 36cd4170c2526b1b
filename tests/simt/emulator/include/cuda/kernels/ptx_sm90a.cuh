/* Stands in for cuda/kernels/ptx_sm90a.cuh in the emulator: the copy engine, its barriers, and wgmma. What
 * the driver and the hardware ask of alignments, sizes and the form of a matrix is checked; what they leave
 * open, when something lands or is done, is up to the machine's order (simt.h). */
#ifndef ND_SIMT_PTX_SM90A_CUH
#define ND_SIMT_PTX_SM90A_CUH

#include "cuda/kernels/ptx.cuh"
#include "tests/simt/emulator/tensor_map.h"

#define ND_PTX_SM90A

uint32_t nd_ptx_shared_address(const void *pointer);

void nd_ptx_barrier_init(uint64_t *barrier, uint32_t arrivals);
void nd_ptx_barrier_expect(uint64_t *barrier, uint32_t bytes);
void nd_ptx_barrier_wait(uint64_t *barrier, uint32_t parity);
void nd_ptx_barrier_arrive(uint64_t *barrier, uint32_t rank);
void nd_ptx_barrier_publish();
void nd_ptx_fence_async();

void nd_ptx_bulk(void *to, const void *from, uint32_t bytes, uint64_t *barrier);
void nd_ptx_bulk_multicast(void *to, const void *from, uint32_t bytes, uint64_t *barrier, uint16_t ranks);
void nd_ptx_tensor_4d(void *to, const CUtensorMap *map, int c, int w, int h, int n, uint64_t *barrier);

template <int count> void nd_ptx_registers_give() {
    static_assert(count >= 24 && count % 8 == 0, "registers come by 8");
}

template <int count> void nd_ptx_registers_take() {
    static_assert(count <= 256 && count % 8 == 0, "registers come by 8");
}

inline void nd_ptx_part_barrier(int id, int threads) {
    nd_simt_part_barrier(id, (unsigned)threads);
}

inline uint32_t nd_ptx_cluster_rank() {
    return nd_simt_cluster_rank();
}

inline void nd_ptx_cluster_barrier() {
    nd_simt_cluster_barrier();
}

void nd_ptx_wgmma_fence();
void nd_ptx_wgmma_commit();

/* c[j]: columns 8j to 8j + 7, `columns` in all. */
void nd_simt_wgmma(nd_dtype type, float (*c)[4], int columns, uint64_t a, uint64_t b, bool add);
void nd_simt_wgmma(int32_t (*c)[4], int columns, uint64_t a, uint64_t b, bool add);

template <int tiles> void nd_ptx_wgmma_f16(float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_simt_wgmma(nd_dtype_f16, c, 8 * tiles, a, b, add);
}

template <int tiles> void nd_ptx_wgmma_bf16(float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_simt_wgmma(nd_dtype_bf16, c, 8 * tiles, a, b, add);
}

template <int tiles> void nd_ptx_wgmma_tf32(float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_simt_wgmma(nd_dtype_f32, c, 8 * tiles, a, b, add);
}

template <int tiles> void nd_ptx_wgmma_e4m3(float (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_simt_wgmma(nd_dtype_e4m3, c, 8 * tiles, a, b, add);
}

inline void nd_ptx_f32x2_of_e4m3x2(uint16_t both, float (&to)[2]) {
    to[0] = nd_e4m3_to_f32((uint8_t)both);
    to[1] = nd_e4m3_to_f32((uint8_t)(both >> 8));
}

inline uint16_t nd_ptx_e4m3x2_of_f32(float low, float high) {
    return (uint16_t)(nd_f32_to_e4m3(low) | nd_f32_to_e4m3(high) << 8);
}

template <int tiles> void nd_ptx_wgmma_u8(int32_t (&c)[tiles][4], uint64_t a, uint64_t b, int add) {
    nd_simt_wgmma(c, 8 * tiles, a, b, add);
}

template <int pending> void nd_ptx_wgmma_wait() {
    nd_simt_product_wait(pending);
}

#endif
