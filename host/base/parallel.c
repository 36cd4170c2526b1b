#include "base/parallel.h"

#ifdef _OPENMP
#    include <omp.h>
#endif

#ifdef _OPENMP

void nd_parallel_for(int64_t count, nd_parallel_body *body, void *context) {
    if (count <= 0) return;
    int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
    if (threads > count) threads = (int)count;
    if (threads <= 1) {
        body(context, 0, count, 0);
        return;
    }
#    pragma omp parallel num_threads(threads)
    {
        /* The runtime may give fewer threads than asked for: the split follows what it gave. */
        int team = omp_get_num_threads(), worker = omp_get_thread_num();
        int64_t share = count / team, rest = count % team;
        int64_t begin = worker * share + (worker < rest ? worker : rest);
        int64_t end = begin + share + (worker < rest ? 1 : 0);
        if (begin < end) body(context, begin, end, worker);
    }
}

int nd_threads(void) {
    return omp_in_parallel() ? 1 : omp_get_max_threads();
}

void nd_threads_set(int count) {
    omp_set_num_threads(count > 0 ? count : omp_get_num_procs());
}

#else

void nd_parallel_for(int64_t count, nd_parallel_body *body, void *context) {
    if (count > 0) body(context, 0, count, 0);
}

int nd_threads(void) {
    return 1;
}

void nd_threads_set(int count) {
    (void)count;
}

#endif
