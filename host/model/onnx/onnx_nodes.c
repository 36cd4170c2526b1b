/* ONNX operators (opset 7 to 20) in the terms of the graph. Whatever nd would have to run differently from
 * what an attribute says stays opaque; what contradicts the format is an error. */
#include "model/onnx/onnx_attrs.h"

#include <math.h>
#include <string.h>

static void read_gemm(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->alpha = nd_onnx_attr_float(reader, "alpha", 1);
    attr->beta = nd_onnx_attr_float(reader, "beta", 1);
    attr->trans_a = nd_onnx_attr_int(reader, "transA", 0) != 0;
    attr->trans_b = nd_onnx_attr_int(reader, "transB", 0) != 0;
}

static void read_batchnorm(nd_node_reader *reader) {
    reader->node->attr.epsilon = nd_onnx_attr_float(reader, "epsilon", 1e-5f);
    reader->node->attr.training = nd_onnx_attr_int(reader, "training_mode", 0) != 0;
    reader->opaque = reader->node->attr.training || nd_onnx_attr_int(reader, "spatial", 1) != 1;
}

static void read_clip(nd_node_reader *reader) {
    reader->node->attr.lo = nd_onnx_attr_float(reader, "min", -INFINITY);
    reader->node->attr.hi = nd_onnx_attr_float(reader, "max", INFINITY);
}

static void read_leaky_relu(nd_node_reader *reader) {
    reader->node->attr.alpha = nd_onnx_attr_float(reader, "alpha", 0.01f);
}

static void read_hard_sigmoid(nd_node_reader *reader) {
    reader->node->attr.alpha = nd_onnx_attr_float(reader, "alpha", 0.2f);
    reader->node->attr.beta = nd_onnx_attr_float(reader, "beta", 0.5f);
}

static void read_concat(nd_node_reader *reader) {
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", 1);
}

static void read_quantize(nd_node_reader *reader) {
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", 1);
    /* Blocks of one axis, types of later opsets, and NaN for what is larger than any number of the type. */
    reader->opaque = nd_onnx_attr_int(reader, "block_size", 0) != 0 ||
                     nd_onnx_attr_int(reader, "output_dtype", 0) != 0 ||
                     nd_onnx_attr_int(reader, "saturate", 1) != 1;
}

static void read_flatten(nd_node_reader *reader) {
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", 1);
}

static void read_gather(nd_node_reader *reader) {
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", 0);
}

static void read_softmax(nd_node_reader *reader) {
    const bool flat = reader->graph->opset < 13;
    reader->node->attr.flat_softmax = flat;
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", flat ? 1 : -1);
}

/* With allowzero a 0 means an empty dimension, not the input's. */
static void read_reshape(nd_node_reader *reader) {
    if (!nd_onnx_attr_int(reader, "allowzero", 0)) return;
    const nd_tensor *shape = nd_onnx_node_constant(reader, 1);
    reader->opaque = !shape || shape->dtype != nd_dtype_i64;
    for (int64_t i = 0; !reader->opaque && i < nd_tensor_count(shape); i++)
        if (!((const int64_t *)shape->data)[i]) reader->opaque = true;
}

static void read_axes(nd_node_reader *reader) {
    reader->node->attr.n = nd_onnx_attr_ints(reader, "axes", reader->node->attr.list, nd_rank_max);
}

static void read_reduce(nd_node_reader *reader) {
    read_axes(reader);
    reader->node->attr.keep_dims = nd_onnx_attr_int(reader, "keepdims", 1) != 0;
    if (!nd_onnx_attr_int(reader, "noop_with_empty_axes", 0)) return;
    const nd_tensor *axes = nd_onnx_node_constant(reader, 1);
    if (!nd_onnx_node_has(reader, 1) || (axes && !nd_tensor_count(axes)))
        reader->node->op = nd_op_identity;
    else
        reader->opaque = !axes;
}

static void read_transpose(nd_node_reader *reader) {
    reader->node->attr.n = nd_onnx_attr_ints(reader, "perm", reader->node->attr.list, nd_rank_max);
}

static void read_pad(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    const int mode = nd_onnx_attr_choice(reader, "mode", modes, 4);
    reader->opaque = mode < 0;
    attr->pad_mode = mode < 0 ? nd_pad_constant : (nd_pad_mode)mode;
    attr->value = nd_onnx_attr_float(reader, "value", 0);
    attr->n = nd_onnx_attr_ints(reader, "pads", attr->list, 2 * nd_rank_max);
}

/* As attributes before opset 10, as inputs since. */
static void read_slice(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->n = nd_onnx_attr_ints(reader, "starts", attr->list, nd_rank_max);
    const int ends = nd_onnx_attr_ints(reader, "ends", attr->ends, nd_rank_max);
    const int axes = nd_onnx_attr_ints(reader, "axes", attr->axes, nd_rank_max);
    if (!reader->status && (ends != attr->n || (axes && axes != attr->n)))
        reader->status = nd_fail(nd_status_format, "starts, ends and axes differ in length");
    for (int i = 0; i < attr->n; i++) {
        attr->steps[i] = 1;
        if (!axes) attr->axes[i] = i;
    }
}

static void read_lrn(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->alpha = nd_onnx_attr_float(reader, "alpha", 1e-4f);
    attr->beta = nd_onnx_attr_float(reader, "beta", 0.75f);
    attr->bias = nd_onnx_attr_float(reader, "bias", 1);
    attr->size = nd_onnx_attr_int(reader, "size", 0);
}

/* Identity at inference; a node that asks for training stays opaque. */
static void read_dropout(nd_node_reader *reader) {
    if (!nd_onnx_node_has(reader, 2)) return;
    const nd_tensor *training = nd_onnx_node_constant(reader, 2);
    reader->opaque = !training || training->dtype != nd_dtype_bool || nd_tensor_count(training) != 1 ||
                     *(const uint8_t *)training->data;
}

static void read_alpha_of_one(nd_node_reader *reader) {
    reader->node->attr.alpha = nd_onnx_attr_float(reader, "alpha", 1);
}

static void read_selu(nd_node_reader *reader) {
    reader->node->attr.alpha = nd_onnx_attr_float(reader, "alpha", 1.67326319217681884765625f);
    reader->node->attr.beta = nd_onnx_attr_float(reader, "gamma", 1.05070102214813232421875f);
}

static void read_elu(nd_node_reader *reader) {
    read_alpha_of_one(reader);
    reader->node->attr.beta = 1;
}

/* Any but two operands, and axes that are summed in one of them alone, are left alone. */
static void read_einsum(nd_node_reader *reader) {
    const Nd__Onnx__Attribute *equation = nd_onnx_attr_find(reader, "equation", nd_onnx_attribute_string);
    char text[128] = "";
    reader->opaque = !equation || equation->s.len >= sizeof text || reader->node->n_in != 2;
    if (reader->opaque) return;
    memcpy(text, equation->s.data, equation->s.len);
    reader->opaque = !nd_onnx_einsum(text, &reader->node->attr);
}

static void read_not(nd_node_reader *reader) {
    reader->node->attr.alpha = -1;
    reader->node->attr.beta = 1;
}

static void read_gelu(nd_node_reader *reader) {
    reader->node->attr.approximate = nd_onnx_attr_text_is(reader, "approximate", "tanh");
}

/* The statistics that training wants of it are no outputs that nd computes. */
static void read_normalize(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->epsilon = nd_onnx_attr_float(reader, "epsilon", 1e-5f);
    attr->axis = nd_onnx_attr_int(reader, "axis", -1);
    attr->groups = nd_onnx_attr_int(reader, "num_groups", 1);
    if (!reader->status && attr->groups < 1)
        reader->status = nd_fail(nd_status_format, "attribute 'num_groups' is %lld", (long long)attr->groups);
}

/* Sizes as an attribute before opset 13, as an input since; equal parts where there are none. */
static void read_split(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->axis = nd_onnx_attr_int(reader, "axis", 0);
    attr->size = nd_onnx_attr_int(reader, "num_outputs", 0);
    attr->n = nd_onnx_attr_ints(reader, "split", attr->list, 2 * nd_rank_max);
}

/* Cutting out a region, keeping the aspect ratio and antialiasing are left alone. Opset 10, and Upsample
 * before it, put pixels at whole multiples. */
static void read_resize(nd_node_reader *reader) {
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    static const char *const coordinates[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
                                              "align_corners", "asymmetric"};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
    nd_attr *attr = &reader->node->attr;
    const int mode = nd_onnx_attr_choice(reader, "mode", modes, 3);
    int where = nd_onnx_attr_choice(reader, "coordinate_transformation_mode", coordinates, 5);
    int rounding = nd_onnx_attr_choice(reader, "nearest_mode", roundings, 4);
    if (reader->graph->opset < 11) where = nd_resize_asymmetric, rounding = nd_resize_floor;
    reader->opaque = mode < 0 || where < 0 || rounding < 0 || nd_onnx_attr_int(reader, "antialias", 0) ||
                     (nd_onnx_attr_find(reader, "keep_aspect_ratio_policy", nd_onnx_attribute_string) &&
                      !nd_onnx_attr_text_is(reader, "keep_aspect_ratio_policy", "stretch"));
    if (reader->opaque) return;
    attr->resize = (nd_resize){.mode = (nd_resize_mode)mode,
                               .coordinates = (nd_resize_coordinates)where,
                               .rounding = (nd_resize_rounding)rounding,
                               .cubic = nd_onnx_attr_float(reader, "cubic_coeff_a", -0.75f),
                               .exclude_outside = nd_onnx_attr_int(reader, "exclude_outside", 0) != 0};
    attr->size = nd_onnx_attr_ints(reader, "axes", attr->axes, nd_rank_max);
}

static void read_blocks(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->size = nd_onnx_attr_int(reader, "blocksize", 0);
    attr->channels_first = nd_onnx_attr_text_is(reader, "mode", "CRD");
    if (!reader->status && (attr->size < 1 || attr->size > 1 << 12))
        reader->status = nd_fail(nd_status_format, "attribute 'blocksize' is %lld", (long long)attr->size);
}

static void read_shape(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->list[0] = nd_onnx_attr_int(reader, "start", 0);
    attr->list[1] = nd_onnx_attr_int(reader, "end", INT64_MAX);
    attr->n = 2;
}

static void read_cast(nd_node_reader *reader) {
    const int64_t to = nd_onnx_attr_int(reader, "to", 0);
    reader->opaque = to < 0 || to > INT32_MAX ||
                     !nd_onnx_dtype_find((int32_t)to, &reader->node->attr.dtype) ||
                     reader->node->attr.dtype == nd_dtype_e4m3;
}

/* Of one operand Min, Max and Sum are that. */
static void read_list(nd_node_reader *reader) {
    if (reader->node->n_in == 1) reader->node->op = nd_op_identity;
}

static void read_sum(nd_node_reader *reader) {
    if (reader->node->n_in > 2) reader->node->op = nd_op_binary;
    read_list(reader);
}

static void read_constant_list(nd_node_reader *reader, nd_dtype dtype, int rank, const void *items,
                               size_t count, nd_tensor *out) {
    reader->status = nd_tensor_new(dtype, rank, &(int64_t){(int64_t)count}, out);
    if (!reader->status && count) memcpy(out->data, items, count * nd_dtype_bytes(dtype));
}

static void read_constant(nd_node_reader *reader) {
    const Nd__Onnx__Attribute *f = nd_onnx_attr_find(reader, "value_float", nd_onnx_attribute_float);
    const Nd__Onnx__Attribute *i = nd_onnx_attr_find(reader, "value_int", nd_onnx_attribute_int);
    const Nd__Onnx__Attribute *floats = nd_onnx_attr_find(reader, "value_floats", nd_onnx_attribute_floats);
    const Nd__Onnx__Attribute *ints = nd_onnx_attr_find(reader, "value_ints", nd_onnx_attribute_ints);
    const int out = reader->node->out[0];
    nd_tensor tensor = {0};
    if (reader->status) return;
    if (f)
        read_constant_list(reader, nd_dtype_f32, 0, &f->f, 1, &tensor);
    else if (i)
        read_constant_list(reader, nd_dtype_i64, 0, &i->i, 1, &tensor);
    else if (floats)
        read_constant_list(reader, nd_dtype_f32, 1, floats->floats, floats->n_floats, &tensor);
    else if (ints)
        read_constant_list(reader, nd_dtype_i64, 1, ints->ints, ints->n_ints, &tensor);
    else if (!nd_onnx_attr_value(reader, &tensor))
        reader->opaque = true;
    const nd_value *value = &reader->graph->values[out];
    if (!reader->status && !reader->opaque && (value->init || value->raw))
        reader->status = nd_fail(nd_status_format, "its output '%s' has a value already", value->name);
    if (!reader->status && !reader->opaque) reader->status = nd_graph_set_init(reader->graph, out, &tensor);
    nd_tensor_free(&tensor);
}

static void read_constant_of_shape(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    nd_tensor value;
    attr->dtype = nd_dtype_f32;
    if (!nd_onnx_attr_value(reader, &value)) return;
    attr->dtype = value.dtype;
    if (nd_tensor_count(&value) != 1) {
        reader->status = nd_fail(nd_status_format, "attribute 'value' is no single number");
    } else if (value.dtype == nd_dtype_i64) {
        attr->size = *(const int64_t *)value.data;
    } else if (value.dtype == nd_dtype_i32) {
        attr->size = *(const int32_t *)value.data;
    } else if (value.dtype == nd_dtype_f32) {
        nd_tensor_to_f32(&value, &attr->value);
    }
    nd_tensor_free(&value);
}

/* Operators nd interprets. The first `required` inputs must be there. */
static const struct {
    const char *type;
    nd_op op;
    int required, most;
    void (*read)(nd_node_reader *reader);
} nd_onnx_ops[] = {
    {"Conv", nd_op_conv, 2, 3, nd_onnx_read_conv},
    {"ConvTranspose", nd_op_conv_transpose, 2, 3, nd_onnx_read_conv_transpose},
    {"Gemm", nd_op_gemm, 2, 3, read_gemm},
    {"MatMul", nd_op_matmul, 2, 2, NULL},
    {"BatchNormalization", nd_op_batchnorm, 5, 5, read_batchnorm},
    {"Relu", nd_op_relu, 1, 1, NULL},
    {"Clip", nd_op_clip, 1, 3, read_clip},
    {"LeakyRelu", nd_op_leaky_relu, 1, 1, read_leaky_relu},
    {"Sigmoid", nd_op_sigmoid, 1, 1, NULL},
    {"HardSigmoid", nd_op_hard_sigmoid, 1, 1, read_hard_sigmoid},
    {"HardSwish", nd_op_hard_swish, 1, 1, NULL},
    {"Add", nd_op_add, 2, 2, NULL},
    {"Sum", nd_op_add, 1, INT32_MAX, read_sum},
    {"Mul", nd_op_mul, 2, 2, NULL},
    {"Sub", nd_op_sub, 2, 2, NULL},
    {"Div", nd_op_div, 2, 2, NULL},
    {"MaxPool", nd_op_max_pool, 1, 1, nd_onnx_read_pool},
    {"AveragePool", nd_op_average_pool, 1, 1, nd_onnx_read_pool},
    {"GlobalAveragePool", nd_op_global_average_pool, 1, 1, NULL},
    {"GlobalMaxPool", nd_op_global_max_pool, 1, 1, NULL},
    {"Concat", nd_op_concat, 1, INT32_MAX, read_concat},
    {"Flatten", nd_op_flatten, 1, 1, read_flatten},
    {"Reshape", nd_op_reshape, 2, 2, read_reshape},
    {"Squeeze", nd_op_squeeze, 1, 2, read_axes},
    {"Unsqueeze", nd_op_unsqueeze, 1, 2, read_axes},
    {"Transpose", nd_op_transpose, 1, 1, read_transpose},
    {"Pad", nd_op_pad, 1, 4, read_pad},
    {"Softmax", nd_op_softmax, 1, 1, read_softmax},
    {"LRN", nd_op_lrn, 1, 1, read_lrn},
    {"Dropout", nd_op_dropout, 1, 3, read_dropout},
    {"Identity", nd_op_identity, 1, 1, NULL},
    {"Constant", nd_op_constant, 0, 0, read_constant},
    {"ConstantOfShape", nd_op_constant_of_shape, 1, 1, read_constant_of_shape},
    {"Gather", nd_op_gather, 2, 2, read_gather},
    {"ReduceMean", nd_op_reduce_mean, 1, 2, read_reduce},
    {"ReduceProd", nd_op_reduce_prod, 1, 2, read_reduce},
    {"Slice", nd_op_slice, 1, 5, read_slice},
    {"Shape", nd_op_shape, 1, 1, read_shape},
    {"Cast", nd_op_cast, 1, 1, read_cast},
    {"QuantizeLinear", nd_op_quantize, 2, 3, read_quantize},
    {"DequantizeLinear", nd_op_dequantize, 2, 3, read_quantize},
    {"LayerNormalization", nd_op_normalize, 2, 3, read_normalize},
    {"InstanceNormalization", nd_op_normalize, 3, 3, read_normalize},
    {"GroupNormalization", nd_op_normalize, 3, 3, read_normalize},
    {"Split", nd_op_split, 1, 2, read_split},
    {"Expand", nd_op_expand, 2, 2, NULL},
    {"Tile", nd_op_tile, 2, 2, NULL},
    {"DepthToSpace", nd_op_depth_to_space, 1, 1, read_blocks},
    {"SpaceToDepth", nd_op_depth_to_space, 1, 1, read_blocks},
    {"Resize", nd_op_resize, 1, 4, read_resize},
    {"Upsample", nd_op_resize, 2, 2, read_resize},
    {"Abs", nd_op_unary, 1, 1, NULL},
    {"Ceil", nd_op_unary, 1, 1, NULL},
    {"Celu", nd_op_unary, 1, 1, read_alpha_of_one},
    {"Cos", nd_op_unary, 1, 1, NULL},
    {"Elu", nd_op_unary, 1, 1, read_elu},
    {"Erf", nd_op_unary, 1, 1, NULL},
    {"Exp", nd_op_unary, 1, 1, NULL},
    {"Floor", nd_op_unary, 1, 1, NULL},
    {"Gelu", nd_op_unary, 1, 1, read_gelu},
    {"Log", nd_op_unary, 1, 1, NULL},
    {"Mish", nd_op_unary, 1, 1, NULL},
    {"Neg", nd_op_unary, 1, 1, NULL},
    {"Reciprocal", nd_op_unary, 1, 1, NULL},
    {"Round", nd_op_unary, 1, 1, NULL},
    {"Selu", nd_op_unary, 1, 1, read_selu},
    {"Sign", nd_op_unary, 1, 1, NULL},
    {"Sin", nd_op_unary, 1, 1, NULL},
    {"Softplus", nd_op_unary, 1, 1, NULL},
    {"Softsign", nd_op_unary, 1, 1, NULL},
    {"Sqrt", nd_op_unary, 1, 1, NULL},
    {"Swish", nd_op_unary, 1, 1, read_alpha_of_one},
    {"Tanh", nd_op_unary, 1, 1, NULL},
    {"ThresholdedRelu", nd_op_unary, 1, 1, read_alpha_of_one},
    {"Max", nd_op_binary, 1, INT32_MAX, read_list},
    {"Min", nd_op_binary, 1, INT32_MAX, read_list},
    {"Pow", nd_op_binary, 2, 2, NULL},
    {"PRelu", nd_op_binary, 2, 2, NULL},
    {"Einsum", nd_op_einsum, 1, INT32_MAX, read_einsum},
    {"And", nd_op_binary, 2, 2, NULL},
    {"Or", nd_op_binary, 2, 2, NULL},
    {"Not", nd_op_unary, 1, 1, read_not},
    {"Equal", nd_op_binary, 2, 2, NULL},
    {"Less", nd_op_binary, 2, 2, NULL},
    {"LessOrEqual", nd_op_binary, 2, 2, NULL},
    {"Greater", nd_op_binary, 2, 2, NULL},
    {"GreaterOrEqual", nd_op_binary, 2, 2, NULL},
    {"Where", nd_op_where, 3, 3, NULL},
    {"ReduceL1", nd_op_reduce, 1, 2, read_reduce},
    {"ReduceL2", nd_op_reduce, 1, 2, read_reduce},
    {"ReduceLogSum", nd_op_reduce, 1, 2, read_reduce},
    {"ReduceLogSumExp", nd_op_reduce, 1, 2, read_reduce},
    {"ReduceMax", nd_op_reduce, 1, 2, read_reduce},
    {"ReduceMin", nd_op_reduce, 1, 2, read_reduce},
    {"ReduceSum", nd_op_reduce, 1, 2, read_reduce},
    {"ReduceSumSquare", nd_op_reduce, 1, 2, read_reduce},
};

nd_status nd_onnx_interpret(nd_graph *graph, nd_onnx_files *files, const Nd__Onnx__Node *proto,
                            nd_node *node) {
    for (size_t i = 0; i < sizeof nd_onnx_ops / sizeof *nd_onnx_ops; i++) {
        if (strcmp(nd_onnx_ops[i].type, node->op_type)) continue;
        nd_node_reader reader = {graph, files, proto, node, nd_status_ok, false};
        node->op = nd_onnx_ops[i].op;
        ND_TRY(nd_onnx_check_inputs(&reader, nd_onnx_ops[i].required, nd_onnx_ops[i].most));
        ND_REQUIRE(node->out[0] >= 0, nd_status_format, "its output has no name");
        if (nd_onnx_ops[i].read) nd_onnx_ops[i].read(&reader);
        if (reader.opaque) node->op = nd_op_opaque;
        return reader.status;
    }
    return nd_onnx_interpret_dynamic(&(nd_node_reader){graph, files, proto, node, nd_status_ok, false});
}
