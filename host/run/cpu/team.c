/* The threads of the OpenMP runtime that oneDNN and OpenBLAS bring, whichever it is: our loops run on them
 * too. Two sets of threads would wait for the same cores between every two kernels.
 *
 * The runtime is found through the libraries, not linked: a compiler with another runtime of its own must not
 * add a second. GOMP_parallel is what gcc has called for `omp parallel` since 4.9; LLVM's runtime has it
 * too. */
#include "run/cpu/cpu.h"

#define ND_WEAK __attribute__((weak))
extern ND_WEAK void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
extern ND_WEAK int omp_get_thread_num(void);
extern ND_WEAK int omp_get_max_threads(void);
extern ND_WEAK void omp_set_num_threads(int threads);

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

void nd_cpu_team_lend(void) {
    if (GOMP_parallel && omp_get_thread_num) nd_parallel_lend(team_run);
}

void nd_cpu_team_resize(int threads) {
    if (omp_set_num_threads && omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

void nd_cpu_enter(const nd_cpu *cpu) {
    if (nd_threads() != cpu->threads) nd_threads_set(cpu->threads);
    nd_cpu_team_resize(cpu->threads);
}
