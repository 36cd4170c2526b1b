#include "model/images.h"
#include "model/infer/infer_state.h"

#include <stdlib.h>
#include <string.h>

static bool input_is_whole(const nd_value *value) {
    if (value->rank < 0) return false;
    for (int k = 0; k < value->rank; k++)
        if (value->dims[k] < 1) return false;
    return true;
}

/* The first input is the image; its dimension 0 as declared tells which other inputs carry the batch. */
static nd_status infer_inputs(nd_infer *infer) {
    nd_graph *graph = infer->graph;
    const nd_infer_settings *settings = infer->settings;
    infer->declared = -1;
    if (!graph->exported) {
        const nd_value *images = graph->n_inputs ? &graph->values[graph->inputs[0]] : NULL;
        graph->exported = images && images->rank > 0 && images->dims[0] > 0 ? images->dims[0] : 1;
    }
    for (int i = 0; i < graph->n_inputs; i++) {
        nd_value *value = &graph->values[graph->inputs[i]];
        if (!i && value->rank > 0) infer->declared = value->dims[0];
        if (value->rank > 0 && (value->dims[0] < 0 || value->dims[0] == infer->declared))
            value->dims[0] = settings->batch;
        int64_t *size = nd_image_size(value);
        const int64_t known[2] = {settings->height, settings->width};
        for (int k = 0; size && k < 2; k++)
            if (size[k] < 0 && known[k]) size[k] = known[k];
        if (!input_is_whole(value) && settings->allow_opaque && (i || value->rank != 4)) {
            value->rank = -1;
            continue;
        }
        ND_REQUIRE(value->rank >= 0, nd_status_unsupported, "%s: input '%s' has no shape", graph->name,
                   value->name);
        for (int k = 1; k < value->rank; k++)
            ND_REQUIRE(value->dims[k] >= 1, nd_status_unsupported,
                       "%s: the size of input '%s' along axis %d is open; --input gives one", graph->name,
                       value->name, k);
        ND_REQUIRE(nd_dims_count(value->rank, value->dims) > 0, nd_status_format,
                   "%s: input '%s' has impossible dimensions", graph->name, value->name);
    }
    return nd_status_ok;
}

static bool infer_is_unknown(const nd_infer *infer, const nd_node *node) {
    if (node->op == nd_op_opaque) return true;
    for (int k = 0; k < node->n_in; k++) {
        const nd_value *value = nd_infer_input(infer, node, k);
        if (value && value->rank < 0) return true;
    }
    return false;
}

static nd_status infer_node(nd_infer *infer, nd_node *node) {
    nd_graph *graph = infer->graph;
    if (node->op == nd_op_constant) {
        ND_REQUIRE(node->out[0] >= 0 && graph->values[node->out[0]].init, nd_status_format,
                   "a constant without a tensor");
        return nd_status_ok;
    }
    ND_TRY(nd_infer_operands(infer, node));
    ND_TRY(nd_infer_shapes(infer, node));
    const nd_value *y = &graph->values[node->out[0]];
    char dims[nd_rank_max * 21 + 1];
    const int64_t count = nd_dims_count(y->rank, y->dims);
    nd_dims_format(y->rank, y->dims, dims, sizeof dims);
    ND_REQUIRE(count >= 0, nd_status_format, "output of impossible size %s", dims);
    ND_REQUIRE(count > 0, nd_status_unsupported, "empty output, %s", dims);
    return nd_status_ok;
}

static void infer_forget(nd_infer *infer, const nd_node *node) {
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k] >= 0 && !infer->graph->values[node->out[k]].init)
            infer->graph->values[node->out[k]].rank = -1;
}

/* Operators outside of nd's whose output is shaped as their first input. */
static bool infer_keeps_shape(const nd_node *node) {
    static const char *const keep[] = {"Abs",
                                       "Celu",
                                       "Ceil",
                                       "Elu",
                                       "Erf",
                                       "Exp",
                                       "Floor",
                                       "Gelu",
                                       "Log",
                                       "Mish",
                                       "Neg",
                                       "PRelu",
                                       "Reciprocal",
                                       "Round",
                                       "Selu",
                                       "Sin",
                                       "Sqrt",
                                       "Swish",
                                       "Softplus",
                                       "Softsign",
                                       "Tanh",
                                       "GroupNormalization",
                                       "InstanceNormalization",
                                       "LogSoftmax",
                                       "LayerNormalization",
                                       "QuantizeLinear",
                                       "ThresholdedRelu"};
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        if (!strcmp(node->op_type, keep[i])) return true;
    return false;
}

/* Operators whose output's first dimension, where it is open, is a count of its own and not the batch. */
static bool infer_counts(const nd_node *node) {
    static const char *const count[] = {"Compress", "NonMaxSuppression", "NonZero", "Range", "Unique"};
    for (size_t i = 0; i < sizeof count / sizeof *count; i++)
        if (!strcmp(node->op_type, count[i])) return true;
    return false;
}

/* What is known of an opaque node's outputs: they are as its input, or as the file declares them. */
static void infer_opaque(nd_infer *infer, const nd_node *node) {
    const nd_value *x = nd_infer_input(infer, node, 0);
    for (int k = 0; k < node->n_out; k++) {
        if (node->out[k] < 0) continue;
        nd_value *y = &infer->graph->values[node->out[k]];
        if (!k && x && infer_keeps_shape(node)) {
            y->rank = x->rank;
            memcpy(y->dims, x->dims, sizeof y->dims);
        }
        if (y->rank < 1) continue;
        if (y->dims[0] < 0 && infer_counts(node)) {
            y->rank = -1;
            continue;
        }
        if (y->dims[0] < 0 || y->dims[0] == infer->declared) y->dims[0] = infer->settings->batch;
        if (nd_dims_count(y->rank, y->dims) < 1) y->rank = -1;
    }
}

/* Whether a node may be left for the run to find out: it is dynamic itself, or what it reads is: of a size
 * or of integers that no constant says. */
static bool infer_is_dynamic(const nd_infer *infer, const nd_node *node) {
    if (node->op == nd_op_opaque || node->dynamic) return node->dynamic;
    for (int k = 0; k < node->n_in; k++) {
        const nd_value *value = nd_infer_input(infer, node, k);
        if (value && !value->init && (value->rank < 0 || value->dtype > nd_dtype_bf16)) return true;
    }
    return false;
}

/* What one node makes of its inputs; *evaluated where that is known to the number. */
static nd_status infer_visit(nd_infer *infer, nd_node *node, bool *evaluated) {
    const bool lenient = infer->settings->allow_opaque;
    *evaluated = false;
    if (!strcmp(node->op_type, "Range") || node->op == nd_op_constant_of_shape)
        ND_TRY(nd_infer_long(infer, node, evaluated));
    else if (node->op != nd_op_constant)
        ND_TRY(nd_infer_evaluate(infer, node, evaluated));
    if (*evaluated) return nd_status_ok;
    if (node->op == nd_op_opaque && lenient) {
        infer_opaque(infer, node);
        return nd_status_ok;
    }
    infer_forget(infer, node);
    const bool unknown = infer_is_unknown(infer, node), leave = lenient || infer_is_dynamic(infer, node);
    if (unknown && leave) return nd_status_ok;
    nd_status status =
        unknown ? nd_fail(nd_status_unsupported, "nd cannot run this operator") : infer_node(infer, node);
    if (status != nd_status_unsupported || !leave) return status;
    infer_forget(infer, node);
    return nd_status_ok;
}

/* A few bytes of a file can ask for more than any machine has: what would be in proportion to it is not
 * begun. */
static nd_status check_size(const nd_infer *infer, const nd_node *node) {
    static const int64_t most = INT64_C(1) << 38; /* a terabyte in fp32 */
    for (int k = 0; k < node->n_out; k++) {
        const nd_value *y = node->out[k] >= 0 ? &infer->graph->values[node->out[k]] : NULL;
        if (!y || y->rank < 1) continue;
        const int64_t count = nd_dims_count(y->rank, y->dims);
        ND_REQUIRE(count >= 0 && count / infer->settings->batch <= most, nd_status_format,
                   "'%s' would have over 2^38 elements an image", y->name);
    }
    return nd_status_ok;
}

static nd_status infer_nodes(nd_infer *infer, bool *evaluated) {
    nd_graph *graph = infer->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        nd_node *node = &graph->nodes[i];
        nd_status status = infer_visit(infer, node, &evaluated[i]);
        if (!status) status = check_size(infer, node);
        if (status) return nd_fail_in(status, "%s: node '%s' (%s)", graph->name, node->name, node->op_type);
    }
    return nd_status_ok;
}

nd_infer_settings nd_infer_image(const nd_graph *graph) {
    nd_infer_settings infer = {.batch = 1};
    if (graph->n_inputs < 1) return infer;
    const nd_image_input image = nd_image_input_of(&graph->values[graph->inputs[0]]);
    infer.height = image.height;
    infer.width = image.width;
    return infer;
}

nd_status nd_graph_infer(nd_graph *graph, const nd_infer_settings *settings) {
    ND_REQUIRE(settings->batch >= 1, nd_status_usage, "%s: a batch of %lld images", graph->name,
               (long long)settings->batch);
    ND_TRY(nd_graph_bring_back(graph));
    ND_TRY(nd_graph_sort(graph));
    nd_infer infer = {.graph = graph, .settings = settings, .n_known = graph->n_values};
    nd_status status = nd_status_ok;
    infer.known = nd_alloc_array((size_t)infer.n_known, sizeof *infer.known);
    bool *evaluated = nd_alloc_array((size_t)graph->n_nodes, sizeof *evaluated);
    ND_REQUIRE_DONE(infer.known && evaluated, nd_status_memory, "%s: no memory", graph->name);
    ND_TRY_DONE(infer_inputs(&infer));
    /* A node that fails leaves behind what was evaluated before it, which is to be renewed all the same. */
    const nd_status inferred = infer_nodes(&infer, evaluated);
    ND_TRY_DONE(nd_graph_set_aside(graph, evaluated));
    status = inferred;
done:
    free(infer.known);
    free(evaluated);
    nd_arena_free(&infer.arena);
    return status;
}
