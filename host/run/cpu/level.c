/* Which of our kernels this processor can run. */
#define _GNU_SOURCE /* syscall */
#include "run/cpu/cpu.h"

#include <stdio.h>
#include <string.h>

const char *const nd_cpu_level_names[nd_cpu_level_count] = {
    [nd_cpu_level_scalar] = "scalar",
    [nd_cpu_level_avx2] = "avx2",
    [nd_cpu_level_avx2_vnni] = "avx2_vnni",
    [nd_cpu_level_avx512] = "avx512",
    [nd_cpu_level_avx512_vnni] = "avx512_vnni",
    [nd_cpu_level_avx512_bf16] = "avx512_bf16",
    [nd_cpu_level_amx] = "amx",
};

#if defined(__x86_64__)
#    include <cpuid.h>
#    include <sys/syscall.h>
#    include <unistd.h>

enum {
    arch_req_xcomp_perm = 0x1023, /* arch_prctl: ask Linux to save the tile registers of this process */
    xfeature_xtiledata = 18,
    leaf7_edx_amx_bf16 = 1 << 22,
    leaf7_edx_amx_tile = 1 << 24,
    leaf7_edx_amx_int8 = 1 << 25,
    leaf7_1_eax_avx_vnni = 1 << 4,
    leaf7_1_eax_avx512_bf16 = 1 << 5,
};

/* Registers of the sub-leaf: edx of (7, 0), eax of (7, 1). */
static unsigned level_leaf7(unsigned leaf) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, leaf, &a, &b, &c, &d)) return 0;
    return leaf ? a : d;
}

static bool level_amx(void) {
    const unsigned wanted = leaf7_edx_amx_bf16 | leaf7_edx_amx_tile | leaf7_edx_amx_int8;
    return (level_leaf7(0) & wanted) == wanted &&
           !syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata);
}

static bool level_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool nd_cpu_level_available(nd_cpu_level level) {
    __builtin_cpu_init();
    if (level == nd_cpu_level_scalar) return true;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
    if (level == nd_cpu_level_avx2) return true;
    if (level == nd_cpu_level_avx2_vnni) return level_leaf7(1) & leaf7_1_eax_avx_vnni;
    if (!level_avx512()) return false;
    if (level == nd_cpu_level_avx512) return true;
    if (!__builtin_cpu_supports("avx512vnni")) return false;
    if (level == nd_cpu_level_avx512_vnni) return true;
    if (!(level_leaf7(1) & leaf7_1_eax_avx512_bf16)) return false;
    return level == nd_cpu_level_avx512_bf16 || level_amx();
}
#else
bool nd_cpu_level_available(nd_cpu_level level) {
    return level == nd_cpu_level_scalar;
}
#endif

nd_cpu_level nd_cpu_level_best(void) {
    int level = nd_cpu_level_count - 1;
    while (!nd_cpu_level_available((nd_cpu_level)level)) level--;
    return (nd_cpu_level)level;
}

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
