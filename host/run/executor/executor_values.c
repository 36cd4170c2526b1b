#include "run/executor/executor_parts.h"

#include <string.h>

const char *nd_exec_label(nd_exec *exec, const nd_node *node) {
    const char *type = node->op_type ? node->op_type : nd_op_name(node->op);
    const char *label = nd_arena_printf(&exec->arena, "%s (%s)", node->name, type);
    return label ? label : "?";
}

const nd_tensor *nd_exec_constant(const nd_exec *exec, const nd_node *node, int index) {
    if (index >= node->n_in || node->in[index] < 0 || exec->values[node->in[index]].fed) return NULL;
    return exec->graph->values[node->in[index]].init;
}

int nd_exec_axis(int64_t axis, int rank) {
    if (axis < 0) axis += rank;
    return axis >= 0 && axis < rank ? (int)axis : -1;
}

static nd_status exec_mark(nd_exec *exec) {
    const nd_graph *graph = exec->graph;
    const nd_exec_settings *s = &exec->settings;
    for (int i = 0; i < s->n_inputs; i++) exec->values[s->inputs[i]].fed = true;
    for (int i = 0; i < s->n_outputs; i++) exec->values[s->outputs[i]].wanted = true;
    /* Backwards: a node is needed when one of its values is wanted or read by a needed node. */
    for (int i = graph->n_nodes - 1; i >= 0; i--) {
        const nd_node *node = &graph->nodes[i];
        for (int j = 0; j < node->n_out; j++) {
            const int out = node->out[j];
            if (out < 0 || !nd_exec_computed(exec, out) || exec->values[out].fed) continue;
            if (exec->values[out].wanted || exec->values[out].uses) exec->needed[i] = true;
            exec->values[out].producer = i;
        }
        if (!exec->needed[i]) continue;
        for (int j = 0; j < node->n_in; j++) {
            if (node->in[j] < 0) continue;
            exec->values[node->in[j]].uses++;
            exec->values[node->in[j]].user = i;
        }
    }
    for (int i = 0; i < graph->n_values; i++) {
        const nd_exec_value *value = &exec->values[i];
        if (!value->wanted && !value->uses) continue;
        const char *unread = value->fed ? NULL : graph->values[i].raw_type;
        ND_REQUIRE(!unread || value->user < 0, nd_status_unsupported, "%s: \"%s\" is of %s",
                   nd_exec_label(exec, &graph->nodes[value->user]), graph->values[i].name, unread);
        ND_REQUIRE(value->fed || value->producer >= 0 || graph->values[i].init, nd_status_usage,
                   "value \"%s\" is needed, but neither computed nor an input", graph->values[i].name);
    }
    return nd_status_ok;
}

static bool exec_is_integer(nd_dtype dtype) {
    return dtype > nd_dtype_bf16;
}

static nd_status exec_check_value(const nd_exec *exec, int index) {
    const nd_value *value = &exec->graph->values[index];
    const nd_exec_value *mine = &exec->values[index];
    char dims[128];
    ND_REQUIRE(mine->rank >= 0, nd_status_usage, "value \"%s\" has no shape: infer the graph first",
               value->name);
    ND_REQUIRE(nd_dims_count(mine->rank, mine->dims) > 0, nd_status_unsupported,
               "value \"%s\" is empty or not known (%s)", value->name,
               nd_dims_format(mine->rank, mine->dims, dims, sizeof dims));
    const int producer = mine->producer;
    const bool quantised = producer >= 0 && exec->graph->nodes[producer].op == nd_op_quantize;
    /* Truth values are 0 and 1 in any type. */
    ND_REQUIRE(quantised || mine->fed || value->dtype == nd_dtype_bool || !exec_is_integer(value->dtype),
               nd_status_unsupported,
               "value \"%s\" is computed in %s: only floating point and truth values are run", value->name,
               nd_dtype_name(value->dtype));
    return nd_status_ok;
}

/* The operands that lowering relies on: the first, and all of those that are lists of equals. */
static nd_status exec_check_node(nd_exec *exec, const nd_node *node) {
    const bool equals = node->op == nd_op_add || node->op == nd_op_mul || node->op == nd_op_concat ||
                        node->op == nd_op_sub || node->op == nd_op_div || node->op == nd_op_binary ||
                        node->op == nd_op_where;
    bool whole = node->n_in > 0 && node->n_out > 0 && node->out[0] >= 0;
    for (int i = 0; whole && i < (equals ? node->n_in : 1); i++) whole = node->in[i] >= 0;
    ND_REQUIRE(whole, nd_status_format, "%s: an operand is missing", nd_exec_label(exec, node));
    return nd_status_ok;
}

/* What follows from constants alone, such as the places of default boxes that a detector's file computes. */
static void exec_mark_fixed(nd_exec *exec) {
    for (int i = 0; i < exec->graph->n_nodes; i++) {
        const nd_node *node = &exec->graph->nodes[i];
        bool fixed = exec->needed[i];
        for (int j = 0; fixed && j < node->n_in; j++)
            fixed = !nd_exec_computed(exec, node->in[j]) || exec->values[node->in[j]].fixed;
        for (int j = 0; fixed && j < node->n_out; j++)
            if (node->out[j] >= 0 && !exec->values[node->out[j]].fed) exec->values[node->out[j]].fixed = true;
    }
}

static bool exec_broadcasts(nd_op op) {
    return op == nd_op_add || op == nd_op_mul || op == nd_op_sub || op == nd_op_div || op == nd_op_binary ||
           op == nd_op_where;
}

/* Whether every image meets the same numbers of an operand that is the same for all: it lies along no
 * images. */
static bool exec_meets_all(const nd_exec *exec, const nd_node *node, const nd_exec_value *operand) {
    const int rank = exec->values[node->out[0]].rank;
    return exec_broadcasts(node->op) && (operand->rank < rank || operand->dims[0] == 1);
}

/* Whether the node treats images alike and apart, judged by what can move data along axis 0. */
static bool exec_keeps_images(const nd_exec *exec, const nd_node *node) {
    if (node->n_out > 0 && node->out[0] >= 0 && exec->values[node->out[0]].fixed) return true;
    for (int j = 0; j < node->n_in + node->n_out; j++) {
        const int value = j < node->n_in ? node->in[j] : node->out[j - node->n_in];
        if (!nd_exec_computed(exec, value)) continue;
        const nd_exec_value *v = &exec->values[value];
        if (v->fixed && exec_meets_all(exec, node, v)) continue;
        if (v->fixed || v->rank < 1 || v->dims[0] != exec->settings.batch) return false;
    }
    const int rank = node->n_in && node->in[0] >= 0 ? exec->values[node->in[0]].rank : 0;
    const nd_attr *attr = &node->attr;
    switch (node->op) {
    case nd_op_gemm:
        if (attr->trans_a || (node->n_in > 2 && nd_exec_computed(exec, node->in[2]))) return false;
        return !nd_exec_computed(exec, node->in[1]);
    case nd_op_matmul: /* images are leading axes of both, or the rows of one */
        if (!nd_exec_computed(exec, node->in[0])) return false;
        return !nd_exec_computed(exec, node->in[1]) ? rank > 1
                                                    : rank > 2 && exec->values[node->in[1]].rank == rank;
    case nd_op_einsum: /* the batch is the first axis of the result and of what is computed */
        for (int j = 0; j < 2; j++) {
            const int64_t *letters = j ? attr->ends : attr->list, rank = j ? attr->size : attr->n;
            const bool computed = nd_exec_computed(exec, node->in[j]);
            for (int i = 0; i < rank; i++)
                if ((letters[i] == attr->axes[0]) != (computed && i == 0)) return false;
        }
        return true;
    case nd_op_normalize:
        return *node->op_type != 'L' || nd_exec_axis(attr->axis, rank) > 0;
    case nd_op_concat:
    case nd_op_split:
    case nd_op_softmax:
    case nd_op_gather:
        return nd_exec_axis(attr->axis, rank) > 0;
    case nd_op_transpose:
        return attr->n > 0 && attr->list[0] == 0;
    case nd_op_reduce_mean:
    case nd_op_reduce_prod:
    case nd_op_reduce:
        for (int i = 0; i < attr->n; i++)
            if (nd_exec_axis(attr->list[i], rank) == 0) return false;
        return attr->n > 0;
    case nd_op_slice:
        for (int i = 0; i < attr->n; i++)
            if (nd_exec_axis(attr->axes[i], rank) == 0) return false;
        return true;
    case nd_op_pad:
        return attr->n < 2 || (attr->list[0] == 0 && attr->list[attr->n / 2] == 0);
    default:
        return true;
    }
}

static nd_status exec_rebatch(nd_exec *exec) {
    const nd_graph *graph = exec->graph;
    const nd_exec_settings *s = &exec->settings;
    const nd_value *first = &graph->values[s->inputs[0]];
    const int64_t inferred = first->rank > 0 ? first->dims[0] : 1;
    exec->inferred = inferred;
    if (exec->settings.batch == 0) exec->settings.batch = inferred;
    ND_REQUIRE(exec->settings.batch > 0, nd_status_usage, "a batch of %lld images", (long long)s->batch);
    const bool changed = exec->settings.batch != inferred;
    exec_mark_fixed(exec);
    for (int i = 0; i < graph->n_values; i++) {
        nd_exec_value *mine = &exec->values[i];
        const nd_value *value = &graph->values[i];
        mine->rank = value->rank;
        if (value->rank > 0) memcpy(mine->dims, value->dims, (size_t)value->rank * sizeof *mine->dims);
        if (changed && nd_exec_computed(exec, i) && !mine->fixed && mine->rank > 0 &&
            mine->dims[0] == inferred)
            mine->dims[0] = exec->settings.batch;
    }
    exec->per_image = !exec->n_interpreted;
    ND_REQUIRE(exec->per_image || !changed, nd_status_unsupported,
               "%s has sizes that only the run knows: it runs in the batch of %lld it was inferred for",
               graph->name, (long long)inferred);
    for (int i = 0; i < graph->n_nodes; i++) {
        if (!exec->needed[i] || exec_keeps_images(exec, &graph->nodes[i])) continue;
        exec->per_image = false;
        ND_REQUIRE(!changed, nd_status_unsupported,
                   "%s mixes images: it runs only in the batch of %lld it was inferred for",
                   nd_exec_label(exec, &graph->nodes[i]), (long long)inferred);
    }
    return nd_status_ok;
}

static nd_status exec_check_images(const nd_exec *exec) {
    for (int i = 0; i < exec->settings.n_outputs; i++) {
        const int value = exec->settings.outputs[i];
        const nd_exec_value *v = &exec->values[value];
        if (nd_exec_is_late(exec, value)) continue;
        const bool varies = nd_exec_computed(exec, value) && !v->fixed;
        ND_REQUIRE(varies && v->rank > 0 && v->dims[0] == exec->settings.batch, nd_status_unsupported,
                   "%s: %s does not begin with the images of a batch", exec->graph->name,
                   exec->graph->values[value].name);
    }
    return nd_status_ok;
}

nd_status nd_exec_trace(nd_exec *exec) {
    const nd_graph *graph = exec->graph;
    for (int i = 0; i < graph->n_values; i++) {
        exec->values[i] = (nd_exec_value){
            .user = -1, .producer = -1, .parent = -1, .place = {.slot = -1}, .real = {.slot = -1}};
    }
    ND_REQUIRE(exec->settings.n_inputs > 0 && exec->settings.n_outputs > 0, nd_status_usage,
               "a network without %s cannot run", exec->settings.n_inputs ? "outputs" : "inputs");
    ND_TRY(exec_mark(exec));
    ND_TRY(nd_exec_divide(exec));
    for (int i = 0; i < graph->n_nodes; i++)
        if (exec->needed[i]) ND_TRY(exec_check_node(exec, &graph->nodes[i]));
    ND_TRY(exec_rebatch(exec));
    if (exec->settings.by_image) ND_TRY(exec_check_images(exec));
    for (int i = 0; i < graph->n_values; i++) {
        const nd_exec_value *value = &exec->values[i];
        if (!nd_exec_computed(exec, i) || nd_exec_is_late(exec, i)) continue;
        if (value->fed || value->wanted ||
            (value->uses && value->producer >= 0 && exec->needed[value->producer]))
            ND_TRY(exec_check_value(exec, i));
    }
    return nd_status_ok;
}
