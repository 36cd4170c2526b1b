#include "run/heads.h"

#include <string.h>

int nd_graph_scores(const nd_graph *graph) {
    int64_t classes;
    const int found = nd_graph_class_scores(graph, &classes), value = found < 0 ? graph->outputs[0] : found;
    const int producer = graph->values[value].producer;
    if (producer >= 0 && graph->nodes[producer].op == nd_op_softmax) return graph->nodes[producer].in[0];
    return value;
}

int nd_graph_heads(const nd_graph *graph, int *heads) {
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
