#include "bench/subjects/outputs.h"

#include "base/memory.h"
#include "run/captures.h"
#include "run/heads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A known number of values for each image, which a plan makes. varies[n_values]: what depends on images. */
static bool outputs_planned(const nd_graph *graph, const bool *varies, int value) {
    const nd_value *of = &graph->values[value], *images = &graph->values[graph->inputs[0]];
    const bool whole = of->dtype > nd_dtype_bf16 && of->dtype != nd_dtype_bool;
    return nd_value_size(graph, value) && of->dims[0] == images->dims[0] && varies[value] && !whole;
}

nd_status nd_outputs_open(const nd_graph *graph, nd_outputs *out) {
    int heads[nd_heads_max];
    nd_status status = nd_status_ok;
    bool *varies = nd_alloc_array((size_t)graph->n_values, sizeof *varies);
    *out = (nd_outputs){.graph = graph};
    ND_REQUIRE_DONE(varies, nd_status_memory, "bench: out of memory");
    nd_mark_images(graph, varies);
    for (int i = 0; i < graph->n_outputs; i++)
        out->apart = out->apart || !outputs_planned(graph, varies, graph->outputs[i]);
    const int count = out->apart ? nd_graph_heads(graph, heads) : graph->n_outputs;
    const int *from = out->apart ? heads : graph->outputs;
    out->values = nd_alloc_array((size_t)count + 1, sizeof *out->values);
    ND_REQUIRE_DONE(out->values, nd_status_memory, "bench: out of memory");
    for (int i = 0; i < count; i++)
        if (outputs_planned(graph, varies, from[i])) out->values[out->n++] = from[i];
    ND_REQUIRE_DONE(out->n, nd_status_unsupported,
                    "bench: %s: %s does not hold a known number of values for each image", graph->name,
                    graph->n_outputs ? graph->values[graph->outputs[0]].name : "no output");
done:
    free(varies);
    if (status) nd_outputs_close(out);
    return status;
}

void nd_outputs_close(nd_outputs *outputs) {
    free(outputs->values);
    *outputs = (nd_outputs){0};
}

int64_t nd_outputs_size(const nd_outputs *outputs) {
    int64_t size = 0;
    for (int i = 0; i < outputs->n; i++) size += nd_value_size(outputs->graph, outputs->values[i]);
    return size;
}

nd_status nd_outputs_run(const nd_outputs *outputs, nd_backend *backend, const nd_exec_settings *settings,
                         nd_exec *exec, int64_t n, const float *images, float *to) {
    nd_exec_settings now = *settings;
    nd_exec *own = NULL;
    nd_status status = nd_status_ok;
    float **each = nd_alloc_array((size_t)outputs->n, sizeof *each);
    ND_REQUIRE_DONE(each, nd_status_memory, "bench: out of memory");
    for (int i = 0; i < outputs->n; i++) {
        each[i] = to;
        to += n * nd_value_size(outputs->graph, outputs->values[i]);
    }
    if (!exec || outputs->apart) {
        now.by_image = true;
        now.outputs = outputs->values;
        now.n_outputs = outputs->n;
        ND_TRY_DONE(nd_exec_open(backend, outputs->graph, &now, &own));
        exec = own;
    }
    status = nd_exec_run(exec, n, &images, each);
done:
    nd_exec_close(own);
    free(each);
    return status;
}

nd_status nd_outputs_compare(const nd_outputs *outputs, const float *got, int64_t got_n,
                             const float *expected, int64_t n, double bound, const char *subject,
                             const char *with) {
    const nd_graph *graph = outputs->graph;
    for (int i = 0; i < outputs->n; i++) {
        const int64_t size = nd_value_size(graph, outputs->values[i]);
        const char *name = graph->values[outputs->values[i]].name;
        double largest = 0, worst = 0;
        for (int64_t e = 0; e < n * size; e++) {
            ND_REQUIRE(isfinite(got[e]) && isfinite(expected[e]), nd_status_failed,
                       "%s: output \"%s\" is not finite", subject, name);
            largest = fmax(largest, fabs(expected[e]));
            worst = fmax(worst, fabs((double)got[e] - expected[e]));
        }
        ND_REQUIRE(worst <= bound * largest, nd_status_failed,
                   "%s: output \"%s\" differs from %s by %g where the largest is %g (bound %g)", subject,
                   name, with, worst, largest, bound);
        got += got_n * size;
        expected += n * size;
    }
    return nd_status_ok;
}
