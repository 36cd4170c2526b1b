/* The threads of the OpenMP runtime that oneDNN and OpenBLAS bring, whichever it is: our loops run on them
 * too. Two sets of threads would wait for the same cores between every two kernels.
 *
 * The runtime is found through the libraries, not linked: a compiler with another runtime of its own must not
 * add a second. GOMP_parallel is what gcc has called for `omp parallel` since 4.9; LLVM's runtime has it
 * too. */
#include "run/cpu/cpu.h"

#include <pthread.h>

#define ND_WEAK __attribute__((weak))
extern ND_WEAK void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
extern ND_WEAK int omp_get_thread_num(void);
extern ND_WEAK int omp_get_max_threads(void);
extern ND_WEAK void omp_set_num_threads(int threads);
extern ND_WEAK int omp_get_max_active_levels(void);
extern ND_WEAK void omp_set_max_active_levels(int levels);
extern ND_WEAK void omp_set_dynamic(int dynamic);
extern ND_WEAK int omp_get_thread_limit(void);
/* Exported by OpenBLAS since its first version, declared by no header of it. */
extern ND_WEAK void *blas_memory_alloc(int where);
extern ND_WEAK void blas_memory_free(void *buffer);

typedef struct team_call {
    nd_team_work *work;
    void *context;
} team_call;

static void team_member(void *data) {
    const team_call *call = data;
    call->work(call->context, omp_get_thread_num());
}

static void team_run(int threads, nd_team_work *work, void *context) {
    team_call call = {work, context};
    GOMP_parallel(team_member, &call, (unsigned)threads, 0);
}

/* A primitive of oneDNN divides its work when it is made and trusts to get as many threads when it runs: with
 * fewer it leaves parts of its output as they were. So no region may get fewer than it asks for, whatever the
 * environment says (OMP_DYNAMIC, OMP_MAX_ACTIVE_LEVELS). */
static void promise_threads(void) {
    if (omp_set_dynamic) omp_set_dynamic(0);
    if (!omp_get_max_active_levels || !omp_set_max_active_levels) return;
    if (omp_get_max_active_levels() < 1) omp_set_max_active_levels(1);
}

void nd_cpu_team_lend(void) {
    promise_threads();
    if (GOMP_parallel && omp_get_thread_num) nd_parallel_lend(team_run);
}

void nd_cpu_team_resize(int threads) {
    if (omp_set_num_threads && omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

static void *wait_at(void *gate) {
    (void)pthread_mutex_lock(gate);
    (void)pthread_mutex_unlock(gate);
    return NULL;
}

int nd_cpu_team_possible(int wanted) {
    enum { most = 1024 };
    static _Atomic int proven = 1; /* the runtime keeps the threads it has */
    pthread_t threads[most];
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    int started = 0;
    if (omp_get_thread_limit && wanted > omp_get_thread_limit()) wanted = omp_get_thread_limit();
    if (wanted <= proven) return wanted;
    if (wanted > most) wanted = most;
    (void)pthread_mutex_lock(&gate);
    while (started < wanted - proven && !pthread_create(&threads[started], NULL, wait_at, &gate)) started++;
    (void)pthread_mutex_unlock(&gate);
    for (int i = 0; i < started; i++) (void)pthread_join(threads[i], NULL);
    proven += started;
    return proven;
}

int nd_cpu_blas_reserve(int threads) {
    enum { most = 1024 };
    static const size_t bytes = (size_t)129
                                << 20; /* BUFFER_SIZE of OpenBLAS on x86-64, and what it aligns by */
    static _Atomic int reserved;
    void *buffers[most];
    if (threads > most) threads = most;
    if (threads <= reserved || !blas_memory_alloc || !blas_memory_free) return threads;
    while (threads > reserved && !nd_memory_can_map(bytes * (size_t)(threads - reserved))) threads--;
    for (int i = 0; i < threads; i++) buffers[i] = blas_memory_alloc(0);
    for (int i = 0; i < threads; i++) blas_memory_free(buffers[i]);
    reserved = threads;
    return threads;
}

void nd_cpu_enter(const nd_cpu *cpu) {
    if (nd_threads() != cpu->threads) nd_threads_set(cpu->threads);
    nd_cpu_team_resize(cpu->threads);
}
