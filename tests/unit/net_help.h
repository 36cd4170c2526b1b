/* Running small networks, and how far apart two are. */
#ifndef ND_TESTS_NET_HELP_H
#define ND_TESTS_NET_HELP_H

#include "run/executor.h"
#include "small_net.h"

static inline float *run_net(nd_backend *backend, const nd_graph *graph, int64_t n, const float *images,
                             int64_t *classes) {
    nd_exec *exec = NULL;
    const nd_value *out = &graph->values[graph->outputs[0]];
    *classes = nd_dims_count(out->rank - 1, out->dims + 1);
    float *logits = nd_alloc_array((size_t)(n * *classes), sizeof *logits);
    OK(nd_exec_open(backend, graph, &(nd_exec_settings){.batch = n}, &exec));
    OK(nd_exec_run(exec, n, &images, &logits));
    nd_exec_close(exec);
    return logits;
}

static inline double logit_distance(nd_backend *backend, const nd_graph *a, const nd_graph *b, int64_t n,
                                    uint64_t seed) {
    const nd_value *x = &a->values[a->inputs[0]];
    int64_t classes = 0;
    float *images = help_normals(n * x->dims[1] * x->dims[2] * x->dims[3], seed);
    float *first = run_net(backend, a, n, images, &classes),
          *second = run_net(backend, b, n, images, &classes);
    double *wide_a = help_widen(first, n * classes), *wide_b = help_widen(second, n * classes);
    double distance = help_distance(wide_b, wide_a, n * classes);
    free(images);
    free(first);
    free(second);
    free(wide_a);
    free(wide_b);
    return distance;
}

#endif
