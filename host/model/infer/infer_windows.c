/* Shapes of what slides a window over an image: convolutions, their transposes, pools. */
#include "model/infer/infer_state.h"

nd_status nd_infer_window(nd_attr *attr, const int64_t *input, int64_t *output) {
    nd_window *window = &attr->window;
    for (int axis = 0; axis < 2; axis++) {
        const int64_t in = input[axis], stride = window->stride[axis];
        const int64_t span = window->dilation[axis] * (window->kernel[axis] - 1) + 1;
        if (attr->auto_pad != nd_auto_pad_none) {
            const int64_t count = (in + stride - 1) / stride;
            const int64_t wanted = (count - 1) * stride + span - in;
            const int64_t pad = wanted > 0 ? wanted : 0;
            window->pad[axis] = attr->auto_pad == nd_auto_pad_same_upper ? pad / 2 : pad - pad / 2;
            window->pad[axis + 2] = pad - window->pad[axis];
        }
        output[axis] = nd_window_output(window, axis, in, attr->ceil_mode);
        ND_REQUIRE(output[axis] >= 1, nd_status_format,
                   "a window spanning %lld does not fit %lld pixels with padding", (long long)span,
                   (long long)in);
    }
    return nd_status_ok;
}

/* A row of pixels as an image of height 1, so that a window of one axis is one of two. */
static nd_value as_image(const nd_value *value) {
    nd_value image = *value;
    if (value->rank != 3) return image;
    image.rank = 4;
    image.dims[2] = 1;
    image.dims[3] = value->dims[2];
    return image;
}

static void as_row(nd_value *value) {
    value->rank = 3;
    value->dims[2] = value->dims[3];
}

/* Operands that fit each other: `in` and `out` are the dims of the weights that count channels of a group. */
static nd_status conv_operands(nd_infer *infer, const nd_node *node, const nd_value *x, int in,
                               nd_value *weights) {
    const nd_value *w = nd_infer_input(infer, node, 1), *bias = nd_infer_input(infer, node, 2);
    const int64_t groups = node->attr.groups;
    ND_REQUIRE(w && w->rank == x->rank && (x->rank == 3 || x->rank == 4), nd_status_unsupported,
               "input %s and weights %s, not 1-D or 2-D", ND_DIMS(x), w ? ND_DIMS(w) : "absent");
    ND_REQUIRE(nd_dims_count(w->rank, w->dims) > 0, nd_status_format, "empty weights %s", ND_DIMS(w));
    ND_REQUIRE(groups >= 1 && w->dims[0] % groups == 0, nd_status_format,
               "%lld groups do not divide weights %s", (long long)groups, ND_DIMS(w));
    const int64_t channels = in ? w->dims[1] * groups : w->dims[0];
    const int64_t outputs = in ? w->dims[0] : w->dims[1] * groups;
    ND_REQUIRE(x->dims[1] == channels, nd_status_format,
               "input %s has %lld channels, weights %s in %lld groups expect another number", ND_DIMS(x),
               (long long)x->dims[1], ND_DIMS(w), (long long)groups);
    ND_REQUIRE(!bias || (bias->rank == 1 && bias->dims[0] == outputs), nd_status_format,
               "bias %s does not fit weights %s", ND_DIMS(bias), ND_DIMS(w));
    *weights = as_image(w);
    return nd_status_ok;
}

static nd_status conv_kernel(nd_attr *attr, const nd_value *weights) {
    for (int axis = 0; axis < 2; axis++) {
        int64_t *kernel = &attr->window.kernel[axis];
        if (*kernel == 0) *kernel = weights->dims[2 + axis];
        ND_REQUIRE(*kernel == weights->dims[2 + axis], nd_status_format,
                   "kernel_shape differs from weights %s", ND_DIMS(weights));
    }
    return nd_status_ok;
}

nd_status nd_shape_conv(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value image = as_image(x);
    nd_value weights;
    ND_REQUIRE(x->rank == (node->op == nd_op_conv ? 4 : 3), nd_status_unsupported,
               "input %s of a %s convolution", ND_DIMS(x), node->op == nd_op_conv ? "2-D" : "1-D");
    ND_TRY(conv_operands(infer, node, x, 1, &weights));
    ND_TRY(conv_kernel(&node->attr, &weights));
    y->dims[1] = weights.dims[0];
    ND_TRY(nd_infer_window(&node->attr, image.dims + 2, y->dims + 2));
    if (x->rank == 3) as_row(y);
    return nd_status_ok;
}

/* The size of the output along an axis; where it is given, or follows from `auto_pad`, the padding follows
 * from it. Section ConvTranspose of the ONNX operators. */
static nd_status transposed_axis(nd_attr *attr, int axis, int64_t in, int64_t *out) {
    nd_window *window = &attr->window;
    int64_t *lead = &window->pad[axis], *trail = &window->pad[axis + 2];
    const int64_t span = window->dilation[axis] * (window->kernel[axis] - 1) + 1;
    const int64_t whole = window->stride[axis] * (in - 1) + attr->list[axis] + span;
    *out = attr->ends[axis];
    if (!*out && attr->auto_pad != nd_auto_pad_none) *out = in * window->stride[axis];
    if (*out) {
        const int64_t cut = whole > *out ? whole - *out : 0;
        *lead = attr->auto_pad == nd_auto_pad_same_upper ? cut / 2 : cut - cut / 2;
        *trail = cut - *lead;
    } else {
        *out = whole - *lead - *trail;
    }
    ND_REQUIRE(attr->list[axis] >= 0 && *out >= 1, nd_status_format, "an output of size %lld",
               (long long)*out);
    return nd_status_ok;
}

nd_status nd_shape_conv_transpose(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value image = as_image(x);
    nd_value weights;
    ND_TRY(conv_operands(infer, node, x, 0, &weights));
    ND_TRY(conv_kernel(&node->attr, &weights));
    y->dims[1] = weights.dims[1] * node->attr.groups;
    for (int axis = 0; axis < 2; axis++)
        ND_TRY(transposed_axis(&node->attr, axis, image.dims[2 + axis], &y->dims[2 + axis]));
    if (x->rank == 3) as_row(y);
    return nd_status_ok;
}

nd_status nd_shape_pool(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    const nd_window *window = &node->attr.window;
    ND_REQUIRE(x->rank == 4, nd_status_unsupported, "input %s, not 2-D", ND_DIMS(x));
    ND_TRY(nd_infer_window(&node->attr, x->dims + 2, y->dims + 2));
    for (int side = 0; side < 4; side++) {
        const int axis = side % 2;
        ND_REQUIRE(window->pad[side] <= window->dilation[axis] * (window->kernel[axis] - 1), nd_status_format,
                   "padding %lld holds a whole window", (long long)window->pad[side]);
    }
    return nd_status_ok;
}
