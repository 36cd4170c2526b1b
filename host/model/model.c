#include "model/model.h"

#include "base/file.h"
#include "model/zoo/zoo.h"

#include <string.h>

static bool ends_with(const char *text, const char *suffix) {
    const size_t length = strlen(text), tail = strlen(suffix);
    return length >= tail && !strcmp(text + length - tail, suffix);
}

static nd_status model_read(const char *spec, nd_graph **out) {
    if (ends_with(spec, ".onnx")) return nd_onnx_read(spec, out);
    if (!strcmp(spec, "glyphs")) {
        char path[4096];
        ND_TRY(nd_file_bundled("glyphs/glyphs.onnx", path, sizeof path));
        return nd_onnx_read(path, out);
    }
    const char *colon = strchr(spec, ':');
    if (!colon) {
        ND_REQUIRE(nd_zoo_find(spec), nd_status_usage,
                   "'%s' is no model: expected file.onnx, ARCH:weights.safetensors, an architecture that "
                   "`nd zoo` lists, or glyphs",
                   spec);
        return nd_zoo_open(spec, NULL, out);
    }
    char arch[64];
    const size_t length = (size_t)(colon - spec);
    ND_REQUIRE(length < sizeof arch, nd_status_usage, "'%s': the name before ':' is no architecture", spec);
    memcpy(arch, spec, length);
    arch[length] = '\0';
    return nd_zoo_open(arch, colon + 1, out);
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
