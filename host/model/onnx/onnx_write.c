#include "base/files/draft.h"
#include "model/infer/infer.h"
#include "model/onnx/onnx_out.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of models nd makes: the one that came with opset 15 to 18, and that of 19 and 20. */
enum { nd_onnx_ir_version = 8, nd_onnx_ir_version_next = 9, nd_onnx_ir_opset_last = 18 };

/* A protobuf message holds less than 2 GiB; the rest leaves room for names and nodes. */
static const uint64_t nd_onnx_inside_max = (UINT64_C(1) << 31) - (UINT64_C(1) << 26);

static bool writes_anew(const nd_graph *graph) {
    return !graph->source || graph->anew;
}

static nd_status put_initializers(nd_onnx_writer *writer, const bool *used) {
    const nd_graph *graph = writer->graph;
    for (int i = 0; i < graph->n_values; i++) {
        const nd_value *value = &graph->values[i];
        if (used[i] && value->producer < 0 && value->init)
            ND_TRY(nd_onnx_put_tensor(writer, value->name, value->init));
    }
    return nd_status_ok;
}

static void value_names(const nd_graph *graph, const int *values, int count, char **names) {
    for (int k = 0; k < count; k++)
        names[k] = values[k] < 0 ? "" : (char *)(uintptr_t)graph->values[values[k]].name;
}

static nd_status put_nodes(nd_onnx_writer *writer) {
    const nd_graph *graph = writer->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (!node->n_out) continue;
        char **names = nd_arena_alloc(&writer->arena, (size_t)(node->n_in + node->n_out) * sizeof *names);
        ND_REQUIRE(names, nd_status_memory, "%s: no memory", graph->name);
        value_names(graph, node->in, node->n_in, names);
        value_names(graph, node->out, node->n_out, names + node->n_in);
        const bool kept = graph->anew && !nd_onnx_emits(graph, node, graph->opset);
        ND_TRY((kept ? nd_onnx_put_kept : nd_onnx_emit)(writer, node, names, names + node->n_in));
    }
    return nd_status_ok;
}

/* Sizes that only the run knows are said as the file says them, and then all. */
static bool has_late_ends(const nd_graph *graph) {
    for (int i = 0; i < graph->n_outputs; i++) {
        const nd_value *value = &graph->values[graph->outputs[i]];
        if (value->rank < 0 || nd_dims_count(value->rank, value->dims) < 0) return true;
    }
    return false;
}

/* With the batch left open. */
static nd_status put_end(nd_onnx_writer *writer, uint32_t number, const nd_value *value) {
    const nd_graph *graph = writer->graph;
    int64_t dims[nd_rank_max];
    const nd_span kept = has_late_ends(graph) ? nd_onnx_kept_end(graph, number, value->name) : (nd_span){0};
    if (kept.bytes) {
        const nd_pieces message = {.items = (nd_span *)(uintptr_t)&kept, .count = 1, .bytes = kept.bytes};
        return nd_pieces_add_pieces(&writer->body, number, &message);
    }
    memcpy(dims, value->dims, sizeof dims);
    dims[0] = -1;
    return nd_onnx_put_info(&writer->body, number, value->name, value->dtype, value->rank, dims);
}

static nd_status put_graph(nd_onnx_writer *writer, const bool *used) {
    const nd_graph *graph = writer->graph;
    /* Emitted nodes add initializers, so their own list is made first and put in front at the end. */
    ND_TRY(put_nodes(writer));
    ND_TRY(nd_pieces_add_text(&writer->body, nd_onnx_graph_name, graph->name));
    ND_TRY(put_initializers(writer, used));
    for (int i = 0; i < graph->n_inputs; i++)
        ND_TRY(put_end(writer, nd_onnx_graph_input, &graph->values[graph->inputs[i]]));
    for (int i = 0; i < graph->n_outputs; i++)
        ND_TRY(put_end(writer, nd_onnx_graph_output, &graph->values[graph->outputs[i]]));
    return nd_status_ok;
}

static nd_status put_opset(nd_onnx_writer *writer) {
    Nd__Onnx__OperatorSet opset = ND__ONNX__OPERATOR_SET__INIT;
    opset.domain = "";
    opset.has_version = 1;
    opset.version = writer->graph->opset;
    return nd_pieces_add_message(&writer->model, nd_onnx_model_opset, &opset.base);
}

/* A model of nd's own. */
static nd_status put_model(nd_onnx_writer *writer, const bool *used) {
    const nd_graph *graph = writer->graph;
    ND_TRY(put_graph(writer, used));
    const bool next = graph->opset > nd_onnx_ir_opset_last;
    ND_TRY(nd_pieces_add_varint(&writer->model, nd_onnx_model_ir_version,
                                next ? nd_onnx_ir_version_next : nd_onnx_ir_version));
    ND_TRY(nd_pieces_add_text(&writer->model, nd_onnx_model_producer, "nd"));
    ND_TRY(put_opset(writer));
    for (int i = 0; i < graph->n_meta; i++) ND_TRY(nd_onnx_put_meta(writer, &graph->meta[i]));
    nd_pieces whole = {.arena = &writer->arena};
    nd_status status;
    for (size_t i = 0; i < writer->nodes.count; i++)
        ND_TRY_DONE(nd_pieces_add(&whole, writer->nodes.items[i]));
    for (size_t i = 0; i < writer->body.count; i++) ND_TRY_DONE(nd_pieces_add(&whole, writer->body.items[i]));
    status = nd_pieces_add_pieces(&writer->model, nd_onnx_model_graph, &whole);
done:
    free(whole.items);
    return status;
}

/* What nodes read and outputs promise, by value. */
static bool *find_used(const nd_graph *graph, uint64_t *bytes) {
    bool *used = nd_alloc_array((size_t)graph->n_values, sizeof *used);
    if (!used) return NULL;
    for (int i = 0; i < graph->n_outputs; i++) used[graph->outputs[i]] = true;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        const bool remade = writes_anew(graph) && nd_onnx_emits(graph, node, graph->opset) &&
                            nd_onnx_remakes_operands(graph, node);
        const int inputs = remade ? 1 : node->n_in;
        for (int k = 0; k < inputs; k++)
            if (node->in[k] >= 0) used[node->in[k]] = true;
    }
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

/* Both are on disk under other names before either takes its place, and the data have a name that no model
 * knows until this one is there. */
static nd_status write_pair(nd_onnx_writer *writer, const char *path) {
    nd_draft *model = NULL, *data = NULL;
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_draft_open(writer->external->path, &data));
    ND_TRY_DONE(nd_draft_open(path, &model));
    ND_TRY_DONE(pieces_write(&writer->external->data, nd_draft_file(data)));
    ND_TRY_DONE(pieces_write(&writer->model, nd_draft_file(model)));
    ND_TRY_DONE(nd_draft_sync(model));
    ND_TRY_DONE(nd_draft_publish(data));
    status = nd_draft_publish(model);
    if (status) (void)unlink(writer->external->path);
done:
    nd_draft_discard(data);
    nd_draft_discard(model);
    return status;
}

static nd_status write_model(nd_onnx_writer *writer, const char *path, const bool *used) {
    ND_TRY(writes_anew(writer->graph) ? put_model(writer, used) : nd_onnx_put_edited(writer, path));
    ND_REQUIRE(writer->model.bytes < UINT64_C(1) << 31, nd_status_unsupported,
               "%s: over 2 GiB without its weights", path);
    const char *replaced = nd_onnx_beside_replaced(writer->graph, path, &writer->arena);
    ND_TRY(writer->external->data.count ? write_pair(writer, path)
                                        : nd_file_replace(path, pieces_write, &writer->model));
    nd_onnx_beside_remove(path, replaced);
    return nd_status_ok;
}

static nd_status write_graph(const nd_graph *graph, const char *path) {
    uint64_t bytes;
    bool *used = find_used(graph, &bytes);
    ND_REQUIRE(used, nd_status_memory, "%s: no memory", path);
    nd_onnx_writer writer = {.graph = graph};
    nd_onnx_beside external = {0};
    writer.nodes.arena = writer.body.arena = writer.model.arena = external.data.arena = &writer.arena;
    writer.external = &external;
    writer.outside = bytes > nd_onnx_inside_max;
    nd_status status;
    ND_TRY_DONE(nd_onnx_beside_name(path, &writer.arena, &external.path));
    const char *slash = strrchr(external.path, '/');
    external.location = slash ? slash + 1 : external.path;
    status = write_model(&writer, path, used);
done:
    free(writer.nodes.items);
    free(writer.body.items);
    free(writer.model.items);
    free(external.data.items);
    for (size_t i = 0; i < writer.n_kept; i++) nd_buffer_unref(writer.kept[i]);
    free(writer.kept);
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
