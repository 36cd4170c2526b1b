/* The file with the data outside of a model. It never takes the place of another: a model that is replaced
 * has its data until the new one, which names another file, is there. */
#include "base/files/file.h"
#include "model/onnx/onnx_out.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { names_max = 10000 };

static const char data_suffix[] = ".data";

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

/* Whether the model at `path` has data in the file. One that cannot be read may have. */
static bool is_data_of(const char *path, const struct stat *file) {
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
    search to = {.folder = folder, .file = *file};
    nd_buffer *model;
    if (!folder || nd_file_map(path, &model)) {
        free(folder);
        return true;
    }
    const nd_status status = search_model(&to, model);
    nd_buffer_unref(model);
    free(folder);
    return status || to.found;
}

/* Whether `name`, in the folder of the model at `path`, is one that nd gives to its data: PATH.data or
 * PATH.N.data. */
static bool is_given(const char *path, nd_span name) {
    const char *slash = strrchr(path, '/'), *model = slash ? slash + 1 : path;
    const size_t length = strlen(model), tail = strlen(data_suffix);
    const char *text = (const char *)name.data;
    if (name.bytes < length + tail || memcmp(text, model, length)) return false;
    if (memcmp(text + name.bytes - tail, data_suffix, tail)) return false;
    for (size_t i = length; i < name.bytes - tail; i++)
        if (i == length ? text[i] != '.' : text[i] < '0' || text[i] > '9') return false;
    return true;
}

typedef struct given {
    const char *path;
    nd_arena *arena;
    char *name;
} given;

static nd_status given_entry(void *context, nd_span entry) {
    given *to = context;
    const nd_span name = nd_onnx_field(entry, nd_onnx_entry_value);
    if (to->name || !nd_span_is(nd_onnx_field(entry, nd_onnx_entry_key), "location")) return nd_status_ok;
    if (!is_given(to->path, name)) return nd_status_ok;
    const char *slash = strrchr(to->path, '/');
    to->name = nd_arena_printf(to->arena, "%.*s%.*s", slash ? (int)(slash - to->path) + 1 : 0, to->path,
                               (int)name.bytes, (const char *)name.data);
    ND_REQUIRE(to->name, nd_status_memory, "%s: no memory", to->path);
    return nd_status_ok;
}

static nd_status given_tensor(void *context, nd_span tensor) {
    return nd_onnx_each(tensor, "a tensor", nd_onnx_tensor_external, given_entry, context);
}

/* The data of nd's own of the model at `path`; NULL where it has none, or is no model. */
static char *find_given(const char *path, nd_arena *arena) {
    given to = {path, arena, NULL};
    nd_buffer *model;
    if (nd_file_map(path, &model)) return NULL;
    const nd_span body = nd_onnx_field((nd_span){model->data, model->bytes}, nd_onnx_model_graph);
    const nd_status status = nd_onnx_each(body, "the graph", nd_onnx_graph_initializer, given_tensor, &to);
    nd_buffer_unref(model);
    return status ? NULL : to.name;
}

/* Whether the file at `path` is the one that the graph was read from. */
static bool is_source(const nd_graph *graph, const char *path) {
    struct stat a, b;
    return !stat(graph->name, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

char *nd_onnx_beside_replaced(const nd_graph *graph, const char *path, nd_arena *arena) {
    search to = {.folder = graph->folder ? graph->folder : ""};
    char *name = find_given(path, arena);
    if (!name || lstat(name, &to.file) || !S_ISREG(to.file.st_mode)) return NULL;
    if (!graph->source || is_source(graph, path)) return name;
    return search_model(&to, graph->source) || to.found ? NULL : name;
}

void nd_onnx_beside_remove(const char *path, const char *name) {
    struct stat about;
    if (name && !lstat(name, &about) && !is_data_of(path, &about)) (void)unlink(name);
}

nd_status nd_onnx_beside_name(const char *path, nd_arena *arena, const char **out) {
    struct stat about;
    for (int i = 0; i < names_max; i++) {
        *out = i ? nd_arena_printf(arena, "%s.%d%s", path, i, data_suffix)
                 : nd_arena_printf(arena, "%s%s", path, data_suffix);
        ND_REQUIRE(*out, nd_status_memory, "%s: no memory", path);
        if (lstat(*out, &about)) return nd_status_ok;
    }
    return nd_fail(nd_status_input, "%s: there is something of this name already", *out);
}
