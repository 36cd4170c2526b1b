/* Running small networks, and how far apart two are. */
#ifndef ND_TESTS_NET_HELP_H
#define ND_TESTS_NET_HELP_H

#include "decouple/decouple.h"
#include "run/executor.h"
#include "small_net.h"

static inline nd_decouple_report decouple_net(nd_graph *graph, nd_backend *backend,
                                              const nd_decouple_settings *settings) {
    nd_decouple_report report = {0};
    OK(nd_decouple(graph, backend, settings, &report));
    return report;
}

static inline const nd_layer_report *layer_of(const nd_decouple_report *report, const char *name) {
    for (size_t l = 0; l < report->n_layers; l++)
        if (!strcmp(report->layers[l].name, name)) return &report->layers[l];
    cr_assert_fail("no layer %s", name);
    return NULL;
}

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

/* Of what b answers from what a answers, on the same images. */
static inline double distance_on(nd_backend *backend, const nd_graph *a, const nd_graph *b, int64_t n,
                                 const float *images) {
    int64_t classes = 0;
    float *first = run_net(backend, a, n, images, &classes),
          *second = run_net(backend, b, n, images, &classes);
    double *wide_a = help_widen(first, n * classes), *wide_b = help_widen(second, n * classes);
    double distance = help_distance(wide_b, wide_a, n * classes);
    free(first);
    free(second);
    free(wide_a);
    free(wide_b);
    return distance;
}

static inline double logit_distance(nd_backend *backend, const nd_graph *a, const nd_graph *b, int64_t n,
                                    uint64_t seed) {
    const nd_value *x = &a->values[a->inputs[0]];
    float *images = help_normals(n * x->dims[1] * x->dims[2] * x->dims[3], seed);
    double distance = distance_on(backend, a, b, n, images);
    free(images);
    return distance;
}

#endif
