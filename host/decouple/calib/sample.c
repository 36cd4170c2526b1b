#include "decouple/calib/sample.h"

#include <stdlib.h>
#include <string.h>

int64_t nd_value_size(const nd_graph *graph, int value) {
    const nd_value *v = &graph->values[value];
    int64_t count = v->rank > 0 ? nd_dims_count(v->rank - 1, v->dims + 1) : -1;
    return count > 0 ? count : 0;
}

void nd_taps_close(nd_taps *taps) {
    nd_exec_close(taps->exec);
    for (int i = 0; i < taps->n; i++) free(taps->data[i]);
    *taps = (nd_taps){0};
}

/* Which of the inputs the wanted values depend on. */
static nd_status find_fed(nd_taps *taps, const int *wanted, int n_wanted) {
    const nd_graph *graph = taps->graph;
    bool *needed = nd_alloc_array((size_t)graph->n_values, sizeof *needed);
    ND_REQUIRE(needed, nd_status_memory, "no memory for a walk");
    for (int i = 0; i < n_wanted; i++) needed[wanted[i]] = true;
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        const nd_node *node = &graph->nodes[n];
        bool runs = false;
        for (int o = 0; o < node->n_out; o++) {
            bool given = false;
            for (int i = 0; i < taps->n_inputs; i++) given = given || taps->input[i] == node->out[o];
            runs = runs || (node->out[o] >= 0 && needed[node->out[o]] && !given);
        }
        for (int i = 0; runs && i < node->n_in; i++)
            if (node->in[i] >= 0) needed[node->in[i]] = true;
    }
    for (int i = 0; i < taps->n_inputs; i++) taps->fed[i] = needed[taps->input[i]];
    free(needed);
    return nd_status_ok;
}

static nd_status open_exec(nd_taps *taps, nd_backend *backend, int64_t batch, const int *wanted, int n) {
    int inputs[nd_taps_max], n_inputs = 0;
    ND_TRY(find_fed(taps, wanted, n));
    for (int i = 0; i < taps->n_inputs; i++)
        if (taps->fed[i]) inputs[n_inputs++] = taps->input[i];
    nd_exec_settings settings = {
        .batch = batch,
        .shrink = true,
        .inputs = inputs,
        .n_inputs = n_inputs,
        .outputs = wanted,
        .n_outputs = n,
    };
    return nd_exec_open(backend, taps->graph, &settings, &taps->exec);
}

nd_status nd_taps_open(nd_backend *backend, const nd_graph *graph, int64_t batch, const int *inputs,
                       int n_inputs, const int *values, int n, nd_taps *out) {
    nd_status status = nd_status_ok;
    int wanted[nd_taps_max], n_wanted = 0;
    if (!inputs) n_inputs = 1;
    *out = (nd_taps){.graph = graph, .n_inputs = n_inputs};
    ND_REQUIRE(n <= nd_taps_max && n_inputs <= nd_taps_max, nd_status_unsupported,
               "%s: more than %d values cross one layer", graph->name, nd_taps_max);
    for (int i = 0; i < n_inputs; i++) out->input[i] = inputs ? inputs[i] : graph->inputs[0];
    for (int i = 0; i < n; i++) {
        int64_t size = nd_value_size(graph, values[i]);
        ND_REQUIRE_DONE(size > 0, nd_status_unsupported, "%s: the shape of %s is not known", graph->name,
                        graph->values[values[i]].name);
        out->value[i] = values[i];
        out->like[i] = out->given[i] = -1;
        for (int j = 0; j < i && out->like[i] < 0; j++)
            if (values[j] == values[i]) out->like[i] = j;
        for (int j = 0; j < n_inputs; j++)
            if (out->input[j] == values[i]) out->given[i] = j;
        out->data[i] = nd_alloc_array((size_t)batch, (size_t)size * sizeof(float));
        out->n = i + 1;
        ND_REQUIRE_DONE(out->data[i], nd_status_memory, "no memory for a block of %s",
                        graph->values[values[i]].name);
        if (out->given[i] < 0 && out->like[i] < 0) wanted[n_wanted++] = values[i];
    }
    if (n_wanted) ND_TRY_DONE(open_exec(out, backend, batch, wanted, n_wanted));
done:
    if (status) nd_taps_close(out);
    return status;
}

nd_status nd_taps_run(nd_taps *taps, int64_t n, const float *const *inputs) {
    float *outputs[nd_taps_max];
    const float *fed[nd_taps_max];
    int n_outputs = 0, n_fed = 0;
    for (int i = 0; i < taps->n; i++)
        if (taps->given[i] < 0 && taps->like[i] < 0) outputs[n_outputs++] = taps->data[i];
    for (int i = 0; i < taps->n_inputs; i++)
        if (taps->fed[i]) fed[n_fed++] = inputs[i];
    if (taps->exec) ND_TRY(nd_exec_run(taps->exec, n, fed, outputs));
    for (int i = 0; i < taps->n; i++) {
        size_t bytes = (size_t)(n * nd_value_size(taps->graph, taps->value[i])) * sizeof(float);
        if (taps->given[i] >= 0)
            memcpy(taps->data[i], inputs[taps->given[i]], bytes);
        else if (taps->like[i] >= 0)
            memcpy(taps->data[i], taps->data[taps->like[i]], bytes);
    }
    return nd_status_ok;
}

nd_status nd_sample(nd_batches *batches, int64_t images, nd_taps *const *taps, int n_taps,
                    nd_sample_block *block, void *context) {
    ND_TRY(batches->rewind(batches));
    int64_t done = 0;
    for (;;) {
        nd_batch batch = {0};
        ND_TRY(batches->next(batches, &batch));
        if (!batch.n) break;
        int64_t n = images > 0 && batch.n > images - done ? images - done : batch.n;
        for (int t = 0; t < n_taps; t++) ND_TRY(nd_taps_run(taps[t], n, &batch.images));
        ND_TRY(block(context, n));
        done += n;
        if (images > 0 && done >= images) break;
    }
    ND_REQUIRE(done > 0, nd_status_input, "%s: no image could be read", batches->name);
    return nd_status_ok;
}
