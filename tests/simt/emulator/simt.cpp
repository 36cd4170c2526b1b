#include "tests/simt/emulator/simt.h"
#include "tests/simt/emulator/fiber.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <vector>

extern "C" {
#include "base/rng.h"
}

nd_simt_place nd_simt_here;
nd_status (*nd_simt_deferred)(cudaStream_t stream, std::function<nd_status()> launch);

enum nd_simt_state {
    nd_simt_ready,
    nd_simt_at_barrier, /* of the block, of a part of it, or of the cluster */
    nd_simt_at_warp,
    nd_simt_asleep,
    nd_simt_ended
};

/* What a thread at a barrier waits for; numbers from 1 are barriers of a part. */
enum : int { nd_simt_whole_cluster = -1, nd_simt_whole_block = 0 };

struct nd_simt_transfer {
    void *to;
    const void *from;
    int bytes;
    bool valid;
};

/* Background work of a thread, in groups that are committed and then waited for in order. */
template <class Work> struct nd_simt_queue {
    std::vector<std::vector<Work>> groups; /* committed, not yet done */
    std::vector<Work> open;

    /* Groups of nothing need no wait. */
    bool empty() const {
        return open.empty() && std::all_of(groups.begin(), groups.end(),
                                           [](const std::vector<Work> &group) { return group.empty(); });
    }

    void clear() {
        groups.clear();
        open.clear();
    }

    void commit() {
        groups.push_back(std::move(open));
        open.clear();
    }

    template <class Done> void wait(int pending, Done done) {
        while (groups.size() > (size_t)pending) {
            for (const Work &work : groups.front()) done(work);
            groups.erase(groups.begin());
        }
    }

    template <class Done> void drain(Done done) {
        for (auto &group : groups) {
            for (const Work &work : group) done(work);
            group.clear(); /* an empty group is still one to wait for */
        }
        for (const Work &work : open) done(work);
        open.clear();
    }
};

struct nd_simt_thread {
    nd_fiber fiber;
    nd_simt_state state;
    dim3 index;
    unsigned linear, rank; /* in the block, and its block in the cluster */
    int barrier;           /* that it waits at */
    unsigned meeting;      /* threads that meet there */
    nd_simt_queue<nd_simt_transfer> copies;
    nd_simt_queue<std::function<void()>> products;
    bool fenced;                    /* since the last barrier of the block */
    int passed[nd_simt_sync_count]; /* synchronisations so far */
};

/* Exchanges of a warp alternate between two sets of slots: nobody can be two ahead of a lane that still
 * reads. */
struct nd_simt_warp {
    uint32_t arrived, wanted;
    unsigned generation;
    unsigned char slots[2][32][256];
};

/* A block of a cluster: its shared memory, and the same as the asynchronous proxy sees it. */
struct nd_simt_cta {
    dim3 index;
    unsigned char *shared = nullptr;
    std::vector<unsigned char> async;
};

struct nd_simt_arrival {
    unsigned rank;
    std::function<void()> work;
};

struct nd_simt_machine {
    nd_simt_order order = nd_simt_forward;
    nd_rng rng = nd_rng_seed(1);
    uint64_t launches = 0;
    nd_simt_sync left_out = nd_simt_sync_none;
    int left_out_at = 0;
    nd_fiber scheduler;
    std::vector<nd_simt_thread> threads;
    std::vector<nd_simt_warp> warps;
    unsigned count = 0; /* threads of a block */
    unsigned all = 0;   /* of a cluster */
    nd_simt_thread *current = nullptr;
    std::vector<nd_simt_cta> ctas; /* of the cluster */
    unsigned rank = 0;             /* the running one */
    size_t shared_bytes = 0;
    std::vector<nd_simt_arrival> later;
    nd_simt_body *body = nullptr;
    void *context = nullptr;
    std::string broken;
};

static nd_simt_machine nd_machine;

enum : size_t { nd_simt_stack = 256 * 1024 };

void nd_simt_set_order(nd_simt_order order, uint64_t seed) {
    nd_machine.order = order;
    nd_machine.rng = nd_rng_seed(seed);
}

void nd_simt_leave_out(nd_simt_sync sync, int which) {
    nd_machine.left_out = sync;
    nd_machine.left_out_at = which;
}

bool nd_simt_is_left_out(nd_simt_sync sync) {
    const int at = nd_machine.current->passed[sync]++;
    return sync == nd_machine.left_out && at == nd_machine.left_out_at;
}

uint64_t nd_simt_launches() {
    return nd_machine.launches;
}

unsigned char *nd_simt_shared() {
    return nd_machine.ctas[nd_machine.rank].shared;
}

bool nd_simt_has_ended(unsigned rank) {
    const auto *first = &nd_machine.threads[rank * nd_machine.count];
    return std::all_of(first, first + nd_machine.count,
                       [](const nd_simt_thread &thread) { return thread.state == nd_simt_ended; });
}

bool nd_simt_is_shared(const void *from, size_t bytes) {
    const auto *at = static_cast<const unsigned char *>(from);
    const auto *end = nd_simt_shared() + nd_machine.shared_bytes;
    return at >= nd_simt_shared() && at <= end && bytes <= (size_t)(end - at);
}

unsigned nd_simt_cluster_rank() {
    return nd_machine.rank;
}

unsigned nd_simt_cluster_blocks() {
    return (unsigned)nd_machine.ctas.size();
}

void nd_simt_as(unsigned rank, const std::function<void()> &work) {
    const unsigned before = nd_machine.rank;
    nd_machine.rank = rank;
    work();
    nd_machine.rank = before;
}

void nd_simt_broken(const char *what) {
    if (nd_machine.broken.empty()) nd_machine.broken = what;
}

unsigned nd_simt_thread_number() {
    return nd_machine.current->linear;
}

int nd_simt_lane() {
    return (int)(nd_simt_thread_number() % 32);
}

static void nd_simt_yield(nd_simt_state state) {
    nd_simt_thread *self = nd_machine.current;
    self->state = state;
    nd_fiber_switch(&self->fiber, &nd_machine.scheduler, state == nd_simt_ended);
}

static void nd_simt_entry() {
    nd_fiber_entered(&nd_machine.scheduler);
    nd_machine.body(nd_machine.context);
    nd_simt_yield(nd_simt_ended);
}

static void nd_simt_meet(nd_simt_sync sync, int barrier, unsigned threads) {
    if (nd_simt_is_left_out(sync)) return;
    nd_machine.current->barrier = barrier;
    nd_machine.current->meeting = threads;
    nd_simt_yield(nd_simt_at_barrier);
}

void __syncthreads() {
    nd_simt_meet(nd_simt_sync_block, nd_simt_whole_block, nd_machine.count);
}

void nd_simt_part_barrier(int id, unsigned threads) {
    if (id < 1 || id > 15 || threads % 32) return nd_simt_broken("a barrier of a part that no device has");
    nd_simt_meet(nd_simt_sync_part, id, threads);
}

void nd_simt_cluster_barrier() {
    nd_simt_meet(nd_simt_sync_cluster, nd_simt_whole_cluster, nd_machine.all);
}

void __syncwarp(uint32_t mask) {
    if (!nd_simt_is_left_out(nd_simt_sync_warp)) nd_simt_exchange(mask, nullptr, 0);
}

const unsigned char *nd_simt_exchange(uint32_t mask, const void *data, size_t bytes) {
    nd_simt_thread *self = nd_machine.current;
    const unsigned first = (unsigned)(self - nd_machine.threads.data()) - self->linear; /* of the block */
    nd_simt_warp *warp = &nd_machine.warps[self->rank * ((nd_machine.count + 31) / 32) + self->linear / 32];
    const unsigned lane = self->linear % 32, generation = warp->generation;
    auto &slots = warp->slots[generation % 2];
    if (warp->arrived && warp->wanted != mask) nd_simt_broken("lanes of a warp meet with different masks");
    if (!(mask >> lane & 1)) nd_simt_broken("a lane is not in the mask it meets others with");
    if (bytes) memcpy(slots[lane], data, bytes);
    warp->wanted = mask;
    warp->arrived |= 1u << lane;
    if (warp->arrived != mask) {
        nd_simt_yield(nd_simt_at_warp);
        return slots[0];
    }
    warp->arrived = 0;
    warp->generation++;
    for (unsigned i = 0; i < 32; i++) {
        const unsigned other = self->linear / 32 * 32 + i;
        if (mask >> i & 1 && other < nd_machine.count)
            nd_machine.threads[first + other].state = nd_simt_ready;
    }
    return slots[0];
}

static void nd_simt_land(const nd_simt_transfer &transfer) {
    if (transfer.valid)
        memcpy(transfer.to, transfer.from, (size_t)transfer.bytes);
    else
        memset(transfer.to, 0, (size_t)transfer.bytes);
}

/* As late as the waits allow in forward order, at once in reverse, either at random. */
static bool nd_simt_at_once() {
    return nd_machine.order == nd_simt_reverse ||
           (nd_machine.order == nd_simt_random && nd_rng_below(&nd_machine.rng, 2));
}

void nd_simt_copy(void *to, const void *from, int bytes, bool valid) {
    if (!nd_simt_is_shared(to, (size_t)bytes)) return nd_simt_broken("cp.async writes outside shared memory");
    if ((uintptr_t)to % (unsigned)bytes || (uintptr_t)from % (unsigned)bytes)
        return nd_simt_broken("cp.async between addresses that are not aligned to its size");
    const nd_simt_transfer transfer = {to, from, bytes, valid};
    if (nd_simt_at_once())
        nd_simt_land(transfer);
    else
        nd_machine.current->copies.open.push_back(transfer);
}

void nd_simt_copy_commit() {
    nd_machine.current->copies.commit();
}

void nd_simt_copy_wait(int pending) {
    if (!nd_simt_is_left_out(nd_simt_sync_copy)) nd_machine.current->copies.wait(pending, nd_simt_land);
}

unsigned char *nd_simt_async() {
    return nd_machine.ctas[nd_machine.rank].async.data();
}

const unsigned char *nd_simt_async_now() {
    return nd_simt_at_once() ? nd_simt_shared() : nd_simt_async();
}

void nd_simt_fence() {
    if (!nd_simt_is_left_out(nd_simt_sync_fence)) nd_machine.current->fenced = true;
}

void nd_simt_later(unsigned rank, std::function<void()> work) {
    if (nd_simt_at_once())
        nd_simt_as(rank, work);
    else
        nd_machine.later.push_back({rank, std::move(work)});
}

void nd_simt_wake() {
    for (unsigned i = 0; i < nd_machine.all; i++)
        if (nd_machine.threads[i].state == nd_simt_asleep) nd_machine.threads[i].state = nd_simt_ready;
}

void nd_simt_await(const std::function<bool()> &ready) {
    while (!ready()) nd_simt_yield(nd_simt_asleep);
}

static void nd_simt_done(const std::function<void()> &work) {
    work();
}

/* Products are done in order: one at once has all before it done. */
void nd_simt_product(std::function<void()> work) {
    auto &products = nd_machine.current->products;
    products.open.push_back(std::move(work));
    if (nd_simt_at_once()) products.drain(nd_simt_done);
}

void nd_simt_product_commit() {
    nd_machine.current->products.commit();
}

void nd_simt_product_wait(int pending) {
    if (!nd_simt_is_left_out(nd_simt_sync_product)) nd_machine.current->products.wait(pending, nd_simt_done);
}

static std::vector<unsigned> nd_simt_sequence(unsigned count) {
    std::vector<unsigned> sequence(count);
    for (unsigned i = 0; i < count; i++)
        sequence[i] = nd_machine.order == nd_simt_reverse ? count - 1 - i : i;
    if (nd_machine.order == nd_simt_random)
        for (unsigned i = count; i > 1; i--)
            std::swap(sequence[i - 1], sequence[(size_t)nd_rng_below(&nd_machine.rng, i)]);
    return sequence;
}

static void nd_simt_resume(nd_simt_thread *thread) {
    nd_machine.current = thread;
    nd_machine.rank = thread->rank;
    nd_simt_here.thread_index = thread->index;
    nd_simt_here.block_index = nd_machine.ctas[thread->rank].index;
    nd_fiber_switch(&nd_machine.scheduler, &thread->fiber);
}

/* One turn of every ready thread of a warp of the cluster; false when there was none. */
static bool nd_simt_turn(unsigned warp) {
    const unsigned warps = (nd_machine.count + 31) / 32, within = warp % warps * 32;
    const unsigned first = warp / warps * nd_machine.count + within;
    bool moved = false;
    for (unsigned lane : nd_simt_sequence(std::min(32u, nd_machine.count - within))) {
        if (nd_machine.threads[first + lane].state != nd_simt_ready) continue;
        nd_simt_resume(&nd_machine.threads[first + lane]);
        moved = true;
    }
    return moved;
}

/* Threads that wait at the same barrier as this one, with it. */
static std::vector<nd_simt_thread *> nd_simt_company(const nd_simt_thread &one) {
    std::vector<nd_simt_thread *> company;
    for (unsigned i = 0; i < nd_machine.all; i++) {
        nd_simt_thread *other = &nd_machine.threads[i];
        if (other->state != nd_simt_at_barrier || other->barrier != one.barrier) continue;
        if (one.barrier == nd_simt_whole_cluster || other->rank == one.rank) company.push_back(other);
    }
    return company;
}

/* What all threads fenced before they met is there for the asynchronous proxy. */
static void nd_simt_publish(const std::vector<nd_simt_thread *> &company) {
    bool all = true;
    for (nd_simt_thread *thread : company) {
        all = all && thread->fenced;
        thread->fenced = false;
    }
    nd_simt_cta &cta = nd_machine.ctas[company.front()->rank];
    if (all) memcpy(cta.async.data(), cta.shared, nd_machine.shared_bytes);
}

/* Lets go on who has met all others of its barrier; false when there was nobody. */
static bool nd_simt_release() {
    bool moved = false;
    std::vector<uint64_t> seen; /* barriers that somebody is still missing at */
    for (unsigned i = 0; i < nd_machine.all; i++) {
        const nd_simt_thread &thread = nd_machine.threads[i];
        if (thread.state != nd_simt_at_barrier) continue;
        const uint64_t key = (uint64_t)thread.rank << 32 | (uint32_t)thread.barrier;
        if (std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
        seen.push_back(key);
        const std::vector<nd_simt_thread *> company = nd_simt_company(thread);
        if (company.size() < thread.meeting) continue;
        if (company.size() > thread.meeting) nd_simt_broken("more threads at a barrier than it is for");
        if (thread.barrier != nd_simt_whole_cluster) nd_simt_publish(company);
        for (nd_simt_thread *other : company) other->state = nd_simt_ready;
        moved = true;
    }
    return moved;
}

/* One of the copy engine's transfers, the oldest or any, lands; false when there is none. */
static bool nd_simt_deliver() {
    auto &later = nd_machine.later;
    if (later.empty()) return false;
    const size_t which =
        nd_machine.order == nd_simt_random ? (size_t)nd_rng_below(&nd_machine.rng, (int64_t)later.size()) : 0;
    const nd_simt_arrival arrival = std::move(later[which]);
    later.erase(later.begin() + (ptrdiff_t)which);
    nd_simt_as(arrival.rank, arrival.work);
    return true;
}

/* Runs the fibers until all have ended; false when the rest wait for something that will not come. */
static bool nd_simt_schedule() {
    for (;;) {
        bool moved = false;
        for (unsigned warp : nd_simt_sequence((unsigned)nd_machine.warps.size())) {
            const bool ahead = nd_machine.order == nd_simt_reverse ||
                               (nd_machine.order == nd_simt_random && nd_rng_below(&nd_machine.rng, 2));
            bool turned = nd_simt_turn(warp);
            moved = moved || turned;
            while (ahead && turned) turned = nd_simt_turn(warp);
        }
        if (nd_machine.order == nd_simt_random && nd_rng_below(&nd_machine.rng, 2))
            moved = nd_simt_deliver() || moved;
        unsigned ended = 0, waiting = 0;
        for (unsigned i = 0; i < nd_machine.all; i++) {
            ended += nd_machine.threads[i].state == nd_simt_ended;
            waiting += nd_machine.threads[i].state == nd_simt_at_barrier;
        }
        if (ended == nd_machine.all) return true;
        if (ended + waiting == nd_machine.all && ended && !nd_simt_release()) {
            nd_simt_broken("some threads of a block ended while others wait at a barrier");
            return false;
        }
        if (waiting) moved = nd_simt_release() || moved;
        if (!moved && !nd_simt_deliver()) {
            nd_simt_broken("the threads of a block wait for each other");
            return false;
        }
    }
}

static void nd_simt_enter(nd_simt_thread *thread, dim3 block, unsigned linear, unsigned rank) {
    thread->state = nd_simt_ready;
    thread->linear = linear;
    thread->rank = rank;
    thread->index = dim3(linear % block.x, linear / block.x % block.y, linear / block.x / block.y);
    thread->copies.clear();
    thread->products.clear();
    thread->fenced = false;
    memset(thread->passed, 0, sizeof thread->passed);
    nd_fiber_prepare(&thread->fiber, nd_simt_entry);
}

/* Runs the blocks of nd_machine.ctas. */
static bool nd_simt_cluster(dim3 block, size_t shared) {
    bool finished = true;
    for (nd_simt_cta &cta : nd_machine.ctas) {
        if (posix_memalign(reinterpret_cast<void **>(&cta.shared), 128, shared ? shared : 1)) return false;
        memset(cta.shared, 0xff, shared);
        cta.async.assign(shared, 0xff);
    }
    nd_machine.shared_bytes = shared;
    nd_machine.later.clear();
    for (unsigned i = 0; i < nd_machine.all; i++)
        nd_simt_enter(&nd_machine.threads[i], block, i % nd_machine.count, i / nd_machine.count);
    for (nd_simt_warp &warp : nd_machine.warps) warp.arrived = 0;
    finished = nd_simt_schedule();
    for (unsigned i = 0; finished && i < nd_machine.all; i++)
        if (!nd_machine.threads[i].copies.empty() || !nd_machine.threads[i].products.empty())
            nd_simt_broken("a thread ended with copies or products still under way");
    if (finished && !nd_machine.later.empty()) nd_simt_broken("a block ended with copies still under way");
    for (nd_simt_cta &cta : nd_machine.ctas) free(cta.shared);
    return finished;
}

static bool nd_simt_stacks(unsigned count) {
    while (nd_machine.threads.size() < count) {
        void *stack = mmap(nullptr, nd_simt_stack, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) return false;
        nd_machine.threads.emplace_back();
        nd_machine.threads.back().fiber.stack = static_cast<unsigned char *>(stack);
        nd_machine.threads.back().fiber.stack_bytes = nd_simt_stack;
    }
    return true;
}

nd_status nd_simt_takes(dim3 grid, dim3 block, unsigned cluster, size_t shared) {
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    ND_REQUIRE(threads >= 1 && threads <= 1024 && block.z <= 64, nd_status_device,
               "no device takes blocks of %ux%ux%u threads", block.x, block.y, block.z);
    ND_REQUIRE(grid.x >= 1 && grid.x <= INT32_MAX && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
                   grid.z <= 65535,
               nd_status_device, "no device takes a grid of %ux%ux%u blocks", grid.x, grid.y, grid.z);
    ND_REQUIRE(cluster >= 1 && cluster <= 8 && grid.x % cluster == 0, nd_status_device,
               "no device takes clusters of %u in a grid of %u blocks", cluster, grid.x);
    ND_REQUIRE(shared <= 227 * 1024, nd_status_device, "no device has %zu bytes of shared memory", shared);
    return nd_status_ok;
}

nd_status nd_simt_run(dim3 grid, dim3 block, unsigned cluster, size_t shared, nd_simt_body *body,
                      void *context) {
    const unsigned count = block.x * block.y * block.z;
    ND_TRY(nd_simt_takes(grid, block, cluster, shared));
    ND_REQUIRE(nd_simt_stacks(count * cluster), nd_status_memory, "no memory for %u stacks", count * cluster);
    nd_machine.count = count;
    nd_machine.all = count * cluster;
    nd_machine.ctas.assign(cluster, nd_simt_cta());
    nd_machine.warps.assign(cluster * ((count + 31) / 32), nd_simt_warp());
    nd_machine.body = body;
    nd_machine.context = context;
    nd_machine.broken.clear();
    nd_machine.launches++;
    nd_simt_here.block_dim = block;
    nd_simt_here.grid_dim = grid;
    for (unsigned i : nd_simt_sequence(grid.x * grid.y * grid.z / cluster)) {
        for (unsigned rank = 0; rank < cluster; rank++) {
            const unsigned at = i * cluster + rank;
            nd_machine.ctas[rank].index = dim3(at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y);
        }
        if (!nd_simt_cluster(block, shared)) break;
    }
    ND_REQUIRE(nd_machine.broken.empty(), nd_status_internal, "%s", nd_machine.broken.c_str());
    return nd_status_ok;
}
