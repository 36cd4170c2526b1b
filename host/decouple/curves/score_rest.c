#include "decouple/curves/score_rest.h"

#include <stdlib.h>
#include <string.h>

static bool makes_any(const nd_node *node, const bool *values) {
    for (int o = 0; o < node->n_out; o++)
        if (node->out[o] >= 0 && values[node->out[o]]) return true;
    return false;
}

/* What the heads follow from; post-processing after them is not run. */
static void mark_before_heads(const nd_graph *graph, bool *marked) {
    int heads[nd_heads_max];
    const int count = nd_graph_heads(graph, heads);
    for (int h = 0; h < count; h++) marked[heads[h]] = true;
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        const nd_node *node = &graph->nodes[n];
        if (!makes_any(node, marked)) continue;
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] >= 0) marked[node->in[i]] = true;
    }
}

nd_status nd_score_rest_sides(const nd_graph *graph, int y, int *sides, int *n_sides) {
    nd_status status = nd_status_ok;
    bool *after = nd_alloc_array((size_t)graph->n_values, sizeof *after);
    bool *images = nd_alloc_array((size_t)graph->n_values, sizeof *images);
    bool *listed = nd_alloc_array((size_t)graph->n_values, sizeof *listed);
    bool *wanted = nd_alloc_array((size_t)graph->n_values, sizeof *wanted);
    ND_REQUIRE_DONE(after && images && listed && wanted, nd_status_memory, "no memory for a cut");
    mark_before_heads(graph, wanted);
    nd_mark_images(graph, images);
    after[y] = true;
    nd_mark_after(graph, after);
    *n_sides = 0;
    for (int n = 0; n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        bool touched = false;
        for (int i = 0; i < node->n_in; i++) touched = touched || (node->in[i] >= 0 && after[node->in[i]]);
        if (!touched || !makes_any(node, wanted)) continue;
        for (int i = 0; i < node->n_in; i++) {
            int value = node->in[i];
            if (value < 0 || after[value] || listed[value] || !images[value]) continue;
            ND_REQUIRE_DONE(graph->values[value].rank > 0 &&
                                graph->values[value].dims[0] == graph->values[y].dims[0],
                            nd_status_unsupported, "%s: %s passes by layer %s and is no images of a batch",
                            graph->name, graph->values[value].name, node->name);
            ND_REQUIRE_DONE(*n_sides < nd_captures_max - 1 - nd_heads_max, nd_status_unsupported,
                            "%s: too many values pass by layer %s", graph->name, node->name);
            listed[value] = true;
            sides[(*n_sides)++] = value;
        }
    }
done:
    free(after);
    free(images);
    free(listed);
    free(wanted);
    return status;
}

/* Whether `later` follows from the value. */
static nd_status precedes(const nd_graph *graph, int value, int later, bool *out) {
    bool *after = nd_alloc_array((size_t)graph->n_values, sizeof *after);
    ND_REQUIRE(after, nd_status_memory, "%s: no memory for a cut", graph->name);
    after[value] = true;
    nd_mark_after(graph, after);
    *out = after[later];
    free(after);
    return nd_status_ok;
}

/* --- the end that layers share --- */

/* Whether the value is the images of a batch one after the other, all heads follow from it, and nothing else
 * of an image is needed for them. */
static nd_status is_neck(const nd_graph *graph, int value, const int *heads, int n_heads, bool *out) {
    int sides[nd_captures_max], n_sides = 0;
    const nd_value *of = &graph->values[value];
    *out = false;
    if (!nd_value_size(graph, value) || of->dims[0] != graph->values[graph->inputs[0]].dims[0])
        return nd_status_ok;
    const nd_status status = nd_score_rest_sides(graph, value, sides, &n_sides);
    if (status && status != nd_status_unsupported) return status;
    *out = !status && !n_sides;
    for (int h = 0; *out && h < n_heads; h++)
        if (heads[h] == value)
            *out = false;
        else
            ND_TRY(precedes(graph, value, heads[h], out));
    return nd_status_ok;
}

nd_status nd_score_tail_open(nd_backend *backend, const nd_graph *graph, int value, int64_t batch,
                             nd_score_tail *out) {
    int heads[nd_heads_max];
    const int n_heads = nd_graph_heads(graph, heads);
    bool neck = false;
    if (out->exec) return nd_status_ok;
    ND_TRY(is_neck(graph, value, heads, n_heads, &neck));
    if (!neck) return nd_status_ok;
    out->value = value;
    const nd_exec_settings settings = {.batch = batch,
                                       .shrink = true,
                                       .by_image = true,
                                       .inputs = &value,
                                       .n_inputs = 1,
                                       .outputs = heads,
                                       .n_outputs = n_heads};
    return nd_exec_open(backend, graph, &settings, &out->exec);
}

void nd_score_tail_close(nd_score_tail *tail) {
    nd_exec_close(tail->exec);
    *tail = (nd_score_tail){0};
}

/* --- from a layer on --- */

nd_status nd_score_rest_open(nd_backend *backend, const nd_graph *graph, int y, const int *heads, int n_heads,
                             int64_t batch, const nd_score_tail *tail, nd_score_rest *out) {
    int inputs[nd_captures_max] = {y}, n_sides = 0;
    bool shared = false;
    *out = (nd_score_rest){0};
    ND_TRY(nd_score_rest_sides(graph, y, inputs + 1, &n_sides));
    if (tail && tail->exec) ND_TRY(precedes(graph, y, tail->value, &shared));
    if (shared) out->tail = tail;
    if (shared && y == tail->value) return nd_status_ok;
    if (shared) {
        const size_t size = (size_t)nd_value_size(graph, tail->value);
        out->between = nd_alloc_array((size_t)batch, size * sizeof *out->between);
        ND_REQUIRE(out->between, nd_status_memory, "%s: no memory for the rest of it", graph->name);
    }
    const nd_exec_settings settings = {.batch = batch,
                                       .shrink = true,
                                       .by_image = true,
                                       .inputs = inputs,
                                       .n_inputs = n_sides + 1,
                                       .outputs = shared ? &tail->value : heads,
                                       .n_outputs = shared ? 1 : n_heads};
    return nd_exec_open(backend, graph, &settings, &out->exec);
}

nd_status nd_score_rest_run(const nd_score_rest *rest, int64_t n, const float *const *inputs,
                            float *const *heads) {
    const float *between = rest->exec ? rest->between : inputs[0];
    if (!rest->tail) return nd_exec_run(rest->exec, n, inputs, heads);
    if (rest->exec) ND_TRY(nd_exec_run(rest->exec, n, inputs, (float *const[]){rest->between}));
    return nd_exec_run(rest->tail->exec, n, &between, heads);
}

void nd_score_rest_close(nd_score_rest *rest) {
    nd_exec_close(rest->exec);
    free(rest->between);
    *rest = (nd_score_rest){0};
}
