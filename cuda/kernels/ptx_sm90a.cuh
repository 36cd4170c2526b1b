/* The instructions of sm_90a: TMA, mbarrier, wgmma. One thin wrapper each; the emulator offers a header of
 * the same name (tests/simt/emulator/include). Layouts: PTX ISA, "Asynchronous warpgroup level matrix
 * instructions" and "Tensor copies". */
#ifndef ND_CUDA_PTX_SM90A_CUH
#define ND_CUDA_PTX_SM90A_CUH

#include "cuda/kernels/ptx.cuh"

/* Where these can be compiled: elsewhere the kernels that need them are empty. */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#    define ND_PTX_SM90A
#endif

#include <cuda.h>

__device__ inline void nd_ptx_barrier_init(uint64_t *barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(nd_ptx_shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}

/* One arrival that also announces how many bytes the copies of this phase will bring. */
__device__ inline void nd_ptx_barrier_expect(uint64_t *barrier, uint32_t bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(nd_ptx_shared_address(barrier)),
        "r"(bytes)
        : "memory");
}

__device__ inline void nd_ptx_barrier_wait(uint64_t *barrier, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred ready;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 ready, [%0], %1;\n"
                 "@!ready bra again;\n"
                 "}\n" ::"r"(nd_ptx_shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

/* One arrival at the barrier in the same place of the cluster's block `rank`, which may be this one. */
__device__ inline void nd_ptx_barrier_arrive(uint64_t *barrier, uint32_t rank) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n"
                 "}\n" ::"r"(nd_ptx_shared_address(barrier)),
                 "r"(rank)
                 : "memory");
}

/* From here on a thread of this warpgroup has so many registers; who takes waits until others have given. */
template <int count> __device__ inline void nd_ptx_registers_give() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

template <int count> __device__ inline void nd_ptx_registers_take() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

/* Barrier `id` (1 to 15) of the block, for `threads` of its threads: whole warps. */
__device__ inline void nd_ptx_part_barrier(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ inline uint32_t nd_ptx_cluster_rank() {
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/* All threads of all blocks of the cluster, whole warps. */
__device__ inline void nd_ptx_cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

/* Makes the initialised barriers visible to the copy engine. */
__device__ inline void nd_ptx_barrier_publish() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Ordinary writes to shared memory before it, reads of them by wgmma and the copy engine after it. */
__device__ inline void nd_ptx_fence_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ inline void nd_ptx_bulk(void *to, const void *from, uint32_t bytes, uint64_t *barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            nd_ptx_shared_address(to)),
        "l"(from), "r"(bytes), "r"(nd_ptx_shared_address(barrier))
        : "memory");
}

/* To the same place in every block of the cluster that `ranks` has a bit for, and to the barrier in the same
 * place there.
 */
__device__ inline void nd_ptx_bulk_multicast(void *to, const void *from, uint32_t bytes, uint64_t *barrier,
                                             uint16_t ranks) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
                 "[%1], %2, "
                 "[%3], %4;" ::"r"(nd_ptx_shared_address(to)),
                 "l"(from), "r"(bytes), "r"(nd_ptx_shared_address(barrier)), "h"(ranks)
                 : "memory");
}

__device__ inline void nd_ptx_tensor_4d(void *to, const CUtensorMap *map, int c, int w, int h, int n,
                                        uint64_t *barrier) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(nd_ptx_shared_address(to)),
                 "l"(map), "r"(c), "r"(w), "r"(h), "r"(n), "r"(nd_ptx_shared_address(barrier))
                 : "memory");
}

__device__ inline void nd_ptx_wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ inline void nd_ptx_wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int pending> __device__ inline void nd_ptx_wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/* Two numbers of e4m3, the first in the low byte, as fp32, by way of fp16, which has them all; and back,
 * rounded to nearest even and cut off at 448. */
__device__ inline void nd_ptx_f32x2_of_e4m3x2(uint16_t both, float (&to)[2]) {
    uint32_t halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(both));
    to[0] = nd_ptx_f32_of_f16((uint16_t)halves);
    to[1] = nd_ptx_f32_of_f16((uint16_t)(halves >> 16));
}

__device__ inline uint16_t nd_ptx_e4m3x2_of_f32(float low, float high) {
    uint16_t both;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(high), "f"(low));
    return both;
}

#define ND_D4(as, c, j)  as(c[j][0]), as(c[j][1]), as(c[j][2]), as(c[j][3])
#define ND_D16(as, c, j) ND_D4(as, c, j), ND_D4(as, c, j + 1), ND_D4(as, c, j + 2), ND_D4(as, c, j + 3)
#define ND_D64(as, c, j) ND_D16(as, c, j), ND_D16(as, c, j + 4), ND_D16(as, c, j + 8), ND_D16(as, c, j + 12)

#define ND_P32_0                                                                                             \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                 \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define ND_P64_0                                                                                             \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                 \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                       \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                       \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define ND_P64_64                                                                                            \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                       \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                       \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "           \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/* c (64xN, fp32 or int32) = a (64xK) b (NxK)^T, plus c where `add`, N being 64, 128 or 256 and K one step;
 * c[j] is the mma.sync fragment of columns 8j to 8j + 7. c is written in the background: nothing else may
 * touch it before the wait. */
#define ND_WGMMA(name, sum, columns, step, types, order, places, a_at, b_at, add_at, ...)                    \
    __device__ inline void name(sum(&c)[columns / 8][4], uint64_t a, uint64_t b, int add) {                  \
        asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_at ", 0;\n"                                 \
                     "wgmma.mma_async.sync.aligned.m64n" #columns step "." types " {" places "}, " a_at      \
                     ", " b_at ", add" order ";\n}\n"                                                        \
                     : __VA_ARGS__                                                                           \
                     : "l"(a), "l"(b), "r"(add));                                                            \
    }
#define ND_WGMMAS(name, sum, as, step, types, order)                                                         \
    ND_WGMMA(name, sum, 64, step, types, order, ND_P32_0, "%32", "%33", "%34", ND_D16(as, c, 0),             \
             ND_D16(as, c, 4))                                                                               \
    ND_WGMMA(name, sum, 128, step, types, order, ND_P64_0, "%64", "%65", "%66", ND_D64(as, c, 0))            \
    ND_WGMMA(name, sum, 256, step, types, order, ND_P64_0 ", " ND_P64_64, "%128", "%129", "%130",            \
             ND_D64(as, c, 0), ND_D64(as, c, 16))

/* Real numbers say that they are not negated, those of 16 bits also that they are not transposed; what others
 * do not say cannot be. */
ND_WGMMAS(nd_ptx_wgmma_f16, float, "+f", "k16", "f32.f16.f16", ", 1, 1, 0, 0")
ND_WGMMAS(nd_ptx_wgmma_bf16, float, "+f", "k16", "f32.bf16.bf16", ", 1, 1, 0, 0")
ND_WGMMAS(nd_ptx_wgmma_tf32, float, "+f", "k8", "f32.tf32.tf32", ", 1, 1")
ND_WGMMAS(nd_ptx_wgmma_e4m3, float, "+f", "k32", "f32.e4m3.e4m3", ", 1, 1")
ND_WGMMAS(nd_ptx_wgmma_u8, int32_t, "+r", "k32", "s32.u8.s8", "") /* a of unsigned, b of signed integers */

#endif
