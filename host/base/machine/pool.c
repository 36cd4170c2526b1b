#define _GNU_SOURCE /* sched_getcpu */
#include "base/machine/pool.h"

#include "base/machine/clock.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    workers_max = 1023,
    state_open = 1 << 30,   /* workers may join */
    state_waited = 1 << 29, /* the caller sleeps until the last one has left */
    state_members = state_waited - 1,
};

typedef struct worker {
    _Alignas(64) atomic_int ticket; /* changes when there is work */
    atomic_bool asleep;
    int number;
} worker;

static struct pool {
    atomic_int state;
    worker *workers[workers_max];
    int n_workers;
    int threads;    /* of the open work */
    atomic_int cpu; /* that the caller was on */
    nd_team_work *work;
    void *context;
} pool;

static void pause_once(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* A pause takes from 4 to 70 ns by processor. The shortest of some tries: another process may
 * come between. */
int nd_pool_spin_rounds(void) {
    enum { tries = 5, pauses = 100 };
    static atomic_int known;
    if (known) return known;
    double best = 1;
    for (int i = 0; i < tries; i++) {
        const double start = nd_seconds();
        for (int j = 0; j < pauses; j++) pause_once();
        const double took = (nd_seconds() - start) / pauses;
        if (took < best) best = took;
    }
    if (best < 1e-9) best = 1e-9;
    known = 1 + (int)(1e-9 * nd_pool_spin_ns / best);
    return known;
}

static void futex_sleep(atomic_int *word, int value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_int *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Waits until the worker's ticket is another than `seen`, and gives the new one. A worker that was woken on
 * the caller's core, because the others are taken, would only keep the caller from it by spinning. */
static int worker_wait(worker *w, int seen) {
    for (int i = sched_getcpu() == pool.cpu ? 0 : nd_pool_spin_rounds(); i > 0; i--) {
        if (atomic_load_explicit(&w->ticket, memory_order_acquire) != seen) return w->ticket;
        pause_once();
    }
    atomic_store(&w->asleep, true);
    while (atomic_load(&w->ticket) == seen) futex_sleep(&w->ticket, seen);
    atomic_store(&w->asleep, false);
    return w->ticket;
}

/* A worker that comes late finds the work closed, or joins the next one, which is as good: what is open does
 * not change before all that joined have left. */
static bool pool_join(void) {
    int state = atomic_load(&pool.state);
    while (state & state_open)
        if (atomic_compare_exchange_weak(&pool.state, &state, state + 1)) return true;
    return false;
}

static void pool_leave(void) {
    const int before = atomic_fetch_sub(&pool.state, 1);
    if ((before & state_waited) && (before & state_members) == 1) futex_wake(&pool.state);
}

static void *worker_main(void *argument) {
    worker *w = argument;
    for (int seen = 0;;) {
        seen = worker_wait(w, seen);
        if (!pool_join()) continue;
        if (w->number < pool.threads) pool.work(pool.context, w->number);
        pool_leave();
    }
    return NULL;
}

/* The child has the caller's thread alone. The lost workers' memory is a few cache lines. */
static void pool_forget(void) {
    pool.n_workers = 0;
    atomic_store(&pool.state, 0);
}

static bool worker_start(void) {
    pthread_t thread;
    worker *w = aligned_alloc(_Alignof(worker), sizeof *w);
    if (!w) return false;
    *w = (worker){.number = pool.n_workers + 1};
    if (pthread_create(&thread, NULL, worker_main, w)) {
        free(w);
        return false;
    }
    pthread_detach(thread);
    pool.workers[pool.n_workers++] = w;
    return true;
}

/* Signals are for the threads of the program. Where no more threads are to be had the work is done with
 * fewer. */
static void pool_grow(int workers) {
    static bool registered;
    sigset_t all, before;
    if (pool.n_workers >= workers) return;
    if (!registered) registered = !pthread_atfork(NULL, NULL, pool_forget);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.n_workers < workers && pool.n_workers < workers_max && worker_start()) continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Closes the work and waits for those in it. */
static void pool_close(void) {
    int state = atomic_fetch_and(&pool.state, ~state_open) & ~state_open;
    for (int i = nd_pool_spin_rounds(); state && i > 0; i--) {
        pause_once();
        state = atomic_load_explicit(&pool.state, memory_order_acquire);
    }
    if (!state) return;
    state = atomic_fetch_or(&pool.state, state_waited) | state_waited;
    while (state & state_members) {
        futex_sleep(&pool.state, state);
        state = atomic_load(&pool.state);
    }
}

void nd_pool_run(int threads, nd_team_work *work, void *context) {
    pool_grow(threads - 1);
    pool.threads = threads;
    pool.work = work;
    pool.context = context;
    atomic_store_explicit(&pool.cpu, sched_getcpu(), memory_order_relaxed);
    atomic_store(&pool.state, state_open);
    for (int i = 0; i < threads - 1 && i < pool.n_workers; i++) {
        worker *w = pool.workers[i];
        atomic_fetch_add(&w->ticket, 1);
        if (atomic_load(&w->asleep)) futex_wake(&w->ticket);
    }
    work(context, 0);
    pool_close();
}
