#include "model/fold_constants.h"
#include "model/infer/infer.h"
#include "model/model.h"

#include <math.h>
#include <stdlib.h>

/* One BatchNormalization and the linear node before it: y = scale * (W x + b) + shift per output channel. */
typedef struct nd_folding {
    nd_graph *graph;
    int linear, norm; /* nodes */
    int64_t channels; /* outputs of the linear node */
    double *scale, *shift;
} nd_folding;

static bool is_row(const nd_tensor *tensor, int64_t count) {
    return tensor && tensor->dtype == nd_dtype_f32 && tensor->rank == 1 && tensor->dims[0] == count;
}

/* Weights are [no][ni][kh][kw], or [n][k] and [k][n] of an inner product. */
static int64_t linear_channels(const nd_node *node, const nd_tensor *weights) {
    if (!weights || weights->dtype != nd_dtype_f32) return 0;
    if (node->op == nd_op_conv && weights->rank >= 3) return weights->dims[0];
    if (node->op == nd_op_gemm && weights->rank == 2 && node->attr.beta != 0)
        return weights->dims[node->attr.trans_b ? 0 : 1];
    return 0;
}

/* False where the normalisation has to stay a node of its own. */
static bool folding_find(nd_graph *graph, int norm, nd_folding *out) {
    const nd_node *node = &graph->nodes[norm];
    if (node->n_in < 5 || node->n_out != 1 || node->in[0] < 0) return false;
    const int linear = graph->values[node->in[0]].producer;
    int user;
    if (linear < 0 || graph->nodes[linear].n_out != 1 || nd_graph_is_output(graph, node->in[0])) return false;
    if (nd_graph_uses(graph, node->in[0], &user) != 1 || graph->values[node->in[0]].pinned) return false;
    const nd_node *before = &graph->nodes[linear];
    if (!before->within != !node->within) return false; /* one of them is written, the other is not */
    const int64_t channels = linear_channels(before, nd_graph_constant(graph, before, 1));
    if (!channels) return false;
    for (int k = 1; k < 5; k++)
        if (!is_row(nd_graph_constant(graph, node, k), channels)) return false;
    const bool biased = before->n_in > 2 && before->in[2] >= 0;
    if (biased && !is_row(nd_graph_constant(graph, before, 2), channels)) return false;
    *out = (nd_folding){.graph = graph, .linear = linear, .norm = norm, .channels = channels};
    return true;
}

static void folding_factors(nd_folding *folding) {
    const nd_graph *graph = folding->graph;
    const nd_node *norm = &graph->nodes[folding->norm], *linear = &graph->nodes[folding->linear];
    const float *row[5] = {NULL};
    for (int k = 1; k < 5; k++) row[k] = nd_graph_constant(graph, norm, k)->data;
    const nd_tensor *bias = nd_graph_constant(graph, linear, 2);
    /* Gemm multiplies its bias by beta. */
    const double beta = linear->op == nd_op_gemm ? (double)linear->attr.beta : 1;
    for (int64_t c = 0; c < folding->channels; c++) {
        const double scale = row[1][c] / sqrt((double)row[4][c] + (double)norm->attr.epsilon);
        const double old = bias ? (double)((const float *)bias->data)[c] : 0;
        folding->scale[c] = scale;
        folding->shift[c] = scale * old + (row[2][c] - scale * row[3][c]) / beta;
    }
}

/* The linear node's weights times the scale of their output channel. */
static nd_status folding_weights(const nd_folding *folding, nd_tensor *out) {
    const nd_node *linear = &folding->graph->nodes[folding->linear];
    const nd_tensor *weights = nd_graph_constant(folding->graph, linear, 1);
    ND_TRY(nd_tensor_new(nd_dtype_f32, weights->rank, weights->dims, out));
    /* [outer][channels][inner], whichever axis the channels are. */
    const bool last = linear->op == nd_op_gemm && !linear->attr.trans_b;
    const int64_t rows = nd_tensor_count(weights) / folding->channels;
    const int64_t outer = last ? rows : 1, inner = last ? 1 : rows;
    const float *from = weights->data;
    float *to = out->data;
    for (int64_t row = 0; row < outer * folding->channels; row++) {
        const double scale = folding->scale[row % folding->channels];
        for (int64_t i = 0; i < inner; i++) *to++ = (float)(*from++ * scale);
    }
    return nd_status_ok;
}

static nd_status folding_bias(const nd_folding *folding, nd_tensor *out) {
    ND_TRY(nd_tensor_new(nd_dtype_f32, 1, &folding->channels, out));
    for (int64_t c = 0; c < folding->channels; c++) ((float *)out->data)[c] = (float)folding->shift[c];
    return nd_status_ok;
}

/* Puts `tensor` in place of operand k, under its old name where no other node reads it. */
static nd_status folding_operand(nd_graph *graph, const nd_node *linear, int k, const char *name,
                                 const nd_tensor *tensor, int *value) {
    int user;
    *value = k < linear->n_in ? linear->in[k] : -1;
    if (*value >= 0) name = graph->values[*value].name;
    if (*value >= 0 && nd_graph_uses(graph, *value, &user) == 1 && !nd_graph_is_output(graph, *value) &&
        !graph->values[*value].computed)
        return nd_graph_set_init(graph, *value, tensor);
    return nd_graph_add_init(graph, name, tensor, value);
}

/* The linear node with new operands takes over the value the normalisation wrote. */
static nd_status folding_rewrite(const nd_folding *folding, const nd_tensor *weights, const nd_tensor *bias) {
    nd_graph *graph = folding->graph;
    nd_node *linear = &graph->nodes[folding->linear];
    const char *bias_name = nd_arena_printf(&graph->arena, "%s.bias", linear->name);
    int *in = nd_arena_alloc(&graph->arena, 3 * sizeof *in);
    ND_REQUIRE(bias_name && in, nd_status_memory, "%s: no memory", graph->name);
    in[0] = linear->in[0];
    ND_TRY(folding_operand(graph, linear, 1, NULL, weights, &in[1]));
    ND_TRY(folding_operand(graph, linear, 2, bias_name, bias, &in[2]));
    linear->in = in;
    linear->n_in = 3;
    const int out = graph->nodes[folding->norm].out[0];
    linear->norm = graph->nodes[folding->norm].raw;
    nd_graph_remove_node(graph, folding->norm);
    linear->out[0] = out;
    graph->values[out].producer = folding->linear;
    return nd_status_ok;
}

static nd_status fold_norm(nd_graph *graph, int norm) {
    nd_folding folding;
    if (!folding_find(graph, norm, &folding)) return nd_status_ok;
    nd_status status = nd_status_ok;
    nd_tensor weights = {0}, bias = {0};
    folding.scale = nd_alloc_array((size_t)folding.channels, sizeof *folding.scale);
    folding.shift = nd_alloc_array((size_t)folding.channels, sizeof *folding.shift);
    ND_REQUIRE_DONE(folding.scale && folding.shift, nd_status_memory, "%s: no memory", graph->name);
    folding_factors(&folding);
    ND_TRY_DONE(folding_weights(&folding, &weights));
    ND_TRY_DONE(folding_bias(&folding, &bias));
    ND_TRY_DONE(folding_rewrite(&folding, &weights, &bias));
done:
    nd_tensor_free(&weights);
    nd_tensor_free(&bias);
    free(folding.scale);
    free(folding.shift);
    return status;
}

/* Values whose names others rely on. */
static bool is_promised(const nd_graph *graph, int value) {
    return graph->values[value].pinned || nd_graph_is_output(graph, value);
}

/* Takes out a node that hands its input on. Where the name it writes must stay, the node before it writes
 * that instead; failing that the node stays. */
static void fold_pass(nd_graph *graph, int index) {
    const nd_node *node = &graph->nodes[index];
    const int x = node->in[0], y = node->out[0];
    if (!is_promised(graph, y)) {
        nd_graph_remove_node(graph, index);
        nd_graph_replace_value(graph, y, x);
        return;
    }
    const int producer = graph->values[x].producer;
    if (producer < 0 || graph->values[x].init || is_promised(graph, x)) return;
    nd_node *before = &graph->nodes[producer];
    nd_graph_remove_node(graph, index);
    for (int k = 0; k < before->n_out; k++)
        if (before->out[k] == x) before->out[k] = y;
    graph->values[y].producer = producer;
    nd_graph_replace_value(graph, x, y);
}

static bool is_pass(const nd_node *node) {
    const bool op = node->op == nd_op_identity || node->op == nd_op_dropout;
    return op && node->n_in >= 1 && node->in[0] >= 0 && node->n_out == 1 && node->out[0] >= 0;
}

nd_status nd_graph_fold(nd_graph *graph) {
    ND_TRY(nd_graph_bring_back(graph));
    ND_TRY(nd_graph_sort(graph));
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (is_pass(node)) fold_pass(graph, i);
        if (node->op == nd_op_constant && !nd_graph_is_output(graph, node->out[0]))
            nd_graph_remove_node(graph, i);
    }
    ND_TRY(nd_graph_sort(graph));
    ND_TRY(nd_graph_fold_constants(graph));
    ND_TRY(nd_graph_sort(graph));
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].op == nd_op_batchnorm) ND_TRY(fold_norm(graph, i));
    ND_TRY(nd_graph_sort(graph));
    return nd_model_check_weights(graph);
}
