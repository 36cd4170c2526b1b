#include "run/executor/executor_parts.h"

#include <string.h>

static nd_status lower_unary(nd_exec *exec, const nd_node *node, const nd_work *work) {
    nd_operands operands = {0};
    ND_TRY(nd_exec_source(exec, node->in[0], &operands.x));
    ND_TRY(nd_exec_target(exec, node->out[0], &operands.y));
    return nd_exec_emit(exec, node, *work, &operands);
}

static nd_status lower_activation(nd_exec *exec, const nd_node *node) {
    nd_work work = {.operation = nd_operation_activation};
    ND_REQUIRE(nd_exec_activation(node, &work.activation), nd_status_unsupported,
               "%s: nd does not run this function", nd_exec_label(exec, node));
    return lower_unary(exec, node, &work);
}

/* The largest of quantised numbers is the largest of their integers. */
static nd_status lower_max_pool(nd_exec *exec, const nd_node *node, const nd_work *work) {
    nd_operands operands = {0};
    ND_TRY(nd_exec_source_stored(exec, node->in[0], &operands.x));
    if (!(operands.x.quant.scale > 0) || operands.x.quant.e4m3) return lower_unary(exec, node, work);
    exec->values[node->out[0]].place.quant = operands.x.quant;
    ND_TRY(nd_exec_target(exec, node->out[0], &operands.y));
    return nd_exec_emit(exec, node, *work, &operands);
}

static nd_status lower_pool(nd_exec *exec, const nd_node *node) {
    nd_work work = {.operation = nd_operation_pool,
                    .window = node->attr.window,
                    .maximum = node->op == nd_op_max_pool,
                    .count_include_pad = node->attr.count_include_pad};
    ND_REQUIRE(node->n_out < 2 || node->out[1] < 0 || !exec->values[node->out[1]].uses, nd_status_unsupported,
               "%s: the indices of the maxima", nd_exec_label(exec, node));
    return work.maximum ? lower_max_pool(exec, node, &work) : lower_unary(exec, node, &work);
}

/* A window over whole planes; of images of another rank a reduction. */
static nd_status lower_global_max(nd_exec *exec, const nd_node *node) {
    const nd_exec_value *x = &exec->values[node->in[0]];
    nd_work work = {.operation = nd_operation_pool, .maximum = true};
    if (x->rank != 4) return nd_lower_global(exec, node, nd_reduction_max);
    for (int i = 0; i < 2; i++) {
        work.window.kernel[i] = x->dims[2 + i];
        work.window.stride[i] = work.window.dilation[i] = 1;
    }
    return lower_max_pool(exec, node, &work);
}

static nd_status lower_softmax(nd_exec *exec, const nd_node *node) {
    const nd_exec_value *x = &exec->values[node->in[0]];
    nd_work work = {.operation = nd_operation_softmax, .axis = nd_exec_axis(node->attr.axis, x->rank)};
    ND_REQUIRE(work.axis >= 0, nd_status_format, "%s: a bad axis", nd_exec_label(exec, node));
    if (node->attr.flat_softmax) work.inner = nd_dims_count(x->rank - (int)work.axis, x->dims + work.axis);
    return lower_unary(exec, node, &work);
}

static nd_status lower_lrn(nd_exec *exec, const nd_node *node) {
    const nd_attr *attr = &node->attr;
    const nd_work work = {.operation = nd_operation_lrn,
                          .size = attr->size,
                          .alpha = attr->alpha,
                          .beta = attr->beta,
                          .k = attr->bias};
    return lower_unary(exec, node, &work);
}

static nd_status lower_group(nd_exec *exec, const nd_group *group);

static nd_status lower_group_of_one(nd_exec *exec, const nd_node *node) {
    const nd_group group = nd_group_single((int)(node - exec->graph->nodes));
    return lower_group(exec, &group);
}

static nd_status lower_gemm(nd_exec *exec, const nd_node *node) {
    return nd_exec_is_gemm(exec, node) ? lower_group_of_one(exec, node) : nd_lower_product(exec, node);
}

static nd_status lower_binary(nd_exec *exec, const nd_node *node) {
    const nd_group group = nd_group_single((int)(node - exec->graph->nodes));
    return nd_exec_lower_pair(exec, &group);
}

/* Numbers of another type are the same here; what would be cut to a whole number is not run. */
static nd_status lower_cast(nd_exec *exec, const nd_node *node) {
    const nd_dtype from = exec->graph->values[node->in[0]].dtype;
    ND_REQUIRE(node->attr.dtype <= nd_dtype_bf16 || node->attr.dtype == from, nd_status_unsupported,
               "%s: from %s to %s", nd_exec_label(exec, node), nd_dtype_name(from),
               nd_dtype_name(node->attr.dtype));
    return nd_lower_reshape(exec, node);
}

static nd_lower *const nd_lower_table[nd_op_count] = {
    [nd_op_conv] = lower_group_of_one,
    [nd_op_gemm] = lower_gemm,
    [nd_op_matmul] = lower_gemm,
    [nd_op_batchnorm] = lower_group_of_one,
    [nd_op_add] = lower_group_of_one,
    [nd_op_mul] = lower_group_of_one,
    [nd_op_relu] = lower_activation,
    [nd_op_clip] = lower_activation,
    [nd_op_leaky_relu] = lower_activation,
    [nd_op_sigmoid] = lower_activation,
    [nd_op_hard_sigmoid] = lower_activation,
    [nd_op_hard_swish] = lower_activation,
    [nd_op_unary] = lower_activation,
    [nd_op_binary] = lower_binary,
    [nd_op_sub] = lower_binary,
    [nd_op_div] = lower_binary,
    [nd_op_where] = nd_lower_where,
    [nd_op_max_pool] = lower_pool,
    [nd_op_average_pool] = lower_pool,
    [nd_op_global_average_pool] = nd_lower_global_average,
    [nd_op_global_max_pool] = lower_global_max,
    [nd_op_reduce_mean] = nd_lower_reduce,
    [nd_op_reduce_prod] = nd_lower_reduce,
    [nd_op_reduce] = nd_lower_reduce,
    [nd_op_softmax] = lower_softmax,
    [nd_op_lrn] = lower_lrn,
    [nd_op_normalize] = nd_lower_normalize,
    [nd_op_resize] = nd_lower_resize,
    [nd_op_einsum] = nd_lower_einsum,
    [nd_op_conv_1d] = nd_lower_conv_1d,
    [nd_op_conv_transpose] = nd_lower_conv_transpose,
    [nd_op_split] = nd_lower_split,
    [nd_op_expand] = nd_lower_expand,
    [nd_op_tile] = nd_lower_tile,
    [nd_op_depth_to_space] = nd_lower_blocks,
    [nd_op_flatten] = nd_lower_reshape,
    [nd_op_reshape] = nd_lower_reshape,
    [nd_op_squeeze] = nd_lower_reshape,
    [nd_op_unsqueeze] = nd_lower_reshape,
    [nd_op_dropout] = nd_lower_reshape,
    [nd_op_identity] = nd_lower_reshape,
    [nd_op_cast] = lower_cast,
    [nd_op_transpose] = nd_lower_transpose,
    [nd_op_slice] = nd_lower_slice,
    [nd_op_concat] = nd_lower_concat,
    [nd_op_pad] = nd_lower_pad,
    [nd_op_gather] = nd_lower_gather,
    [nd_op_quantize] = nd_lower_quantize,
    [nd_op_dequantize] = nd_lower_dequantize,
};

static nd_status lower_single(nd_exec *exec, int index) {
    const nd_node *node = &exec->graph->nodes[index];
    nd_lower *lower = nd_lower_table[node->op];
    char shapes[256] = "";
    for (int i = 0, used = 0; !lower && i < node->n_in && used < 200; i++) {
        if (node->in[i] < 0) continue;
        const nd_exec_value *value = &exec->values[node->in[i]];
        if (used) shapes[used++] = ' ';
        nd_dims_format(value->rank, value->dims, shapes + used, sizeof shapes - (size_t)used);
        used = (int)strlen(shapes);
    }
    ND_REQUIRE(lower, nd_status_unsupported, "%s: nd does not run this operator (inputs %s)",
               nd_exec_label(exec, node), shapes);
    return lower(exec, node);
}

/* x * sigmoid(x) by itself. */
static nd_status lower_gated(nd_exec *exec, const nd_group *group) {
    const nd_work work = {.operation = nd_operation_activation,
                          .activation = nd_exec_epilogue(exec->graph->nodes, -1, group->gate)};
    nd_operands operands = {0};
    ND_TRY(nd_exec_source(exec, exec->graph->nodes[group->gate].in[0], &operands.x));
    ND_TRY(nd_exec_target(exec, exec->graph->nodes[group->main].out[0], &operands.y));
    return nd_exec_emit(exec, &exec->graph->nodes[group->main], work, &operands);
}

static nd_status lower_group(nd_exec *exec, const nd_group *group) {
    const nd_node *nodes = exec->graph->nodes, *main = &nodes[group->main];
    int computed;
    const bool sum = main->op == nd_op_add || main->op == nd_op_mul;
    const bool vector =
        sum && exec->values[main->out[0]].rank >= 2 && nd_exec_channel_constant(exec, main, 1, &computed);
    if (group->gate >= 0 && group->act < 0) return lower_gated(exec, group);
    if (sum && !vector) return nd_exec_lower_pair(exec, group);
    nd_parts left = {0};
    ND_TRY(nd_exec_lower_weights(exec, group, &left));
    for (int i = 0; i < left.n; i++) {
        const nd_group *part = &left.part[i];
        const bool grouped = nd_lower_table[nodes[part->main].op] == lower_group_of_one;
        ND_TRY(grouped ? lower_group(exec, part) : lower_single(exec, part->main));
    }
    return nd_status_ok;
}

/* Whether a value that is uploaded may be rounded on its way: nobody but one QuantizeLinear reads it. */
static bool lower_rounds(const nd_exec *exec, const nd_exec_value *value, nd_quant *quant) {
    if (!exec->backend->table->upload_quantized || value->wanted || value->uses != 1) return false;
    const nd_node *node = &exec->graph->nodes[value->user];
    return node->op == nd_op_quantize && !exec->absorbed[value->user] && nd_exec_quant(exec, node, quant);
}

/* Inputs are uploaded into dense slots; outputs are downloaded from dense views. */
static nd_status exec_lower_inputs(nd_exec *exec) {
    for (int i = 0; i < exec->settings.n_inputs; i++) {
        nd_exec_value *value = &exec->values[exec->settings.inputs[i]];
        nd_quant quant;
        const nd_view layout = nd_exec_layout(exec, value->rank, value->dims);
        if (value->place.slot >= 0) continue; /* named twice */
        if (lower_rounds(exec, value, &quant)) value->place.quant = quant;
        ND_TRY(nd_exec_place_new(exec, &layout, &value->place));
        exec->slots[value->place.slot].pinned = true;
    }
    return nd_status_ok;
}

static nd_status exec_lower_outputs(nd_exec *exec) {
    for (int i = 0; i < exec->n_planned; i++) {
        nd_exec_value *value = &exec->values[exec->planned[i]];
        nd_place from;
        ND_TRY(nd_exec_source(exec, exec->planned[i], &from));
        value->place = from; /* dequantised, where it was not */
        if (nd_view_is_row_major(&from.view) || nd_view_is_channels_last(&from.view)) continue;
        const nd_view dense = nd_view_row_major(value->rank, value->dims);
        ND_TRY(nd_exec_place_new(exec, &dense, &value->place));
        ND_TRY(nd_exec_emit_copy(exec, NULL, &from, &value->place));
    }
    return nd_status_ok;
}

nd_status nd_exec_lower(nd_exec *exec) {
    const nd_graph *graph = exec->graph;
    ND_TRY(exec_lower_inputs(exec));
    for (int i = 0; i < graph->n_nodes; i++) {
        if (!exec->needed[i] || exec->absorbed[i]) continue;
        if (exec->groups[i].main >= 0)
            ND_TRY(lower_group(exec, &exec->groups[i]));
        else
            ND_TRY(lower_single(exec, i));
    }
    return exec_lower_outputs(exec);
}
