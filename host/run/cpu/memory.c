#include "run/cpu/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

nd_cpu_guard nd_cpu_guard_wanted(void) {
    const char *text = getenv("ND_CPU_GUARD");
    if (!text) return nd_cpu_guard_none;
    return !strcmp(text, "begin") ? nd_cpu_guard_begin
           : !strcmp(text, "end") ? nd_cpu_guard_end
                                  : nd_cpu_guard_none;
}

/* A protected page on both sides. */
static bool memory_map(size_t bytes, nd_cpu_guard guard, nd_memory *memory) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes > SIZE_MAX / 2) return false;
    const size_t inside = (bytes + page - 1) / page * page;
    char *mapping = mmap(NULL, inside + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return false;
    memory->mapping = mapping;
    memory->mapped = inside + 2 * page;
    memory->data = mapping + page + (guard == nd_cpu_guard_end ? inside - bytes : 0);
    return !mprotect(mapping, page, PROT_NONE) && !mprotect(mapping + page + inside, page, PROT_NONE);
}

nd_status nd_cpu_memory_new(size_t bytes, nd_cpu_guard guard, nd_memory **out) {
    *out = NULL;
    nd_memory *memory = nd_alloc_array(1, sizeof *memory);
    ND_REQUIRE(memory, nd_status_memory, "no memory for %zu bytes", bytes);
    memory->bytes = bytes;
    bool made = true;
    if (guard == nd_cpu_guard_none) {
        memory->data = nd_alloc_array(bytes ? bytes : 1, 1);
    } else {
        made = memory_map(bytes ? bytes : 1, guard, memory);
    }
    if (!made || !memory->data) {
        nd_cpu_memory_free(memory);
        return nd_fail(nd_status_memory, "no memory for %zu bytes", bytes);
    }
    *out = memory;
    return nd_status_ok;
}

void nd_cpu_memory_free(nd_memory *memory) {
    if (!memory) return;
    if (memory->mapping) {
        munmap(memory->mapping, memory->mapped);
    } else {
        free(memory->data);
    }
    free(memory);
}
