/* Which of our kernels this processor can run. */
#define _GNU_SOURCE /* syscall */
#include "run/cpu/cpu.h"

#include <stdio.h>
#include <string.h>

const char *const nd_cpu_level_names[nd_cpu_level_count] = {"scalar", "avx2", "avx512", "amx"};

#if defined(__x86_64__)
#    include <cpuid.h>
#    include <sys/syscall.h>
#    include <unistd.h>

enum {
    arch_req_xcomp_perm = 0x1023, /* arch_prctl: ask Linux to save the tile registers of this process */
    xfeature_xtiledata = 18,
    leaf7_edx_amx_bf16 = 1 << 22,
    leaf7_edx_amx_tile = 1 << 24,
};

static bool level_amx(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(d & leaf7_edx_amx_bf16) || !(d & leaf7_edx_amx_tile)) return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) return false; /* AVX512-BF16 converts */
    return !syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata);
}

nd_cpu_level nd_cpu_level_best(void) {
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx512) return level_amx() ? nd_cpu_level_amx : nd_cpu_level_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return nd_cpu_level_avx2;
    return nd_cpu_level_scalar;
}
#else
nd_cpu_level nd_cpu_level_best(void) {
    return nd_cpu_level_scalar;
}
#endif

/* "model name : Intel(R) Xeon(R) Processor" of /proc/cpuinfo, without its label. */
void nd_cpu_describe(char *text, size_t size) {
    char line[256];
    snprintf(text, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(text, size, "%s", colon + 2);
        break;
    }
    fclose(file);
}
