#include "base/draft.h"
#include "model/infer/infer.h"
#include "model/onnx/onnx_out.h"

#include <stdlib.h>
#include <string.h>

enum {
    nd_onnx_ir_version = 8,       /* of models nd makes: the one that came with opset 15 to 17 */
    nd_onnx_ir_least = 4,         /* since then initializers need not be listed as inputs */
    nd_onnx_external_align = 64,  /* of tensors in the data file */
    nd_onnx_external_least = 1024 /* smaller tensors stay in the model, where shape inference sees them */
};

/* A protobuf message holds less than 2 GiB; the rest leaves room for names and nodes. */
static const uint64_t nd_onnx_inside_max = (UINT64_C(1) << 31) - (UINT64_C(1) << 26);

nd_status nd_pieces_add(nd_pieces *pieces, nd_span span) {
    nd_span *items = nd_array_grow(pieces->items, pieces->count, &pieces->capacity, sizeof *items);
    ND_REQUIRE(items, nd_status_memory, "no memory to write a model");
    pieces->items = items;
    pieces->items[pieces->count++] = span;
    pieces->bytes += span.bytes;
    return nd_status_ok;
}

nd_status nd_pieces_add_field(nd_pieces *pieces, uint32_t number, nd_span content) {
    uint8_t *header = nd_arena_alloc(pieces->arena, 2 * nd_wire_varint_max);
    ND_REQUIRE(header, nd_status_memory, "no memory to write a model");
    ND_TRY(nd_pieces_add(pieces, (nd_span){header, nd_wire_put_header(header, number, content.bytes)}));
    return nd_pieces_add(pieces, content);
}

nd_status nd_pieces_add_message(nd_pieces *pieces, uint32_t number, const ProtobufCMessage *message) {
    const size_t bytes = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = nd_arena_alloc(pieces->arena, bytes);
    ND_REQUIRE(packed, nd_status_memory, "no memory to write a model");
    protobuf_c_message_pack(message, packed);
    return nd_pieces_add_field(pieces, number, (nd_span){packed, bytes});
}

static nd_status pieces_add_varint(nd_pieces *pieces, uint32_t number, uint64_t value) {
    uint8_t *bytes = nd_arena_alloc(pieces->arena, 2 * nd_wire_varint_max);
    ND_REQUIRE(bytes, nd_status_memory, "no memory to write a model");
    size_t used = nd_wire_put_varint(bytes, (uint64_t)number << 3 | nd_wire_type_varint);
    used += nd_wire_put_varint(bytes + used, value);
    return nd_pieces_add(pieces, (nd_span){bytes, used});
}

static nd_status pieces_add_text(nd_pieces *pieces, uint32_t number, const char *text) {
    return nd_pieces_add_field(pieces, number, (nd_span){(const uint8_t *)text, strlen(text)});
}

/* A message that was built as pieces, as a field of another one. */
static nd_status pieces_add_pieces(nd_pieces *pieces, uint32_t number, const nd_pieces *content) {
    uint8_t *header = nd_arena_alloc(pieces->arena, 2 * nd_wire_varint_max);
    ND_REQUIRE(header, nd_status_memory, "no memory to write a model");
    ND_TRY(nd_pieces_add(pieces, (nd_span){header, nd_wire_put_header(header, number, content->bytes)}));
    for (size_t i = 0; i < content->count; i++) ND_TRY(nd_pieces_add(pieces, content->items[i]));
    return nd_status_ok;
}

/* Puts the bytes into the data file and says where. */
static nd_status put_external(nd_onnx_writer *writer, Nd__Onnx__Tensor *proto, nd_span bytes) {
    static const uint8_t zeros[nd_onnx_external_align];
    nd_pieces *data = &writer->external->data;
    const size_t gap = (size_t)(-data->bytes % nd_onnx_external_align);
    ND_TRY(nd_pieces_add(data, (nd_span){zeros, gap}));
    char *offset = nd_arena_printf(&writer->arena, "%llu", (unsigned long long)data->bytes);
    char *length = nd_arena_printf(&writer->arena, "%zu", bytes.bytes);
    ND_REQUIRE(offset && length, nd_status_memory, "no memory to write a model");
    ND_TRY(nd_pieces_add(data, bytes));
    Nd__Onnx__Entry entries[3] = {ND__ONNX__ENTRY__INIT, ND__ONNX__ENTRY__INIT, ND__ONNX__ENTRY__INIT};
    Nd__Onnx__Entry *pointers[3] = {&entries[0], &entries[1], &entries[2]};
    entries[0].key = "location", entries[0].value = (char *)(uintptr_t)writer->external->location;
    entries[1].key = "offset", entries[1].value = offset;
    entries[2].key = "length", entries[2].value = length;
    proto->n_external_data = 3;
    proto->external_data = pointers;
    proto->has_data_location = 1;
    proto->data_location = 1;
    return nd_pieces_add_message(&writer->body, nd_onnx_graph_initializer, &proto->base);
}

nd_status nd_onnx_put_tensor(nd_onnx_writer *writer, const char *name, const nd_tensor *tensor) {
    Nd__Onnx__Tensor proto = ND__ONNX__TENSOR__INIT;
    const nd_span bytes = {tensor->data, nd_tensor_bytes(tensor)};
    proto.n_dims = (size_t)tensor->rank;
    proto.dims = (int64_t *)(uintptr_t)tensor->dims; /* packing only reads */
    proto.has_data_type = 1;
    proto.data_type = nd_onnx_dtype_code(tensor->dtype);
    proto.name = (char *)(uintptr_t)name;
    if (writer->external && bytes.bytes >= nd_onnx_external_least) return put_external(writer, &proto, bytes);
    const size_t head = nd__onnx__tensor__get_packed_size(&proto);
    uint8_t *packed = nd_arena_alloc(&writer->arena, head + 2 * nd_wire_varint_max);
    ND_REQUIRE(packed, nd_status_memory, "no memory to write a model");
    nd__onnx__tensor__pack(&proto, packed);
    const size_t key = nd_wire_put_header(packed + head, nd_onnx_tensor_raw, bytes.bytes);
    nd_span parts[] = {{packed, head + key}, bytes};
    nd_pieces message = {.items = parts, .count = 2, .bytes = head + key + bytes.bytes};
    return pieces_add_pieces(&writer->body, nd_onnx_graph_initializer, &message);
}

/* What nd has no tensors of was kept as it was in the file; data beside that file cannot come along. */
static nd_status put_raw_init(nd_onnx_writer *writer, const nd_value *value) {
    const nd_span message = {value->raw, value->raw_bytes};
    nd_span rest = message;
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);)
        ND_REQUIRE(value->sparse || field.number != nd_onnx_tensor_location || !field.varint,
                   nd_status_unsupported,
                   "%s: initializer '%s' lies in an external file and has a type nd "
                   "cannot copy",
                   writer->graph->name, value->name);
    return nd_pieces_add_field(&writer->body,
                               value->sparse ? nd_onnx_graph_sparse : nd_onnx_graph_initializer, message);
}

static nd_status put_initializers(nd_onnx_writer *writer) {
    const nd_graph *graph = writer->graph;
    for (int i = 0; i < graph->n_values; i++) {
        const nd_value *value = &graph->values[i];
        if (!writer->used[i] || value->producer >= 0) continue;
        if (value->raw)
            ND_TRY(put_raw_init(writer, value));
        else if (value->init)
            ND_TRY(nd_onnx_put_tensor(writer, value->name, value->init));
    }
    return nd_status_ok;
}

/* How many names a raw node gives in a field, and whether the first of them are those of `values`; an absent
 * value has the empty name. */
static bool names_match(const nd_graph *graph, nd_span raw, uint32_t number, const int *values, int count,
                        int *found) {
    nd_wire_field field;
    bool same = true;
    *found = 0;
    for (bool broken = false; nd_wire_next(&raw, &field, &broken);) {
        if (field.number != number) continue;
        const int k = (*found)++;
        if (k >= count) continue;
        const char *name = values[k] < 0 ? "" : graph->values[values[k]].name;
        same = same && field.content.bytes == strlen(name) && !memcmp(field.content.data, name, strlen(name));
    }
    return same && *found >= count;
}

static nd_status put_names(nd_onnx_writer *writer, nd_pieces *node, uint32_t number, const int *values,
                           int count) {
    for (int k = 0; k < count; k++)
        ND_TRY(pieces_add_text(node, number, values[k] < 0 ? "" : writer->graph->values[values[k]].name));
    return nd_status_ok;
}

/* A node as it was read; only names of inputs and outputs may have changed since. */
static nd_status put_raw_node(nd_onnx_writer *writer, const nd_node *node) {
    const nd_graph *graph = writer->graph;
    const nd_span raw = {node->raw, node->raw_bytes};
    int inputs, outputs;
    names_match(graph, raw, nd_onnx_node_input, node->in, 0, &inputs);
    /* What an opaque node's subgraphs read comes after its own inputs. */
    const int n_in = node->op == nd_op_opaque && node->n_in > inputs ? inputs : node->n_in;
    const bool same_in = names_match(graph, raw, nd_onnx_node_input, node->in, n_in, &inputs);
    const bool same_out = names_match(graph, raw, nd_onnx_node_output, node->out, node->n_out, &outputs);
    if (same_in && same_out && inputs == n_in)
        return nd_pieces_add_field(&writer->nodes, nd_onnx_graph_node, raw);
    nd_pieces message = {.arena = &writer->arena};
    nd_status status;
    ND_TRY_DONE(put_names(writer, &message, nd_onnx_node_input, node->in, n_in));
    ND_TRY_DONE(put_names(writer, &message, nd_onnx_node_output, node->out, node->n_out));
    nd_span rest = raw;
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);)
        if (field.number != nd_onnx_node_input && field.number != nd_onnx_node_output)
            ND_TRY_DONE(nd_pieces_add(&message, field.whole));
    status = pieces_add_pieces(&writer->nodes, nd_onnx_graph_node, &message);
done:
    free(message.items);
    return status;
}

/* A constant that became an initializer since is one already. */
static nd_status put_nodes(nd_onnx_writer *writer) {
    const nd_graph *graph = writer->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (!node->n_out) continue;
        ND_TRY(node->raw ? put_raw_node(writer, node) : nd_onnx_emit(writer, node));
    }
    return nd_status_ok;
}

/* The ValueInfoProto of that name in a list of the source's graph; empty when there is none. */
static nd_span source_info(nd_span body, uint32_t number, const char *name) {
    nd_span found = {0};
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&body, &field, &broken);) {
        if (field.number != number) continue;
        const nd_span text = nd_onnx_field(field.content, nd_onnx_value_info_name);
        if (text.bytes == strlen(name) && !memcmp(text.data, name, text.bytes)) found = field.content;
    }
    return found;
}

/* Inputs and outputs as the source declares them, else with the batch left open. */
static nd_status put_end(nd_onnx_writer *writer, nd_span source, uint32_t number, const nd_value *value) {
    const nd_span kept = source_info(source, number, value->name);
    if (kept.bytes) return nd_pieces_add_field(&writer->body, number, kept);
    Nd__Onnx__ValueInfo info = ND__ONNX__VALUE_INFO__INIT;
    Nd__Onnx__Type type = ND__ONNX__TYPE__INIT;
    Nd__Onnx__Type__TensorType tensor = ND__ONNX__TYPE__TENSOR_TYPE__INIT;
    Nd__Onnx__Type__Shape shape = ND__ONNX__TYPE__SHAPE__INIT;
    Nd__Onnx__Type__Dimension dims[nd_rank_max], *pointers[nd_rank_max];
    for (int i = 0; i < value->rank; i++) {
        nd__onnx__type__dimension__init(&dims[i]);
        pointers[i] = &dims[i];
        dims[i].has_dim_value = i > 0 && value->dims[i] >= 0;
        if (dims[i].has_dim_value) dims[i].dim_value = value->dims[i];
        if (!i) dims[i].dim_param = "N";
    }
    info.name = (char *)(uintptr_t)value->name;
    info.type = &type;
    type.tensor_type = &tensor;
    tensor.has_elem_type = 1;
    tensor.elem_type = nd_onnx_dtype_code(value->dtype);
    if (value->rank >= 0) tensor.shape = &shape;
    shape.n_dim = value->rank > 0 ? (size_t)value->rank : 0;
    shape.dim = pointers;
    return nd_pieces_add_message(&writer->body, number, &info.base);
}

/* Shapes the source declares of values that are still there. */
static nd_status put_value_infos(nd_onnx_writer *writer, nd_span source) {
    const nd_graph *graph = writer->graph;
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&source, &field, &broken);) {
        if (field.number != nd_onnx_graph_value_info) continue;
        const nd_span text = nd_onnx_field(field.content, nd_onnx_value_info_name);
        char *name = nd_arena_strndup(&writer->arena, (const char *)text.data, text.bytes);
        const int value = name ? nd_graph_find_value(graph, name) : -1;
        if (value >= 0 && graph->values[value].producer >= 0)
            ND_TRY(nd_pieces_add(&writer->body, field.whole));
    }
    return nd_status_ok;
}

static bool is_rewritten(uint32_t graph_field) {
    return graph_field == nd_onnx_graph_node || graph_field == nd_onnx_graph_initializer ||
           graph_field == nd_onnx_graph_input || graph_field == nd_onnx_graph_output ||
           graph_field == nd_onnx_graph_value_info || graph_field == nd_onnx_graph_sparse;
}

static nd_status put_graph(nd_onnx_writer *writer, nd_span source) {
    const nd_graph *graph = writer->graph;
    /* Emitted nodes add initializers, so their own list is made first and put in front at the end. */
    ND_TRY(put_nodes(writer));
    if (!graph->source) ND_TRY(pieces_add_text(&writer->body, nd_onnx_graph_name, graph->name));
    nd_span rest = source;
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);)
        if (!is_rewritten(field.number)) ND_TRY(nd_pieces_add(&writer->body, field.whole));
    ND_TRY(put_initializers(writer));
    for (int i = 0; i < graph->n_inputs; i++)
        ND_TRY(put_end(writer, source, nd_onnx_graph_input, &graph->values[graph->inputs[i]]));
    for (int i = 0; i < graph->n_outputs; i++)
        ND_TRY(put_end(writer, source, nd_onnx_graph_output, &graph->values[graph->outputs[i]]));
    return put_value_infos(writer, source);
}

static nd_status put_opset(nd_onnx_writer *writer) {
    Nd__Onnx__OperatorSet opset = ND__ONNX__OPERATOR_SET__INIT;
    opset.domain = "";
    opset.has_version = 1;
    opset.version = writer->graph->opset;
    return nd_pieces_add_message(&writer->model, nd_onnx_model_opset, &opset.base);
}

/* Fields of the model that nd does not read stay as they were. */
static nd_status put_model_head(nd_onnx_writer *writer, nd_span source) {
    if (!writer->graph->source) {
        ND_TRY(pieces_add_varint(&writer->model, nd_onnx_model_ir_version, nd_onnx_ir_version));
        ND_TRY(pieces_add_text(&writer->model, nd_onnx_model_producer, "nd"));
        return put_opset(writer);
    }
    nd_wire_field field;
    uint64_t ir_version = 0;
    for (bool broken = false; nd_wire_next(&source, &field, &broken);) {
        if (field.number == nd_onnx_model_ir_version)
            ir_version = field.varint;
        else if (field.number != nd_onnx_model_graph && field.number != nd_onnx_model_metadata)
            ND_TRY(nd_pieces_add(&writer->model, field.whole));
    }
    if (ir_version < nd_onnx_ir_least) ir_version = nd_onnx_ir_least;
    return pieces_add_varint(&writer->model, nd_onnx_model_ir_version, ir_version);
}

static nd_status put_model(nd_onnx_writer *writer) {
    const nd_graph *graph = writer->graph;
    nd_span source = {0}, body = {0};
    if (graph->source) {
        source = (nd_span){graph->source->data, graph->source->bytes};
        body = nd_onnx_field(source, nd_onnx_model_graph);
    }
    ND_TRY(put_graph(writer, body));
    ND_TRY(put_model_head(writer, source));
    for (int i = 0; i < graph->n_meta; i++) {
        Nd__Onnx__Entry entry = ND__ONNX__ENTRY__INIT;
        entry.key = (char *)(uintptr_t)graph->meta[i].key;
        entry.value = (char *)(uintptr_t)graph->meta[i].text;
        ND_TRY(nd_pieces_add_message(&writer->model, nd_onnx_model_metadata, &entry.base));
    }
    nd_pieces whole = {.arena = &writer->arena};
    nd_status status;
    for (size_t i = 0; i < writer->nodes.count; i++)
        ND_TRY_DONE(nd_pieces_add(&whole, writer->nodes.items[i]));
    for (size_t i = 0; i < writer->body.count; i++) ND_TRY_DONE(nd_pieces_add(&whole, writer->body.items[i]));
    status = pieces_add_pieces(&writer->model, nd_onnx_model_graph, &whole);
done:
    free(whole.items);
    return status;
}

/* What nodes read and outputs promise, by value. */
static bool *find_used(const nd_graph *graph, uint64_t *bytes) {
    bool *used = nd_alloc_array((size_t)graph->n_values, sizeof *used);
    if (!used) return NULL;
    for (int i = 0; i < graph->n_outputs; i++) used[graph->outputs[i]] = true;
    for (int i = 0; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_in; k++)
            if (graph->nodes[i].in[k] >= 0) used[graph->nodes[i].in[k]] = true;
    *bytes = 0;
    for (int i = 0; i < graph->n_values; i++)
        if (used[i] && graph->values[i].init) *bytes += nd_tensor_bytes(graph->values[i].init);
    return used;
}

static nd_status pieces_write(void *context, FILE *file) {
    const nd_pieces *pieces = context;
    for (size_t i = 0; i < pieces->count; i++) {
        const nd_span *span = &pieces->items[i];
        /* The caller looks at ferror. */
        if (span->bytes && fwrite(span->data, 1, span->bytes, file) != span->bytes) break;
    }
    return nd_status_ok;
}

/* Both are on disk under other names before either takes its place. */
static nd_status write_pair(nd_onnx_writer *writer, const char *path, const char *beside) {
    nd_draft *model = NULL, *data = NULL;
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_draft_open(beside, &data));
    ND_TRY_DONE(nd_draft_open(path, &model));
    ND_TRY_DONE(pieces_write(&writer->external->data, nd_draft_file(data)));
    ND_TRY_DONE(pieces_write(&writer->model, nd_draft_file(model)));
    ND_TRY_DONE(nd_draft_sync(model));
    ND_TRY_DONE(nd_draft_publish(data));
    status = nd_draft_publish(model);
done:
    nd_draft_discard(data);
    nd_draft_discard(model);
    return status;
}

static nd_status write_model(nd_onnx_writer *writer, const char *path) {
    ND_TRY(put_model(writer));
    ND_REQUIRE(writer->model.bytes < UINT64_C(1) << 31, nd_status_unsupported,
               "%s: over 2 GiB without its weights", path);
    if (!writer->external) return nd_file_replace(path, pieces_write, &writer->model);
    char *beside = nd_arena_printf(&writer->arena, "%s.data", path);
    ND_REQUIRE(beside, nd_status_memory, "%s: no memory", path);
    return write_pair(writer, path, beside);
}

static nd_status write_graph(const nd_graph *graph, const char *path) {
    uint64_t bytes;
    bool *used = find_used(graph, &bytes);
    ND_REQUIRE(used, nd_status_memory, "%s: no memory", path);
    nd_onnx_writer writer = {.graph = graph, .used = used};
    nd_onnx_external external = {0};
    writer.nodes.arena = writer.body.arena = writer.model.arena = external.data.arena = &writer.arena;
    if (bytes > nd_onnx_inside_max) {
        const char *slash = strrchr(path, '/');
        external.location = nd_arena_printf(&writer.arena, "%s.data", slash ? slash + 1 : path);
        writer.external = &external;
    }
    nd_status status = bytes > nd_onnx_inside_max && !external.location
                           ? nd_fail(nd_status_memory, "%s: no memory", path)
                           : write_model(&writer, path);
    free(writer.nodes.items);
    free(writer.body.items);
    free(writer.model.items);
    free(external.data.items);
    nd_arena_free(&writer.arena);
    free(used);
    return status;
}

/* The format wants the shapes of outputs; a graph that was built and never inferred has none. */
nd_status nd_onnx_write(const nd_graph *graph, const char *path) {
    bool known = true;
    for (int i = 0; i < graph->n_outputs; i++) known = known && graph->values[graph->outputs[i]].rank >= 0;
    if (known || graph->source) return write_graph(graph, path);
    nd_graph *inferred;
    ND_TRY(nd_graph_clone(graph, &inferred));
    nd_status status = nd_graph_infer(inferred, &(nd_infer_settings){.batch = 1});
    if (!status) status = write_graph(inferred, path);
    nd_graph_free(inferred);
    return status;
}
