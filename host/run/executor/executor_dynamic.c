/* What is not planned: nodes whose sizes or integers are known while running alone, and all that follows from
 * them. The plan ends where they begin. */
#include "run/executor/executor_parts.h"

bool nd_exec_computed(const nd_exec *exec, int value) {
    return value >= 0 && (exec->values[value].fed || !exec->graph->values[value].init);
}

bool nd_exec_is_late(const nd_exec *exec, int value) {
    const int producer = exec->values[value].producer;
    return producer >= 0 && !exec->values[value].fed && exec->interpreted[producer];
}

/* Truth values are 0 and 1 in any type, and quantised integers are planned; all others are not. */
static bool divide_is_open(const nd_exec *exec, const nd_node *node) {
    for (int k = 0; k < node->n_out; k++) {
        if (node->out[k] < 0 || !nd_exec_computed(exec, node->out[k])) continue;
        const nd_value *value = &exec->graph->values[node->out[k]];
        const bool whole = value->dtype > nd_dtype_bf16 && value->dtype != nd_dtype_bool;
        if (value->rank < 0 || nd_dims_count(value->rank, value->dims) <= 0) return true;
        if (whole && node->op != nd_op_quantize) return true;
    }
    return false;
}

/* Integers are given as numbers, which is all that a cast to those asks. */
static bool divide_reads_integers(const nd_exec *exec, const nd_node *node) {
    if (node->op == nd_op_cast && node->attr.dtype <= nd_dtype_bf16) return false;
    for (int k = 0; k < node->n_in; k++) {
        if (node->in[k] < 0 || !exec->values[node->in[k]].fed) continue;
        const nd_dtype dtype = exec->graph->values[node->in[k]].dtype;
        if (dtype > nd_dtype_bf16 && dtype != nd_dtype_bool) return true;
    }
    return false;
}

/* A plan has quantised integers for what turns them back into numbers; any other reader wants them as they
 * are. */
static bool divide_gives_integers(const nd_exec *exec, const nd_node *node) {
    const nd_graph *graph = exec->graph;
    if (node->op == nd_op_quantize && exec->values[node->out[0]].wanted) return true;
    for (int i = 0; i < graph->n_nodes && node->op == nd_op_quantize; i++)
        for (int k = 0; k < graph->nodes[i].n_in; k++)
            if (exec->needed[i] && graph->nodes[i].in[k] == node->out[0] &&
                graph->nodes[i].op != nd_op_dequantize)
                return true;
    return false;
}

static bool divide_interprets(const nd_exec *exec, const nd_node *node) {
    if (node->dynamic || divide_gives_integers(exec, node)) return true;
    for (int k = 0; k < node->n_in; k++)
        if (node->in[k] >= 0 && nd_exec_is_late(exec, node->in[k])) return true;
    if (node->op == nd_op_opaque) return false;
    return divide_is_open(exec, node) || divide_reads_integers(exec, node);
}

static void divide_add(nd_exec *exec, int value) {
    for (int i = 0; i < exec->n_planned; i++)
        if (exec->planned[i] == value) return;
    exec->planned[exec->n_planned++] = value;
    exec->values[value].wanted = true;
}

nd_status nd_exec_divide(nd_exec *exec) {
    const nd_graph *graph = exec->graph;
    for (int i = 0; i < graph->n_nodes; i++)
        if (exec->needed[i] && divide_interprets(exec, &graph->nodes[i])) {
            exec->interpreted[i] = true;
            exec->n_interpreted++;
        }
    for (int i = 0; i < exec->settings.n_outputs; i++)
        if (!nd_exec_is_late(exec, exec->settings.outputs[i])) divide_add(exec, exec->settings.outputs[i]);
    for (int i = 0; i < graph->n_nodes; i++) {
        if (!exec->interpreted[i]) continue;
        exec->needed[i] = false;
        for (int k = 0; k < graph->nodes[i].n_in; k++) {
            const int value = graph->nodes[i].in[k];
            if (nd_exec_computed(exec, value) && !nd_exec_is_late(exec, value)) divide_add(exec, value);
        }
    }
    return nd_status_ok;
}
