/* Which values are in 8 bits. */
#include "quantize/quantizing.h"

#include "run/captures.h"

/* Nodes that hand elements on as they are. */
static bool is_move(nd_op op) {
    switch (op) {
    case nd_op_max_pool:
    case nd_op_global_max_pool:
    case nd_op_gather:
    case nd_op_concat:
    case nd_op_flatten:
    case nd_op_reshape:
    case nd_op_squeeze:
    case nd_op_unsqueeze:
    case nd_op_transpose:
        return true;
    default:
        return false;
    }
}

bool nd_quantizing_computes(const nd_graph *graph, int value) {
    if (value < 0 || graph->values[value].init || graph->values[value].pinned) return false;
    const int64_t images = graph->values[graph->inputs[0]].dims[0];
    return nd_value_size(graph, value) > 0 && graph->values[value].dims[0] == images;
}

/* Both ends of a move have one range: that of where the elements come from, if that has one itself, and else
 * the one they have afterwards. */
static void mark_move(const nd_graph *graph, bool *marked, int *like, int in, int out) {
    const int from = like[out] >= 0 ? like[out] : out;
    if (!nd_quantizing_computes(graph, in)) return;
    if (!marked[in]) {
        marked[in] = true;
        like[in] = from;
        return;
    }
    const int root = like[in] >= 0 ? like[in] : in;
    for (int v = 0; v < graph->n_values && root != from; v++)
        if (like[v] == from) like[v] = root;
    if (root != from) like[from] = root;
}

/* What goes into integer nodes; both operands of an addition that one of them makes a term of, or else
 * onnxruntime runs that node in fp32; and what is only moved before it gets there. What several are moved
 * into keeps a range of its own where some of them have theirs. */
void nd_quantizing_mark(const nd_graph *graph, const bool *chosen, bool *marked, int *like) {
    for (int v = 0; v < graph->n_values; v++) like[v] = -1;
    for (int i = 0; i < graph->n_nodes; i++)
        if (chosen[i]) marked[graph->nodes[i].in[0]] = true;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (node->op != nd_op_add || !nd_quantizing_computes(graph, node->in[0]) ||
            !nd_quantizing_computes(graph, node->in[1]))
            continue;
        const int a = graph->values[node->in[0]].producer, b = graph->values[node->in[1]].producer;
        if ((a >= 0 && chosen[a]) || (b >= 0 && chosen[b])) marked[node->in[0]] = marked[node->in[1]] = true;
    }
    for (int i = graph->n_nodes - 1; i >= 0; i--) {
        const nd_node *node = &graph->nodes[i];
        const bool several = node->op == nd_op_concat;
        if (!is_move(node->op) || !marked[node->out[0]]) continue;
        for (int k = 0; k < (several ? node->n_in : 1); k++)
            if (!several || !marked[node->in[k]]) mark_move(graph, marked, like, node->in[k], node->out[0]);
    }
}
