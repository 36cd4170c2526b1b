/* The name of the file with the data outside of a model. */
#include "base/files/file.h"
#include "model/onnx/onnx_out.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { names_max = 10000 };

/* A search for a file among those that a model has its data in. */
typedef struct search {
    const char *folder; /* of the model; "" is the working one */
    struct stat file;
    bool found;
} search;

static nd_status search_entry(void *context, nd_span entry) {
    search *to = context;
    const nd_span key = nd_onnx_field(entry, nd_onnx_entry_key),
                  name = nd_onnx_field(entry, nd_onnx_entry_value);
    struct stat about;
    if (!nd_span_is(key, "location")) return nd_status_ok;
    char *path = nd_alloc_array(strlen(to->folder) + name.bytes + 2, 1);
    ND_REQUIRE(path, nd_status_memory, "no memory");
    strcpy(path, to->folder);
    if (*path) strcat(path, "/");
    if (name.bytes) memcpy(path + strlen(path), name.data, name.bytes);
    to->found |= !stat(path, &about) && about.st_dev == to->file.st_dev && about.st_ino == to->file.st_ino;
    free(path);
    return nd_status_ok;
}

static nd_status search_tensor(void *context, nd_span tensor) {
    return nd_onnx_each(tensor, "a tensor", nd_onnx_tensor_external, search_entry, context);
}

static nd_status search_node(void *context, nd_span node) {
    return nd_onnx_node_tensors(node, search_tensor, context);
}

static nd_status search_model(search *to, const nd_buffer *model) {
    const nd_span body = nd_onnx_field((nd_span){model->data, model->bytes}, nd_onnx_model_graph);
    ND_TRY(nd_onnx_each(body, "the graph", nd_onnx_graph_initializer, search_tensor, to));
    return nd_onnx_each(body, "the graph", nd_onnx_graph_node, search_node, to);
}

/* Whether the model at `path` has data in the file; one that is no model has none. */
static bool is_data_of(const char *path, const struct stat *file) {
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
    search to = {.folder = folder, .file = *file};
    nd_buffer *model;
    if (!folder || nd_file_map(path, &model)) {
        free(folder);
        return false;
    }
    const nd_status status = search_model(&to, model);
    nd_buffer_unref(model);
    free(folder);
    return !status && to.found;
}

/* A name that is free, or that of the data of the model that is about to be replaced. */
static nd_status is_usable(const nd_graph *graph, const char *path, const char *beside, bool *usable) {
    search to = {.folder = graph->folder ? graph->folder : ""};
    *usable = true;
    if (stat(beside, &to.file)) return nd_status_ok;
    if (graph->source) ND_TRY(search_model(&to, graph->source));
    *usable = !to.found && is_data_of(path, &to.file);
    return nd_status_ok;
}

nd_status nd_onnx_name_beside(const nd_graph *graph, const char *path, nd_arena *arena, const char **out) {
    bool usable = false;
    for (int i = 0; i < names_max && !usable; i++) {
        *out = i ? nd_arena_printf(arena, "%s.%d.data", path, i) : nd_arena_printf(arena, "%s.data", path);
        ND_REQUIRE(*out, nd_status_memory, "%s: no memory", path);
        ND_TRY(is_usable(graph, path, *out, &usable));
    }
    ND_REQUIRE(usable, nd_status_input, "%s: there is something of this name already", *out);
    return nd_status_ok;
}
