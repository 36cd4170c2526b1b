/* A model on its way into a file: a list of byte ranges, so that large tensors are written from where they
 * lie. Private to onnx_write.c and onnx_emit.c. */
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
/* A length-delimited field with borrowed content. */
nd_status nd_pieces_add_field(nd_pieces *pieces, uint32_t number, nd_span content);
nd_status nd_pieces_add_message(nd_pieces *pieces, uint32_t number, const ProtobufCMessage *message);

/* Where weights go when the model would pass what one protobuf message may hold: NULL keeps them inside. */
typedef struct nd_onnx_external {
    const char *location; /* as the model names it */
    nd_pieces data;
} nd_onnx_external;

typedef struct nd_onnx_writer {
    const nd_graph *graph;
    nd_arena arena;
    nd_pieces nodes, body, model;
    nd_onnx_external *external;
    const bool *used; /* by value */
} nd_onnx_writer;

nd_status nd_onnx_put_tensor(nd_onnx_writer *writer, const char *name, const nd_tensor *tensor);

/* A node that nd made, as standard operators; its constant operands become initializers. */
nd_status nd_onnx_emit(nd_onnx_writer *writer, const nd_node *node);

#endif
