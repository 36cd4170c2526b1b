#include "model/graph.h"

#include "base/hash.h"
#include "model/graph_names.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const nd_op_names[nd_op_count] = {
    [nd_op_opaque] = "opaque",
    [nd_op_conv] = "Conv",
    [nd_op_gemm] = "Gemm",
    [nd_op_matmul] = "MatMul",
    [nd_op_batchnorm] = "BatchNormalization",
    [nd_op_relu] = "Relu",
    [nd_op_clip] = "Clip",
    [nd_op_leaky_relu] = "LeakyRelu",
    [nd_op_sigmoid] = "Sigmoid",
    [nd_op_hard_sigmoid] = "HardSigmoid",
    [nd_op_hard_swish] = "HardSwish",
    [nd_op_add] = "Add",
    [nd_op_mul] = "Mul",
    [nd_op_max_pool] = "MaxPool",
    [nd_op_average_pool] = "AveragePool",
    [nd_op_global_average_pool] = "GlobalAveragePool",
    [nd_op_global_max_pool] = "GlobalMaxPool",
    [nd_op_concat] = "Concat",
    [nd_op_flatten] = "Flatten",
    [nd_op_reshape] = "Reshape",
    [nd_op_squeeze] = "Squeeze",
    [nd_op_unsqueeze] = "Unsqueeze",
    [nd_op_transpose] = "Transpose",
    [nd_op_pad] = "Pad",
    [nd_op_softmax] = "Softmax",
    [nd_op_lrn] = "LRN",
    [nd_op_dropout] = "Dropout",
    [nd_op_identity] = "Identity",
    [nd_op_constant] = "Constant",
    [nd_op_gather] = "Gather",
    [nd_op_reduce_mean] = "ReduceMean",
    [nd_op_slice] = "Slice",
    [nd_op_shape] = "Shape",
    [nd_op_cast] = "Cast",
    [nd_op_quantize] = "QuantizeLinear",
    [nd_op_dequantize] = "DequantizeLinear",
    [nd_op_sub] = "Sub",
    [nd_op_div] = "Div",
    [nd_op_reduce_prod] = "ReduceProd",
    [nd_op_constant_of_shape] = "ConstantOfShape",
    [nd_op_unary] = "a function of one number",
    [nd_op_binary] = "a function of two numbers",
    [nd_op_where] = "Where",
    [nd_op_reduce] = "a reduction",
    [nd_op_normalize] = "a normalization",
    [nd_op_split] = "Split",
    [nd_op_expand] = "Expand",
    [nd_op_tile] = "Tile",
    [nd_op_depth_to_space] = "DepthToSpace",
    [nd_op_resize] = "Resize",
    [nd_op_conv_1d] = "Conv over one axis",
    [nd_op_conv_transpose] = "ConvTranspose",
    [nd_op_einsum] = "Einsum",
};

const char *nd_op_name(nd_op op) {
    return (unsigned)op < nd_op_count ? nd_op_names[op] : "unknown";
}

nd_status nd_graph_new(const char *name, nd_graph **out) {
    *out = NULL;
    nd_graph *graph = calloc(1, sizeof *graph);
    if (graph) {
        graph->names = nd_graph_names_new();
        graph->name = nd_arena_strdup(&graph->arena, name ? name : "graph");
        graph->opset = 17;
    }
    if (!graph || !graph->names || !graph->name) {
        nd_graph_free(graph);
        return nd_fail(nd_status_memory, "no memory for a graph");
    }
    *out = graph;
    return nd_status_ok;
}

/* The tensors of a graph live in its arena, handed out as const. */
static void value_drop_init(nd_value *value) {
    if (value->init) nd_tensor_free((nd_tensor *)value->init);
    value->init = NULL;
    value->integers = NULL;
}

void nd_graph_free(nd_graph *graph) {
    if (!graph) return;
    for (int i = 0; i < graph->n_values; i++) value_drop_init(&graph->values[i]);
    nd_graph_names_free(graph->names);
    free(graph->values);
    free(graph->nodes);
    free(graph->aside);
    free(graph->inputs);
    free(graph->outputs);
    free(graph->meta);
    nd_buffer_unref(graph->source);
    nd_arena_free(&graph->arena);
    free(graph);
}

/* Room for one more item; NULL when out of memory, the old array is kept. */
static void *grow(void *items, int count, int *capacity, size_t size) {
    if (count < *capacity) return items;
    if (*capacity > INT32_MAX / 4) return NULL;
    int wanted = *capacity ? 2 * *capacity : 32;
    void *grown = realloc(items, (size_t)wanted * size);
    if (grown) *capacity = wanted;
    return grown;
}

nd_status nd_graph_add_value(nd_graph *graph, const char *name, int *value) {
    nd_value *values = grow(graph->values, graph->n_values, &graph->cap_values, sizeof *values);
    if (values) graph->values = values;
    ND_REQUIRE(values, nd_status_memory, "%s: no memory for another value", graph->name);
    const char *unique;
    ND_TRY(nd_graph_names_add(graph, nd_named_value, graph->n_values, name, "value", &unique));
    *value = graph->n_values++;
    values[*value] = (nd_value){.name = unique, .rank = -1, .producer = -1};
    return nd_status_ok;
}

static nd_status list_append(const nd_graph *graph, int **list, int *count, int value) {
    ND_REQUIRE(value >= 0 && value < graph->n_values, nd_status_internal, "%s: value %d does not exist",
               graph->name, value);
    int *longer = realloc(*list, ((size_t)*count + 1) * sizeof *longer);
    ND_REQUIRE(longer, nd_status_memory, "%s: no memory", graph->name);
    *list = longer;
    longer[(*count)++] = value;
    return nd_status_ok;
}

nd_status nd_graph_add_input(nd_graph *graph, const char *name, int rank, const int64_t *dims, int *value) {
    ND_REQUIRE(rank <= nd_rank_max, nd_status_unsupported, "%s: input '%s' has %d dimensions, at most %d",
               graph->name, name, rank, nd_rank_max);
    ND_TRY(nd_graph_add_value(graph, name, value));
    nd_value *added = &graph->values[*value];
    added->rank = rank;
    for (int i = 0; i < rank; i++) added->dims[i] = dims[i];
    return list_append(graph, &graph->inputs, &graph->n_inputs, *value);
}

nd_status nd_graph_add_output(nd_graph *graph, int value) {
    return list_append(graph, &graph->outputs, &graph->n_outputs, value);
}

nd_status nd_graph_set_init(nd_graph *graph, int value, const nd_tensor *tensor) {
    ND_REQUIRE(value >= 0 && value < graph->n_values, nd_status_internal, "%s: value %d does not exist",
               graph->name, value);
    nd_tensor *own = nd_arena_alloc(&graph->arena, sizeof *own);
    ND_REQUIRE(own, nd_status_memory, "%s: no memory", graph->name);
    *own = nd_tensor_share(tensor);
    nd_value *target = &graph->values[value];
    value_drop_init(target);
    target->init = own;
    target->dtype = own->dtype;
    target->rank = own->rank;
    for (int i = 0; i < own->rank; i++) target->dims[i] = own->dims[i];
    return nd_status_ok;
}

nd_status nd_graph_set_integers(nd_graph *graph, int value, const nd_integers *integers) {
    const size_t count = (size_t)nd_tensor_count(graph->values[value].init);
    const size_t scales = (size_t)integers->n_scales * sizeof *integers->scales;
    nd_integers *own = nd_arena_alloc(&graph->arena, sizeof *own);
    int8_t *q = nd_arena_alloc(&graph->arena, count + 1);
    float *scale = nd_arena_alloc(&graph->arena, scales + 1);
    ND_REQUIRE(own && q && scale, nd_status_memory, "%s: no memory for weights", graph->name);
    memcpy(q, integers->q, count);
    memcpy(scale, integers->scales, scales);
    *own = *integers;
    own->q = q;
    own->scales = scale;
    graph->values[value].integers = own;
    return nd_status_ok;
}

nd_status nd_graph_add_init(nd_graph *graph, const char *name, const nd_tensor *tensor, int *value) {
    ND_TRY(nd_graph_add_value(graph, name, value));
    return nd_graph_set_init(graph, *value, tensor);
}

nd_status nd_graph_add_node(nd_graph *graph, nd_op op, const char *name, const int *in, int n_in,
                            const int *out, int n_out, nd_node **node) {
    ND_REQUIRE(n_out > 0 && n_in >= 0, nd_status_internal, "%s: a node without outputs", graph->name);
    for (int i = 0; i < n_in; i++)
        ND_REQUIRE(in[i] >= -1 && in[i] < graph->n_values, nd_status_internal, "%s: value %d does not exist",
                   graph->name, in[i]);
    for (int i = 0; i < n_out; i++)
        ND_REQUIRE(out[i] >= -1 && out[i] < graph->n_values, nd_status_internal,
                   "%s: value %d does not exist", graph->name, out[i]);
    nd_node *nodes = grow(graph->nodes, graph->n_nodes, &graph->cap_nodes, sizeof *nodes);
    if (nodes) graph->nodes = nodes;
    int *ends = nd_arena_alloc(&graph->arena, ((size_t)n_in + (size_t)n_out) * sizeof *ends);
    ND_REQUIRE(nodes && ends, nd_status_memory, "%s: no memory for another node", graph->name);
    const char *unique;
    ND_TRY(nd_graph_names_add(graph, nd_named_node, graph->n_nodes, name, nd_op_name(op), &unique));
    for (int i = 0; i < n_in; i++) ends[i] = in[i];
    for (int i = 0; i < n_out; i++) {
        ends[n_in + i] = out[i];
        if (out[i] >= 0) graph->values[out[i]].producer = graph->n_nodes;
    }
    nd_node *added = &nodes[graph->n_nodes];
    *added = (nd_node){
        .op = op,
        .name = unique,
        .op_type = nd_op_name(op),
        .n_in = n_in,
        .n_out = n_out,
        .in = ends,
        .out = ends + n_in,
        .attr = {.window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}},
                 .groups = 1,
                 .alpha = 1,
                 .beta = 1,
                 .lo = -INFINITY,
                 .hi = INFINITY},
    };
    graph->n_nodes++;
    if (node) *node = added;
    return nd_status_ok;
}

nd_status nd_graph_set_meta(nd_graph *graph, const char *key, const char *text) {
    const char *copy = nd_arena_strdup(&graph->arena, text);
    ND_REQUIRE(copy, nd_status_memory, "%s: no memory", graph->name);
    for (int i = 0; i < graph->n_meta; i++) {
        if (strcmp(graph->meta[i].key, key)) continue;
        graph->meta[i].text = copy;
        return nd_status_ok;
    }
    nd_meta *meta = grow(graph->meta, graph->n_meta, &graph->cap_meta, sizeof *meta);
    if (meta) graph->meta = meta;
    const char *own_key = nd_arena_strdup(&graph->arena, key);
    ND_REQUIRE(meta && own_key, nd_status_memory, "%s: no memory", graph->name);
    meta[graph->n_meta++] = (nd_meta){own_key, copy};
    return nd_status_ok;
}

const char *nd_graph_meta(const nd_graph *graph, const char *key) {
    for (int i = 0; i < graph->n_meta; i++)
        if (!strcmp(graph->meta[i].key, key)) return graph->meta[i].text;
    return NULL;
}

bool nd_graph_is_quantised(const nd_graph *graph) {
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].op == nd_op_quantize) return true;
    return false;
}

bool nd_graph_is_e4m3(const nd_graph *graph) {
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        const nd_tensor *zero = node->n_in > 2 ? nd_graph_constant(graph, node, 2) : NULL;
        if (node->op == nd_op_quantize && zero && zero->dtype == nd_dtype_e4m3) return true;
    }
    return false;
}

int nd_graph_find_value(const nd_graph *graph, const char *name) {
    return nd_graph_names_find(graph, nd_named_value, name);
}

int nd_graph_find_node(const nd_graph *graph, const char *name) {
    return nd_graph_names_find(graph, nd_named_node, name);
}

const nd_tensor *nd_graph_constant(const nd_graph *graph, const nd_node *node, int index) {
    if (index >= node->n_in || node->in[index] < 0) return NULL;
    return graph->values[node->in[index]].init;
}

/* Values keep their numbers, so everything that refers to them is copied as it is. */
static nd_status graph_clone_values(const nd_graph *graph, nd_graph *copy) {
    for (int i = 0; i < graph->n_values; i++) {
        const nd_value *from = &graph->values[i];
        int value = -1;
        ND_TRY(nd_graph_add_value(copy, from->name, &value));
        nd_value *to = &copy->values[value];
        if (from->init) ND_TRY(nd_graph_set_init(copy, value, from->init));
        if (from->integers) ND_TRY(nd_graph_set_integers(copy, value, from->integers));
        to->dtype = from->dtype;
        to->rank = from->rank;
        memcpy(to->dims, from->dims, sizeof to->dims);
        to->raw = from->raw;
        to->raw_bytes = from->raw_bytes;
        to->sparse = from->sparse;
        to->pinned = from->pinned;
        to->computed = from->computed;
        if (!*from->name) to->name = "";
    }
    for (int i = 0; i < graph->n_inputs; i++)
        ND_TRY(list_append(copy, &copy->inputs, &copy->n_inputs, graph->inputs[i]));
    for (int i = 0; i < graph->n_outputs; i++)
        ND_TRY(list_append(copy, &copy->outputs, &copy->n_outputs, graph->outputs[i]));
    return nd_status_ok;
}

static nd_status graph_clone_nodes(const nd_graph *graph, nd_graph *copy) {
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *from = &graph->nodes[i];
        if (!from->n_out) continue;
        nd_node *to;
        ND_TRY(
            nd_graph_add_node(copy, from->op, from->name, from->in, from->n_in, from->out, from->n_out, &to));
        to->op_type = nd_arena_strdup(&copy->arena, from->op_type);
        ND_REQUIRE(to->op_type, nd_status_memory, "%s: no memory", graph->name);
        to->attr = from->attr;
        to->within = from->within ? nd_arena_strdup(&copy->arena, from->within) : NULL;
        ND_REQUIRE(!from->within || to->within, nd_status_memory, "%s: no memory", graph->name);
        to->raw = from->raw;
        to->raw_bytes = from->raw_bytes;
        to->norm = from->norm;
        to->edited = from->edited;
        to->narrowed = from->narrowed;
        to->stored = from->stored;
        to->dynamic = from->dynamic;
    }
    return nd_status_ok;
}

static nd_status graph_clone_aside(const nd_graph *graph, nd_graph *copy) {
    copy->aside = nd_alloc_array((size_t)graph->n_aside, sizeof *copy->aside);
    ND_REQUIRE(copy->aside, nd_status_memory, "%s: no memory", graph->name);
    copy->n_aside = copy->cap_aside = graph->n_aside;
    for (int i = 0; i < graph->n_aside; i++) {
        nd_node *node = &copy->aside[i];
        *node = graph->aside[i];
        int *ends = nd_arena_alloc(&copy->arena, (size_t)(node->n_in + node->n_out) * sizeof *ends);
        node->name = nd_arena_strdup(&copy->arena, node->name);
        node->op_type = nd_arena_strdup(&copy->arena, node->op_type);
        ND_REQUIRE(ends && node->name && node->op_type, nd_status_memory, "%s: no memory", graph->name);
        for (int k = 0; k < node->n_in; k++) ends[k] = node->in[k];
        for (int k = 0; k < node->n_out; k++) ends[node->n_in + k] = node->out[k];
        node->in = ends;
        node->out = ends + node->n_in;
    }
    return nd_status_ok;
}

nd_status nd_graph_clone(const nd_graph *graph, nd_graph **out) {
    ND_TRY(nd_graph_new(graph->name, out));
    nd_graph *copy = *out;
    copy->opset = graph->opset;
    copy->exported = graph->exported;
    copy->source = nd_buffer_ref(graph->source);
    copy->anew = graph->anew;
    nd_status status;
    if (graph->folder) copy->folder = nd_arena_strdup(&copy->arena, graph->folder);
    ND_REQUIRE_DONE(!graph->folder || copy->folder, nd_status_memory, "%s: no memory", graph->name);
    ND_TRY_DONE(graph_clone_values(graph, copy));
    ND_TRY_DONE(graph_clone_nodes(graph, copy));
    ND_TRY_DONE(graph_clone_aside(graph, copy));
    for (int i = 0; i < graph->n_meta; i++)
        ND_TRY_DONE(nd_graph_set_meta(copy, graph->meta[i].key, graph->meta[i].text));
    return nd_status_ok;
done:
    nd_graph_free(copy);
    *out = NULL;
    return status;
}

static int value_compare_names(const void *left, const void *right) {
    const nd_value *const *a = left, *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

static void sha256_add_value(nd_sha256 *hash, const nd_value *value) {
    const nd_tensor *tensor = value->init;
    nd_sha256_add(hash, value->name, strlen(value->name) + 1);
    const char *dtype = nd_dtype_name(tensor->dtype);
    nd_sha256_add(hash, dtype, strlen(dtype) + 1);
    for (int i = 0; i < tensor->rank; i++) {
        unsigned char bytes[8]; /* little-endian on every host */
        for (int k = 0; k < 8; k++) bytes[k] = (unsigned char)((uint64_t)tensor->dims[i] >> 8 * k);
        nd_sha256_add(hash, bytes, sizeof bytes);
    }
    nd_sha256_add(hash, tensor->data, nd_tensor_bytes(tensor));
}

void nd_graph_sha256(const nd_graph *graph, char hex[65]) {
    nd_sha256 hash;
    nd_sha256_init(&hash);
    const nd_value **sorted = nd_alloc_array((size_t)graph->n_values, sizeof *sorted);
    size_t count = 0;
    for (int i = 0; sorted && i < graph->n_values; i++)
        if (graph->values[i].init && !graph->values[i].computed) sorted[count++] = &graph->values[i];
    if (count) qsort(sorted, count, sizeof *sorted, value_compare_names);
    for (size_t i = 0; i < count; i++) sha256_add_value(&hash, sorted[i]);
    free(sorted);
    nd_sha256_hex(&hash, hex);
}
