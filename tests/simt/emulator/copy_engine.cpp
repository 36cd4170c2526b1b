/* The copy engine of sm_90: mbarriers, plain and tensor copies. */
#include "cuda/kernels/ptx_sm90a.cuh"

#include <vector>

/* Shared memory begins past what the system keeps, and no better aligned than it has to be. */
static const uint32_t nd_shared_begin = 1024 + 128;

uint32_t nd_ptx_shared_address(const void *pointer) {
    return nd_shared_begin + (uint32_t)(static_cast<const unsigned char *>(pointer) - nd_simt_shared());
}

/* As in the barrier's 64 bits: a phase is complete when nobody is to arrive any more and all bytes
 * are here. */
struct nd_simt_barrier {
    int32_t bytes;
    uint16_t arrivals;
    uint8_t expected, phase;
};

enum : uint8_t { nd_simt_barrier_most = 100 };

static nd_simt_barrier *nd_simt_barrier_at(uint64_t *barrier) {
    static nd_simt_barrier nowhere;
    auto *made = reinterpret_cast<nd_simt_barrier *>(barrier);
    const bool legal = nd_simt_is_shared(barrier, sizeof *barrier) && (uintptr_t)barrier % 8 == 0;
    if (legal && made->expected && made->expected <= nd_simt_barrier_most && made->phase <= 1) return made;
    nd_simt_broken("an mbarrier that was not initialised");
    nowhere = {};
    return &nowhere;
}

static void nd_simt_barrier_turn(nd_simt_barrier *barrier) {
    if (barrier->arrivals || barrier->bytes) return;
    barrier->phase ^= 1;
    barrier->arrivals = barrier->expected;
    nd_simt_wake();
}

void nd_ptx_barrier_init(uint64_t *barrier, uint32_t arrivals) {
    if (!nd_simt_is_shared(barrier, sizeof *barrier) || (uintptr_t)barrier % 8)
        return nd_simt_broken("an mbarrier outside shared memory or not on 8 bytes");
    if (!arrivals || arrivals > nd_simt_barrier_most) return nd_simt_broken("an mbarrier of no known count");
    const nd_simt_barrier made = {0, (uint16_t)arrivals, (uint8_t)arrivals, 0};
    memcpy(barrier, &made, sizeof made);
}

void nd_ptx_barrier_expect(uint64_t *barrier, uint32_t bytes) {
    nd_simt_barrier *at = nd_simt_barrier_at(barrier);
    if (!at->arrivals) return nd_simt_broken("more arrivals at an mbarrier than it expects");
    at->bytes += (int32_t)bytes;
    at->arrivals--;
    nd_simt_barrier_turn(at);
}

void nd_ptx_barrier_wait(uint64_t *barrier, uint32_t parity) {
    if (nd_simt_is_left_out(nd_simt_sync_barrier)) return;
    const nd_simt_barrier *at = nd_simt_barrier_at(barrier);
    nd_simt_await([=] { return at->phase != parity; });
}

/* At the barrier in the same place of another block of the cluster, or of this one. */
void nd_ptx_barrier_arrive(uint64_t *barrier, uint32_t rank) {
    if (nd_simt_is_left_out(nd_simt_sync_arrival)) return;
    if (rank >= nd_simt_cluster_blocks())
        return nd_simt_broken("an arrival at a block that is not in the cluster");
    if (nd_simt_has_ended(rank)) return nd_simt_broken("an arrival at a block that has ended");
    const auto at = reinterpret_cast<unsigned char *>(barrier) - nd_simt_shared();
    nd_simt_as(rank, [=] {
        nd_simt_barrier *there = nd_simt_barrier_at(reinterpret_cast<uint64_t *>(nd_simt_shared() + at));
        if (!there->arrivals) return nd_simt_broken("more arrivals at an mbarrier than it expects");
        there->arrivals--;
        nd_simt_barrier_turn(there);
    });
}

/* Barriers are in shared memory from the first here: nothing is left to do. */
void nd_ptx_barrier_publish() {
}

void nd_ptx_fence_async() {
    nd_simt_fence();
}

/* Bytes that arrive are there for threads and for the asynchronous proxy. */
static void nd_simt_arrive(unsigned char *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
    memcpy(nd_simt_async() + (to - nd_simt_shared()), from, bytes);
}

static void nd_simt_arrived(uint64_t *barrier, size_t bytes) {
    nd_simt_barrier *at = nd_simt_barrier_at(barrier);
    at->bytes -= (int32_t)bytes;
    nd_simt_barrier_turn(at);
}

void nd_ptx_bulk(void *to, const void *from, uint32_t bytes, uint64_t *barrier) {
    if (!nd_simt_is_shared(to, bytes)) return nd_simt_broken("a bulk copy writes outside shared memory");
    if (bytes % 16 || (uintptr_t)to % 16 || (uintptr_t)from % 16)
        return nd_simt_broken("a bulk copy of what is not whole 16 bytes");
    nd_simt_later(nd_simt_cluster_rank(), [=] {
        nd_simt_arrive(static_cast<unsigned char *>(to), from, bytes);
        nd_simt_arrived(barrier, bytes);
    });
}

/* Data and arrival at the same places in every block that `ranks` names. */
void nd_ptx_bulk_multicast(void *to, const void *from, uint32_t bytes, uint64_t *barrier, uint16_t ranks) {
    if (!nd_simt_is_shared(to, bytes)) return nd_simt_broken("a bulk copy writes outside shared memory");
    if (bytes % 16 || (uintptr_t)to % 16 || (uintptr_t)from % 16)
        return nd_simt_broken("a bulk copy of what is not whole 16 bytes");
    if (ranks >> nd_simt_cluster_blocks())
        return nd_simt_broken("a copy to a block that is not in the cluster");
    if (nd_simt_is_left_out(nd_simt_sync_multicast)) ranks &= (uint16_t)(1u << nd_simt_cluster_rank());
    const auto at = static_cast<unsigned char *>(to) - nd_simt_shared();
    const auto barrier_at = reinterpret_cast<unsigned char *>(barrier) - nd_simt_shared();
    for (unsigned rank = 0; rank < nd_simt_cluster_blocks(); rank++) {
        if (!(ranks >> rank & 1)) continue;
        nd_simt_later(rank, [=] {
            if (nd_simt_has_ended(rank)) return nd_simt_broken("a copy to a block that has ended");
            nd_simt_arrive(nd_simt_shared() + at, from, bytes);
            nd_simt_arrived(reinterpret_cast<uint64_t *>(nd_simt_shared() + barrier_at), bytes);
        });
    }
}

/* What a CUtensorMap holds here. */
struct nd_simt_map {
    uint32_t magic;
    nd_tensor_map map;
};

static const uint32_t nd_simt_map_magic = 0x70616d74;
static std::vector<nd_tensor_map> nd_simt_maps;

/* The driver's conditions: cuTensorMapEncodeTiled in the Driver API. */
bool nd_simt_tensor_map(const nd_tensor_map *map, CUtensorMap *out) {
    const size_t size = nd_dtype_bytes(map->type);
    if (map->rank < 1 || map->rank > nd_tensor_map_rank_max || (uintptr_t)map->data % 16) return false;
    for (int i = 0; i < map->rank; i++) {
        if (!map->dims[i] || map->dims[i] > UINT64_C(1) << 32) return false;
        if (!map->box[i] || map->box[i] > 256) return false;
        if (i && (map->strides[i] % 16 || map->strides[i] >= UINT64_C(1) << 40)) return false;
    }
    const size_t row = map->box[0] * size;
    if (row % 16 || (map->swizzle && row > (size_t)map->swizzle)) return false;
    const uint64_t number[2] = {nd_simt_map_magic, nd_simt_maps.size()};
    nd_simt_maps.push_back(*map);
    memcpy(out->opaque, number, sizeof number);
    return true;
}

/* 16-byte chunks of a row in their order in shared memory, by the address: PTX ISA, "Swizzling modes". */
static uint32_t nd_simt_swizzled(uint32_t address, int swizzle) {
    const uint32_t mask = swizzle == 128 ? 7 : swizzle == 64 ? 3 : 0;
    return address ^ (address >> 7 & mask) << 4;
}

/* One row of a box along the innermost axis, `at` its coordinates in the tensor. */
static void nd_simt_tensor_row(const nd_tensor_map &map, const int64_t *at, uint32_t address) {
    const size_t size = nd_dtype_bytes(map.type);
    const auto *from = static_cast<const unsigned char *>(map.data);
    bool inside = true;
    for (int i = 1; i < map.rank; i++) {
        inside = inside && at[i] >= 0 && (uint64_t)at[i] < map.dims[i];
        from += at[i] * (int64_t)map.strides[i];
    }
    for (uint32_t k = 0; k < map.box[0]; k++) {
        const int64_t element = at[0] + k;
        static const unsigned char zeros[8] = {};
        const bool valid = inside && element >= 0 && (uint64_t)element < map.dims[0];
        const uint32_t there = nd_simt_swizzled(address + k * (uint32_t)size, map.swizzle) - nd_shared_begin;
        nd_simt_arrive(nd_simt_shared() + there, valid ? from + element * (int64_t)size : zeros, size);
    }
}

static void nd_simt_tensor_land(const nd_tensor_map &map, uint32_t address, const int *first,
                                uint64_t *barrier) {
    const uint32_t row = map.box[0] * (uint32_t)nd_dtype_bytes(map.type);
    uint32_t rows = 1;
    for (int i = 1; i < map.rank; i++) rows *= map.box[i];
    for (uint32_t r = 0; r < rows; r++) {
        int64_t at[nd_tensor_map_rank_max] = {first[0]};
        uint32_t rest = r;
        for (int i = 1; i < map.rank; i++) {
            at[i] = first[i] + (int64_t)(rest % map.box[i]);
            rest /= map.box[i];
        }
        nd_simt_tensor_row(map, at, address + r * row);
    }
    nd_simt_arrived(barrier, (size_t)rows * row);
}

static void nd_simt_tensor(void *to, const CUtensorMap *encoded, int rank, const int *first,
                           uint64_t *barrier) {
    uint64_t number[2];
    memcpy(number, encoded->opaque, sizeof number);
    if ((uintptr_t)encoded % 64 || number[0] != nd_simt_map_magic || number[1] >= nd_simt_maps.size())
        return nd_simt_broken("a tensor copy by what is no tensor map, or not on 64 bytes");
    const nd_tensor_map map = nd_simt_maps[number[1]];
    size_t bytes = nd_dtype_bytes(map.type);
    for (int i = 0; i < map.rank; i++) bytes *= map.box[i];
    if (map.rank != rank) return nd_simt_broken("a tensor copy of another rank than its map");
    const uint32_t address = nd_ptx_shared_address(to);
    if (!nd_simt_is_shared(to, bytes)) return nd_simt_broken("a tensor copy writes outside shared memory");
    if (address % (map.swizzle ? 8 * (uint32_t)map.swizzle : 128))
        return nd_simt_broken("a tensor copy to an address that is not aligned to its pattern");
    std::vector<int> start(first, first + rank);
    nd_simt_later(nd_simt_cluster_rank(), [=] { nd_simt_tensor_land(map, address, start.data(), barrier); });
}

void nd_ptx_tensor_4d(void *to, const CUtensorMap *map, int c, int w, int h, int n, uint64_t *barrier) {
    const int first[] = {c, w, h, n};
    nd_simt_tensor(to, map, 4, first, barrier);
}
