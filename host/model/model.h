/* Models in and out.
 *
 * MODEL is one of
 *   file.onnx                    ONNX, opset 11 to 20
 *   ARCH:weights.safetensors     a zoo architecture (model/zoo/zoo.h) with torchvision/timm state-dict names
 *   ARCH                         the architecture with seeded random weights (He initialisation, seed 1)
 *   glyphs                       the bundled demo network
 * Errors name the file and the field, tensor or node. */
#ifndef ND_MODEL_MODEL_H
#define ND_MODEL_MODEL_H

#include "model/graph.h"

#pragma GCC visibility push(default)

nd_status nd_model_open(const char *spec, nd_graph **out);

/* nd_status_format naming the layer where a weight of Conv, Gemm, MatMul or BatchNormalization is NaN or
 * infinite, or one of the first three so large that its square leaves fp32. nd_model_open asks, and
 * nd_graph_fold of what folding made. */
nd_status nd_model_check_weights(const nd_graph *graph);

/* By extension: .onnx or .safetensors. Standard operators only. Replaces the file as a whole. ONNX files over
 * 2 GiB put their weights into `path`.data beside it. */
nd_status nd_model_save(const nd_graph *graph, const char *path);
/* nd_status_usage where nd_model_save knows no format of that name: to be asked before long work, not after.
 */
nd_status nd_model_can_save(const char *path);

nd_status nd_onnx_read(const char *path, nd_graph **out);
/* `folder` resolves external data (NULL: refused); `name` goes into messages. The graph keeps a reference to
 * `bytes`, which its weights and nodes point into. */
nd_status nd_onnx_parse(nd_buffer *bytes, const char *folder, const char *name, nd_graph **out);
nd_status nd_onnx_write(const nd_graph *graph, const char *path);

/* A safetensors file: names, dtypes, shapes and data that point into the mapping. */
typedef struct nd_safetensors {
    struct nd_safetensors_entry {
        const char *name;
        nd_tensor tensor;
    } * entries; /* sorted by name */
    size_t n_entries;
    nd_meta *meta;
    size_t n_meta;
    nd_arena arena;
} nd_safetensors;

nd_status nd_safetensors_read(const char *path, nd_safetensors *out);
nd_status nd_safetensors_parse(nd_buffer *bytes, const char *name, nd_safetensors *out);
const nd_tensor *nd_safetensors_find(const nd_safetensors *file, const char *name); /* NULL when absent */
void nd_safetensors_free(nd_safetensors *file);
/* Every initializer of the graph under its value name, and the graph's metadata. */
nd_status nd_safetensors_write(const nd_graph *graph, const char *path);

#pragma GCC visibility pop

#endif
