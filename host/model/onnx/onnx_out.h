/* A model on its way into a file: a list of byte ranges, so that large tensors are written from where they
 * lie. Private to onnx_write.c, onnx_beside.c, onnx_edit.c, onnx_kept.c, onnx_names.c, onnx_pieces.c and
 * onnx_emit.c. */
#ifndef ND_MODEL_ONNX_OUT_H
#define ND_MODEL_ONNX_OUT_H

#include "model/onnx/onnx_parts.h"

/* One message. What is not borrowed lives in the arena of the writer. */
typedef struct nd_pieces {
    nd_arena *arena;
    nd_span *items;
    size_t count, capacity;
    uint64_t bytes;
} nd_pieces;

nd_status nd_pieces_add(nd_pieces *pieces, nd_span span); /* borrowed */
nd_status nd_pieces_add_message(nd_pieces *pieces, uint32_t number, const ProtobufCMessage *message);
nd_status nd_pieces_add_text(nd_pieces *pieces, uint32_t number, const char *text);
nd_status nd_pieces_add_varint(nd_pieces *pieces, uint32_t number, uint64_t value);
/* A message that was built as pieces, as a field of another one. */
nd_status nd_pieces_add_pieces(nd_pieces *pieces, uint32_t number, const nd_pieces *content);

/* The file beside the model, for weights that do not fit into one protobuf message, or lay outside before. */
typedef struct nd_onnx_beside {
    const char *path, *location; /* as the model names it */
    nd_pieces data;
} nd_onnx_beside;

typedef struct nd_onnx_writer {
    const nd_graph *graph;
    nd_arena arena;
    nd_pieces nodes, body, model; /* new initializers go into `body` */
    nd_onnx_beside *external;
    bool outside;     /* large tensors go into the file beside the model */
    nd_buffer **kept; /* what borrowed bytes point into, beside the graph's own */
    size_t n_kept, cap_kept;
} nd_onnx_writer;

nd_status nd_onnx_put_tensor(nd_onnx_writer *writer, const char *name, const nd_tensor *tensor);

/* Puts bytes into the data file, and an initializer that is `proto` with its data there. */
nd_status nd_onnx_put_external(nd_onnx_writer *writer, const Nd__Onnx__Tensor *proto, nd_span bytes);

/* Where the data of a model at `path` go: the first of PATH.data, PATH.1.data and so on that is not there. In
 * the arena. */
nd_status nd_onnx_beside_name(const char *path, nd_arena *arena, const char **out);

/* The file of that kind which the model at `path`, about to be replaced, has its data in; NULL where it has
 * none, or where `graph` was read from another model that has data in it too. In the arena. */
char *nd_onnx_beside_replaced(const nd_graph *graph, const char *path, nd_arena *arena);

/* Removes that file, unless the model that is at `path` by now reads it. NULL is legal. */
void nd_onnx_beside_remove(const char *path, const char *name);

/* Name, type and shape of an input or output; negative dims are left open, the first is called N then. */
nd_status nd_onnx_put_info(nd_pieces *pieces, uint32_t number, const char *name, nd_dtype dtype, int rank,
                           const int64_t *dims);

nd_status nd_onnx_put_meta(nd_onnx_writer *writer, const nd_meta *meta);

/* Whether nd writes the node itself in an opset. */
bool nd_onnx_emits(const nd_graph *graph, const nd_node *node, int64_t opset);
/* Whether its inputs after the first are made anew from its attributes, as the opset that is written wants
 * them. */
bool nd_onnx_remakes_operands(const nd_graph *graph, const nd_node *node);
/* A node that nd made, as a standard operator; its constant operands become initializers. The names are those
 * of its inputs and outputs. */
nd_status nd_onnx_emit(nd_onnx_writer *writer, const nd_node *node, char *const *in, char *const *out);

/* A node as it was read, between values of these names; and what the file says of an input or output (the
 * field `number` of its graph), without bytes where it has none of that name (onnx_kept.c). */
nd_status nd_onnx_put_kept(nd_onnx_writer *writer, const nd_node *node, char *const *in, char *const *out);
nd_span nd_onnx_kept_end(const nd_graph *graph, uint32_t number, const char *name);

bool nd_onnx_is_outside(nd_span tensor); /* the data of a TensorProto lie in another file */

/* The graph of a file with what nd changed in it, into `model`: everything else byte for
 * byte (onnx_edit.c). */
nd_status nd_onnx_put_edited(nd_onnx_writer *writer, const char *path);

#endif
