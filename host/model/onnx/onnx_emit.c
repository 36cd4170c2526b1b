/* Nodes that nd made, as ONNX operators. Each is written in one form, and refused in opsets that want
 * another; what a rewritten network needs (Conv, Gather, Gemm) reads the same in all of them. */
#include "model/onnx/onnx_out.h"

#include <math.h>
#include <string.h>

enum { nd_emit_attributes_max = 8, nd_emit_inputs_max = 5 };

/* One node under way. The first error sticks. */
typedef struct nd_emitter {
    nd_onnx_writer *writer;
    const nd_node *node;
    Nd__Onnx__Node proto;
    Nd__Onnx__Attribute attributes[nd_emit_attributes_max], *pointers[nd_emit_attributes_max];
    char *inputs[nd_emit_inputs_max]; /* of nodes with operands that become initializers */
    nd_status status;
} nd_emitter;

static Nd__Onnx__Attribute *emit_attribute(nd_emitter *emitter, const char *name, int32_t type) {
    Nd__Onnx__Attribute *attribute = &emitter->attributes[emitter->proto.n_attribute];
    nd__onnx__attribute__init(attribute);
    attribute->name = (char *)(uintptr_t)name; /* the generated struct has no const; packing only reads */
    attribute->has_type = 1;
    attribute->type = type;
    emitter->pointers[emitter->proto.n_attribute++] = attribute;
    return attribute;
}

static void emit_int(nd_emitter *emitter, const char *name, int64_t value) {
    Nd__Onnx__Attribute *attribute = emit_attribute(emitter, name, nd_onnx_attribute_int);
    attribute->has_i = 1;
    attribute->i = value;
}

static void emit_float(nd_emitter *emitter, const char *name, float value) {
    Nd__Onnx__Attribute *attribute = emit_attribute(emitter, name, nd_onnx_attribute_float);
    attribute->has_f = 1;
    attribute->f = value;
}

static void emit_ints(nd_emitter *emitter, const char *name, const int64_t *list, int n) {
    Nd__Onnx__Attribute *attribute = emit_attribute(emitter, name, nd_onnx_attribute_ints);
    attribute->n_ints = (size_t)n;
    attribute->ints = (int64_t *)(uintptr_t)list;
}

/* Appends an initializer as the node's next input, named for the node. */
static void emit_operand(nd_emitter *emitter, const char *what, const nd_tensor *tensor) {
    nd_onnx_writer *writer = emitter->writer;
    char *name = nd_arena_printf(&writer->arena, "%s.%s", emitter->node->name, what);
    while (name && nd_graph_find_value(writer->graph, name) >= 0)
        name = nd_arena_printf(&writer->arena, "%s_", name);
    if (emitter->status) return;
    emitter->status = name ? nd_onnx_put_tensor(writer, name, tensor)
                           : nd_fail(nd_status_memory, "%s: no memory", writer->graph->name);
    emitter->inputs[emitter->proto.n_input++] = name;
}

/* The elements are kept in the writer's arena, since they are needed until the file is written. */
static void emit_ints_operand(nd_emitter *emitter, const char *what, const int64_t *list, int n) {
    int64_t *kept = nd_arena_alloc(&emitter->writer->arena, ((size_t)n + 1) * sizeof *kept);
    if (!kept) {
        emitter->status = nd_fail(nd_status_memory, "%s: no memory", emitter->writer->graph->name);
        return;
    }
    memcpy(kept, list, (size_t)n * sizeof *kept);
    emit_operand(emitter, what, &(nd_tensor){.dtype = nd_dtype_i64, .rank = 1, .dims = {n}, .data = kept});
}

static void emit_float_operand(nd_emitter *emitter, const char *what, float value) {
    float *kept = nd_arena_alloc(&emitter->writer->arena, sizeof *kept);
    if (!kept) {
        emitter->status = nd_fail(nd_status_memory, "%s: no memory", emitter->writer->graph->name);
        return;
    }
    *kept = value;
    emit_operand(emitter, what, &(nd_tensor){.dtype = nd_dtype_f32, .data = kept});
}

static void emit_text(nd_emitter *emitter, const char *name, const char *text) {
    Nd__Onnx__Attribute *attribute = emit_attribute(emitter, name, nd_onnx_attribute_string);
    attribute->has_s = 1;
    attribute->s = (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* Padding that follows the size of the input goes on doing so. */
static void emit_window(nd_emitter *emitter) {
    const nd_attr *attr = &emitter->node->attr;
    emit_ints(emitter, "kernel_shape", attr->window.kernel, 2);
    emit_ints(emitter, "strides", attr->window.stride, 2);
    if (attr->auto_pad == nd_auto_pad_none)
        emit_ints(emitter, "pads", attr->window.pad, 4);
    else
        emit_text(emitter, "auto_pad",
                  attr->auto_pad == nd_auto_pad_same_upper ? "SAME_UPPER" : "SAME_LOWER");
}

static void emit_conv(nd_emitter *emitter) {
    emit_window(emitter);
    emit_ints(emitter, "dilations", emitter->node->attr.window.dilation, 2);
    emit_int(emitter, "group", emitter->node->attr.groups);
}

static void emit_max_pool(nd_emitter *emitter) {
    emit_window(emitter);
    emit_ints(emitter, "dilations", emitter->node->attr.window.dilation, 2);
    emit_int(emitter, "ceil_mode", emitter->node->attr.ceil_mode);
}

static void emit_average_pool(nd_emitter *emitter) {
    const int64_t *dilation = emitter->node->attr.window.dilation;
    emit_window(emitter);
    if (dilation[0] != 1 || dilation[1] != 1) {
        if (emitter->writer->graph->opset < 19)
            emitter->status = nd_fail(nd_status_unsupported,
                                      "%s: node '%s': average pooling has dilations since "
                                      "opset 19",
                                      emitter->writer->graph->name, emitter->node->name);
        emit_ints(emitter, "dilations", dilation, 2);
    }
    emit_int(emitter, "ceil_mode", emitter->node->attr.ceil_mode);
    emit_int(emitter, "count_include_pad", emitter->node->attr.count_include_pad);
}

static void emit_gemm(nd_emitter *emitter) {
    const nd_attr *attr = &emitter->node->attr;
    emit_float(emitter, "alpha", attr->alpha);
    emit_float(emitter, "beta", attr->beta);
    emit_int(emitter, "transA", attr->trans_a);
    emit_int(emitter, "transB", attr->trans_b);
}

static void emit_batchnorm(nd_emitter *emitter) {
    emit_float(emitter, "epsilon", emitter->node->attr.epsilon);
}

static void emit_clip(nd_emitter *emitter) {
    emit_float_operand(emitter, "min", emitter->node->attr.lo);
    emit_float_operand(emitter, "max", emitter->node->attr.hi);
}

static void emit_alpha(nd_emitter *emitter) {
    emit_float(emitter, "alpha", emitter->node->attr.alpha);
}

static void emit_alpha_beta(nd_emitter *emitter) {
    emit_float(emitter, "alpha", emitter->node->attr.alpha);
    emit_float(emitter, "beta", emitter->node->attr.beta);
}

static void emit_axis(nd_emitter *emitter) {
    emit_int(emitter, "axis", emitter->node->attr.axis);
}

static void emit_reshape(nd_emitter *emitter) {
    emit_ints_operand(emitter, "shape", emitter->node->attr.list, emitter->node->attr.n);
}

static void emit_axes(nd_emitter *emitter) {
    const nd_attr *attr = &emitter->node->attr;
    if (attr->n) emit_ints_operand(emitter, "axes", attr->list, attr->n);
}

static void emit_transpose(nd_emitter *emitter) {
    const nd_attr *attr = &emitter->node->attr;
    if (attr->n) emit_ints(emitter, "perm", attr->list, attr->n);
}

static void emit_pad_mode(nd_emitter *emitter) {
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    const nd_attr *attr = &emitter->node->attr;
    if (attr->pad_mode) emit_text(emitter, "mode", modes[attr->pad_mode]);
}

static void emit_pad(nd_emitter *emitter) {
    const nd_attr *attr = &emitter->node->attr;
    emit_ints_operand(emitter, "pads", attr->list, attr->n);
    emit_float_operand(emitter, "value", attr->value);
}

/* The sum alone takes its axes as an operand before opset 18. */
static bool has_axes_operand(const nd_emitter *emitter) {
    return emitter->writer->graph->opset > 12 && !strcmp(emitter->node->op_type, "ReduceSum");
}

static void emit_reduce(nd_emitter *emitter) {
    const nd_attr *attr = &emitter->node->attr;
    if (attr->n && !has_axes_operand(emitter)) emit_ints(emitter, "axes", attr->list, attr->n);
    emit_int(emitter, "keepdims", attr->keep_dims);
}

static void emit_reduce_axes(nd_emitter *emitter) {
    if (has_axes_operand(emitter)) emit_axes(emitter);
}

/* Equal parts need no sizes, but of a number of outputs (opset 18) the last may be smaller. */
static void emit_split(nd_emitter *emitter) {
    const nd_node *node = emitter->node;
    const nd_value *values = emitter->writer->graph->values;
    int64_t sizes[2 * nd_rank_max];
    const bool told = node->attr.n > 0;
    if (!told && (!node->attr.size || node->n_out > 2 * nd_rank_max)) return;
    for (int k = 0; !told && k < node->n_out; k++)
        sizes[k] = node->out[k] < 0 ? 0 : values[node->out[k]].dims[node->attr.axis];
    emit_ints_operand(emitter, "split", told ? node->attr.list : sizes, told ? node->attr.n : node->n_out);
}

/* Scales and sizes stay the inputs that they are; before opset 11 there was no region before them. */
static void emit_resize(nd_emitter *emitter) {
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    static const char *const coordinates[] = {"half_pixel", NULL, "pytorch_half_pixel", "align_corners",
                                              "asymmetric"};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
    const nd_node *node = emitter->node;
    const nd_resize *r = &node->attr.resize;
    if (!coordinates[r->coordinates] || node->attr.size) {
        emitter->status = nd_fail(nd_status_unsupported, "%s: node '%s' (Resize) has what opset 17 has not",
                                  emitter->writer->graph->name, node->name);
        return;
    }
    emit_text(emitter, "mode", modes[r->mode]);
    emit_text(emitter, "coordinate_transformation_mode", coordinates[r->coordinates]);
    emit_text(emitter, "nearest_mode", roundings[r->rounding]);
    emit_float(emitter, "cubic_coeff_a", r->cubic);
    emit_int(emitter, "exclude_outside", r->exclude_outside);
    if (node->n_in != 2) return;
    emitter->inputs[0] = emitter->proto.input[0];
    emitter->inputs[1] = "";
    emitter->inputs[2] = emitter->proto.input[1];
    emitter->proto.input = emitter->inputs;
    emitter->proto.n_input = 3;
}

static void emit_slice(nd_emitter *emitter) {
    const nd_attr *attr = &emitter->node->attr;
    emit_ints_operand(emitter, "starts", attr->list, attr->n);
    emit_ints_operand(emitter, "ends", attr->ends, attr->n);
    emit_ints_operand(emitter, "axes", attr->axes, attr->n);
    emit_ints_operand(emitter, "steps", attr->steps, attr->n);
}

static void emit_lrn(nd_emitter *emitter) {
    emit_alpha_beta(emitter);
    emit_float(emitter, "bias", emitter->node->attr.bias);
    emit_int(emitter, "size", emitter->node->attr.size);
}

static void emit_cast(nd_emitter *emitter) {
    emit_int(emitter, "to", nd_onnx_dtype_code(emitter->node->attr.dtype));
}

static void emit_plain(nd_emitter *emitter) {
    (void)emitter;
}

/* `operands`: what the graph has in `attr` and ONNX wants as inputs after the first. */
static const struct {
    void (*attributes)(nd_emitter *emitter), (*operands)(nd_emitter *emitter);
    int64_t opset_min, opset_max;
} nd_emitters[nd_op_count] = {
    [nd_op_conv] = {emit_conv, NULL, 1, INT64_MAX},
    [nd_op_gemm] = {emit_gemm, NULL, 11, INT64_MAX},
    [nd_op_matmul] = {emit_plain, NULL, 1, INT64_MAX},
    [nd_op_batchnorm] = {emit_batchnorm, NULL, 9, INT64_MAX},
    [nd_op_relu] = {emit_plain, NULL, 6, INT64_MAX},
    [nd_op_clip] = {emit_plain, emit_clip, 11, INT64_MAX},
    [nd_op_leaky_relu] = {emit_alpha, NULL, 6, INT64_MAX},
    [nd_op_sigmoid] = {emit_plain, NULL, 6, INT64_MAX},
    [nd_op_hard_sigmoid] = {emit_alpha_beta, NULL, 6, INT64_MAX},
    [nd_op_hard_swish] = {emit_plain, NULL, 14, INT64_MAX},
    [nd_op_add] = {emit_plain, NULL, 7, INT64_MAX},
    [nd_op_mul] = {emit_plain, NULL, 7, INT64_MAX},
    [nd_op_sub] = {emit_plain, NULL, 7, INT64_MAX},
    [nd_op_div] = {emit_plain, NULL, 7, INT64_MAX},
    [nd_op_max_pool] = {emit_max_pool, NULL, 10, INT64_MAX},
    [nd_op_average_pool] = {emit_average_pool, NULL, 10, INT64_MAX},
    [nd_op_global_average_pool] = {emit_plain, NULL, 1, INT64_MAX},
    [nd_op_global_max_pool] = {emit_plain, NULL, 1, INT64_MAX},
    [nd_op_concat] = {emit_axis, NULL, 4, INT64_MAX},
    [nd_op_flatten] = {emit_axis, NULL, 1, INT64_MAX},
    [nd_op_reshape] = {emit_plain, emit_reshape, 5, INT64_MAX},
    [nd_op_squeeze] = {emit_plain, emit_axes, 13, INT64_MAX},
    [nd_op_unsqueeze] = {emit_plain, emit_axes, 13, INT64_MAX},
    [nd_op_transpose] = {emit_transpose, NULL, 1, INT64_MAX},
    [nd_op_pad] = {emit_pad_mode, emit_pad, 11, INT64_MAX},
    [nd_op_softmax] = {emit_axis, NULL, 13, INT64_MAX},
    [nd_op_lrn] = {emit_lrn, NULL, 1, INT64_MAX},
    [nd_op_dropout] = {emit_plain, NULL, 7, INT64_MAX},
    [nd_op_identity] = {emit_plain, NULL, 1, INT64_MAX},
    [nd_op_gather] = {emit_axis, NULL, 1, INT64_MAX},
    [nd_op_reduce_mean] = {emit_reduce, emit_reduce_axes, 1, 17},
    [nd_op_reduce] = {emit_reduce, emit_reduce_axes, 1, 17},
    [nd_op_slice] = {emit_plain, emit_slice, 10, INT64_MAX},
    [nd_op_split] = {emit_axis, emit_split, 13, 17},
    [nd_op_resize] = {emit_resize, NULL, 13, 17},
    [nd_op_expand] = {emit_plain, NULL, 8, INT64_MAX},
    [nd_op_tile] = {emit_plain, NULL, 6, INT64_MAX},
    [nd_op_where] = {emit_plain, NULL, 9, INT64_MAX},
    [nd_op_unary] = {emit_plain, NULL, 13, INT64_MAX},
    [nd_op_cast] = {emit_cast, NULL, 6, INT64_MAX},
    [nd_op_quantize] = {emit_axis, NULL, 13, INT64_MAX},
    [nd_op_dequantize] = {emit_axis, NULL, 13, INT64_MAX},
};

/* Of functions those without attributes that opset 13 has. */
static bool can_write(const nd_node *node) {
    static const char *const functions[] = {"Abs", "Ceil",     "Cos",      "Erf",        "Exp",   "Floor",
                                            "Log", "Neg",      "Not",      "Reciprocal", "Round", "Sign",
                                            "Sin", "Softplus", "Softsign", "Sqrt",       "Tanh"};
    if (node->op != nd_op_unary) return nd_emitters[node->op].attributes != NULL;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(node->op_type, functions[i])) return true;
    return false;
}

/* Inputs before opset 18, which gave these nodes another for their axes. */
static const int nd_most_inputs[nd_op_count] = {[nd_op_pad] = 3, [nd_op_reduce_mean] = 1, [nd_op_reduce] = 1};

bool nd_onnx_remakes_operands(const nd_graph *graph, const nd_node *node) {
    const int most = nd_most_inputs[node->op];
    if (!nd_emitters[node->op].operands) return false;
    for (int k = 1; k < node->n_in; k++)
        if (node->in[k] >= 0 && !graph->values[node->in[k]].init) return false;
    return node->n_in == 1 || (most && node->n_in > most);
}

/* Before opset 13 all axes from one on, which is another thing only where that is not the last. */
static bool is_flat_softmax(const nd_graph *graph, const nd_node *node) {
    const int64_t axis = node->attr.axis;
    return node->op == nd_op_softmax && node->attr.flat_softmax && axis != -1 &&
           axis != graph->values[node->in[0]].rank - 1;
}

bool nd_onnx_emits(const nd_graph *graph, const nd_node *node, int64_t opset) {
    return can_write(node) && opset >= nd_emitters[node->op].opset_min &&
           opset <= nd_emitters[node->op].opset_max && !is_flat_softmax(graph, node);
}

nd_status nd_onnx_emit(nd_onnx_writer *writer, const nd_node *node, char *const *in, char *const *out) {
    const nd_graph *graph = writer->graph;
    nd_emitter emitter = {.writer = writer, .node = node, .proto = ND__ONNX__NODE__INIT};
    ND_REQUIRE(can_write(node), nd_status_unsupported, "%s: node '%s' (%s) cannot be written", graph->name,
               node->name, node->op_type);
    ND_REQUIRE(nd_onnx_emits(graph, node, graph->opset), nd_status_unsupported,
               "%s: node '%s' (%s) cannot be written in opset %lld", graph->name, node->name, node->op_type,
               (long long)graph->opset);
    const bool several = node->op == nd_op_reduce || node->op == nd_op_unary; /* operators of one kind */
    const bool remade = nd_onnx_remakes_operands(graph, node);
    Nd__Onnx__Node *proto = &emitter.proto;
    proto->name = (char *)(uintptr_t)node->name;
    proto->op_type = (char *)(uintptr_t)(several ? node->op_type : nd_op_name(node->op));
    proto->attribute = emitter.pointers;
    proto->n_output = (size_t)node->n_out;
    proto->output = (char **)(uintptr_t)out;
    proto->n_input = (size_t)node->n_in;
    proto->input = (char **)(uintptr_t)in;
    if (remade) {
        emitter.inputs[0] = in[0];
        proto->input = emitter.inputs;
        proto->n_input = 1;
    }
    nd_emitters[node->op].attributes(&emitter);
    if (remade) nd_emitters[node->op].operands(&emitter);
    if (emitter.status) return emitter.status;
    return nd_pieces_add_message(&writer->nodes, nd_onnx_graph_node, &proto->base);
}
