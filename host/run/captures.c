#include "run/captures.h"

#include <stdlib.h>
#include <string.h>

int64_t nd_value_size(const nd_graph *graph, int value) {
    const nd_value *v = &graph->values[value];
    int64_t count = v->rank > 0 ? nd_dims_count(v->rank - 1, v->dims + 1) : -1;
    return count > 0 ? count : 0;
}

void nd_mark_after(const nd_graph *graph, bool *marked) {
    for (int n = 0; n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        bool touched = false;
        for (int i = 0; i < node->n_in; i++) touched = touched || (node->in[i] >= 0 && marked[node->in[i]]);
        for (int o = 0; touched && o < node->n_out; o++)
            if (node->out[o] >= 0) marked[node->out[o]] = true;
    }
}

void nd_mark_images(const nd_graph *graph, bool *marked) {
    for (int i = 0; i < graph->n_inputs; i++) marked[graph->inputs[i]] = true;
    nd_mark_after(graph, marked);
}

void nd_mark_late(const nd_graph *graph, bool *marked) {
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        for (int o = 0; node->dynamic && o < node->n_out; o++)
            if (node->out[o] >= 0) marked[node->out[o]] = true;
    }
    nd_mark_after(graph, marked);
}

void nd_captures_close(nd_captures *captures) {
    nd_exec_close(captures->exec);
    for (int i = 0; i < captures->n; i++) free(captures->data[i]);
    free(captures->value);
    free(captures->data);
    free(captures->like);
    free(captures->given);
    free(captures->outputs);
    *captures = (nd_captures){0};
}

/* Which of the inputs the wanted values depend on. */
static nd_status find_fed(nd_captures *captures, const int *wanted, int n_wanted) {
    const nd_graph *graph = captures->graph;
    bool *needed = nd_alloc_array((size_t)graph->n_values, sizeof *needed);
    ND_REQUIRE(needed, nd_status_memory, "no memory for a calibration pass");
    for (int i = 0; i < n_wanted; i++) needed[wanted[i]] = true;
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        const nd_node *node = &graph->nodes[n];
        bool runs = false;
        for (int o = 0; o < node->n_out; o++) {
            bool given = false;
            for (int i = 0; i < captures->n_inputs; i++) given = given || captures->input[i] == node->out[o];
            runs = runs || (node->out[o] >= 0 && needed[node->out[o]] && !given);
        }
        for (int i = 0; runs && i < node->n_in; i++)
            if (node->in[i] >= 0) needed[node->in[i]] = true;
    }
    for (int i = 0; i < captures->n_inputs; i++) captures->fed[i] = needed[captures->input[i]];
    free(needed);
    return nd_status_ok;
}

static nd_status open_exec(nd_captures *captures, nd_backend *backend, int64_t batch, const int *wanted,
                           int n) {
    int inputs[nd_captures_max], n_inputs = 0;
    ND_TRY(find_fed(captures, wanted, n));
    for (int i = 0; i < captures->n_inputs; i++)
        if (captures->fed[i]) inputs[n_inputs++] = captures->input[i];
    nd_exec_settings settings = {
        .batch = batch,
        .shrink = true,
        .by_image = true,
        .inputs = inputs,
        .n_inputs = n_inputs,
        .outputs = wanted,
        .n_outputs = n,
    };
    return nd_exec_open(backend, captures->graph, &settings, &captures->exec);
}

static nd_status allocate(nd_captures *captures, int n) {
    const size_t count = (size_t)n + 1;
    captures->value = nd_alloc_array(count, sizeof *captures->value);
    captures->data = nd_alloc_array(count, sizeof *captures->data);
    captures->like = nd_alloc_array(count, sizeof *captures->like);
    captures->given = nd_alloc_array(count, sizeof *captures->given);
    captures->outputs = nd_alloc_array(count, sizeof *captures->outputs);
    ND_REQUIRE(captures->value && captures->data && captures->like && captures->given && captures->outputs,
               nd_status_memory, "no memory for a calibration pass");
    return nd_status_ok;
}

nd_status nd_captures_open(nd_backend *backend, const nd_graph *graph, int64_t batch, const int *inputs,
                           int n_inputs, const int *values, int n, nd_captures *out) {
    nd_status status = nd_status_ok;
    int *wanted = nd_alloc_array((size_t)n + 1, sizeof *wanted), n_wanted = 0;
    if (!inputs) n_inputs = 1;
    *out = (nd_captures){.graph = graph, .n_inputs = n_inputs};
    ND_REQUIRE_DONE(wanted, nd_status_memory, "no memory for a calibration pass");
    ND_REQUIRE_DONE(n_inputs <= nd_captures_max, nd_status_unsupported,
                    "%s: more than %d values cross one layer", graph->name, nd_captures_max);
    ND_TRY_DONE(allocate(out, n));
    for (int i = 0; i < n_inputs; i++) out->input[i] = inputs ? inputs[i] : graph->inputs[0];
    for (int i = 0; i < n; i++) {
        int64_t size = nd_value_size(graph, values[i]);
        const nd_value *value = &graph->values[values[i]];
        ND_REQUIRE_DONE(size > 0, nd_status_unsupported, "%s: the shape of %s is not known", graph->name,
                        value->name);
        /* Of the images of the batch that the graph was inferred for, or room for a block is no room for
         * it. */
        ND_REQUIRE_DONE(value->dims[0] == graph->values[graph->inputs[0]].dims[0], nd_status_unsupported,
                        "%s: %s does not begin with the images of a batch", graph->name, value->name);
        out->value[i] = values[i];
        out->like[i] = out->given[i] = -1;
        for (int j = 0; j < i && out->like[i] < 0; j++)
            if (values[j] == values[i]) out->like[i] = j;
        for (int j = 0; j < n_inputs; j++)
            if (out->input[j] == values[i]) out->given[i] = j;
        out->data[i] = nd_alloc_array((size_t)batch, (size_t)size * sizeof(float));
        out->n = i + 1;
        ND_REQUIRE_DONE(out->data[i], nd_status_memory, "no memory for a block of %s", value->name);
        if (out->given[i] >= 0 || out->like[i] >= 0) continue;
        out->outputs[n_wanted] = out->data[i];
        wanted[n_wanted++] = values[i];
    }
    if (n_wanted) ND_TRY_DONE(open_exec(out, backend, batch, wanted, n_wanted));
done:
    free(wanted);
    if (status) nd_captures_close(out);
    return status;
}

nd_status nd_captures_run(nd_captures *captures, int64_t n, const float *const *inputs) {
    const float *fed[nd_captures_max];
    int n_fed = 0;
    for (int i = 0; i < captures->n_inputs; i++)
        if (captures->fed[i]) fed[n_fed++] = inputs[i];
    if (captures->exec) ND_TRY(nd_exec_run(captures->exec, n, fed, captures->outputs));
    for (int i = 0; i < captures->n; i++) {
        size_t bytes = (size_t)(n * nd_value_size(captures->graph, captures->value[i])) * sizeof(float);
        if (captures->given[i] >= 0)
            memcpy(captures->data[i], inputs[captures->given[i]], bytes);
        else if (captures->like[i] >= 0)
            memcpy(captures->data[i], captures->data[captures->like[i]], bytes);
    }
    return nd_status_ok;
}

int64_t nd_sample_count(const nd_batches *batches, int64_t images) {
    return images > 0 && images < batches->count ? images : batches->count;
}

nd_status nd_sample(nd_batches *batches, int64_t images, nd_captures *const *captures, int n_captures,
                    nd_sample_block *block, void *context) {
    ND_TRY(batches->rewind(batches));
    int64_t done = 0;
    for (;;) {
        nd_batch batch = {0};
        ND_TRY(batches->next(batches, &batch));
        if (!batch.n) break;
        int64_t n = images > 0 && batch.n > images - done ? images - done : batch.n;
        for (int t = 0; t < n_captures; t++) ND_TRY(nd_captures_run(captures[t], n, &batch.images));
        ND_TRY(block(context, n));
        done += n;
        if (images > 0 && done >= images) break;
    }
    ND_REQUIRE(done > 0, nd_status_input, "%s: no image could be read", batches->name);
    return nd_status_ok;
}
