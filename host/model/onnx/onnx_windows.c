/* The attributes of what slides a window over an image: convolutions, their transposes, pools. */
#include "model/onnx/onnx_attrs.h"

#include <string.h>

enum { nd_onnx_window_limit = 1 << 24 }; /* kernels, strides, dilations, pads: far beyond any network */

/* A list of a window: absent, or one entry for each of its axes, and sides of them, all in [low, limit]. The
 * entries of one axis are those of the second in `list`. */
static void attr_window_list(nd_node_reader *reader, const char *name, int64_t *list, int axes, int sides,
                             int64_t low) {
    int64_t found[4];
    const int count = nd_onnx_attr_ints(reader, name, found, 4), n = axes * sides;
    if (!count || reader->status) return;
    if (count != n) {
        reader->status =
            nd_fail(nd_status_format, "attribute '%s' has %d entries, expected %d", name, count, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        list[axes == 2 ? i : 2 * i + 1] = found[i];
        if (found[i] < low || found[i] > nd_onnx_window_limit)
            reader->status =
                nd_fail(nd_status_format, "attribute '%s': %lld is not possible", name, (long long)found[i]);
    }
}

/* Windows over `axes` only: a node with any other stays opaque. */
static void read_window(nd_node_reader *reader, int axes) {
    nd_attr *attr = &reader->node->attr;
    const Nd__Onnx__Attribute *kernel = nd_onnx_attr_find(reader, "kernel_shape", nd_onnx_attribute_ints);
    if (kernel && kernel->n_ints != (size_t)axes) {
        reader->opaque = true;
        return;
    }
    attr->window.kernel[0] = axes == 1;
    attr->window.kernel[1] = 0;
    attr_window_list(reader, "kernel_shape", attr->window.kernel, axes, 1, 1);
    attr_window_list(reader, "strides", attr->window.stride, axes, 1, 1);
    attr_window_list(reader, "dilations", attr->window.dilation, axes, 1, 1);
    attr_window_list(reader, "pads", attr->window.pad, axes, 2, 0);
    if (nd_onnx_attr_text_is(reader, "auto_pad", "SAME_UPPER")) attr->auto_pad = nd_auto_pad_same_upper;
    if (nd_onnx_attr_text_is(reader, "auto_pad", "SAME_LOWER")) attr->auto_pad = nd_auto_pad_same_lower;
    if (nd_onnx_attr_text_is(reader, "auto_pad", "VALID"))
        memset(attr->window.pad, 0, sizeof attr->window.pad);
}

/* Behind an input, or one with its scale and zero point. */
static const nd_tensor *conv_weights(const nd_node_reader *reader) {
    return nd_onnx_node_constant(reader, strcmp(reader->node->op_type, "QLinearConv") ? 1 : 3);
}

/* Over one axis or two, as the weights say, or the kernel where those are computed. */
static int conv_axes(nd_node_reader *reader) {
    const nd_tensor *weights = conv_weights(reader);
    const Nd__Onnx__Attribute *kernel = nd_onnx_attr_find(reader, "kernel_shape", nd_onnx_attribute_ints);
    return weights ? weights->rank - 2 : kernel ? (int)kernel->n_ints : 2;
}

void nd_onnx_read_conv(nd_node_reader *reader) {
    const nd_tensor *weights = conv_weights(reader);
    const int axes = conv_axes(reader);
    if (axes != 1 && axes != 2) {
        reader->opaque = true;
        return;
    }
    if (axes == 1 && reader->node->op == nd_op_conv) reader->node->op = nd_op_conv_1d;
    read_window(reader, axes);
    nd_attr *attr = &reader->node->attr;
    attr->groups = nd_onnx_attr_int(reader, "group", 1);
    if (!reader->status && attr->groups < 1)
        reader->status = nd_fail(nd_status_format, "attribute 'group' is %lld", (long long)attr->groups);
    for (int axis = 2 - axes; weights && axis < 2; axis++)
        if (!attr->window.kernel[axis]) attr->window.kernel[axis] = weights->dims[axes + axis];
}

void nd_onnx_read_conv_transpose(nd_node_reader *reader) {
    nd_onnx_read_conv(reader);
    if (reader->opaque) return;
    attr_window_list(reader, "output_padding", reader->node->attr.list, conv_axes(reader), 1, 0);
    attr_window_list(reader, "output_shape", reader->node->attr.ends, conv_axes(reader), 1, 1);
}

void nd_onnx_read_pool(nd_node_reader *reader) {
    nd_attr *attr = &reader->node->attr;
    read_window(reader, 2);
    if (reader->opaque) return;
    attr->ceil_mode = nd_onnx_attr_int(reader, "ceil_mode", 0) != 0;
    attr->count_include_pad = nd_onnx_attr_int(reader, "count_include_pad", 0) != 0;
    if (!reader->status && !attr->window.kernel[0])
        reader->status = nd_fail(nd_status_format, "attribute 'kernel_shape' is missing");
}
