/* At full rank every network of the zoo is itself again: random weights, one random image, all layers with a
 * spatial kernel decoupled, the first among them. The networks that take longest run with ND_TEST_ALL=1. */
#include "base/rng.h"
#include "decouple/decouple.h"
#include "model/infer/infer.h"
#include "model/zoo/zoo.h"
#include "run/executor.h"
#include "run/plugins.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void say_nothing(void *user, nd_log_level level, const char *message) {
    (void)user, (void)level, (void)message;
}

static float *logits(nd_backend *backend, const nd_graph *graph, const float *image, int64_t classes) {
    nd_exec *exec;
    const nd_exec_settings settings = {.batch = 1};
    float *out = nd_alloc_array((size_t)classes, sizeof *out);
    cr_assert_eq(nd_exec_open(backend, graph, &settings, &exec), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_exec_run(exec, 1, &image, &out), nd_status_ok, "%s", nd_error());
    nd_exec_close(exec);
    return out;
}

static double relative_difference(const float *a, const float *b, int64_t count) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / norm);
}

static void check_network(const char *name) {
    const nd_zoo_entry *entry = nd_zoo_find(name);
    nd_backend *backend;
    nd_graph *graph;
    cr_assert_eq(nd_backend_open("auto", &(nd_backend_settings){0}, &backend), nd_status_ok, "%s",
                 nd_error());
    if (!strcmp(backend->name, "ref") && entry->height > 32) {
        nd_backend_close(backend);
        cr_skip_test("%s takes minutes on the reference backend", name);
    }
    cr_assert_eq(nd_zoo_open(name, NULL, &graph), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_graph_fold(graph), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}), nd_status_ok, "%s", nd_error());
    const size_t pixels = (size_t)(entry->channels * entry->height * entry->width);
    float *image = nd_alloc_array(pixels, sizeof *image);
    nd_rng rng = nd_rng_seed(2);
    for (size_t i = 0; i < pixels; i++) image[i] = (float)nd_rng_normal(&rng);

    float *original = logits(backend, graph, image, entry->classes);
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.target = 65536; /* as many terms as there are */
    settings.first_conv = true;
    nd_decouple_report report = {0};
    nd_log_set(say_nothing, NULL); /* full rank costs more than dense, it would say */
    cr_assert_eq(nd_decouple(graph, backend, &settings, &report), nd_status_ok, "%s", nd_error());
    for (size_t i = 0; i < report.n_layers; i++)
        if (!report.layers[i].why ||
            (strcmp(report.layers[i].why, "pointwise") && strcmp(report.layers[i].why, "depthwise already")))
            cr_expect_str_neq(report.layers[i].method, "dense", "%s", report.layers[i].name);
    float *again = logits(backend, graph, image, entry->classes);
    const double difference = relative_difference(again, original, entry->classes);
    cr_expect_lt(difference, 1e-4, "%s: %g", name, difference);
    cr_expect(isfinite(original[0]) && original[0] != 0, "%s", name);

    free(original);
    free(again);
    free(image);
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

#define FULL_RANK(name)                                                                                      \
    Test(zoo_full_rank, name) {                                                                              \
        check_network(#name);                                                                                \
    }
#define FULL_RANK_LONG(name)                                                                                 \
    Test(zoo_full_rank, name) {                                                                              \
        if (!getenv("ND_TEST_ALL")) cr_skip_test("long: set ND_TEST_ALL=1");                                 \
        check_network(#name);                                                                                \
    }

FULL_RANK(resnet20)
FULL_RANK(resnet32)
FULL_RANK(resnet44)
FULL_RANK(resnet56)
FULL_RANK(resnet110)
FULL_RANK(alexnet)
FULL_RANK(resnet18)
FULL_RANK(resnet50)
FULL_RANK_LONG(resnet34)
FULL_RANK_LONG(resnet101)
FULL_RANK_LONG(resnet152)
FULL_RANK_LONG(resnext50_32x4d)
FULL_RANK_LONG(densenet121)
FULL_RANK_LONG(googlenet)
FULL_RANK_LONG(mobilenet_v2)
FULL_RANK_LONG(repvgg_a0)
FULL_RANK_LONG(repvgg_b1g4)
FULL_RANK_LONG(vgg11)
FULL_RANK_LONG(vgg11_bn)
FULL_RANK_LONG(vgg13)
FULL_RANK_LONG(vgg13_bn)
FULL_RANK_LONG(vgg16)
FULL_RANK_LONG(vgg16_bn)
FULL_RANK_LONG(vgg19)
FULL_RANK_LONG(vgg19_bn)
