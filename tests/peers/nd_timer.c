/* Times a network in turns with other runtimes, which a script leads.
 *
 * usage: nd_timer MODEL DTYPE BATCH wall|cpu [ISA]
 * Runs MODEL on the CPU on one thread, folded. The first line of stdout has the device, its libraries and the
 * costs of the network, in JSON. Then, for every line of stdin, a number of seconds, comes a line of times
 * of the runs within them, input and output included, in ns. */
#include "base/parallel.h"
#include "base/rng.h"
#include "model/cost.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "run/executor.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct nd_timer_run {
    nd_graph *graph;
    nd_backend *backend;
    nd_exec *exec;
    float *in, *out;
    int64_t batch;
} nd_timer_run;

static int64_t timer_now(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static float *timer_values(const nd_graph *graph, int value, size_t *count) {
    *count = (size_t)nd_dims_count(graph->values[value].rank, graph->values[value].dims);
    return nd_alloc_array(*count, sizeof(float));
}

static nd_status timer_open(nd_timer_run *run, char **argv) {
    const nd_backend_settings one = {.threads = 1, .isa = argv[5]}; /* past the last: NULL, the best */
    nd_exec_settings settings = {0};
    size_t in, out;
    run->batch = settings.batch = strtoll(argv[3], NULL, 10);
    ND_REQUIRE(run->batch > 0, nd_status_usage, "'%s' is no batch", argv[3]);
    ND_REQUIRE(nd_precision_find(argv[2], &settings.precision), nd_status_usage, "'%s' is no type", argv[2]);
    nd_threads_set(1);
    ND_TRY(nd_backend_open("cpu", &one, &run->backend));
    ND_TRY(nd_model_open(argv[1], &run->graph));
    ND_TRY(nd_graph_fold(run->graph));
    ND_TRY(nd_graph_infer(run->graph, &(nd_infer_settings){.batch = run->batch}));
    ND_TRY(nd_exec_open(run->backend, run->graph, &settings, &run->exec));
    run->in = timer_values(run->graph, run->graph->inputs[0], &in);
    run->out = timer_values(run->graph, run->graph->outputs[0], &out);
    ND_REQUIRE(run->in && run->out, nd_status_memory, "no memory");
    nd_rng rng = nd_rng_seed(1);
    for (size_t i = 0; i < in; i++) run->in[i] = (float)nd_rng_normal(&rng);
    return nd_status_ok;
}

static void timer_describe(const nd_timer_run *run) {
    const nd_cost cost = nd_cost_graph(run->graph);
    printf("{\"device\": \"%s\", \"libraries\": \"%s\", \"conv_macs\": %" PRId64 ", \"total_macs\": %" PRId64
           ", \"params\": %" PRId64 "}\n",
           run->backend->device, run->backend->libraries, cost.conv_macs, cost.total_macs, cost.params);
    fflush(stdout);
}

static nd_status timer_serve(nd_timer_run *run, clockid_t clock) {
    double seconds;
    const float *in = run->in;
    while (scanf("%lf", &seconds) == 1) {
        const int64_t end = timer_now(CLOCK_MONOTONIC) + (int64_t)(seconds * 1e9);
        ND_TRY(nd_exec_run(run->exec, run->batch, &in, &run->out));
        do {
            const int64_t start = timer_now(clock);
            ND_TRY(nd_exec_run(run->exec, run->batch, &in, &run->out));
            printf("%" PRId64 " ", timer_now(clock) - start);
        } while (timer_now(CLOCK_MONOTONIC) < end);
        printf("\n");
        fflush(stdout);
    }
    return nd_status_ok;
}

int main(int argc, char **argv) {
    nd_timer_run run = {0};
    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: nd_timer MODEL DTYPE BATCH wall|cpu [ISA]\n");
        return nd_status_exit_code(nd_status_usage);
    }
    nd_status status = timer_open(&run, argv);
    if (!status) timer_describe(&run);
    if (!status)
        status = timer_serve(&run, strcmp(argv[4], "cpu") ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID);
    if (status) fprintf(stderr, "%s: %s\n", nd_status_name(status), nd_error());
    nd_exec_close(run.exec);
    nd_backend_close(run.backend);
    nd_graph_free(run.graph);
    free(run.in);
    free(run.out);
    return nd_status_exit_code(status);
}
