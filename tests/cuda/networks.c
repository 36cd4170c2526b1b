/* Whole networks of the zoo on the CUDA backend, dense (in both layouts) and decoupled, in every precision
 * and at batches from 1 to 256: compiled, laid out in memory, started twice (the first run records) and
 * released. Weights are zeros and nothing is computed: over the mock (tests/cuda/mock, dry=1) it is a
 * question of shapes, sizes, launches and memory. nd_networks ARCH... */
#include "decouple/decouple.h"
#include "model/infer/infer.h"
#include "model/zoo/zoo.h"
#include "run/executor.h"
#include "run/plugins.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct nd_networks_run {
    const char *name;
    const nd_graph *graph;
    nd_backend *backend;
    nd_exec_settings settings;
} nd_networks_run;

static const char *networks_fuse(nd_fuse fuse) {
    return fuse == nd_fuse_off ? "unfused" : "auto";
}

static nd_status networks_once(const nd_networks_run *run) {
    nd_exec *exec;
    nd_status status = nd_status_ok;
    ND_TRY(nd_exec_open(run->backend, run->graph, &run->settings, &exec));
    for (int i = 0; i < 2; i++) {
        ND_TRY_DONE(nd_exec_start(exec));
        ND_TRY_DONE(nd_exec_wait(exec));
    }
    ND_REQUIRE_DONE(nd_exec_captured(exec), nd_status_failed, "not one captured graph");
    ND_REQUIRE_DONE(nd_exec_batch(exec) == run->settings.batch, nd_status_failed, "another batch");
    printf("%s,%s,%s,%s,%d,%zu,%.1f\n", run->name, networks_fuse(run->settings.separable),
           run->settings.turned ? "NCHW" : "NHWC", nd_precision_name(run->settings.precision),
           (int)run->settings.batch, nd_exec_node_count(exec),
           (double)nd_exec_activation_bytes(exec) / 0x1p20);
done:
    nd_exec_close(exec);
    return status
               ? nd_fail_in(status, "%s, %s, %s, batch %d", run->name, networks_fuse(run->settings.separable),
                            nd_precision_name(run->settings.precision), (int)run->settings.batch)
               : nd_status_ok;
}

static nd_status networks_all(nd_networks_run *run, nd_fuse fuse, bool turned) {
    static const int64_t batches[] = {1, 7, 32, 256};
    /* int8 is of single works. */
    for (int precision = 0; precision < nd_precision_int8; precision++)
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            run->settings = (nd_exec_settings){.batch = batches[b],
                                               .precision = (nd_precision)precision,
                                               .separable = fuse,
                                               .turned = turned};
            ND_TRY(networks_once(run));
        }
    return nd_status_ok;
}

static nd_status networks_decouple(nd_graph *graph) {
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_decouple_report report = {0};
    nd_backend *ref;
    settings.method = "dwpw";
    settings.target = 3;
    ND_TRY(nd_backend_open("ref", &(nd_backend_settings){0}, &ref));
    const nd_status status = nd_decouple(graph, ref, &settings, &report);
    nd_decouple_report_free(&report);
    nd_backend_close(ref);
    return status;
}

static nd_status networks_arch(nd_backend *backend, const char *arch) {
    const nd_zoo_entry *entry = nd_zoo_find(arch);
    nd_graph *graph = NULL;
    char name[64];
    nd_status status = nd_status_ok;
    ND_REQUIRE(entry, nd_status_usage, "the zoo has no %s", arch);
    ND_TRY(nd_zoo_build(entry, nd_zoo_blank, NULL, &graph));
    ND_TRY_DONE(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    ND_TRY_DONE(nd_decouple_prepare(graph));
    nd_networks_run run = {.name = arch, .graph = graph, .backend = backend};
    ND_TRY_DONE(networks_all(&run, nd_fuse_auto, false));
    ND_TRY_DONE(networks_all(&run, nd_fuse_auto, true));
    ND_TRY_DONE(networks_decouple(graph));
    snprintf(name, sizeof name, "%s T=3", arch);
    run.name = name;
    ND_TRY_DONE(networks_all(&run, nd_fuse_auto, false));
    ND_TRY_DONE(networks_all(&run, nd_fuse_off, false));
done:
    nd_graph_free(graph);
    return status;
}

int main(int argc, char **argv) {
    nd_backend *backend;
    nd_status status = nd_backend_open("cuda", &(nd_backend_settings){0}, &backend);
    printf("network,separable,layout,dtype,batch,kernels,activation_mib\n");
    for (int i = 1; i < argc && !status; i++) status = networks_arch(backend, argv[i]);
    if (status) fprintf(stderr, "networks: %s\n", nd_error());
    nd_backend_close(backend);
    return status ? 1 : 0;
}
