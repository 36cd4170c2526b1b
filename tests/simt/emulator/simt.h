/* An emulator of the CUDA execution model: enough to run this project's kernels, unchanged, on the host.
 *
 * A block's threads are fibers on one OS thread. A fiber runs until it needs others: at a block barrier, at a
 * warp operation (shuffle, ldmatrix, mma), or at its end; then the next one runs. Between two barriers the
 * threads of a block thus run one after another, in an order that can be chosen: what comes out differently
 * in another order is a race. Forward keeps the warps in step from one warp operation to the next, reverse
 * lets each run as far ahead as it can, random does either. Shared memory is exactly as large as the launch
 * asked for and starts as NaN. Background copies land as late as they may, or as early, depending on the
 * order, so that a missing wait shows and so does a buffer that was refilled too soon; so do the copy
 * engine's and the products of wgmma (ptx_sm90a.cuh), which moreover see of the threads' writes what was
 * fenced. Blocks run one after another, in the same kind of order; those of a cluster run together, and each
 * has its own shared memory. */
#ifndef ND_SIMT_H
#define ND_SIMT_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <type_traits>

extern "C" {
#include "base/status.h"
}
#include "tests/simt/emulator/stream.h"

#define __global__
#define __device__
#define __host__
#define __noinline__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};

/* What the running fiber sees. */
struct nd_simt_place {
    dim3 thread_index, block_index, block_dim, grid_dim;
};

extern nd_simt_place nd_simt_here;
#define threadIdx nd_simt_here.thread_index
#define blockIdx  nd_simt_here.block_index
#define blockDim  nd_simt_here.block_dim
#define gridDim   nd_simt_here.grid_dim

enum nd_simt_order { nd_simt_forward, nd_simt_reverse, nd_simt_random, nd_simt_order_count };

void nd_simt_set_order(nd_simt_order order, uint64_t seed);

/* Every thread passes its synchronisation number `which` (from 0) of that kind without waiting: a planted
 * race, for tests to show that they would see one. */
enum nd_simt_sync {
    nd_simt_sync_none,
    nd_simt_sync_block,
    nd_simt_sync_warp,
    nd_simt_sync_copy,
    nd_simt_sync_barrier,   /* an mbarrier's phase */
    nd_simt_sync_fence,     /* before the asynchronous proxy reads */
    nd_simt_sync_product,   /* wgmma */
    nd_simt_sync_part,      /* a barrier of some warps of a block */
    nd_simt_sync_cluster,   /* a barrier of a cluster */
    nd_simt_sync_arrival,   /* at an mbarrier, without bytes */
    nd_simt_sync_multicast, /* a copy to all blocks of a cluster reaches the one that asks alone */
    nd_simt_sync_count
};
void nd_simt_leave_out(nd_simt_sync sync, int which);

uint64_t nd_simt_launches(); /* so far: a test that launched nothing proved nothing */

typedef void nd_simt_body(void *context);
/* `cluster` neighbouring blocks along x run together. */
nd_status nd_simt_run(dim3 grid, dim3 block, unsigned cluster, size_t shared, nd_simt_body *body,
                      void *context);

/* An error where no device would take the launch: the limits of CUDA, and of shared memory those of sm_90. */
nd_status nd_simt_takes(dim3 grid, dim3 block, unsigned cluster, size_t shared);

unsigned char *nd_simt_shared();
bool nd_simt_is_shared(const void *from, size_t bytes); /* inside the block's shared memory */
void nd_simt_broken(const char *what);                  /* the launch fails with this message */
bool nd_simt_is_left_out(nd_simt_sync sync);            /* counts one of the running thread's */
unsigned nd_simt_thread_number();                       /* of the block, the running one's number */
unsigned nd_simt_cluster_rank();                        /* of the running block */
unsigned nd_simt_cluster_blocks();
bool nd_simt_has_ended(unsigned rank); /* a block of the cluster: its shared memory is no more */

/* Shared memory as the copy engine and wgmma see it: what they wrote, and what threads wrote and all of them
 * fenced before a barrier of the block. */
unsigned char *nd_simt_async();
const unsigned char *
nd_simt_async_now(); /* the same, or with all that was not fenced too: either may be read */
void nd_simt_fence();

/* Work of the copy engine for a block of the cluster, which is the running one while it is done: lands when
 * nothing else can go on, or at once, or at random. */
void nd_simt_later(unsigned rank, std::function<void()> work);
/* Does `work` as the block of that rank. */
void nd_simt_as(unsigned rank, const std::function<void()> &work);
/* Returns when `ready` does; what changes it must wake those who wait. */
void nd_simt_await(const std::function<bool()> &ready);
void nd_simt_wake();

/* Products of the running thread, in groups like copies: done when they are waited for, or at once, or at
 * random. */
void nd_simt_product(std::function<void()> work);
void nd_simt_product_commit();
void nd_simt_product_wait(int pending);

/* Gives `bytes` (at most 256) to the lanes in `mask` and returns when all have: slot l of the result, 256
 * bytes each, is lane l's. Valid until this lane's next exchange but one. */
const unsigned char *nd_simt_exchange(uint32_t mask, const void *data, size_t bytes);
int nd_simt_lane();

void nd_simt_copy(void *to, const void *from, int bytes, bool valid);
void nd_simt_copy_commit();
void nd_simt_copy_wait(int pending);

void __syncthreads();
void nd_simt_part_barrier(int id, unsigned threads); /* id from 1; that many threads of the block meet */
void nd_simt_cluster_barrier();

void __syncwarp(uint32_t mask = 0xffffffffu);

template <class T> T __shfl_sync(uint32_t mask, T value, int lane) {
    const unsigned char *slots = nd_simt_exchange(mask, &value, sizeof value);
    return *reinterpret_cast<const T *>(slots + 256 * (lane & 31));
}

template <class T> T __shfl_xor_sync(uint32_t mask, T value, int lanes) {
    return __shfl_sync(mask, value, nd_simt_lane() ^ lanes);
}

template <class T> T __shfl_down_sync(uint32_t mask, T value, unsigned lanes) {
    const int lane = nd_simt_lane() + (int)lanes;
    return __shfl_sync(mask, value, lane < 32 ? lane : nd_simt_lane());
}

inline int __any_sync(uint32_t mask, int truth) {
    const unsigned char *slots = nd_simt_exchange(mask, &truth, sizeof truth);
    int any = 0;
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) any |= *reinterpret_cast<const int *>(slots + 256 * lane) != 0;
    return any;
}

template <class... Parameters, class... Arguments>
nd_status nd_launch_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, unsigned cluster,
                             size_t shared, cudaStream_t stream, Arguments... arguments) {
    const nd_status taken = nd_simt_takes(grid, block, cluster, shared);
    if (taken) return taken;
    auto launch = [=] {
        auto call = [&] { kernel(arguments...); };
        return nd_simt_run(
            grid, block, cluster, shared, [](void *context) { (*static_cast<decltype(call) *>(context))(); },
            &call);
    };
    return nd_simt_deferred ? nd_simt_deferred(stream, launch) : launch();
}

template <class... Parameters, class... Arguments>
nd_status nd_launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                    Arguments... arguments) {
    return nd_launch_clusters(kernel, grid, block, 1, shared, stream, arguments...);
}

#endif
