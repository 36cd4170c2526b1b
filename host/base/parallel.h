/* A thin parallel loop over the process's one OpenMP pool, so that our kernels, oneDNN and OpenBLAS never
 * fight for the cores. Without OpenMP it runs serially. */
#ifndef ND_BASE_PARALLEL_H
#define ND_BASE_PARALLEL_H

#include <stdint.h>

/* Runs body(context, begin, end, worker) over disjoint ranges that cover [0, count). The split is static and
 * depends only on count and the thread count; worker is in [0, nd_threads()). Nested calls run serially. */
typedef void nd_parallel_body(void *context, int64_t begin, int64_t end, int worker);
void nd_parallel_for(int64_t count, nd_parallel_body *body, void *context);

int nd_threads(void);           /* threads of the next parallel loop */
void nd_threads_set(int count); /* 0 = all cores */

#endif
