/* ONNX operators whose sizes or integers are known while running alone: what run/dynamic/ is given of
 * them. */
#include "model/onnx/onnx_attrs.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static void read_axis(nd_node_reader *reader) {
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", 0);
}

static void read_topk(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->axis = nd_onnx_attr_int(reader, "axis", -1);
    attr->size = nd_onnx_attr_int(reader, "k", 0);
    attr->largest = nd_onnx_attr_int(reader, "largest", 1) != 0;
}

static void read_arg(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->axis = nd_onnx_attr_int(reader, "axis", 0);
    attr->keep_dims = nd_onnx_attr_int(reader, "keepdims", 1) != 0;
    attr->last = nd_onnx_attr_int(reader, "select_last_index", 0) != 0;
}

static void read_suppression(nd_node_reader *reader) {
    reader->node->attr.center = nd_onnx_attr_int(reader, "center_point_box", 0) != 0;
}

static void read_gather_nd(nd_node_reader *reader) {
    reader->node->attr.size = nd_onnx_attr_int(reader, "batch_dims", 0);
}

/* What adds or multiplies into its place is left alone. */
static void read_scatter(nd_node_reader *reader) {
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", 0);
    reader->opaque = nd_onnx_attr_find(reader, "reduction", nd_onnx_attribute_string) &&
                     !nd_onnx_attr_text_is(reader, "reduction", "none");
}

static void read_mod(nd_node_reader *reader) {
    reader->node->attr.remainder = nd_onnx_attr_int(reader, "fmod", 0) != 0;
}

static void read_cumulative(nd_node_reader *reader) {
    reader->node->attr.exclusive = nd_onnx_attr_int(reader, "exclusive", 0) != 0;
    reader->node->attr.reverse = nd_onnx_attr_int(reader, "reverse", 0) != 0;
}

/* Pixels had their centres at whole numbers before opset 16. */
static void read_roi_align(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    attr->window.kernel[0] = nd_onnx_attr_int(reader, "output_height", 1);
    attr->window.kernel[1] = nd_onnx_attr_int(reader, "output_width", 1);
    attr->size = nd_onnx_attr_int(reader, "sampling_ratio", 0);
    attr->alpha = nd_onnx_attr_float(reader, "spatial_scale", 1);
    attr->center = reader->graph->opset >= 16 &&
                   !nd_onnx_attr_text_is(reader, "coordinate_transformation_mode", "output_half_pixel");
    reader->opaque = nd_onnx_attr_text_is(reader, "mode", "max");
    for (int i = 0; i < 2 && !reader->status; i++)
        if (attr->window.kernel[i] < 1 || attr->window.kernel[i] > 1 << 12 || attr->size < 0 ||
            attr->size > 1 << 12)
            reader->status = nd_fail(nd_status_format, "an output or a sampling ratio that is not possible");
}

/* The functions of the gates: by direction f, g and h, as many as `each`. Others than these stay opaque. */
static void read_gates(nd_node_reader *reader, int each) {
    static const char *const names[] = {"Sigmoid", "Tanh", "Relu"};
    nd_recurrence *recurrence = &reader->node->attr.recurrence;
    const Nd__Onnx__Attribute *given = nd_onnx_attr_find(reader, "activations", nd_onnx_attribute_strings);
    const size_t count = (size_t)each * (size_t)recurrence->directions;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < 3; i++) recurrence->gates[d][i] = i || each == 1 ? nd_gate_tanh : nd_gate_sigmoid;
    if (!given || reader->status) return;
    if (given->n_strings != count) {
        reader->status = nd_fail(nd_status_format, "attribute 'activations' has %zu entries, expected %zu",
                                 given->n_strings, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const ProtobufCBinaryData text = given->strings[i];
        size_t gate = 0;
        while (gate < 3 && (strlen(names[gate]) != text.len ||
                            strncasecmp(names[gate], (const char *)text.data, text.len)))
            gate++;
        if (gate < 3) recurrence->gates[i / (size_t)each][i % (size_t)each] = (nd_gate)gate;
        if (gate == 3) reader->opaque = true;
    }
}

static void read_recurrence(nd_node_reader *reader) {
    static const char *const directions[] = {"forward", "reverse", "bidirectional"};
    nd_recurrence *recurrence = &reader->node->attr.recurrence;
    const char *op = reader->node->op_type;
    const int direction = nd_onnx_attr_choice(reader, "direction", directions, 3);
    recurrence->directions = direction == 2 ? 2 : 1;
    recurrence->backward = direction == 1;
    recurrence->hidden = nd_onnx_attr_int(reader, "hidden_size", 0);
    recurrence->batch_first = nd_onnx_attr_int(reader, "layout", 0) != 0;
    recurrence->reset_after = nd_onnx_attr_int(reader, "linear_before_reset", 0) != 0;
    recurrence->coupled = nd_onnx_attr_int(reader, "input_forget", 0) != 0;
    recurrence->clip = nd_onnx_attr_float(reader, "clip", INFINITY);
    read_gates(reader, !strcmp(op, "RNN") ? 1 : !strcmp(op, "GRU") ? 2 : 3);
    if (!reader->status && direction < 0)
        reader->status = nd_fail(nd_status_format, "attribute 'direction' is none that there is");
    if (!reader->status && !(recurrence->clip >= 0))
        reader->status = nd_fail(nd_status_format, "attribute 'clip' is %g", (double)recurrence->clip);
}

/* Its optional operands are among the twelve. */
static void read_quantised_lstm(nd_node_reader *reader) {
    static const int needed[] = {0, 1, 2, 8, 9, 10, 11};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!nd_onnx_node_has(reader, needed[i])) reader->opaque = true;
    read_recurrence(reader);
}

/* A product, of which the sums are multiplied by alpha. */
static void read_quantised_product(nd_node_reader *reader) {
    reader->node->attr.alpha = nd_onnx_attr_float(reader, "alpha", 1);
    reader->node->attr.trans_b = nd_onnx_attr_int(reader, "transB", 0) != 0;
    reader->opaque = nd_onnx_attr_int(reader, "transA", 0) != 0;
}

static void read_quantised_conv(nd_node_reader *reader) {
    nd_onnx_read_conv(reader);
    reader->node->attr.alpha = 1;
}

static void read_quantised_concat(nd_node_reader *reader) {
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", 0);
}

static void read_quantised_leaky_relu(nd_node_reader *reader) {
    reader->node->attr.alpha = nd_onnx_attr_float(reader, "alpha", 0.01f);
}

/* Before opset 13 the axes from this one on are one. */
static void read_quantised_softmax(nd_node_reader *reader) {
    const bool flat = nd_onnx_attr_int(reader, "opset", 0) < 13;
    reader->node->attr.flat_softmax = flat;
    reader->node->attr.axis = nd_onnx_attr_int(reader, "axis", flat ? 1 : -1);
}

static void read_quantised_pool(nd_node_reader *reader) {
    if (strstr(reader->node->op_type, "Global") == NULL) nd_onnx_read_pool(reader);
    if (nd_onnx_attr_int(reader, "channels_last", 0)) reader->opaque = true;
}

/* Operators of nd_node.dynamic. The first `required` inputs must be there. */
static const struct {
    const char *type;
    int required, most;
    void (*read)(nd_node_reader *reader);
} nd_onnx_dynamic_ops[] = {
    {"TopK", 1, 2, read_topk},
    {"ArgMax", 1, 1, read_arg},
    {"ArgMin", 1, 1, read_arg},
    {"NonMaxSuppression", 2, 5, read_suppression},
    {"NonZero", 1, 1, NULL},
    {"GatherElements", 2, 2, read_axis},
    {"GatherND", 2, 2, read_gather_nd},
    {"Scatter", 3, 3, read_scatter},
    {"ScatterElements", 3, 3, read_scatter},
    {"ScatterND", 3, 3, read_scatter},
    {"CumSum", 2, 2, read_cumulative},
    {"Mod", 2, 2, read_mod},
    {"Xor", 2, 2, NULL},
    {"IsNaN", 1, 1, NULL},
    {"Size", 1, 1, NULL},
    {"Range", 3, 3, NULL},
    {"RoiAlign", 3, 3, read_roi_align},
    {"LSTM", 3, 8, read_recurrence},
    {"GRU", 3, 6, read_recurrence},
    {"RNN", 3, 6, read_recurrence},
    {"com.microsoft.DynamicQuantizeLSTM", 3, 12, read_quantised_lstm},
    {"ConvInteger", 2, 4, nd_onnx_read_conv},
    {"MatMulInteger", 2, 4, NULL},
    {"DynamicQuantizeLinear", 1, 1, NULL},
    {"QLinearConv", 8, 9, read_quantised_conv},
    {"QLinearMatMul", 8, 8, read_quantised_product},
    {"com.microsoft.QGemm", 6, 9, read_quantised_product},
    {"com.microsoft.QLinearAdd", 7, 8, NULL},
    {"com.microsoft.QLinearAveragePool", 4, 5, read_quantised_pool},
    {"com.microsoft.QLinearConcat", 5, INT32_MAX, read_quantised_concat},
    {"com.microsoft.QLinearGlobalAveragePool", 4, 5, read_quantised_pool},
    {"com.microsoft.QLinearLeakyRelu", 4, 5, read_quantised_leaky_relu},
    {"com.microsoft.QLinearMul", 7, 8, NULL},
    {"com.microsoft.QLinearSigmoid", 4, 5, NULL},
    {"com.microsoft.QLinearSoftmax", 4, 5, read_quantised_softmax},
    {"If", 1, INT32_MAX, NULL},
    {"Loop", 0, INT32_MAX, NULL},
};

nd_status nd_onnx_interpret_dynamic(nd_node_reader *reader) {
    for (size_t i = 0; i < sizeof nd_onnx_dynamic_ops / sizeof *nd_onnx_dynamic_ops; i++) {
        if (strcmp(nd_onnx_dynamic_ops[i].type, reader->node->op_type)) continue;
        ND_TRY(nd_onnx_check_inputs(reader, nd_onnx_dynamic_ops[i].required, nd_onnx_dynamic_ops[i].most));
        if (nd_onnx_dynamic_ops[i].read) nd_onnx_dynamic_ops[i].read(reader);
        reader->node->dynamic = !reader->opaque;
        return reader->status;
    }
    return nd_status_ok;
}
