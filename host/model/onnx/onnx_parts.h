/* What the files of the ONNX reader and writer share. Private to onnx*.c. Messages leave out the file, which
 * nd_onnx_parse puts before them. */
#ifndef ND_MODEL_ONNX_PARTS_H
#define ND_MODEL_ONNX_PARTS_H

#include "model/model.h"
#include "model/onnx/onnx_subset.pb-c.h"
#include "model/onnx/onnx_wire.h"

/* Field numbers of the messages that are parsed by hand (ONNX IR specification). */
enum {
    nd_onnx_model_ir_version = 1,
    nd_onnx_model_producer = 2,
    nd_onnx_model_graph = 7,
    nd_onnx_model_opset = 8,
    nd_onnx_model_metadata = 14,
    nd_onnx_graph_node = 1,
    nd_onnx_graph_name = 2,
    nd_onnx_graph_initializer = 5,
    nd_onnx_graph_input = 11,
    nd_onnx_graph_output = 12,
    nd_onnx_graph_value_info = 13,
    nd_onnx_graph_quantization = 14,
    nd_onnx_graph_sparse = 15,
    nd_onnx_node_input = 1,
    nd_onnx_node_output = 2,
    nd_onnx_node_name = 3,
    nd_onnx_node_op_type = 4,
    nd_onnx_node_domain = 7,
    nd_onnx_node_attribute = 5,
    nd_onnx_attribute_name = 1,
    nd_onnx_attribute_tensor_field = 5,
    nd_onnx_attribute_tensors = 10,
    nd_onnx_attribute_graph = 6,
    nd_onnx_attribute_graphs = 11,
    nd_onnx_tensor_type = 2,
    nd_onnx_tensor_raw = 9,
    nd_onnx_tensor_external = 13,
    nd_onnx_tensor_location = 14,
    nd_onnx_tensor_name = 8,
    nd_onnx_sparse_values = 1,
    nd_onnx_value_info_name = 1,
    nd_onnx_annotation_tensor = 1,
    nd_onnx_entry_key = 1,
    nd_onnx_entry_value = 2,
};

/* Attribute types (AttributeProto.AttributeType). */
enum {
    nd_onnx_attribute_float = 1,
    nd_onnx_attribute_int = 2,
    nd_onnx_attribute_string = 3,
    nd_onnx_attribute_tensor = 4,
    nd_onnx_attribute_floats = 6,
    nd_onnx_attribute_ints = 7,
    nd_onnx_attribute_strings = 8,
};

enum { nd_onnx_opset_min = 7, nd_onnx_opset_known = 20 };

/* The bytes a model consists of: the file, and the one external file used last. */
typedef struct nd_onnx_files {
    nd_buffer *bytes;
    const char *folder; /* NULL refuses external data */
    char *external_name;
    nd_buffer *external;
} nd_onnx_files;

/* Calls `visit` for the content of every field `number`, which must be length-delimited; stops at the first
 * failure. `what` names the message in errors. */
typedef nd_status nd_onnx_visitor(void *context, nd_span content);
nd_status nd_onnx_each(nd_span message, const char *what, uint32_t number, nd_onnx_visitor *visit,
                       void *context);

/* The content of the last field `number` (the one that counts); empty when absent or broken. */
nd_span nd_onnx_field(nd_span message, uint32_t number);

/* A TensorProto. Its data is shared with the file where the file aligns it for its type.
 * nd_status_unsupported names a type nd has no tensors of. */
nd_status nd_onnx_tensor(nd_onnx_files *files, nd_span message, nd_tensor *out);

/* Every TensorProto in the attributes of a node and in its subgraphs. */
typedef nd_status nd_onnx_tensor_visitor(void *context, nd_span tensor);
nd_status nd_onnx_node_tensors(nd_span node, nd_onnx_tensor_visitor *visit, void *context);

/* The bytes of a TensorProto whose data lie outside, in files->external. `bytes` is how many there should be,
 * -1 when nobody knows. */
nd_status nd_onnx_external(nd_onnx_files *files, const Nd__Onnx__Tensor *proto, int64_t bytes, nd_span *out);

int32_t nd_onnx_dtype_code(nd_dtype dtype); /* TensorProto.DataType */
/* The element type of a TensorProto that nd does not read, as ONNX calls it. */
const char *nd_onnx_unread_type(nd_span tensor);
bool nd_onnx_dtype_find(int32_t code, nd_dtype *dtype); /* false when nd has no such type */

/* Interprets a node that has its inputs, outputs and raw bytes: sets op and attr, or leaves it opaque. */
nd_status nd_onnx_interpret(nd_graph *graph, nd_onnx_files *files, const Nd__Onnx__Node *proto,
                            nd_node *node);

/* The letters of an Einsum's equation into the lists of `attr`. False where nd does not run it: an
 * ellipsis, a letter twice in one operand, an axis that is summed in one operand alone. */
bool nd_onnx_einsum(const char *text, nd_attr *attr);

/* Calls `visit` with every name that the subgraphs of a NodeProto read and do not define. */
typedef nd_status nd_onnx_name_visitor(void *context, const char *name);
nd_status nd_onnx_captures(nd_span node, nd_onnx_name_visitor *visit, void *context);

#endif
