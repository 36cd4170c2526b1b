#include "base/memory.h"
#include "base/machine/cgroup.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { large_page = 2 << 20, many_pages = 4 * large_page };

void *nd_alloc_array(size_t count, size_t size) {
    if (size && count > (SIZE_MAX - large_page) / size) return NULL;
    const size_t alignment = count * size < many_pages ? nd_alignment : large_page;
    /* aligned_alloc wants a multiple of the alignment, and 0 bytes must still give a pointer to free. */
    size_t bytes = (count * size + alignment) / alignment * alignment;
    void *data = aligned_alloc(alignment, bytes);
    if (!data) return NULL;
    /* Matrices are read by columns too, each element of which lies on a page of its own. Where there are no
     * large pages nothing is lost. */
    if (alignment == large_page) (void)madvise(data, bytes, MADV_HUGEPAGE);
    return memset(data, 0, bytes);
}

void *nd_array_grow(void *items, size_t count, size_t *capacity, size_t size) {
    enum { first = 16 };
    if (count < *capacity) return items;
    if (*capacity > SIZE_MAX / 2 / size) return NULL;
    size_t doubled = *capacity ? 2 * *capacity : first;
    void *grown = realloc(items, doubled * size);
    if (grown) *capacity = doubled;
    return grown;
}

/* "MemAvailable:" of /proc/meminfo in bytes, or `otherwise`: what can be had without swapping. */
static int64_t memory_available(int64_t otherwise) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    long long kib = -1;
    while (file && kib < 0 && fgets(line, sizeof line, file)) sscanf(line, "MemAvailable: %lld kB", &kib);
    if (file) fclose(file);
    return kib < 0 ? otherwise : 1024 * (int64_t)kib;
}

/* Address space in use, in bytes. */
static int64_t memory_mapped(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long long pages = 0;
    if (file && fscanf(file, "%lld", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static void memory_tighten(nd_memory_room *room, int64_t limit, int64_t left, const char *by) {
    if (left < 1) left = 1;
    if ((size_t)left < room->left) room->left = (size_t)left;
    if ((size_t)limit >= room->limit) return;
    room->limit = (size_t)limit;
    room->by = by;
}

nd_memory_room nd_memory_find(void) {
    nd_memory_room room = {SIZE_MAX, SIZE_MAX, "nothing"};
    nd_cgroup cgroup;
    struct rlimit space;
    const int64_t machine = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (machine > 0) memory_tighten(&room, machine, memory_available(machine), "the machine's memory");
    nd_cgroup_read("", &cgroup);
    if (cgroup.memory >= 0)
        memory_tighten(&room, cgroup.memory, cgroup.memory - cgroup.memory_charged,
                       "the cgroup's memory limit");
    if (!getrlimit(RLIMIT_AS, &space) && space.rlim_cur != RLIM_INFINITY && space.rlim_cur < INT64_MAX)
        memory_tighten(&room, (int64_t)space.rlim_cur, (int64_t)space.rlim_cur - memory_mapped(),
                       "the limit of the address space (ulimit -v)");
    return room;
}

bool nd_memory_can_map(size_t bytes) {
    void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return false;
    (void)munmap(room, bytes);
    return true;
}

struct nd_arena_block {
    struct nd_arena_block *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
};

/* Blocks grow from the first size to the last: there may be one arena a row, or one for a whole graph. */
enum { nd_arena_block_first = 1 << 10, nd_arena_block_last = 1 << 16 };

void *nd_arena_alloc(nd_arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + 15) / 16 * 16;
    struct nd_arena_block *block = arena->head;
    if (!block || block->size - block->used < bytes) {
        const size_t usual = !block                              ? nd_arena_block_first
                             : block->size < nd_arena_block_last ? 2 * block->size
                                                                 : nd_arena_block_last;
        const size_t size = bytes > usual ? bytes : usual;
        block = calloc(1, sizeof *block + size);
        if (!block) return NULL;
        block->size = size;
        /* A block made for one large item goes after the current one, which still has room. */
        if (arena->head && bytes > usual) {
            block->next = arena->head->next;
            arena->head->next = block;
        } else {
            block->next = arena->head;
            arena->head = block;
        }
    }
    void *item = block->bytes + block->used;
    block->used += bytes;
    return item;
}

char *nd_arena_strndup(nd_arena *arena, const char *text, size_t length) {
    if (!text || length == SIZE_MAX) return NULL;
    char *copy = nd_arena_alloc(arena, length + 1);
    if (copy && length) memcpy(copy, text, length);
    return copy;
}

char *nd_arena_strdup(nd_arena *arena, const char *text) {
    return text ? nd_arena_strndup(arena, text, strlen(text)) : NULL;
}

char *nd_arena_printf(nd_arena *arena, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : nd_arena_alloc(arena, (size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void nd_arena_free(nd_arena *arena) {
    for (struct nd_arena_block *block = arena->head, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    arena->head = NULL;
}

static void buffer_release_heap(nd_buffer *buffer) {
    free(buffer->data);
}

nd_status nd_buffer_new(size_t bytes, nd_buffer **out) {
    *out = NULL;
    nd_buffer *buffer = calloc(1, sizeof *buffer);
    void *data = nd_alloc_array(bytes, 1);
    if (!buffer || !data) {
        free(buffer);
        free(data);
        return nd_fail(nd_status_memory, "no memory for %zu bytes", bytes);
    }
    *buffer = (nd_buffer){.data = data, .bytes = bytes, .release = buffer_release_heap, .references = 1};
    *out = buffer;
    return nd_status_ok;
}

nd_buffer *nd_buffer_ref(nd_buffer *buffer) {
    if (buffer) __atomic_add_fetch(&buffer->references, 1, __ATOMIC_RELAXED);
    return buffer;
}

void nd_buffer_unref(nd_buffer *buffer) {
    if (!buffer || __atomic_sub_fetch(&buffer->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    buffer->release(buffer);
    free(buffer);
}
