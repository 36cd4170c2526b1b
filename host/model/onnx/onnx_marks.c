/* What goes of a file whose graph was edited: the nodes that nd replaced, and what is left without a reader
 * by that. */
#include "model/onnx/onnx_edit.h"

/* A convolution that is edited, or any node in whose place there are several. */
bool nd_edit_is_group(const nd_edit *edit, const nd_file_node *node) {
    const nd_span type = nd_onnx_field(node->raw, nd_onnx_node_op_type);
    const nd_node *first = &edit->graph->nodes[node->first];
    return first->edited && (nd_span_is(type, "Conv") || nd_edit_group_last(edit, node) != first);
}

/* --- what is in the file */

static nd_status index_read(void *context, nd_span name) {
    nd_edit *edit = context;
    nd_file_name *found;
    if (!name.bytes) return nd_status_ok;
    ND_TRY(nd_file_names_get(&edit->names, name, &found));
    found->reads++;
    return nd_status_ok;
}

/* Names that subgraphs read; those they define themselves are counted along, and so are never given to
 * others. */
static nd_status index_capture(void *context, const char *name) {
    nd_edit *edit = context;
    if (nd_file_names_find(&edit->names, nd_edit_text(name))) return index_read(context, nd_edit_text(name));
    const char *kept = nd_arena_strdup(&edit->writer->arena, name);
    ND_REQUIRE(kept, nd_status_memory, "no memory");
    return index_read(context, nd_edit_text(kept));
}

static nd_status index_write(void *context, nd_span name) {
    nd_edit *edit = context;
    nd_file_name *found;
    if (!name.bytes) return nd_status_ok;
    ND_TRY(nd_file_names_get(&edit->names, name, &found));
    found->producer = (int)edit->n_nodes - 1;
    return nd_status_ok;
}

static nd_status index_node(void *context, nd_span raw) {
    nd_edit *edit = context;
    nd_file_node *nodes = nd_array_grow(edit->nodes, edit->n_nodes, &edit->cap_nodes, sizeof *nodes);
    ND_REQUIRE(nodes, nd_status_memory, "no memory");
    edit->nodes = nodes;
    nodes[edit->n_nodes++] = (nd_file_node){.raw = raw, .first = -1};
    ND_TRY(nd_onnx_each(raw, "a node", nd_onnx_node_input, index_read, edit));
    ND_TRY(nd_onnx_each(raw, "a node", nd_onnx_node_output, index_write, edit));
    return nd_onnx_captures(raw, index_capture, edit);
}

static nd_status index_tensor(void *context, nd_span name) {
    nd_edit *edit = context;
    nd_file_name *found;
    ND_TRY(nd_file_names_get(&edit->names, name, &found));
    found->constant = true;
    return nd_status_ok;
}

static nd_status index_initializer(void *context, nd_span tensor) {
    return index_tensor(context, nd_onnx_field(tensor, nd_onnx_tensor_name));
}

static nd_status index_sparse(void *context, nd_span tensor) {
    const nd_span values = nd_onnx_field(tensor, nd_onnx_sparse_values);
    return index_tensor(context, nd_onnx_field(values, nd_onnx_tensor_name));
}

static nd_status index_input(void *context, nd_span info) {
    nd_edit *edit = context;
    nd_file_name *found;
    return nd_file_names_get(&edit->names, nd_onnx_field(info, nd_onnx_value_info_name), &found);
}

static nd_status index_output(void *context, nd_span info) {
    return index_read(context, nd_onnx_field(info, nd_onnx_value_info_name));
}

static nd_status edit_index(nd_edit *edit) {
    const nd_span body = edit->body;
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_node, index_node, edit));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_initializer, index_initializer, edit));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_sparse, index_sparse, edit));
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_input, index_input, edit));
    return nd_onnx_each(body, "the graph", nd_onnx_graph_output, index_output, edit);
}

/* --- what goes */

/* Nodes lie in the file in their order. */
static nd_file_node *find_node(const nd_edit *edit, const void *raw) {
    size_t low = 0, high = edit->n_nodes;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if ((uintptr_t)edit->nodes[middle].raw.data < (uintptr_t)raw)
            low = middle + 1;
        else
            high = middle;
    }
    return low < edit->n_nodes && edit->nodes[low].raw.data == raw ? &edit->nodes[low] : NULL;
}

nd_span nd_edit_name_at(nd_span raw, uint32_t number, int k) {
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&raw, &field, &broken);)
        if (field.number == number && !k--) return field.content;
    return (nd_span){0};
}

static nd_status edit_leave_out(nd_edit *edit, nd_file_node *node) {
    nd_wire_field field;
    nd_span rest = node->raw;
    if (node->gone) return nd_status_ok;
    node->gone = true;
    int *pending = nd_array_grow(edit->pending, edit->n_pending, &edit->cap_pending, sizeof *pending);
    ND_REQUIRE(pending, nd_status_memory, "no memory");
    edit->pending = pending;
    pending[edit->n_pending++] = (int)(node - edit->nodes);
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);) {
        nd_file_name *name =
            field.number == nd_onnx_node_output ? nd_file_names_find(&edit->names, field.content) : NULL;
        if (name) name->gone = true;
    }
    return nd_status_ok;
}

/* One reader less. What nothing reads any more goes as well: it was there for what nd replaced. */
static nd_status release(void *context, nd_span text) {
    nd_edit *edit = context;
    nd_file_name *name = nd_file_names_find(&edit->names, text);
    if (!text.bytes || !name || --name->reads > 0) return nd_status_ok;
    if (name->producer < 0) {
        name->gone = name->constant;
        return nd_status_ok;
    }
    nd_file_node *node = &edit->nodes[name->producer];
    nd_wire_field field;
    nd_span rest = node->raw;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);) {
        const nd_file_name *out =
            field.number == nd_onnx_node_output ? nd_file_names_find(&edit->names, field.content) : NULL;
        if (out && out->reads > 0) return nd_status_ok;
    }
    return edit_leave_out(edit, node);
}

static nd_status release_capture(void *context, const char *name) {
    return release(context, nd_edit_text(name));
}

static nd_status edit_settle(nd_edit *edit) {
    while (edit->n_pending) {
        const nd_span raw = edit->nodes[edit->pending[--edit->n_pending]].raw;
        ND_TRY(nd_onnx_each(raw, "a node", nd_onnx_node_input, release, edit));
        ND_TRY(nd_onnx_captures(raw, release_capture, edit));
    }
    return nd_status_ok;
}

nd_span nd_edit_group_output(const nd_edit *edit, const nd_file_node *node) {
    const nd_file_node *norm = find_node(edit, edit->graph->nodes[node->first].norm);
    return nd_edit_name_at(norm ? norm->raw : node->raw, nd_onnx_node_output, 0);
}

static nd_status edit_find(nd_edit *edit) {
    const nd_graph *graph = edit->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        if (!graph->nodes[i].edited || !graph->nodes[i].n_out) continue;
        nd_file_node *node = find_node(edit, graph->nodes[i].raw);
        ND_REQUIRE(node, nd_status_internal, "%s: node '%s' stands for none of the file", graph->name,
                   graph->nodes[i].name);
        if (node->first < 0) node->first = i;
    }
    return nd_status_ok;
}

/* The convolution, its normalisation and all that only they read. What the chain reads and writes stays. */
static nd_status edit_replace(nd_edit *edit, nd_file_node *node) {
    nd_file_name *in = nd_file_names_find(&edit->names, nd_edit_name_at(node->raw, nd_onnx_node_input, 0));
    nd_file_node *norm = find_node(edit, edit->graph->nodes[node->first].norm);
    ND_REQUIRE(in, nd_status_internal, "%s: a convolution without input", edit->graph->name);
    in->reads++;
    ND_TRY(edit_leave_out(edit, node));
    if (norm) ND_TRY(edit_leave_out(edit, norm));
    return edit_settle(edit);
}

/* Constants that a node reads no longer. */
static nd_status edit_operands(nd_edit *edit, const nd_file_node *node) {
    const nd_node *now = &edit->graph->nodes[node->first];
    for (int k = 0; k < now->n_in; k++)
        if (now->edited >> k & 1) ND_TRY(release(edit, nd_edit_name_at(node->raw, nd_onnx_node_input, k)));
    return edit_settle(edit);
}

static bool is_narrow(const nd_edit *edit, nd_span raw, uint32_t number, bool mark) {
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&raw, &field, &broken);) {
        nd_file_name *name = field.number == number ? nd_file_names_find(&edit->names, field.content) : NULL;
        if (name && mark) name->narrowed = true;
        if (name && name->narrowed && !mark) return true;
    }
    return false;
}

const nd_node *nd_edit_group_last(const nd_edit *edit, const nd_file_node *node) {
    const nd_graph *graph = edit->graph;
    const nd_node *last = NULL;
    for (int i = node->first; i < graph->n_nodes; i++)
        if (graph->nodes[i].edited && graph->nodes[i].n_out && graph->nodes[i].raw == node->raw.data)
            last = &graph->nodes[i];
    return last;
}

/* A value has lost channels where the node that makes it was narrowed, or hands on what it reads. */
static void edit_narrow(nd_edit *edit) {
    for (size_t i = 0; i < edit->n_nodes; i++) {
        const nd_file_node *node = &edit->nodes[i];
        if (node->first >= 0 && nd_edit_is_group(edit, node)) {
            nd_file_name *out = nd_file_names_find(&edit->names, nd_edit_group_output(edit, node));
            if (out) out->gone = false;
            if (out) out->narrowed = nd_edit_group_last(edit, node)->narrowed;
        } else if (!node->gone) {
            const bool narrow = node->first >= 0 ? edit->graph->nodes[node->first].narrowed
                                                 : is_narrow(edit, node->raw, nd_onnx_node_input, false);
            if (narrow) is_narrow(edit, node->raw, nd_onnx_node_output, true);
        }
    }
}

nd_status nd_edit_mark(nd_edit *edit) {
    ND_TRY(edit_index(edit));
    ND_TRY(edit_find(edit));
    for (size_t i = 0; i < edit->n_nodes; i++) {
        nd_file_node *node = &edit->nodes[i];
        if (node->first < 0) continue;
        ND_TRY(nd_edit_is_group(edit, node) ? edit_replace(edit, node) : edit_operands(edit, node));
    }
    edit_narrow(edit);
    return nd_status_ok;
}
