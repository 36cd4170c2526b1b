/* Models in and out.
 *
 * MODEL is one of
 *   file.onnx      ONNX, opset 11 to 20
 *   ARCH:weights   a zoo architecture (model/zoo/zoo.h) with the weights of a safetensors file or a PyTorch
 *                  checkpoint (.pth, .pt, .th) under torchvision's or timm's names
 *   ARCH           the architecture with seeded random weights (He initialisation, seed 1)
 *   glyphs         the bundled demo network
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
/* nd_status_usage where nd_model_save knows no format of that name: to be asked before long work,
 * not after. */
nd_status nd_model_can_save(const char *path);

nd_status nd_onnx_read(const char *path, nd_graph **out);
/* `folder` resolves external data (NULL: refused); `name` goes into messages. The graph keeps a reference to
 * `bytes`, which its weights and nodes point into. */
nd_status nd_onnx_parse(nd_buffer *bytes, const char *folder, const char *name, nd_graph **out);
nd_status nd_onnx_write(const nd_graph *graph, const char *path);

/* From here on the graph is written anew in `opset`, and not as its file with what nd changed. Nodes that nd
 * does not write itself keep their bytes: those whose operators are there what they were in the file, or all
 * in the opset of the file, where that is 13 at least, or `opset` where that is asked for beyond 17.
 * nd_status_unsupported names a node that neither way has. */
nd_status nd_onnx_anew(nd_graph *graph, int64_t opset);

/* The convolutions inside the subgraphs of a node that is kept as bytes (If, Loop, Scan), which nd does not
 * touch: their names (NULL where they have none) and operators. */
typedef nd_status nd_nested_visitor(void *context, const char *name, const char *op_type);
nd_status nd_onnx_nested_convs(const nd_node *node, nd_nested_visitor *visit, void *context);

/* A branch of an If ("then_branch", "else_branch") or the body of a Loop ("body") as a graph of its own that
 * shares the file's bytes. Its inputs are those it declares, *declared of them, and then what it reads from
 * the graph around it, by their names there, of unknown shape; what is constant there is constant in it. */
nd_status nd_onnx_branch(const nd_graph *graph, const nd_node *node, const char *attribute, nd_graph **out,
                         int *declared);

/* Weights by name, of a file that has no network in it. */
typedef struct nd_state_dict {
    struct nd_state_dict_entry {
        const char *name;
        nd_tensor tensor; /* of any type; may share its bytes with others */
    } * entries;          /* sorted by name */
    size_t n_entries;
    nd_meta *meta; /* of safetensors */
    size_t n_meta;
    nd_arena arena;
} nd_state_dict;

/* Told apart by content, whatever the name: safetensors, or a checkpoint. Anything else is named as what it
 * is. */
nd_status nd_state_dict_read(const char *path, nd_state_dict *out);
const nd_tensor *nd_state_dict_find(const nd_state_dict *file, const char *name); /* NULL when absent */
void nd_state_dict_free(nd_state_dict *file);

/* Data point into `bytes`, which the tensors keep a reference to. `name` goes into messages. */
nd_status nd_safetensors_parse(nd_buffer *bytes, const char *name, nd_state_dict *out);
/* What torch.save wrote, since PyTorch 0.4: a zip archive or the older sequence of pickles. Of a training
 * checkpoint the state dict is taken, which lies under "state_dict", "model" or the like. No code of the file
 * is run: a global beyond the few that tensors are written with is nd_status_unsupported. */
nd_status nd_checkpoint_parse(nd_buffer *bytes, const char *name, nd_state_dict *out);
/* Every initializer of the graph under its value name, and the graph's metadata. */
nd_status nd_safetensors_write(const nd_graph *graph, const char *path);

#pragma GCC visibility pop

#endif
