#include "base/files/file.h"
#include "base/log.h"
#include "model/onnx/onnx_parts.h"
#include "model/onnx/onnx_unfold.h"

#include <stdlib.h>
#include <string.h>

enum { nd_onnx_outputs_max = 1 << 14 }; /* of a graph: beyond any network, and few enough to search */
/* Functions within each other, and nodes of all calls: a few bytes can ask for any number. */
enum { nd_onnx_calls_max = 32, nd_onnx_unfolded_max = 1 << 16 };

typedef struct nd_onnx_reader {
    nd_graph *graph;
    const char *file; /* for messages */
    nd_onnx_files files;
    nd_span body; /* the GraphProto */
    int n_bodies;
    nd_onnx_functions functions;
    int calls, unfolded;
    const char *within; /* the function of the outermost call */
} nd_onnx_reader;

static nd_status read_body(void *context, nd_span body) {
    nd_onnx_reader *reader = context;
    reader->body = body;
    ND_REQUIRE(!reader->n_bodies++, nd_status_format, "the model has two graphs");
    return nd_status_ok;
}

static nd_status read_opset(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    Nd__Onnx__OperatorSet *proto = nd__onnx__operator_set__unpack(NULL, message.bytes, message.data);
    ND_REQUIRE(proto, nd_status_format, "an opset_import is malformed");
    const char *domain = proto->domain ? proto->domain : "";
    if (!*domain || !strcmp(domain, "ai.onnx")) reader->graph->opset = proto->version;
    nd__onnx__operator_set__free_unpacked(proto, NULL);
    return nd_status_ok;
}

static nd_status read_metadata(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    Nd__Onnx__Entry *proto = nd__onnx__entry__unpack(NULL, message.bytes, message.data);
    ND_REQUIRE(proto, nd_status_format, "a metadata entry is malformed");
    nd_status status = nd_status_ok;
    if (proto->key) status = nd_graph_set_meta(reader->graph, proto->key, proto->value ? proto->value : "");
    nd__onnx__entry__free_unpacked(proto, NULL);
    return status;
}

/* The value of that name, made when it is new. */
static nd_status read_value(nd_onnx_reader *reader, const char *name, int *value) {
    *value = nd_graph_find_value(reader->graph, name);
    return *value < 0 ? nd_graph_add_value(reader->graph, name, value) : nd_status_ok;
}

static nd_status read_new_value(nd_onnx_reader *reader, nd_span name, const char *what, int *value) {
    const char *text = nd_arena_strndup(&reader->graph->arena, (const char *)name.data, name.bytes);
    ND_REQUIRE(text && *text, nd_status_format, "%s without a name", what);
    ND_REQUIRE(nd_graph_find_value(reader->graph, text) < 0, nd_status_format, "two of the name '%.200s': %s",
               text, what);
    return nd_graph_add_value(reader->graph, text, value);
}

static nd_status read_initializer(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    int value;
    ND_TRY(read_new_value(reader, nd_onnx_field(message, nd_onnx_tensor_name), "an initializer", &value));
    nd_tensor tensor;
    nd_status status = nd_onnx_tensor(&reader->files, message, &tensor);
    if (status == nd_status_unsupported) { /* an opaque node may want it */
        reader->graph->values[value].raw = message.data;
        reader->graph->values[value].raw_bytes = message.bytes;
        reader->graph->values[value].raw_type = nd_onnx_unread_type(message);
        return nd_status_ok;
    }
    if (!status) status = nd_graph_set_init(reader->graph, value, &tensor);
    nd_tensor_free(&tensor);
    return status;
}

static nd_status read_sparse(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    const nd_span values = nd_onnx_field(message, nd_onnx_sparse_values);
    int value;
    ND_TRY(
        read_new_value(reader, nd_onnx_field(values, nd_onnx_tensor_name), "a sparse initializer", &value));
    nd_value *sparse = &reader->graph->values[value];
    sparse->raw = message.data;
    sparse->raw_bytes = message.bytes;
    sparse->sparse = true;
    return nd_status_ok;
}

static void read_type(const Nd__Onnx__Type *type, nd_value *value) {
    const Nd__Onnx__Type__TensorType *tensor = type ? type->tensor_type : NULL;
    if (!tensor) return;
    nd_onnx_dtype_find(tensor->elem_type, &value->dtype);
    if (!tensor->shape || tensor->shape->n_dim > nd_rank_max) return;
    value->rank = (int)tensor->shape->n_dim;
    for (int i = 0; i < value->rank; i++) {
        const Nd__Onnx__Type__Dimension *dim = tensor->shape->dim[i];
        value->dims[i] = dim->has_dim_value && dim->dim_value > 0 ? dim->dim_value : -1;
    }
}

/* Before IR 4 initializers were listed among the inputs: those are no inputs at run time. */
static nd_status read_input(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    Nd__Onnx__ValueInfo *proto = nd__onnx__value_info__unpack(NULL, message.bytes, message.data);
    ND_REQUIRE(proto, nd_status_format, "an input is malformed");
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(proto->name && *proto->name, nd_status_format, "an input without a name");
    const int known = nd_graph_find_value(reader->graph, proto->name);
    if (known < 0) {
        int value;
        ND_TRY_DONE(nd_graph_add_input(reader->graph, proto->name, -1, NULL, &value));
        read_type(proto->type, &reader->graph->values[value]);
    } else {
        const nd_value *value = &reader->graph->values[known];
        ND_REQUIRE_DONE(value->init || value->raw, nd_status_format, "two inputs of the name '%.200s'",
                        proto->name);
    }
done:
    nd__onnx__value_info__free_unpacked(proto, NULL);
    return status;
}

/* A declared shape serves where nd cannot infer one: after opaque nodes. */
static nd_status read_value_info(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    Nd__Onnx__ValueInfo *proto = nd__onnx__value_info__unpack(NULL, message.bytes, message.data);
    ND_REQUIRE(proto, nd_status_format, "a value_info is malformed");
    const int value = proto->name ? nd_graph_find_value(reader->graph, proto->name) : -1;
    if (value >= 0 && reader->graph->values[value].producer >= 0 && !reader->graph->values[value].init)
        read_type(proto->type, &reader->graph->values[value]);
    nd__onnx__value_info__free_unpacked(proto, NULL);
    return nd_status_ok;
}

static nd_status read_output(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    const nd_span name = nd_onnx_field(message, nd_onnx_value_info_name);
    const char *text = nd_arena_strndup(&reader->graph->arena, (const char *)name.data, name.bytes);
    ND_REQUIRE(text && *text, nd_status_format, "an output without a name");
    int value;
    ND_REQUIRE(reader->graph->n_outputs < nd_onnx_outputs_max, nd_status_unsupported, "over %d outputs",
               nd_onnx_outputs_max);
    ND_TRY(read_value(reader, text, &value));
    ND_REQUIRE(!nd_graph_is_output(reader->graph, value), nd_status_format,
               "two outputs of the name '%.200s'", text);
    return nd_graph_add_output(reader->graph, value);
}

/* Layers are called as in the state dict their weights came from ("layer1.0.conv1" for
 * "layer1.0.conv1.weight"), so that patterns fit whatever file a network comes in; else as in the file. */
static const char *read_layer_name(nd_onnx_reader *reader, const Nd__Onnx__Node *proto) {
    static const char suffix[] = ".weight";
    const char *weights = proto->n_input > 1 ? proto->input[1] : "";
    const size_t length = strlen(weights), tail = sizeof suffix - 1;
    const int value = nd_graph_find_value(reader->graph, weights);
    if (length > tail && !strcmp(weights + length - tail, suffix) && value >= 0 &&
        reader->graph->values[value].init)
        return nd_arena_strndup(&reader->graph->arena, weights, length - tail);
    return proto->name && *proto->name ? proto->name : proto->op_type;
}

static nd_status read_ends(nd_onnx_reader *reader, char *const *names, size_t count, int *values) {
    for (size_t i = 0; i < count; i++) {
        values[i] = -1;
        if (*names[i]) ND_TRY(read_value(reader, names[i], &values[i]));
    }
    return nd_status_ok;
}

static nd_status read_node(void *context, nd_span message);

static nd_status read_unfolded(void *context, nd_buffer *node) {
    nd_onnx_reader *reader = context;
    nd_buffer *bytes = reader->files.bytes;
    ND_REQUIRE(reader->unfolded++ < nd_onnx_unfolded_max, nd_status_unsupported,
               "functions of over %d nodes in all their calls", nd_onnx_unfolded_max);
    reader->files.bytes = node;
    const nd_status status = read_node(reader, (nd_span){node->data, node->bytes});
    reader->files.bytes = bytes;
    return status;
}

/* The nodes of the function in place of its call, in the function's own opset. */
static nd_status read_call(nd_onnx_reader *reader, nd_span message, const Nd__Onnx__Node *proto,
                           const nd_onnx_function *function) {
    nd_graph *graph = reader->graph;
    const char *within = reader->within;
    const int64_t opset = graph->opset;
    ND_REQUIRE(reader->calls < nd_onnx_calls_max, nd_status_format,
               "functions that call each other over %d deep", nd_onnx_calls_max);
    if (!within) reader->within = nd_arena_printf(&graph->arena, "%s.%s", proto->domain, proto->op_type);
    ND_REQUIRE(reader->within, nd_status_memory, "no memory");
    if (function->opset) graph->opset = function->opset;
    reader->calls++;
    const nd_status status = nd_onnx_unfold(function, message, read_unfolded, reader);
    reader->calls--;
    graph->opset = opset;
    reader->within = within;
    return status;
}

static nd_status read_node_proto(nd_onnx_reader *reader, nd_span message, const Nd__Onnx__Node *proto) {
    nd_graph *graph = reader->graph;
    ND_REQUIRE(proto->op_type && *proto->op_type, nd_status_format, "op_type is missing");
    const char *domain = proto->domain ? proto->domain : "";
    const nd_onnx_function *function = nd_onnx_functions_find(&reader->functions, domain, proto->op_type);
    if (function && !function->whole) return read_call(reader, message, proto, function);
    ND_REQUIRE(proto->n_output >= 1, nd_status_format, "a %s without outputs", proto->op_type);
    ND_REQUIRE(proto->n_input <= INT32_MAX / 8 && proto->n_output <= INT32_MAX / 8, nd_status_format,
               "more inputs or outputs than nd counts");
    int *in = nd_arena_alloc(&graph->arena, (proto->n_input + proto->n_output) * sizeof *in);
    ND_REQUIRE(in, nd_status_memory, "no memory");
    int *out = in + proto->n_input;
    ND_TRY(read_ends(reader, proto->input, proto->n_input, in));
    ND_TRY(read_ends(reader, proto->output, proto->n_output, out));
    nd_node *node;
    ND_TRY(nd_graph_add_node(graph, nd_op_opaque, read_layer_name(reader, proto), in, (int)proto->n_input,
                             out, (int)proto->n_output, &node));
    const bool own = !proto->domain || !*proto->domain || !strcmp(proto->domain, "ai.onnx");
    node->op_type = own ? nd_arena_strdup(&graph->arena, proto->op_type)
                        : nd_arena_printf(&graph->arena, "%s.%s", proto->domain, proto->op_type);
    ND_REQUIRE(node->op_type, nd_status_memory, "no memory");
    node->raw = message.data;
    node->raw_bytes = message.bytes;
    const nd_status status = nd_onnx_interpret(graph, &reader->files, proto, node);
    node->within = reader->within;
    if (reader->within) node->raw = NULL, node->raw_bytes = 0; /* its bytes are gone after this */
    return status;
}

static nd_status read_node(void *context, nd_span message) {
    nd_onnx_reader *reader = context;
    Nd__Onnx__Node *proto = nd__onnx__node__unpack(NULL, message.bytes, message.data);
    ND_REQUIRE(proto, nd_status_format, "node %d is malformed", reader->graph->n_nodes);
    const int index = reader->graph->n_nodes;
    nd_status status = read_node_proto(reader, message, proto);
    if (status)
        nd_fail_in(status, "node %d '%.200s' (%.60s)", index, proto->name ? proto->name : "",
                   proto->op_type ? proto->op_type : "");
    nd__onnx__node__free_unpacked(proto, NULL);
    return status;
}

/* Outputs after the first that nobody reads (Dropout's mask) are left off; a node of which they are read
 * stays opaque, but for Split, whose outputs are all alike. */
static nd_status read_trim(nd_onnx_reader *reader) {
    nd_graph *graph = reader->graph;
    bool *read = nd_alloc_array((size_t)graph->n_values, sizeof *read);
    ND_REQUIRE(read, nd_status_memory, "no memory");
    for (int i = 0; i < graph->n_outputs; i++) read[graph->outputs[i]] = true;
    for (int i = 0; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_in; k++)
            if (graph->nodes[i].in[k] >= 0) read[graph->nodes[i].in[k]] = true;
    for (int i = 0; i < graph->n_nodes; i++) {
        nd_node *node = &graph->nodes[i];
        bool wanted = false;
        if (node->op == nd_op_split) continue;
        for (int k = 1; k < node->n_out; k++) wanted = wanted || (node->out[k] >= 0 && read[node->out[k]]);
        if (wanted) {
            node->op = nd_op_opaque;
            node->attr.training = false;
        } else if (node->op != nd_op_opaque || node->attr.training) {
            node->n_out = 1;
        }
    }
    free(read);
    return nd_status_ok;
}

/* The names an opaque node's subgraphs read from outside, as value numbers. */
typedef struct nd_captured {
    const nd_graph *graph;
    int *values, count, capacity;
} nd_captured;

static nd_status captured_add(void *context, const char *name) {
    nd_captured *captured = context;
    const int value = nd_graph_find_value(captured->graph, name);
    if (value < 0) return nd_status_ok;
    if (captured->count == captured->capacity) {
        const int capacity = captured->capacity ? 2 * captured->capacity : 16;
        int *values = realloc(captured->values, (size_t)capacity * sizeof *values);
        ND_REQUIRE(values, nd_status_memory, "no memory");
        captured->values = values;
        captured->capacity = capacity;
    }
    captured->values[captured->count++] = value;
    return nd_status_ok;
}

static nd_status read_captures_of(nd_graph *graph, nd_node *node, nd_captured *captured) {
    captured->count = 0;
    ND_TRY(nd_onnx_captures((nd_span){node->raw, node->raw_bytes}, captured_add, captured));
    if (!captured->count) return nd_status_ok;
    int *in = nd_arena_alloc(&graph->arena, (size_t)(node->n_in + captured->count) * sizeof *in);
    ND_REQUIRE(in, nd_status_memory, "no memory");
    for (int k = 0; k < node->n_in; k++) in[k] = node->in[k];
    for (int k = 0; k < captured->count; k++) {
        in[node->n_in + k] = captured->values[k];
        graph->values[captured->values[k]].pinned = true;
    }
    node->in = in;
    node->n_in += captured->count;
    return nd_status_ok;
}

static nd_status read_captures(nd_onnx_reader *reader) {
    nd_graph *graph = reader->graph;
    nd_captured captured = {.graph = graph};
    nd_status status = nd_status_ok;
    for (int i = 0; i < graph->n_nodes && !status; i++)
        if (graph->nodes[i].op == nd_op_opaque) status = read_captures_of(graph, &graph->nodes[i], &captured);
    free(captured.values);
    return status;
}

static nd_status read_model(nd_onnx_reader *reader) {
    nd_graph *graph = reader->graph;
    const nd_span model = {reader->files.bytes->data, reader->files.bytes->bytes};
    graph->opset = 0;
    ND_REQUIRE(model.bytes, nd_status_format, "the file is empty");
    ND_TRY(nd_onnx_each(model, "the model", nd_onnx_model_graph, read_body, reader));
    ND_TRY(nd_onnx_each(model, "the model", nd_onnx_model_opset, read_opset, reader));
    ND_TRY(nd_onnx_each(model, "the model", nd_onnx_model_metadata, read_metadata, reader));
    ND_REQUIRE(reader->n_bodies, nd_status_format, "no ONNX model: it has no graph");
    ND_REQUIRE(graph->opset, nd_status_format, "opset_import does not name the ONNX operators");
    ND_REQUIRE(graph->opset >= nd_onnx_opset_min, nd_status_unsupported,
               "opset %lld; nd reads %d to %d: convert it first", (long long)graph->opset, nd_onnx_opset_min,
               nd_onnx_opset_known);
    if (graph->opset > nd_onnx_opset_known)
        nd_log(nd_log_warn, "%s: opset %lld is newer than %d, which nd was written for", reader->file,
               (long long)graph->opset, nd_onnx_opset_known);
    const nd_span body = reader->body;
    ND_TRY(nd_onnx_functions_list(model, &graph->arena, &reader->functions));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_initializer, read_initializer, reader));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_sparse, read_sparse, reader));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_input, read_input, reader));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_node, read_node, reader));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_value_info, read_value_info, reader));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_output, read_output, reader));
    ND_REQUIRE(graph->n_outputs, nd_status_format, "the graph has no outputs");
    ND_TRY(read_trim(reader));
    return read_captures(reader);
}

/* --- a branch of an If, the body of a Loop */

typedef struct nd_branch {
    const char *attribute; /* that it is looked for in */
    nd_span body;
    const nd_graph *around;
    nd_onnx_reader *reader;
    int *declared;
} nd_branch;

static nd_status branch_find(void *context, nd_span attribute) {
    nd_branch *branch = context;
    if (nd_span_is(nd_onnx_field(attribute, nd_onnx_attribute_name), branch->attribute))
        branch->body = nd_onnx_field(attribute, nd_onnx_attribute_graph);
    return nd_status_ok;
}

/* What the graph around it defines is an input, or a constant there as well, and keeps its name. */
static nd_status branch_capture(void *context, const char *name) {
    nd_branch *branch = context;
    nd_graph *graph = branch->reader->graph;
    const int outside = nd_graph_find_value(branch->around, name);
    int value;
    if (outside < 0 || nd_graph_find_value(graph, name) >= 0) return nd_status_ok;
    const nd_tensor *constant = branch->around->values[outside].init;
    return constant ? nd_graph_add_init(graph, name, constant, &value)
                    : nd_graph_add_input(graph, name, -1, NULL, &value);
}

static nd_status branch_read(nd_branch *branch, const nd_node *node) {
    nd_onnx_reader *reader = branch->reader;
    const nd_span raw = {node->raw, node->raw_bytes};
    ND_TRY(nd_onnx_each(raw, "a node", nd_onnx_node_attribute, branch_find, branch));
    ND_REQUIRE(branch->body.bytes, nd_status_format, "attribute '%s' is missing", branch->attribute);
    const nd_span model = {reader->files.bytes->data, reader->files.bytes->bytes};
    ND_TRY(nd_onnx_functions_list(model, &reader->graph->arena, &reader->functions));
    ND_TRY(nd_onnx_each(branch->body, "a branch", nd_onnx_graph_initializer, read_initializer, reader));
    ND_TRY(nd_onnx_each(branch->body, "a branch", nd_onnx_graph_input, read_input, reader));
    *branch->declared = reader->graph->n_inputs;
    ND_TRY(nd_onnx_captures(raw, branch_capture, branch));
    ND_TRY(nd_onnx_each(branch->body, "a branch", nd_onnx_graph_node, read_node, reader));
    ND_TRY(nd_onnx_each(branch->body, "a branch", nd_onnx_graph_output, read_output, reader));
    ND_TRY(read_trim(reader));
    return read_captures(reader);
}

nd_status nd_onnx_branch(const nd_graph *graph, const nd_node *node, const char *attribute, nd_graph **out,
                         int *declared) {
    *out = NULL;
    ND_REQUIRE(graph->source && node->raw, nd_status_unsupported, "it has no branches to read");
    ND_TRY(nd_graph_new(node->name, out));
    nd_onnx_reader reader = {
        .graph = *out, .file = node->name, .files = {.bytes = graph->source, .folder = graph->folder}};
    (*out)->source = nd_buffer_ref(graph->source);
    (*out)->folder = graph->folder ? nd_arena_strdup(&(*out)->arena, graph->folder) : NULL;
    (*out)->opset = graph->opset;
    nd_branch branch = {.attribute = attribute, .around = graph, .reader = &reader, .declared = declared};
    nd_status status = branch_read(&branch, node);
    if (!status) status = nd_graph_sort(*out);
    nd_buffer_unref(reader.files.external);
    free(reader.files.external_name);
    if (!status) return nd_status_ok;
    nd_graph_free(*out);
    *out = NULL;
    return nd_fail_in(status, "%s", attribute);
}

nd_status nd_onnx_parse(nd_buffer *bytes, const char *folder, const char *name, nd_graph **out) {
    ND_TRY(nd_graph_new(name, out));
    nd_onnx_reader reader = {.graph = *out, .file = name, .files = {.bytes = bytes, .folder = folder}};
    reader.graph->source = nd_buffer_ref(bytes);
    nd_status status = nd_status_ok;
    if (folder) reader.graph->folder = nd_arena_strdup(&reader.graph->arena, folder);
    if (folder && !reader.graph->folder) status = nd_fail(nd_status_memory, "no memory");
    if (!status) status = read_model(&reader);
    if (status)
        nd_fail_in(status, "%s", name);
    else
        status = nd_graph_sort(reader.graph); /* names the graph, and so the file, itself */
    nd_buffer_unref(reader.files.external);
    free(reader.files.external_name);
    if (status) {
        nd_graph_free(*out);
        *out = NULL;
    }
    return status;
}

nd_status nd_onnx_read(const char *path, nd_graph **out) {
    *out = NULL;
    nd_buffer *bytes;
    ND_TRY(nd_file_map(path, &bytes));
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("");
    nd_status status =
        folder ? nd_onnx_parse(bytes, folder, path, out) : nd_fail(nd_status_memory, "%s: no memory", path);
    free(folder);
    nd_buffer_unref(bytes);
    return status;
}
