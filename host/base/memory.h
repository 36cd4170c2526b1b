/* Memory: an arena for small things that live as long as their owner, aligned blocks for numbers, and
 * reference-counted buffers for tensor data that several tensors (or a file mapping) share. */
#ifndef ND_BASE_MEMORY_H
#define ND_BASE_MEMORY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

enum { nd_alignment = 64 }; /* bytes: one cache line, one AVX-512 register */

/* count * size bytes, zeroed, aligned to nd_alignment; NULL on overflow or exhaustion. Free with free(). */
void *nd_alloc_array(size_t count, size_t size);

/* Room for one more item after the `count` that an array of malloc holds: the array, perhaps moved, its
 * capacity then doubled; NULL on overflow or exhaustion, with the array left as it was. */
void *nd_array_grow(void *items, size_t count, size_t *capacity, size_t size);

/* What this process may hold in all, in bytes: the least of the machine's memory, the limits of its control
 * groups (versions 1 and 2) and RLIMIT_AS; `by` says which, in words. And what of that is left now, for
 * whoever sizes batches and caches: at least 1. */
typedef struct nd_memory_room {
    size_t limit, left;
    const char *by;
} nd_memory_room;

nd_memory_room nd_memory_find(void);

/* Whether so much more can be mapped at once. Libraries may ask for ever where it cannot. */
bool nd_memory_can_map(size_t bytes);

/* Bump allocator. A zeroed struct is an empty arena. Everything from it is freed at once, zeroed when handed
 * out. */
typedef struct nd_arena {
    struct nd_arena_block *head;
} nd_arena;

void *nd_arena_alloc(nd_arena *arena, size_t bytes);      /* NULL when out of memory */
char *nd_arena_strdup(nd_arena *arena, const char *text); /* NULL in gives NULL out */
char *nd_arena_strndup(nd_arena *arena, const char *text, size_t length);
char *nd_arena_printf(nd_arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
void nd_arena_free(nd_arena *arena);

/* Shared bytes. `release(data, bytes, user)` runs when the last reference goes. Counting is atomic. */
typedef struct nd_buffer nd_buffer;
struct nd_buffer {
    void *data;
    size_t bytes;
    void (*release)(nd_buffer *buffer);
    void *user;
    int references; /* touched by nd_buffer_ref and nd_buffer_unref alone */
};

nd_status nd_buffer_new(size_t bytes, nd_buffer **out); /* zeroed heap memory */
nd_buffer *nd_buffer_ref(nd_buffer *buffer);            /* returns its argument; NULL is legal */
void nd_buffer_unref(nd_buffer *buffer);                /* NULL is legal */

#pragma GCC visibility pop

#endif
