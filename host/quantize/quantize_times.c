/* How long networks take, in fp32 and in integers, in turns. */
#include "quantize/quantizing.h"

#include "run/executor.h"

#include <math.h>
#include <stdlib.h>

enum { warm_runs = 3, timed_runs = 12 };

/* One network, running. */
typedef struct nd_timed {
    nd_exec *exec;
    double *ns; /* by kernel: the least */
} nd_timed;

static nd_status timed_open(nd_backend *backend, const nd_graph *graph, const nd_batch *image,
                            nd_timed *timed) {
    const nd_exec_settings settings = {.batch = 1, .time_nodes = true};
    ND_TRY(nd_exec_open(backend, graph, &settings, &timed->exec));
    const size_t count = nd_exec_node_count(timed->exec);
    timed->ns = nd_alloc_array(count + 1, sizeof *timed->ns);
    ND_REQUIRE(timed->ns, nd_status_memory, "no memory for times");
    for (size_t k = 0; k < count; k++) timed->ns[k] = INFINITY;
    return nd_exec_upload(timed->exec, 1, &image->images);
}

static nd_status timed_run(nd_timed *timed, bool counts) {
    ND_TRY(nd_exec_start(timed->exec));
    ND_TRY(nd_exec_wait(timed->exec));
    for (size_t k = 0; counts && k < nd_exec_node_count(timed->exec); k++)
        timed->ns[k] = fmin(timed->ns[k], nd_exec_node_at(timed->exec, k).ns);
    return nd_status_ok;
}

static nd_status time_graphs(const nd_quantizing *q, const nd_graph *const *graphs, int n, nd_timed *timed,
                             double *ns) {
    nd_batches *calib = q->settings->calib;
    nd_batch image = {0};
    ND_TRY(calib->rewind(calib));
    ND_TRY(calib->next(calib, &image));
    ND_REQUIRE(image.n, nd_status_input, "%s: no image could be read", calib->name);
    for (int g = 0; g < n; g++) ND_TRY(timed_open(q->backend, graphs[g], &image, &timed[g]));
    for (int run = -warm_runs; run < timed_runs; run++)
        for (int g = 0; g < n; g++) ND_TRY(timed_run(&timed[g], run >= 0));
    for (int g = 0; g < n; g++)
        for (size_t k = 0; k < nd_exec_node_count(timed[g].exec); k++) ns[g] += timed[g].ns[k];
    return nd_status_ok;
}

nd_status nd_quantizing_time(const nd_quantizing *q, const nd_graph *const *graphs, int n, double *ns) {
    nd_timed timed[nd_quantizing_timed] = {0};
    for (int g = 0; g < n; g++) ns[g] = 0;
    const nd_status status = time_graphs(q, graphs, n, timed, ns);
    for (int g = 0; g < n; g++) {
        nd_exec_close(timed[g].exec);
        free(timed[g].ns);
    }
    return status == nd_status_unsupported ? nd_status_ok : status;
}
