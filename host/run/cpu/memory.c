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

enum { huge_page = 1 << 21 };

void *nd_cpu_alloc(size_t count, size_t size) {
    if (size && count > (SIZE_MAX - huge_page) / size) return NULL;
    if (count * size < (size_t)huge_page / 8) return nd_alloc_array(count, size);
    const size_t bytes = (count * size + huge_page - 1) / huge_page * huge_page;
    void *data = aligned_alloc(huge_page, bytes);
    if (!data) return NULL;
    madvise(data, bytes, MADV_HUGEPAGE);
    return memset(data, 0, bytes);
}

nd_status nd_cpu_memory_new(size_t bytes, nd_cpu_guard guard, nd_memory **out) {
    *out = NULL;
    nd_memory *memory = nd_alloc_array(1, sizeof *memory);
    ND_REQUIRE(memory, nd_status_memory, "no memory for %zu bytes", bytes);
    memory->bytes = bytes;
    bool made = true;
    if (guard == nd_cpu_guard_none) {
        memory->data = nd_cpu_alloc(bytes ? bytes : 1, 1);
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
