#include "base/parallel.h"
#include "base/machine/clock.h"
#include "base/machine/contention.h"
#include "base/machine/cores.h"
#include "base/machine/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { threads_max = 1024 };

static nd_cores machine;
static pthread_once_t machine_once = PTHREAD_ONCE_INIT;
static _Thread_local int threads_set; /* 0: as many as the machine is good for */
static _Thread_local bool inside;     /* of a loop */
static atomic_flag busy = ATOMIC_FLAG_INIT;
static _Atomic(nd_team *) lent;
static atomic_bool adaptive;

/* What is known of other processes; of whoever has `busy`. */
static struct contention {
    nd_contention decided;
    nd_cpu_usage usage;
    double since; /* that usage was read */
} contention;

/* A forked child has neither the threads of an OpenMP runtime nor those that were in a loop. */
static void forget_threads(void) {
    atomic_store(&lent, NULL);
    atomic_flag_clear(&busy);
}

static void machine_find(void) {
    pthread_atfork(NULL, NULL, forget_threads);
    nd_cores_find("", &machine);
    if (machine.count > threads_max) machine.count = threads_max;
}

/* Looked up once, at the first loop. */
static const nd_cores *machine_cores(void) {
    pthread_once(&machine_once, machine_find);
    return &machine;
}

int nd_threads(void) {
    if (inside) return 1;
    return threads_set ? threads_set : machine_cores()->count;
}

void nd_threads_set(int count) {
    threads_set = count <= 0 ? 0 : count < threads_max ? count : threads_max;
}

const char *nd_threads_why(void) {
    return threads_set ? "--threads" : machine_cores()->why;
}

bool nd_threads_adapt(bool adapt) {
    return atomic_exchange(&adaptive, adapt);
}

/* How many of `threads`, all of the caller's, are worth waking. Usage is looked at every 50 ms: reading it
 * takes 10 us. */
static int contention_look(int threads) {
    const double window = 0.05, stale = 1, now = nd_seconds();
    struct contention *c = &contention;
    const double elapsed = now - c->since;
    if (!adaptive) return threads;
    if (elapsed >= window) {
        const nd_cpu_usage before = c->usage;
        if (!nd_cpu_usage_read(&c->usage)) return threads;
        const nd_cpu_usage used = {c->usage.ran - before.ran, c->usage.waited - before.waited};
        c->since = now;
        if (elapsed <= stale) nd_contention_decide(&c->decided, threads, now, elapsed, &used);
    }
    const int decided = c->decided.threads;
    return decided > 0 && decided < threads ? decided : threads;
}

typedef struct loop {
    int64_t count;
    nd_parallel_body *body;
    void *context;
    int ranges;
    atomic_bool taken[threads_max];
} loop;

static void loop_range(loop *l, int range, int worker) {
    if (atomic_load_explicit(&l->taken[range], memory_order_relaxed)) return;
    if (atomic_exchange_explicit(&l->taken[range], true, memory_order_relaxed)) return;
    const int64_t share = l->count / l->ranges, rest = l->count % l->ranges;
    const int64_t begin = range * share + (range < rest ? range : rest);
    l->body(l->context, begin, begin + share + (range < rest ? 1 : 0), worker);
}

/* First its own range, which may still be in its cache from the last loop; then those nobody has begun. */
static void loop_work(void *context, int member) {
    loop *l = context;
    inside = true;
    for (int i = 0; i < l->ranges; i++) loop_range(l, (member + i) % l->ranges, member);
    inside = false;
}

void nd_parallel_for(int64_t count, int64_t cost, nd_parallel_body *body, void *context) {
    if (count <= 0) return;
    const bool small = (double)count * (double)cost < nd_parallel_worth;
    const int threads = small ? 1 : nd_threads(), ranges = threads < count ? threads : (int)count;
    if (ranges == 1 || atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) {
        body(context, 0, count, 0);
        return;
    }
    loop l;
    l.count = count;
    l.body = body;
    l.context = context;
    l.ranges = ranges;
    for (int i = 0; i < ranges; i++) atomic_init(&l.taken[i], false);
    nd_team *team = atomic_load(&lent);
    const int worth = contention_look(threads), members = worth < ranges ? worth : ranges;
    if (members == 1)
        loop_work(&l, 0);
    else
        (team ? team : nd_pool_run)(members, loop_work, &l);
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

typedef struct tasks {
    int64_t count;
    nd_parallel_task *task;
    void *context;
    _Atomic int64_t next;
    pthread_mutex_t lock;
    int64_t failed; /* the least that did; count: none */
    nd_status status;
    char message[1024];
} tasks;

static void tasks_fail(tasks *t, int64_t i, nd_status status) {
    (void)pthread_mutex_lock(&t->lock);
    if (i < t->failed) {
        t->failed = i;
        t->status = status;
        snprintf(t->message, sizeof t->message, "%s", nd_error());
    }
    (void)pthread_mutex_unlock(&t->lock);
    t->next = t->count;
}

/* Each range is a thread's: what it does is whatever is next. */
static void tasks_body(void *context, int64_t begin, int64_t end, int worker) {
    tasks *t = context;
    (void)begin, (void)end, (void)worker;
    for (int64_t i; (i = atomic_fetch_add(&t->next, 1)) < t->count;) {
        const nd_status status = t->task(t->context, i);
        if (status) tasks_fail(t, i, status);
    }
}

nd_status nd_parallel_tasks(int64_t count, int64_t most, nd_parallel_task *task, void *context) {
    tasks t = {.count = count, .task = task, .context = context, .failed = count};
    int64_t threads = nd_threads() < count ? nd_threads() : count;
    if (threads > most) threads = most > 1 ? most : 1;
    pthread_mutex_init(&t.lock, NULL);
    nd_parallel_for(threads, nd_parallel_worth, tasks_body, &t);
    pthread_mutex_destroy(&t.lock);
    return t.status ? nd_fail(t.status, "%s", t.message) : nd_status_ok;
}

void nd_parallel_lend(nd_team *team) {
    machine_cores(); /* what fork needs is set up there */
    atomic_store(&lent, team);
}
