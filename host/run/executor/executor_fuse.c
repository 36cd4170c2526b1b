#include "run/executor/executor_parts.h"

#include <string.h>

nd_group nd_group_single(int node) {
    return (nd_group){.pad = -1,
                      .gather = -1,
                      .again = -1,
                      .depthwise = -1,
                      .middle = -1,
                      .main = node,
                      .bias = -1,
                      .residual = -1,
                      .act = -1,
                      .gate = -1,
                      .quantize = -1,
                      .last = node};
}

const float *nd_exec_channel_constant(nd_exec *exec, const nd_node *node, int axis, int *computed) {
    if (node->n_in != 2 || axis < 0) return NULL;
    const nd_tensor *constant = nd_exec_constant(exec, node, 1);
    *computed = constant ? 0 : 1;
    if (!constant) constant = nd_exec_constant(exec, node, 0);
    if (!constant || nd_exec_constant(exec, node, *computed)) return NULL;
    const nd_exec_value *out = &exec->values[node->out[0]], *in = &exec->values[node->in[*computed]];
    if (in->rank != out->rank || memcmp(in->dims, out->dims, (size_t)in->rank * sizeof *in->dims))
        return NULL;
    if (constant->rank > out->rank || axis >= out->rank) return NULL;
    bool varies = false;
    for (int i = 0; i < constant->rank; i++) {
        if (constant->dims[i] == 1) continue;
        if (i + out->rank - constant->rank != axis || constant->dims[i] != out->dims[axis]) return NULL;
        varies = true;
    }
    const float *values = nd_exec_floats(exec, constant);
    if (varies || !values) return values;
    float *repeated = nd_arena_alloc(&exec->scratch, (size_t)out->dims[axis] * sizeof *repeated);
    for (int64_t i = 0; repeated && i < out->dims[axis]; i++) repeated[i] = values[0];
    return repeated;
}

/* The needed node that alone reads this value, or -1: what may be swallowed by its reader. */
static int exec_only_user(const nd_exec *exec, int value) {
    const nd_exec_value *v = &exec->values[value];
    return v->uses == 1 && !v->wanted ? v->user : -1;
}

/* The needed node that makes input `index`, when nobody else reads it and no group has it yet; else -1. */
static int exec_own_producer(const nd_exec *exec, const nd_node *node, int index) {
    const nd_exec_value *v = &exec->values[node->in[index]];
    if (v->fed || v->producer < 0 || exec_only_user(exec, node->in[index]) < 0) return -1;
    const bool taken = exec->absorbed[v->producer] || exec->groups[v->producer].main >= 0;
    return taken ? -1 : v->producer;
}

static bool exec_is_pointwise(const nd_exec *exec, const nd_node *node) {
    const nd_window *w = &node->attr.window;
    const nd_tensor *weights = nd_exec_constant(exec, node, 1);
    if (node->op != nd_op_conv || !weights || weights->rank != 4 || node->attr.groups != 1) return false;
    for (int i = 0; i < 2; i++)
        if (weights->dims[2 + i] != 1 || w->stride[i] != 1) return false;
    return !w->pad[0] && !w->pad[1] && !w->pad[2] && !w->pad[3];
}

static bool exec_is_depthwise(const nd_exec *exec, const nd_node *node) {
    const nd_tensor *weights = nd_exec_constant(exec, node, 1);
    return node->op == nd_op_conv && weights && weights->rank == 4 && weights->dims[1] == 1 &&
           exec->values[node->in[0]].rank == 4 && node->attr.groups == exec->values[node->in[0]].dims[1];
}

/* Gather on the channel axis with one list of ascending indices: what a separable op does by itself. */
static bool exec_is_ascending_gather(const nd_exec *exec, const nd_node *node) {
    const nd_tensor *list = nd_exec_constant(exec, node, 1);
    if (node->op != nd_op_gather || !list || list->rank != 1) return false;
    if (nd_exec_axis(node->attr.axis, exec->values[node->in[0]].rank) != 1) return false;
    int64_t previous = 0, index;
    for (int64_t i = 0; i < list->dims[0]; i++) {
        if (!nd_exec_index(list, i, &index) || index < previous) return false;
        previous = index;
    }
    return true;
}

/* Pad by zeros on the two spatial axes, which a convolution does by itself. */
static bool exec_is_zero_pad(const nd_exec *exec, const nd_node *node) {
    const nd_attr *attr = &node->attr;
    if (node->op != nd_op_pad || attr->pad_mode || attr->value != 0 || attr->n != 8) return false;
    if (exec->values[node->in[0]].rank != 4) return false;
    for (int i = 0; i < 8; i++)
        if (attr->list[i] < 0 || (i % 4 < 2 && attr->list[i] != 0)) return false;
    return true;
}

/* A needed QuantizeLinear of one constant scale. */
static bool exec_is_quantize(const nd_exec *exec, int node) {
    nd_quant quant;
    return node >= 0 && exec->graph->nodes[node].op == nd_op_quantize &&
           nd_exec_quant(exec, &exec->graph->nodes[node], &quant);
}

/* The depthwise part of a pair, through the quantisation of what lies between, which becomes *middle. */
static int exec_pair(const nd_exec *exec, const nd_node *pointwise, int *middle) {
    const nd_node *nodes = exec->graph->nodes;
    const int before = exec_own_producer(exec, pointwise, 0);
    *middle = -1;
    if (before < 0 || nodes[before].op != nd_op_dequantize) return before;
    const int quantize = exec_own_producer(exec, &nodes[before], 0);
    if (!exec_is_quantize(exec, quantize)) return -1;
    *middle = quantize;
    return exec_own_producer(exec, &nodes[quantize], 0);
}

/* What makes the input of a depthwise part, through a quantisation of integers into the same integers, whose
 * DequantizeLinear becomes *again: that of a Gather from quantised channels. */
static int exec_before_depthwise(const nd_exec *exec, const nd_node *depthwise, int *again) {
    const nd_node *nodes = exec->graph->nodes;
    const int before = exec_own_producer(exec, depthwise, 0);
    nd_quant outer, inner;
    *again = -1;
    if (before < 0 || nodes[before].op != nd_op_dequantize) return before;
    const int quantize = exec_own_producer(exec, &nodes[before], 0);
    if (!exec_is_quantize(exec, quantize)) return before;
    const int gather = exec_own_producer(exec, &nodes[quantize], 0);
    if (gather < 0 || nodes[gather].op != nd_op_gather) return before;
    const int source = exec->values[nodes[gather].in[0]].producer;
    if (source < 0 || nodes[source].op != nd_op_dequantize || !nd_exec_quant(exec, &nodes[source], &inner))
        return before;
    if (!nd_exec_quant(exec, &nodes[quantize], &outer)) return before;
    if (!nd_exec_quant_same(&inner, &outer)) return before;
    *again = before;
    return gather;
}

static void exec_absorb(nd_exec *exec, int node) {
    if (node >= 0) exec->absorbed[node] = true;
}

/* What stands before `main`: depthwise part, gather and padding. */
static void exec_fuse_backward(nd_exec *exec, nd_group *group) {
    const nd_node *nodes = exec->graph->nodes;
    int first = group->main;
    if (exec->settings.separable != nd_fuse_off && exec_is_pointwise(exec, &nodes[first])) {
        int middle;
        const int depthwise = exec_pair(exec, &nodes[first], &middle);
        if (depthwise >= 0 && exec_is_depthwise(exec, &nodes[depthwise])) {
            group->depthwise = first = depthwise;
            group->middle = middle;
            int again;
            const int gather = exec_before_depthwise(exec, &nodes[first], &again);
            if (gather >= 0 && exec_is_ascending_gather(exec, &nodes[gather])) {
                group->gather = gather;
                group->again = again;
            }
        }
    }
    if (nodes[first].op != nd_op_conv || group->gather >= 0) return;
    const int pad = exec_own_producer(exec, &nodes[first], 0);
    if (pad >= 0 && exec_is_zero_pad(exec, &nodes[pad])) group->pad = pad;
}

static int exec_channel_axis(const nd_exec *exec, const nd_node *main) {
    const bool inner_product = main->op == nd_op_gemm || main->op == nd_op_matmul;
    return inner_product ? exec->values[main->out[0]].rank - 1 : 1;
}

static bool exec_takes_residual(const nd_node *main) {
    return main->op == nd_op_conv || main->op == nd_op_gemm;
}

/* Whether `node` adds a computed value of the same dims to `value`. */
static bool exec_is_residual(const nd_exec *exec, const nd_node *node, int value) {
    if (node->op != nd_op_add || node->n_in != 2) return false;
    const int other = node->in[0] == value ? node->in[1] : node->in[0];
    if (other == value || nd_exec_constant(exec, node, node->in[0] == value)) return false;
    const nd_exec_value *a = &exec->values[value], *b = &exec->values[other];
    return a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims);
}

/* The next node that only this group's result goes to, or -1. */
static int exec_next(const nd_exec *exec, const nd_group *group) {
    const int user = exec_only_user(exec, exec->graph->nodes[group->last].out[0]);
    const bool taken = user >= 0 && (exec->absorbed[user] || exec->groups[user].main >= 0);
    return taken ? -1 : user;
}

static bool exec_is_free(const nd_exec *exec, int node) {
    return exec->needed[node] && !exec->absorbed[node] && exec->groups[node].main < 0;
}

/* The Mul of what `gate` reads by what it makes of that and nobody else reads, or -1. */
static int exec_gated(const nd_exec *exec, int gate) {
    const nd_node *nodes = exec->graph->nodes;
    nd_activation activation;
    if (gate < 0 || !exec_is_free(exec, gate) || !nd_exec_gate(&nodes[gate], &activation)) return -1;
    const int x = nodes[gate].in[0], y = nodes[gate].out[0], user = exec_only_user(exec, y);
    if (user < 0 || !exec_is_free(exec, user) || nodes[user].op != nd_op_mul || nodes[user].n_in != 2)
        return -1;
    const int *in = nodes[user].in;
    return (in[0] == x && in[1] == y) || (in[0] == y && in[1] == x) ? user : -1;
}

/* The activation that only this group's result goes to, of one node or gated by itself. */
static bool exec_fuse_activation(const nd_exec *exec, nd_group *group) {
    const nd_node *nodes = exec->graph->nodes;
    const nd_exec_value *value = &exec->values[nodes[group->last].out[0]];
    const int next = exec_next(exec, group);
    nd_activation activation;
    if (next >= 0 && nd_exec_activation(&nodes[next], &activation)) {
        group->act = group->last = next;
        return true;
    }
    const int gated = value->uses == 2 && !value->wanted ? exec_gated(exec, value->user) : -1;
    if (gated < 0) return false;
    group->gate = value->user;
    group->act = group->last = gated;
    return true;
}

/* What follows `main`: constant bias, residual, activation, quantisation, in this order. */
static void exec_fuse_forward(nd_exec *exec, nd_group *group) {
    const nd_node *nodes = exec->graph->nodes, *main = &nodes[group->main];
    const int axis = exec_channel_axis(exec, main);
    while (!exec_fuse_activation(exec, group)) {
        const int value = nodes[group->last].out[0], user = exec_next(exec, group);
        int computed;
        if (user < 0) return;
        const nd_node *node = &nodes[user];
        if (group->residual < 0 && group->bias < 0 && node->op == nd_op_add &&
            nd_exec_channel_constant(exec, node, axis, &computed))
            group->bias = user;
        else if (group->residual < 0 && exec_takes_residual(main) && exec_is_residual(exec, node, value))
            group->residual = user;
        else
            break;
        group->last = user;
    }
    const int quantize = exec_next(exec, group);
    if (exec_is_quantize(exec, quantize)) group->quantize = group->last = quantize;
}

/* Nodes that can lead a group: they have a bias or an epilogue. */
static bool exec_leads(nd_exec *exec, const nd_node *node) {
    int computed;
    switch (node->op) {
    case nd_op_conv:
    case nd_op_batchnorm:
        return true;
    case nd_op_gemm:
    case nd_op_matmul:
        return nd_exec_is_gemm(exec, node);
    case nd_op_add:
    case nd_op_mul:
        return exec->values[node->out[0]].rank >= 2 && nd_exec_channel_constant(exec, node, 1, &computed);
    default:
        return false;
    }
}

static void exec_close_group(nd_exec *exec, const nd_group *group) {
    const int members[] = {group->pad,  group->gather, group->depthwise,
                           group->main, group->bias,   group->residual};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) exec_absorb(exec, members[i]);
    exec_absorb(exec, group->act);
    exec_absorb(exec, group->gate);
    exec_absorb(exec, group->middle);
    exec_absorb(exec, group->again);
    if (group->again >= 0) exec_absorb(exec, exec->values[exec->graph->nodes[group->again].in[0]].producer);
    if (group->middle >= 0) exec_absorb(exec, exec->values[exec->graph->nodes[group->main].in[0]].producer);
    exec->absorbed[group->last] = false;
    exec->groups[group->last] = *group;
}

/* Sums of two computed values that no convolution took: they still take an activation, and a quantisation. */
static void exec_fuse_binary(nd_exec *exec, int index) {
    nd_group group = nd_group_single(index);
    exec_fuse_activation(exec, &group);
    const int quantize = exec_next(exec, &group);
    if (exec_is_quantize(exec, quantize)) group.quantize = group.last = quantize;
    if (group.last != index) exec_close_group(exec, &group);
}

/* A Sigmoid and the Mul by it that nothing before them took: one function of one operand. */
static void exec_fuse_gate(nd_exec *exec, int gate) {
    const int gated = exec_gated(exec, gate);
    if (gated < 0) return;
    nd_group group = nd_group_single(gated);
    group.gate = gate;
    exec_close_group(exec, &group);
}

nd_status nd_exec_fuse(nd_exec *exec) {
    const nd_graph *graph = exec->graph;
    for (int i = 0; i < graph->n_nodes; i++) exec->groups[i] = nd_group_single(-1);
    if (exec->settings.plain) return nd_status_ok;
    /* Separable pairs choose first, or the depthwise part would lead a group of its own. */
    for (int pairs = 1; pairs >= 0; pairs--)
        for (int i = 0; i < graph->n_nodes; i++) {
            if (!exec_is_free(exec, i) || !exec_leads(exec, &graph->nodes[i])) continue;
            nd_group group = nd_group_single(i);
            exec_fuse_backward(exec, &group);
            if (pairs && group.depthwise < 0) continue;
            exec_fuse_forward(exec, &group);
            exec_close_group(exec, &group);
        }
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_op op = graph->nodes[i].op;
        if (!exec_is_free(exec, i)) continue;
        if (op == nd_op_add || op == nd_op_mul) exec_fuse_binary(exec, i);
        exec_fuse_gate(exec, i);
    }
    return nd_status_ok;
}
