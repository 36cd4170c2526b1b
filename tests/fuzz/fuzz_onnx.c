/* Any bytes as an ONNX file: parsed, inferred, folded. What could be parsed is written, and must
 * parse again. */
#include "base/log.h"
#include "model/infer/infer.h"
#include "model/model.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fuzz_release(nd_buffer *buffer) {
    free(buffer->data);
}

static void fuzz_log(void *user, nd_log_level level, const char *message) {
    (void)user, (void)level, (void)message;
}

/* Exactly `size` bytes, so that reading past them is seen. */
static nd_buffer *fuzz_buffer(const uint8_t *data, size_t size) {
    nd_buffer *buffer = calloc(1, sizeof *buffer);
    void *copy = malloc(size ? size : 1);
    if (!buffer || !copy) abort();
    if (size) memcpy(copy, data, size);
    *buffer = (nd_buffer){.data = copy, .bytes = size, .release = fuzz_release, .references = 1};
    return buffer;
}

static void fuzz_rewrite(const nd_graph *graph) {
    static char path[64];
    if (!*path) snprintf(path, sizeof path, P_tmpdir "/fuzz_onnx.%ld.onnx", (long)getpid());
    nd_graph *again;
    if (nd_onnx_write(graph, path)) return;
    if (nd_onnx_read(path, &again)) {
        fprintf(stderr, "written, but not readable: %s\n", nd_error());
        abort();
    }
    nd_graph_free(again);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nd_log_set(fuzz_log, NULL);
    nd_buffer *bytes = fuzz_buffer(data, size);
    nd_graph *graph;
    nd_status status = nd_onnx_parse(bytes, NULL, "fuzz.onnx", &graph);
    nd_buffer_unref(bytes);
    if (status) return 0;
    const nd_infer_settings settings = {.batch = 2, .height = 32, .width = 32, .allow_opaque = data[0] & 1};
    fuzz_rewrite(graph);
    status = nd_graph_infer(graph, &settings);
    if (!status) status = nd_graph_fold(graph);
    if (!status) status = nd_graph_infer(graph, &settings);
    if (!status) fuzz_rewrite(graph);
    nd_graph_free(graph);
    return 0;
}
