/* Memory of the CPU backend.
 *
 * With ND_CPU_GUARD=begin or =end in the environment every buffer from `allocate` starts or ends exactly at a
 * page that may not be touched, so that a read or write past it is a fault in any build: how the kernels'
 * masks and tails are tested. Buffers are then aligned to their element only. */
#ifndef ND_RUN_CPU_MEMORY_H
#define ND_RUN_CPU_MEMORY_H

#include "run/backend.h"

struct nd_memory {
    void *data;
    size_t bytes;
    void *mapping; /* guarded memory: what to unmap, NULL for the heap */
    size_t mapped;
};

/* nd_alloc_array, on huge pages where the block spans several: streaming over a feature map a page of 4 KiB
 * at a time costs a table walk every 16 pixels of 64 channels. Free with free(). */
void *nd_cpu_alloc(size_t count, size_t size);

typedef enum nd_cpu_guard { nd_cpu_guard_none, nd_cpu_guard_begin, nd_cpu_guard_end } nd_cpu_guard;

nd_cpu_guard nd_cpu_guard_wanted(void); /* by ND_CPU_GUARD */
nd_status nd_cpu_memory_new(size_t bytes, nd_cpu_guard guard, nd_memory **out);
void nd_cpu_memory_free(nd_memory *memory); /* NULL is legal */

#endif
