#include "model/zoo/zoo_layers.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *nd_zoo_name(nd_zoo_builder *builder, const char *format, ...) {
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *name = nd_arena_strdup(&builder->graph->arena, text);
    if (name) return name;
    if (!builder->status) builder->status = nd_fail(nd_status_memory, "no memory for layer names");
    return "";
}

static nd_status zoo_param_add(nd_zoo_builder *builder, const char *name, int rank, const int64_t *dims,
                               int *value) {
    ND_TRY(builder->status);
    nd_tensor tensor = {0};
    ND_TRY(builder->source(builder->context, name, rank, dims, &tensor));
    nd_status status = nd_graph_add_init(builder->graph, name, &tensor, value);
    nd_tensor_free(&tensor);
    return status;
}

static int zoo_param(nd_zoo_builder *builder, const char *layer, const char *suffix, int rank,
                     const int64_t *dims) {
    int value = -1;
    const char *name = nd_zoo_name(builder, "%s.%s", layer, suffix);
    if (!builder->status) builder->status = zoo_param_add(builder, name, rank, dims, &value);
    return value;
}

static int zoo_vector(nd_zoo_builder *builder, const char *layer, const char *suffix, int64_t length) {
    return zoo_param(builder, layer, suffix, 1, &length);
}

/* Appends a node whose inputs after the first are `rest` (fewer than nd_zoo_branches_max), and moves x to its
 * output. Returns
 * where to put its attributes, NULL after a failure. */
static nd_attr *zoo_node(nd_zoo_builder *builder, nd_op op, const char *name, const int *rest, int n_rest) {
    if (builder->status) return NULL;
    int in[nd_zoo_branches_max] = {builder->x}, out;
    for (int i = 0; i < n_rest; i++) in[i + 1] = rest[i];
    nd_node *node;
    builder->status = nd_graph_add_value(builder->graph, name, &out);
    if (!builder->status)
        builder->status = nd_graph_add_node(builder->graph, op, name, in, n_rest + 1, &out, 1, &node);
    if (builder->status) return NULL;
    builder->x = out;
    return &node->attr;
}

static nd_window zoo_square(nd_zoo_window window) {
    return (nd_window){
        .kernel = {window.kernel, window.kernel},
        .stride = {window.stride, window.stride},
        .dilation = {1, 1},
        .pad = {window.pad, window.pad, window.pad, window.pad},
    };
}

void nd_zoo_grouped_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                         int64_t groups, bool bias) {
    const int64_t dims[] = {channels, builder->channels / groups, window.kernel, window.kernel};
    int rest[2] = {zoo_param(builder, name, "weight", 4, dims)};
    if (bias) rest[1] = zoo_vector(builder, name, "bias", channels);
    nd_attr *attr = zoo_node(builder, nd_op_conv, name, rest, bias ? 2 : 1);
    if (!attr) return;
    attr->window = zoo_square(window);
    attr->groups = groups;
    builder->channels = channels;
}

void nd_zoo_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                 bool bias) {
    nd_zoo_grouped_conv(builder, name, channels, window, 1, bias);
}

void nd_zoo_dilated_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                         int64_t dilation) {
    nd_zoo_conv(builder, name, channels, window, true);
    if (builder->status) return;
    nd_window *of = &builder->graph->nodes[builder->graph->n_nodes - 1].attr.window;
    of->dilation[0] = of->dilation[1] = dilation;
}

void nd_zoo_batchnorm(nd_zoo_builder *builder, const char *name) {
    static const char *const parameters[] = {"weight", "bias", "running_mean", "running_var"};
    int rest[4];
    for (int i = 0; i < 4; i++) rest[i] = zoo_vector(builder, name, parameters[i], builder->channels);
    nd_attr *attr = zoo_node(builder, nd_op_batchnorm, name, rest, 4);
    if (attr) attr->epsilon = builder->epsilon > 0 ? builder->epsilon : 1e-5f;
}

void nd_zoo_relu(nd_zoo_builder *builder, const char *name) {
    zoo_node(builder, nd_op_relu, name, NULL, 0);
}

void nd_zoo_relu6(nd_zoo_builder *builder, const char *name) {
    nd_attr *attr = zoo_node(builder, nd_op_clip, name, NULL, 0);
    if (!attr) return;
    attr->lo = 0;
    attr->hi = 6;
}

static nd_attr *zoo_pool(nd_zoo_builder *builder, nd_op op, const char *name, nd_zoo_window window) {
    nd_attr *attr = zoo_node(builder, op, name, NULL, 0);
    if (attr) attr->window = zoo_square(window);
    return attr;
}

void nd_zoo_max_pool(nd_zoo_builder *builder, const char *name, nd_zoo_window window) {
    zoo_pool(builder, nd_op_max_pool, name, window);
}

void nd_zoo_max_pool_ceil(nd_zoo_builder *builder, const char *name, nd_zoo_window window) {
    nd_attr *attr = zoo_pool(builder, nd_op_max_pool, name, window);
    if (attr) attr->ceil_mode = true;
}

void nd_zoo_average_pool(nd_zoo_builder *builder, const char *name, nd_zoo_window window) {
    zoo_pool(builder, nd_op_average_pool, name, window);
}

void nd_zoo_flatten(nd_zoo_builder *builder, const char *name, int64_t features) {
    nd_attr *attr = zoo_node(builder, nd_op_flatten, name, NULL, 0);
    if (!attr) return;
    attr->axis = 1;
    builder->channels = features;
}

void nd_zoo_global_pool(nd_zoo_builder *builder, const char *name) {
    zoo_node(builder, nd_op_global_average_pool, name, NULL, 0);
    nd_zoo_flatten(builder, "flatten", builder->channels);
}

void nd_zoo_linear(nd_zoo_builder *builder, const char *name, int64_t features) {
    const int64_t dims[] = {features, builder->channels};
    const int weight = zoo_param(builder, name, "weight", 2, dims);
    const int rest[] = {weight, zoo_vector(builder, name, "bias", features)};
    nd_attr *attr = zoo_node(builder, nd_op_gemm, name, rest, 2);
    if (!attr) return;
    attr->trans_b = true;
    attr->alpha = attr->beta = 1;
    builder->channels = features;
}

void nd_zoo_add(nd_zoo_builder *builder, const char *name, int other) {
    zoo_node(builder, nd_op_add, name, &other, 1);
}

/* [channels] as [channels][1][1], to be broadcast over an image. */
static int zoo_per_channel(nd_zoo_builder *builder, const char *name) {
    int value = -1, out = -1;
    nd_node *node;
    if (!builder->status) builder->status = zoo_param_add(builder, name, 1, &builder->channels, &value);
    if (!builder->status)
        builder->status = nd_graph_add_value(builder->graph, nd_zoo_name(builder, "%s.map", name), &out);
    if (!builder->status)
        builder->status = nd_graph_add_node(builder->graph, nd_op_unsqueeze,
                                            nd_zoo_name(builder, "%s.map", name), &value, 1, &out, 1, &node);
    if (builder->status) return -1;
    node->attr.n = 2;
    node->attr.list[0] = 1;
    node->attr.list[1] = 2;
    return out;
}

void nd_zoo_l2norm(nd_zoo_builder *builder, const char *name, const char *weight) {
    const int x = builder->x;
    nd_attr *attr = zoo_node(builder, nd_op_reduce, nd_zoo_name(builder, "%s.length", name), NULL, 0);
    if (!attr) return;
    builder->graph->nodes[builder->graph->n_nodes - 1].op_type = "ReduceL2";
    attr->n = 1;
    attr->list[0] = 1;
    attr->keep_dims = true;
    attr = zoo_node(builder, nd_op_clip, nd_zoo_name(builder, "%s.clip", name), NULL, 0);
    if (!attr) return;
    attr->lo = 1e-12f;
    attr->hi = INFINITY;
    const int length = builder->x;
    builder->x = x;
    zoo_node(builder, nd_op_div, nd_zoo_name(builder, "%s.unit", name), &length, 1);
    const int scale = zoo_per_channel(builder, weight);
    zoo_node(builder, nd_op_mul, name, &scale, 1);
}

void nd_zoo_rows(nd_zoo_builder *builder, const char *name, int64_t numbers) {
    static const int64_t last[] = {0, 2, 3, 1};
    nd_attr *attr = zoo_node(builder, nd_op_transpose, nd_zoo_name(builder, "%s.transpose", name), NULL, 0);
    if (!attr) return;
    attr->n = 4;
    memcpy(attr->list, last, sizeof last);
    attr = zoo_node(builder, nd_op_reshape, nd_zoo_name(builder, "%s.rows", name), NULL, 0);
    if (!attr) return;
    attr->n = 3;
    attr->list[0] = 0; /* as it is */
    attr->list[1] = -1;
    attr->list[2] = numbers;
    builder->channels = numbers;
}

void nd_zoo_output(nd_zoo_builder *builder) {
    if (!builder->status) builder->status = nd_graph_add_output(builder->graph, builder->x);
}

nd_zoo_place nd_zoo_here(const nd_zoo_builder *builder) {
    return (nd_zoo_place){builder->x, builder->channels};
}

void nd_zoo_go(nd_zoo_builder *builder, nd_zoo_place place) {
    builder->x = place.value;
    builder->channels = place.channels;
}

void nd_zoo_concat(nd_zoo_builder *builder, const char *name, const nd_zoo_place *parts, int count) {
    int rest[nd_zoo_branches_max] = {0};
    int64_t channels = parts[0].channels;
    for (int i = 1; i < count; i++) {
        rest[i - 1] = parts[i].value;
        channels += parts[i].channels;
    }
    builder->x = parts[0].value;
    nd_attr *attr = zoo_node(builder, nd_op_concat, name, rest, count - 1);
    if (attr) attr->axis = 1;
    builder->channels = channels;
}

void nd_zoo_option_a(nd_zoo_builder *builder, const char *name, int64_t channels) {
    nd_attr *attr = zoo_node(builder, nd_op_slice, nd_zoo_name(builder, "%s.slice", name), NULL, 0);
    if (!attr) return;
    attr->n = 2;
    for (int i = 0; i < 2; i++) {
        attr->axes[i] = 2 + i;
        attr->ends[i] = INT64_MAX; /* to the end, as ONNX says it */
        attr->steps[i] = 2;
    }
    attr = zoo_node(builder, nd_op_pad, nd_zoo_name(builder, "%s.pad", name), NULL, 0);
    if (!attr) return;
    const int64_t before = (channels - builder->channels) / 2;
    attr->n = 8; /* begins, then ends, of N, C, H, W */
    attr->list[1] = before;
    attr->list[4 + 1] = channels - builder->channels - before;
    builder->channels = channels;
}
