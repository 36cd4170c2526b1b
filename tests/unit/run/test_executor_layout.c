/* Networks in the other layout than the backend's own: the same answers from the same memory, on every family
 * of the zoo. */
#include "decouple/decouple.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "model/zoo/zoo.h"
#include "run/executor.h"
#include "run/plugins.h"
#include "tests/unit/help/decouple_help.h"

#include <stdio.h>

enum { images = 2 };

static float *run_in(nd_backend *backend, const nd_graph *graph, nd_exec_settings settings, const float *x,
                     int64_t *count, size_t *bytes) {
    const nd_value *out = &graph->values[graph->outputs[0]];
    nd_exec *exec;
    *count = images * nd_dims_count(out->rank - 1, out->dims + 1);
    float *y = nd_alloc_array((size_t)*count, sizeof *y);
    settings.batch = images;
    OK(nd_exec_open(backend, graph, &settings, &exec));
    OK(nd_exec_run(exec, images, &x, &y));
    *bytes = nd_exec_activation_bytes(exec);
    nd_exec_close(exec);
    return y;
}

/* Sums in another order at most. */
static void expect_the_same(nd_backend *backend, const nd_graph *graph, nd_fuse separable) {
    const nd_value *in = &graph->values[graph->inputs[0]];
    float *x = help_normals(images * nd_dims_count(in->rank - 1, in->dims + 1), 5);
    int64_t count;
    size_t own_bytes, turned_bytes;
    float *own = run_in(backend, graph, (nd_exec_settings){.separable = separable}, x, &count, &own_bytes);
    float *turned = run_in(backend, graph, (nd_exec_settings){.separable = separable, .turned = true}, x,
                           &count, &turned_bytes);
    double *a = help_widen(own, count), *b = help_widen(turned, count);
    cr_expect_lt(help_distance(b, a, count), 1e-6, "%s", graph->name);
    cr_expect_leq(turned_bytes, own_bytes + own_bytes / 4, "%s: %zu bytes, %zu in the own layout",
                  graph->name, turned_bytes, own_bytes);
    free(a);
    free(b);
    free(own);
    free(turned);
    free(x);
}

/* `size`: of the images, smaller than the architecture's; what ends in a mean over the plane takes any. */
static nd_graph *zoo_graph(const char *arch, int64_t size) {
    uint64_t seed = 3;
    nd_graph *graph;
    nd_zoo_entry entry = *nd_zoo_find(arch);
    entry.height = entry.width = size;
    OK(nd_zoo_build(&entry, nd_zoo_random, &seed, &graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    OK(nd_decouple_prepare(graph));
    return graph;
}

static void decouple(nd_backend *backend, nd_graph *graph) {
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_decouple_report report = {0};
    settings.method = "dwpw";
    settings.target = 2;
    OK(nd_decouple(graph, backend, &settings, &report));
    nd_decouple_report_free(&report);
}

static void expect_the_same_of(nd_graph *graph) {
    nd_backend *backend = help_backend();
    for (int last = 0; last < 2; last++) {
        backend->channels_last = last;
        expect_the_same(backend, graph, nd_fuse_auto);
    }
    nd_backend_close(backend);
    nd_graph_free(graph);
}

Test(executor_layout, basic_blocks) {
    expect_the_same_of(zoo_graph("resnet18", 32));
}

Test(executor_layout, bottlenecks) {
    expect_the_same_of(zoo_graph("resnet50", 32));
}

Test(executor_layout, shortcuts_that_cut_and_pad) {
    expect_the_same_of(zoo_graph("resnet32", 16));
}

/* Pools, a plane flattened into a classifier, as VGG and AlexNet have them. */
Test(executor_layout, planes_flattened_into_a_classifier) {
    nd_graph *graph;
    OK(nd_model_open(ND_SOURCE_DIR "/datasets/glyphs/glyphs.onnx", &graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    OK(nd_decouple_prepare(graph));
    expect_the_same_of(graph);
}

Test(executor_layout, decoupled_networks) {
    nd_backend *backend = help_backend();
    nd_graph *graph = zoo_graph("resnet20", 16);
    decouple(backend, graph);
    expect_the_same(backend, graph, nd_fuse_forced);
    expect_the_same(backend, graph, nd_fuse_off);
    nd_graph_free(graph);
    nd_backend_close(backend);
}
