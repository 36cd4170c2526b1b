#include "model/model.h"

#include "base/files/file.h"
#include "base/format/kind.h"
#include "model/zoo/zoo.h"

#include <string.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *suffix) {
    const size_t length = strlen(text), tail = strlen(suffix);
    return length >= tail && !strcmp(text + length - tail, suffix);
}

/* A file by itself: an ONNX model whatever its name, and anything else called what it is. */
static nd_status model_read_file(const char *path, nd_graph **out) {
    nd_buffer *bytes;
    const char *text;
    ND_TRY(nd_file_map(path, &bytes));
    const nd_file_kind kind = nd_file_kind_of(bytes->data, bytes->bytes, &text);
    nd_status status = nd_status_ok;
    if (kind == nd_file_safetensors || kind == nd_file_zip || kind == nd_file_pickle)
        status =
            nd_fail(nd_status_format,
                    "%s: %s: weights without their network; say which it is, ARCH:%s (`nd zoo` lists them)",
                    path, text, path);
    else if (kind == nd_file_other)
        status = nd_fail(nd_status_format, "%s: %s; expected an ONNX model", path, text);
    nd_buffer_unref(bytes);
    return status ? status : nd_onnx_read(path, out);
}

static nd_status model_read(const char *spec, nd_graph **out) {
    if (!strcmp(spec, "glyphs")) {
        char path[4096];
        ND_TRY(nd_file_bundled("glyphs/glyphs.onnx", path, sizeof path));
        return nd_onnx_read(path, out);
    }
    if (nd_zoo_find(spec)) return nd_zoo_open(spec, NULL, out);
    const char *colon = strchr(spec, ':');
    char arch[64] = "";
    if (colon && (size_t)(colon - spec) < sizeof arch) memcpy(arch, spec, (size_t)(colon - spec));
    if (nd_zoo_find(arch)) return nd_zoo_open(arch, colon + 1, out);
    if (ends_with(spec, ".onnx") || access(spec, F_OK) == 0) return model_read_file(spec, out);
    ND_REQUIRE(!colon, nd_status_usage, "no architecture '%.*s'; `nd zoo` lists those there are",
               (int)(colon - spec < 100 ? colon - spec : 100), spec);
    return nd_fail(
        nd_status_usage,
        "'%s' is no model: expected file.onnx, ARCH:weights (safetensors, or a PyTorch checkpoint), an "
        "architecture that `nd zoo` lists, or glyphs",
        spec);
}

nd_status nd_model_open(const char *spec, nd_graph **out) {
    *out = NULL;
    ND_TRY(model_read(spec, out));
    if (nd_zoo_find(spec)) return nd_status_ok; /* made up */
    const nd_status status = nd_model_check_weights(*out);
    if (!status) return nd_status_ok;
    nd_graph_free(*out);
    *out = NULL;
    return nd_fail_in(status, "%s", spec);
}

nd_status nd_model_can_save(const char *path) {
    ND_REQUIRE(ends_with(path, ".onnx") || ends_with(path, ".safetensors"), nd_status_usage,
               "%s: the name must end in .onnx or .safetensors", path);
    return nd_status_ok;
}

nd_status nd_model_save(const nd_graph *graph, const char *path) {
    ND_TRY(nd_model_can_save(path));
    return ends_with(path, ".onnx") ? nd_onnx_write(graph, path) : nd_safetensors_write(graph, path);
}
