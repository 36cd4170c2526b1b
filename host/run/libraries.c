#include "run/libraries.h"

#include "base/machine/pool.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* libgomp counts rounds of a pause like ours; LLVM's runtime waits in milliseconds, 200 of them; OpenBLAS's
 * own threads for 2^26 cycles. */
static void calm_waiting(void) {
    char rounds[32];
    snprintf(rounds, sizeof rounds, "%d", nd_pool_spin_rounds());
    if (!getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", rounds, 0);
    if (!getenv("OMP_WAIT_POLICY")) setenv("KMP_BLOCKTIME", "0", 0);
    setenv("OPENBLAS_THREAD_TIMEOUT", "16", 0);
}

/* OpenBLAS 0.3.21 takes processors that are younger than itself for a Prescott: SSE3, a quarter of the speed
 * of what an Emerald Rapids can do. It has kernels for them under the names of their elders. */
static void choose_blas_kernels(void) {
    const char *name = NULL;
#if defined __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) name = "Haswell";
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        name = __builtin_cpu_supports("avx512bf16") ? "Cooperlake" : "SkylakeX";
#endif
    if (name) setenv("OPENBLAS_CORETYPE", name, 0);
}

/* A folder has two links and one more for every folder in it, here one for every thread. */
static bool is_single_threaded(void) {
    struct stat threads;
    return !stat("/proc/self/task", &threads) && threads.st_nlink == 3;
}

void nd_libraries_prepare(void) {
    if (!is_single_threaded()) return;
    calm_waiting();
    choose_blas_kernels();
}
