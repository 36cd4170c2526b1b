/* A graph that is written anew and yet has nodes that nd does not write: they keep the bytes they were read
 * from, but for the names of what they read and make. */
#include "model/onnx/onnx_out.h"

#include <stdlib.h>
#include <string.h>

enum {
    nd_kept_opset_least = 13, /* from which on QuantizeLinear has an axis */
    nd_kept_opset_most = 17,  /* an opset above is asked for where a lower one lacks what is put in */
};

/* Operators that say in a later opset what they said in an earlier one, from one on and but for the changes
 * below. Those with branches are none of them: these have nodes of their own. tests/peers/kept.py holds both
 * tables against ONNX. */
static const struct {
    const char *type;
    int64_t since;
} nd_kept_operators[] = {
    {"And", 7},
    {"ArgMax", 11},
    {"ArgMin", 11},
    {"Celu", 12},
    {"ConstantOfShape", 9},
    {"ConvTranspose", 11},
    {"CumSum", 11},
    {"DepthToSpace", 11},
    {"Einsum", 12},
    {"Elu", 6},
    {"Equal", 11},
    {"GatherElements", 11},
    {"GatherND", 12},
    {"Greater", 9},
    {"GreaterOrEqual", 12},
    {"InstanceNormalization", 6},
    {"IsNaN", 9},
    {"Less", 9},
    {"LessOrEqual", 12},
    {"Max", 12},
    {"Min", 12},
    {"Mod", 10},
    {"NonMaxSuppression", 11},
    {"NonZero", 9},
    {"Or", 7},
    {"Pow", 12},
    {"PRelu", 9},
    {"Range", 11},
    {"ReduceL1", 11},
    {"ReduceL2", 11},
    {"ReduceLogSum", 11},
    {"ReduceLogSumExp", 11},
    {"ReduceMax", 11},
    {"ReduceMean", 11},
    {"ReduceMin", 11},
    {"ReduceProd", 11},
    {"ReduceSum", 13},
    {"ReduceSumSquare", 11},
    {"Resize", 11},
    {"ScatterElements", 11},
    {"ScatterND", 11},
    {"Selu", 6},
    {"Shape", 1},
    {"Size", 1},
    {"SpaceToDepth", 1},
    {"Split", 13},
    {"Sum", 8},
    {"TopK", 11},
    {"Xor", 7},
};

/* What was said before says something else then; or `adds`: all the same, but more can be said. Axes of the
 * reductions became an input. */
static const struct {
    const char *type;
    int64_t opset;
    bool adds;
} nd_kept_changes[] = {
    {"Range", 27, true}, /* stash_type */
    {"ReduceL1", 18, false},
    {"ReduceL2", 18, false},
    {"ReduceLogSum", 18, false},
    {"ReduceLogSumExp", 18, false},
    {"ReduceMax", 18, false},
    {"ReduceMean", 18, false},
    {"ReduceMin", 18, false},
    {"ReduceProd", 18, false},
    {"ReduceSumSquare", 18, false},
    {"Resize", 18, true},          /* antialias, axes, keep_aspect_ratio_policy */
    {"ScatterElements", 18, true}, /* reduction by max and min */
    {"ScatterND", 18, true},       /* the same */
    {"SpaceToDepth", 28, true},    /* mode */
    {"Split", 18, false},          /* in equal parts only by num_outputs */
};

static bool kept_is_same(const char *type, int64_t from, int64_t to) {
    const int64_t first = from < to ? from : to, last = from < to ? to : from;
    for (size_t i = 0; i < sizeof nd_kept_changes / sizeof *nd_kept_changes; i++) {
        const bool between = first < nd_kept_changes[i].opset && nd_kept_changes[i].opset <= last;
        const bool harmless = nd_kept_changes[i].adds && from < to;
        if (between && !harmless && !strcmp(type, nd_kept_changes[i].type)) return false;
    }
    for (size_t i = 0; i < sizeof nd_kept_operators / sizeof *nd_kept_operators; i++)
        if (!strcmp(type, nd_kept_operators[i].type)) return first >= nd_kept_operators[i].since;
    return false;
}

static nd_status kept_tensor(void *context, nd_span tensor) {
    if (nd_onnx_is_outside(tensor)) *(bool *)context = true;
    return nd_status_ok;
}

/* Whether the bytes of a node say in `opset` what they said in `from`, that of their file. */
static bool kept_holds(const nd_node *node, int64_t from, int64_t opset) {
    const nd_span bytes = {node->raw, node->raw_bytes};
    bool outside = false;
    if (!node->raw || node->edited || strchr(node->op_type, '.') || node->stored != nd_dtype_f32)
        return false;
    if (from != opset && !kept_is_same(node->op_type, from, opset)) return false;
    return !nd_onnx_node_tensors(bytes, kept_tensor, &outside) && !outside;
}

nd_status nd_onnx_anew(nd_graph *graph, int64_t opset) {
    const int64_t from = graph->opset, tried[] = {opset, from};
    const int64_t least = opset > nd_kept_opset_most ? opset : nd_kept_opset_least;
    const nd_node *first = NULL;
    for (int t = 0; t < 2; t++) {
        const nd_node *missing = NULL;
        if (t && from < least) break;
        for (int i = 0; i < graph->n_nodes && !missing; i++) {
            const nd_node *node = &graph->nodes[i];
            const bool holds = graph->source && kept_holds(node, from, tried[t]);
            if (node->n_out && !nd_onnx_emits(graph, node, tried[t]) && !holds) missing = node;
        }
        if (!missing) {
            graph->anew = true;
            graph->opset = tried[t];
            return nd_status_ok;
        }
        if (!first) first = missing;
    }
    return nd_fail(nd_status_unsupported, "%s: node '%s' (%s) cannot be written in opset %lld%s", graph->name,
                   first->name, first->op_type, (long long)opset,
                   from >= least                  ? ""
                   : least == nd_kept_opset_least ? "; of opset 13 or later it stays as it is"
                                                  : "; in a file of that opset or later it stays as it is");
}

nd_status nd_onnx_put_kept(nd_onnx_writer *writer, const nd_node *node, char *const *in, char *const *out) {
    const nd_graph *graph = writer->graph;
    nd_pieces message = {.arena = &writer->arena};
    nd_span rest = {node->raw, node->raw_bytes};
    nd_wire_field field;
    nd_status status = nd_status_ok;
    int n_in = 0, n_out = 0;
    ND_REQUIRE(node->raw && graph->source, nd_status_unsupported, "%s: node '%s' (%s) cannot be written",
               graph->name, node->name, node->op_type);
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);) {
        const bool reads = field.number == nd_onnx_node_input, makes = field.number == nd_onnx_node_output;
        if (!reads && !makes) {
            ND_TRY_DONE(nd_pieces_add(&message, field.whole));
            continue;
        }
        const int at = reads ? n_in++ : n_out++;
        ND_REQUIRE_DONE(at < (reads ? node->n_in : node->n_out), nd_status_internal,
                        "%s: node '%s' has more ends than it had", graph->name, node->name);
        ND_TRY_DONE(nd_pieces_add_text(&message, field.number, reads ? in[at] : out[at]));
    }
    status = nd_pieces_add_pieces(&writer->nodes, nd_onnx_graph_node, &message);
done:
    free(message.items);
    return status;
}

/* The ValueInfo of the file called `name`. */
typedef struct nd_kept_end {
    const char *name;
    nd_span found;
} nd_kept_end;

static nd_status kept_end(void *context, nd_span info) {
    nd_kept_end *end = context;
    if (nd_span_is(nd_onnx_field(info, nd_onnx_value_info_name), end->name)) end->found = info;
    return nd_status_ok;
}

nd_span nd_onnx_kept_end(const nd_graph *graph, uint32_t number, const char *name) {
    nd_kept_end end = {.name = name};
    if (!graph->source) return end.found;
    const nd_span model = {graph->source->data, graph->source->bytes};
    if (nd_onnx_each(nd_onnx_field(model, nd_onnx_model_graph), "the graph", number, kept_end, &end))
        return (nd_span){0};
    return end.found;
}
