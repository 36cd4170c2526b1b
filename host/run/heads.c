#include "run/heads.h"

#include "base/memory.h"
#include "run/captures.h"

#include <stdlib.h>
#include <string.h>

int nd_graph_scores(const nd_graph *graph) {
    int64_t classes;
    const int found = nd_graph_class_scores(graph, &classes), value = found < 0 ? graph->outputs[0] : found;
    const int producer = graph->values[value].producer;
    if (producer >= 0 && graph->nodes[producer].op == nd_op_softmax) return graph->nodes[producer].in[0];
    return value;
}

/* --- before post-processing in the graph */

/* Its numbers of every image are known before the run: the first axis is that of images. */
static bool heads_planned(const nd_graph *graph, int value) {
    const nd_value *of = &graph->values[value];
    for (int i = 0; i < of->rank; i++)
        if (of->dims[i] <= 0) return false;
    return of->rank >= 2 && of->dims[0] == graph->values[graph->inputs[0]].dims[0];
}

static bool heads_late(const nd_graph *graph) {
    for (int i = 0; i < graph->n_outputs; i++) {
        const nd_value *of = &graph->values[graph->outputs[i]];
        bool known = of->rank >= 0;
        for (int k = 0; k < of->rank; k++) known = known && of->dims[k] >= 0;
        if (!known) return true;
    }
    return false;
}

/* Moves numbers, or changes each by itself: what goes in says as much as what comes out. */
static bool heads_passes(nd_op op) {
    static const nd_op ops[] = {
        nd_op_slice,     nd_op_split,   nd_op_gather,   nd_op_reshape, nd_op_transpose, nd_op_squeeze,
        nd_op_unsqueeze, nd_op_flatten, nd_op_identity, nd_op_cast,    nd_op_softmax,   nd_op_sigmoid,
        nd_op_unary,     nd_op_binary,  nd_op_add,      nd_op_sub,     nd_op_mul,       nd_op_div};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ops[i] == op) return true;
    return false;
}

/* The first of the values that says what `value` does, by nodes of one operand that depends on the images. */
static int heads_origin(const nd_graph *graph, const bool *images, int value) {
    for (;;) {
        const nd_node *node = &graph->nodes[graph->values[value].producer];
        int from = -1, varying = 0;
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] >= 0 && images[node->in[i]]) {
                from = node->in[i];
                varying++;
            }
        if (varying != 1 || !heads_passes(node->op) || !heads_planned(graph, from)) return value;
        if (graph->values[from].producer < 0) return value;
        value = from;
    }
}

/* The largest nd_heads_max, the larger ones first. */
static int heads_insert(const nd_graph *graph, int *heads, int n, int value) {
    int at = 0;
    for (int h = 0; h < n; h++)
        if (heads[h] == value) return n;
    while (at < n && nd_value_size(graph, heads[at]) >= nd_value_size(graph, value)) at++;
    if (at == nd_heads_max) return n;
    if (n < nd_heads_max) n++;
    memmove(heads + at + 1, heads + at, (size_t)(n - at - 1) * sizeof *heads);
    heads[at] = value;
    return n;
}

/* What goes into the first nodes whose sizes only the run knows; 0 where there is none, or no memory. */
static int heads_before_late(const nd_graph *graph, int *heads) {
    bool *images = nd_alloc_array((size_t)graph->n_values, sizeof *images),
         *wanted = nd_alloc_array((size_t)graph->n_values, sizeof *wanted);
    int n = 0;
    if (images && wanted) nd_mark_images(graph, images);
    for (int i = 0; images && wanted && i < graph->n_outputs; i++) wanted[graph->outputs[i]] = true;
    for (int i = graph->n_nodes - 1; images && wanted && i >= 0; i--) {
        const nd_node *node = &graph->nodes[i];
        bool late = false;
        for (int o = 0; o < node->n_out; o++) {
            const int value = node->out[o];
            if (value < 0 || !wanted[value]) continue;
            if (images[value] && heads_planned(graph, value))
                n = heads_insert(graph, heads, n, heads_origin(graph, images, value));
            else
                late = true;
        }
        for (int k = 0; late && k < node->n_in; k++)
            if (node->in[k] >= 0) wanted[node->in[k]] = true;
    }
    free(images);
    free(wanted);
    return n;
}

int nd_graph_heads(const nd_graph *graph, int *heads) {
    const int late = heads_late(graph) ? heads_before_late(graph, heads) : 0;
    if (late) return late;
    int64_t classes;
    const int single = graph->n_outputs == 1 ? graph->values[graph->outputs[0]].producer : -1;
    heads[0] = nd_graph_scores(graph);
    if (nd_graph_class_scores(graph, &classes) >= 0) return 1;
    if (single >= 0 && graph->nodes[single].op == nd_op_concat && graph->nodes[single].n_in <= nd_heads_max) {
        const nd_node *node = &graph->nodes[single];
        int n = 0;
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] >= 0 && !graph->values[node->in[i]].init) heads[n++] = node->in[i];
        return n;
    }
    const int n = graph->n_outputs < nd_heads_max ? graph->n_outputs : nd_heads_max;
    memcpy(heads, graph->outputs, (size_t)n * sizeof *heads);
    return n;
}
