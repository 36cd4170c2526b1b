#include "bench/timing/graph_clock.h"

#include "base/machine/clock.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "base/rows/row.h"
#include "model/infer/infer.h"
#include "quantize/quantize.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert((int)nd_clock_graphs_max <= (int)nd_subjects_max, "all graphs of a call are timed together");

nd_status nd_clock_repeat(nd_exec *exec, int64_t repeats) {
    const bool waits = nd_exec_dynamic_count(exec) > 0;
    for (int64_t i = 0; i < repeats; i++) {
        ND_TRY(nd_exec_start(exec));
        if (waits || i + 1 == repeats) ND_TRY(nd_exec_wait(exec));
    }
    return nd_status_ok;
}

static nd_status sample_graph(void *context, int64_t repeats, double *ns) {
    const double start = nd_seconds();
    ND_TRY(nd_clock_repeat(context, repeats));
    *ns = 1e9 * (nd_seconds() - start);
    return nd_status_ok;
}

/* A graph to be timed, as it runs. */
typedef struct timed_graph {
    nd_graph *quantised; /* in 8 bits the clock's own, else NULL */
    nd_exec *exec;
} timed_graph;

nd_status nd_clock_quantize(nd_graph *graph, nd_backend *backend, nd_precision precision, int64_t batch) {
    const nd_quantize_settings settings = {.e4m3 = precision == nd_precision_e4m3};
    nd_quantize_report report;
    ND_TRY(nd_quantize_graph(graph, backend, &settings, &report));
    nd_quantize_report_free(&report);
    ND_TRY(nd_graph_fold(graph));
    return nd_graph_infer(graph, &(nd_infer_settings){.batch = batch});
}

static nd_status open_graph(const nd_graph_clock *self, const nd_graph *graph, timed_graph *out) {
    const nd_value *x = &graph->values[graph->inputs[0]];
    const int64_t batch = self->clock.batch, count = nd_dims_count(x->rank - 1, x->dims + 1) * batch;
    const nd_exec_settings settings = {.batch = batch, .precision = self->precision};
    if (nd_precision_is_quantised(self->precision) && !nd_graph_is_quantised(graph)) {
        ND_TRY(nd_graph_clone(graph, &out->quantised));
        ND_TRY(nd_clock_quantize(out->quantised, self->backend, self->precision, batch));
        graph = out->quantised;
    }
    nd_rng rng = nd_rng_seed(1);
    float *images = nd_alloc_array((size_t)count, sizeof *images);
    ND_REQUIRE(images, nd_status_memory, "%s: no memory for timing it", graph->name);
    for (int64_t i = 0; i < count; i++) images[i] = (float)nd_rng_normal(&rng);
    nd_status status = nd_exec_open(self->backend, graph, &settings, &out->exec);
    if (!status) status = nd_exec_upload(out->exec, batch, (const float *const *)&images);
    free(images);
    return status;
}

static nd_status measure_graphs(void *user, const nd_graph *const *graphs, int n, double *ns) {
    const nd_graph_clock *self = user;
    timed_graph timed[nd_clock_graphs_max] = {0};
    nd_subject subjects[nd_clock_graphs_max];
    nd_timing timing = {0};
    nd_status status = nd_status_ok;
    ND_REQUIRE(n >= 1 && n <= nd_clock_graphs_max, nd_status_internal, "%d graphs to time together", n);
    for (int i = 0; i < n; i++) {
        ND_TRY_DONE(open_graph(self, graphs[i], &timed[i]));
        subjects[i] = (nd_subject){graphs[i]->name, sample_graph, timed[i].exec};
    }
    ND_TRY_DONE(nd_timing_measure(subjects, n, &self->timing, &timing));
    for (int i = 0; i < n; i++) ns[i] = timing.subjects[i].summary.median;
done:
    nd_timing_free(&timing);
    for (int i = 0; i < n; i++) {
        nd_exec_close(timed[i].exec);
        nd_graph_free(timed[i].quantised);
    }
    return status;
}

void nd_graph_clock_init(nd_graph_clock *clock, nd_backend *backend, nd_precision precision, int64_t batch,
                         double limit_seconds) {
    nd_row row = {0};
    *clock = (nd_graph_clock){.backend = backend, .precision = precision, .timing = nd_timing_defaults()};
    clock->timing.limit_seconds = limit_seconds;
    nd_row_provenance(&row, 0, NULL);
    const char *commit = row.values[nd_field_commit].text, *cpu = row.values[nd_field_host_cpu].text;
    snprintf(clock->identity, sizeof clock->identity, "%s|%s|%s|%s|%s|%d threads|batch %lld|%s",
             backend->name, backend->device, backend->libraries, nd_precision_name(precision), cpu ? cpu : "",
             nd_threads(), (long long)batch, commit ? commit : "");
    nd_row_free(&row);
    clock->clock =
        (nd_clock){.measure = measure_graphs, .user = clock, .batch = batch, .identity = clock->identity};
}
