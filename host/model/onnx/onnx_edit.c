/* A model that came out of a file goes back as that file: its bytes, but for the nodes that nd replaced, what
 * fed those alone, and what the file says of values that are no longer as they were. Analysis never gets
 * here: folding, shapes and constants that nd worked out stay in memory. */
#include "model/onnx/onnx_edit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { nd_onnx_ir_listed = 3 }; /* up to this IR version initializers have to be listed among the inputs */

/* --- what comes instead */

/* A name that nothing in the file has, or that went with what nd replaced. */
static nd_status edit_name(nd_edit *edit, const char *wanted, char **out) {
    nd_arena *arena = &edit->writer->arena;
    nd_file_name *name;
    *out = nd_arena_strdup(arena, wanted);
    for (int i = 1; *out; i++) {
        name = nd_file_names_find(&edit->names, nd_edit_text(*out));
        if (!name || (name->gone && !name->taken)) break;
        *out = nd_arena_printf(arena, "%s_%d", wanted, i);
    }
    ND_REQUIRE(*out, nd_status_memory, "no memory");
    ND_TRY(nd_file_names_get(&edit->names, nd_edit_text(*out), &name));
    name->taken = true;
    return nd_status_ok;
}

/* In the type that the file has its weights in. What fp32 holds and that type does not, such as a bias that a
 * folded normalisation has made large in fp16, would be written as an infinity: no such file is. */
static nd_status stored(nd_edit *edit, nd_dtype dtype, const nd_tensor *from, nd_tensor *out) {
    *out = *from;
    if (from->dtype != nd_dtype_f32 || dtype == nd_dtype_f32) return nd_status_ok;
    const int64_t count = nd_tensor_count(from);
    out->dtype = dtype;
    out->data = nd_arena_alloc(&edit->writer->arena, (size_t)count * nd_dtype_bytes(dtype) + 1);
    ND_REQUIRE(out->data, nd_status_memory, "no memory");
    const float *floats = from->data;
    for (int64_t i = 0; i < count; i++) {
        if (dtype == nd_dtype_f64) {
            ((double *)out->data)[i] = (double)floats[i];
            continue;
        }
        const bool half = dtype == nd_dtype_f16;
        const uint16_t bits = half ? nd_f32_to_f16(floats[i]) : nd_f32_to_bf16(floats[i]);
        const float back = half ? nd_f16_to_f32(bits) : nd_bf16_to_f32(bits);
        ND_REQUIRE(isfinite(back) || !isfinite(floats[i]), nd_status_unsupported,
                   "%g is beyond %s, in which the file has its weights", (double)floats[i],
                   nd_dtype_name(dtype));
        ((uint16_t *)out->data)[i] = bits;
    }
    return nd_status_ok;
}

static nd_status put_constant(nd_edit *edit, const nd_node *node, int value, char **name) {
    const nd_value *constant = &edit->graph->values[value];
    if (!edit->given[value]) {
        nd_tensor tensor;
        ND_TRY(edit_name(edit, constant->name, &edit->given[value]));
        const nd_status status = stored(edit, node->stored, constant->init, &tensor);
        if (status)
            return nd_fail_in(status, "%s: layer '%.200s': '%.200s'", edit->graph->name, node->name,
                              constant->name);
        ND_TRY(nd_onnx_put_tensor(edit->writer, edit->given[value], &tensor));
        if (edit->ir_version <= nd_onnx_ir_listed)
            ND_TRY(nd_onnx_put_info(&edit->writer->body, nd_onnx_graph_input, edit->given[value],
                                    tensor.dtype, tensor.rank, tensor.dims));
    }
    *name = edit->given[value];
    return nd_status_ok;
}

static char *text_of(nd_edit *edit, nd_span text) {
    return nd_arena_strndup(&edit->writer->arena, (const char *)text.data, text.bytes);
}

static nd_status put_group_node(nd_edit *edit, const nd_file_node *file, const nd_node *node, bool last) {
    enum { inputs_max = 3 };
    const nd_graph *graph = edit->graph;
    char *in[inputs_max], *out;
    ND_REQUIRE(node->n_in >= 1 && node->n_in <= inputs_max && node->n_out == 1, nd_status_internal,
               "%s: node '%s' is no part of a chain", graph->name, node->name);
    /* What the chain reads and writes has the names of the file, which the graph may have folded away. */
    in[0] = edit->given[node->in[0]];
    if (!in[0]) in[0] = text_of(edit, nd_edit_name_at(file->raw, nd_onnx_node_input, 0));
    for (int k = 1; k < node->n_in; k++) {
        in[k] = "";
        if (node->in[k] >= 0) ND_TRY(put_constant(edit, node, node->in[k], &in[k]));
    }
    if (last) {
        out = text_of(edit, nd_edit_group_output(edit, file));
    } else {
        ND_TRY(edit_name(edit, graph->values[node->out[0]].name, &out));
        edit->given[node->out[0]] = out;
    }
    ND_REQUIRE(in[0] && out, nd_status_memory, "no memory");
    return nd_onnx_emit(edit->writer, node, in, &out);
}

static nd_status put_group(nd_edit *edit, const nd_file_node *file) {
    const nd_graph *graph = edit->graph;
    const nd_node *last = nd_edit_group_last(edit, file);
    for (const nd_node *node = &graph->nodes[file->first]; node <= last; node++)
        if (node->edited && node->n_out && node->raw == file->raw.data)
            ND_TRY(put_group_node(edit, file, node, node == last));
    return nd_status_ok;
}

/* The node as it was, but for the names of constants. */
static nd_status put_with_operands(nd_edit *edit, const nd_file_node *file) {
    const nd_node *node = &edit->graph->nodes[file->first];
    nd_pieces message = {.arena = &edit->writer->arena};
    nd_span rest = file->raw;
    nd_wire_field field;
    nd_status status = nd_status_ok;
    int k = 0;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);) {
        const int slot = field.number == nd_onnx_node_input ? k++ : -1;
        if (slot < 0 || !(node->edited >> slot & 1)) {
            ND_TRY_DONE(nd_pieces_add(&message, field.whole));
            continue;
        }
        char *name;
        ND_TRY_DONE(put_constant(edit, node, node->in[slot], &name));
        ND_TRY_DONE(nd_pieces_add_text(&message, nd_onnx_node_input, name));
    }
    status = nd_pieces_add_pieces(&edit->writer->nodes, nd_onnx_graph_node, &message);
done:
    free(message.items);
    return status;
}

static nd_status put_node(nd_edit *edit, const nd_file_node *node, nd_span whole) {
    if (node->first >= 0)
        return nd_edit_is_group(edit, node) ? put_group(edit, node) : put_with_operands(edit, node);
    return node->gone ? nd_status_ok : nd_pieces_add(&edit->writer->nodes, whole);
}

/* --- data outside of the model */

bool nd_onnx_is_outside(nd_span tensor) {
    nd_wire_field field;
    bool outside = false;
    for (bool broken = false; nd_wire_next(&tensor, &field, &broken);)
        if (field.number == nd_onnx_tensor_location) outside = field.varint == 1;
    return outside;
}

static nd_status keep_mapping(nd_onnx_writer *writer, nd_buffer *buffer) {
    if (writer->n_kept && writer->kept[writer->n_kept - 1] == buffer) return nd_status_ok;
    nd_buffer **kept = nd_array_grow(writer->kept, writer->n_kept, &writer->cap_kept, sizeof *kept);
    ND_REQUIRE(kept, nd_status_memory, "no memory");
    writer->kept = kept;
    kept[writer->n_kept++] = nd_buffer_ref(buffer);
    return nd_status_ok;
}

/* The new file does not lean on the old one's data: they go beside it. */
static nd_status put_moved(nd_edit *edit, nd_span message) {
    Nd__Onnx__Tensor *proto = nd__onnx__tensor__unpack(NULL, message.bytes, message.data);
    ND_REQUIRE(proto, nd_status_format, "a tensor is malformed");
    nd_status status = nd_status_ok;
    nd_span bytes;
    nd_dtype dtype;
    int64_t count = nd_onnx_dtype_find(proto->data_type, &dtype) ? (int64_t)nd_dtype_bytes(dtype) : -1;
    for (size_t i = 0; count >= 0 && i < proto->n_dims; i++)
        if (__builtin_mul_overflow(count, proto->dims[i], &count)) count = -1;
    ND_TRY_DONE(nd_onnx_external(&edit->files, proto, count, &bytes));
    ND_TRY_DONE(keep_mapping(edit->writer, edit->files.external));
    status = nd_onnx_put_external(edit->writer, proto, bytes);
done:
    nd__onnx__tensor__free_unpacked(proto, NULL);
    return status;
}

/* --- the file */

static bool is_changed(const nd_edit *edit, nd_span text) {
    const nd_file_name *name = nd_file_names_find(&edit->names, text);
    return name && (name->gone || name->narrowed);
}

static bool is_dropped(const nd_edit *edit, nd_span text) {
    const nd_file_name *name = nd_file_names_find(&edit->names, text);
    return name && name->gone && name->constant;
}

static nd_status put_field(nd_edit *edit, const nd_wire_field *field, size_t *node) {
    nd_pieces *body = &edit->writer->nodes;
    const nd_span content = field->content;
    switch (field->number) {
    case nd_onnx_graph_node:
        return put_node(edit, &edit->nodes[(*node)++], field->whole);
    case nd_onnx_graph_initializer:
        if (is_dropped(edit, nd_onnx_field(content, nd_onnx_tensor_name))) return nd_status_ok;
        if (edit->moved && nd_onnx_is_outside(content)) return put_moved(edit, content);
        break;
    case nd_onnx_graph_sparse:
        if (is_dropped(edit,
                       nd_onnx_field(nd_onnx_field(content, nd_onnx_sparse_values), nd_onnx_tensor_name)))
            return nd_status_ok;
        break;
    case nd_onnx_graph_input:
        if (is_dropped(edit, nd_onnx_field(content, nd_onnx_value_info_name))) return nd_status_ok;
        break;
    case nd_onnx_graph_value_info:
        if (is_changed(edit, nd_onnx_field(content, nd_onnx_value_info_name))) return nd_status_ok;
        break;
    case nd_onnx_graph_quantization:
        if (is_changed(edit, nd_onnx_field(content, nd_onnx_annotation_tensor))) return nd_status_ok;
        break;
    default:
        break;
    }
    return nd_pieces_add(body, field->whole);
}

/* The graph with its edits in the order of the file; what is new comes last. */
static nd_status put_body(nd_edit *edit, nd_pieces *whole) {
    nd_onnx_writer *writer = edit->writer;
    nd_span rest = edit->body;
    nd_wire_field field;
    size_t node = 0;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);) ND_TRY(put_field(edit, &field, &node));
    for (size_t i = 0; i < writer->nodes.count; i++) ND_TRY(nd_pieces_add(whole, writer->nodes.items[i]));
    for (size_t i = 0; i < writer->body.count; i++) ND_TRY(nd_pieces_add(whole, writer->body.items[i]));
    return nd_status_ok;
}

/* Whether the metadata of the file say the same under this key. */
static bool has_meta(nd_span model, const nd_meta *meta) {
    nd_wire_field field;
    bool same = false;
    for (bool broken = false; nd_wire_next(&model, &field, &broken);) {
        if (field.number != nd_onnx_model_metadata) continue;
        const nd_span key = nd_onnx_field(field.content, nd_onnx_entry_key);
        const nd_span text = nd_onnx_field(field.content, nd_onnx_entry_value);
        if (nd_span_is(key, meta->key)) same = nd_span_is(text, meta->text);
    }
    return same;
}

/* Whether nd says something else under the key of this entry. */
static bool is_outdated(const nd_edit *edit, nd_span model, nd_span entry) {
    const nd_graph *graph = edit->graph;
    const nd_span key = nd_onnx_field(entry, nd_onnx_entry_key);
    for (int i = 0; i < graph->n_meta; i++) {
        const nd_meta *meta = &graph->meta[i];
        if (nd_span_is(key, meta->key)) return !has_meta(model, meta);
    }
    return false;
}

static nd_status put_model_edited(nd_edit *edit, nd_span model) {
    nd_onnx_writer *writer = edit->writer;
    nd_pieces whole = {.arena = &writer->arena};
    nd_span rest = model;
    nd_wire_field field;
    nd_status status = put_body(edit, &whole);
    if (status) goto done;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);) {
        if (field.number == nd_onnx_model_graph)
            ND_TRY_DONE(nd_pieces_add_pieces(&writer->model, nd_onnx_model_graph, &whole));
        else if (field.number != nd_onnx_model_metadata || !is_outdated(edit, model, field.content))
            ND_TRY_DONE(nd_pieces_add(&writer->model, field.whole));
    }
    for (int i = 0; i < edit->graph->n_meta; i++)
        if (!has_meta(model, &edit->graph->meta[i]))
            ND_TRY_DONE(nd_onnx_put_meta(writer, &edit->graph->meta[i]));
done:
    free(whole.items);
    return status;
}

/* Whether a file in the folder of `path` finds data beside the original. */
static bool same_folder(const nd_graph *graph, const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    struct stat a, b;
    const bool same = folder && graph->folder && !stat(folder, &a) &&
                      !stat(*graph->folder ? graph->folder : ".", &b) && a.st_dev == b.st_dev &&
                      a.st_ino == b.st_ino;
    free(folder);
    return same;
}

static bool is_edited(const nd_graph *graph) {
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].edited && graph->nodes[i].n_out) return true;
    return false;
}

static nd_status find_outside(void *context, nd_span tensor) {
    if (nd_onnx_is_outside(tensor)) *(bool *)context = true;
    return nd_status_ok;
}

/* Data outside of the file are moved for initializers of the graph alone. Those of tensors within nodes stay
 * where they are, and a file that would not find them there, or writes over them, is not written. */
static nd_status require_inside(void *context, nd_span node) {
    const nd_edit *edit = context;
    bool outside = false;
    ND_TRY(nd_onnx_node_tensors(node, find_outside, &outside));
    const nd_span name = nd_onnx_field(node, nd_onnx_node_name);
    ND_REQUIRE(!outside || (!edit->moved && same_folder(edit->graph, edit->path)), nd_status_unsupported,
               "%s: node '%.*s' holds tensors whose data lie in another file, beside the original: nd cannot "
               "move those%s",
               edit->path, name.bytes < 200 ? (int)name.bytes : 200,
               name.bytes ? (const char *)name.data : "",
               edit->moved ? "" : "; write to the folder of the original");
    return nd_status_ok;
}

static nd_status read_ir_version(nd_edit *edit, nd_span model) {
    nd_wire_field field;
    bool outside = false;
    for (bool broken = false; nd_wire_next(&model, &field, &broken);)
        if (field.number == nd_onnx_model_ir_version) edit->ir_version = field.varint;
    ND_TRY(nd_onnx_each(edit->body, "the graph", nd_onnx_graph_initializer, find_outside, &outside));
    edit->moved = outside && (is_edited(edit->graph) || !same_folder(edit->graph, edit->path));
    edit->writer->outside |= edit->moved;
    return nd_onnx_each(edit->body, "the graph", nd_onnx_graph_node, require_inside, edit);
}

nd_status nd_onnx_put_edited(nd_onnx_writer *writer, const char *path) {
    const nd_graph *graph = writer->graph;
    const nd_span model = {graph->source->data, graph->source->bytes};
    nd_edit edit = {.writer = writer, .graph = graph, .path = path};
    nd_status status = nd_status_ok;
    edit.body = nd_onnx_field(model, nd_onnx_model_graph);
    edit.files = (nd_onnx_files){.bytes = graph->source, .folder = graph->folder};
    edit.given = nd_alloc_array((size_t)graph->n_values, sizeof *edit.given);
    ND_REQUIRE_DONE(edit.given, nd_status_memory, "%s: no memory", path);
    ND_TRY_DONE(read_ir_version(&edit, model));
    ND_TRY_DONE(nd_edit_mark(&edit));
    status = put_model_edited(&edit, model);
done:
    free(edit.given);
    free(edit.nodes);
    free(edit.pending);
    nd_file_names_free(&edit.names);
    nd_buffer_unref(edit.files.external);
    free(edit.files.external_name);
    return status;
}
