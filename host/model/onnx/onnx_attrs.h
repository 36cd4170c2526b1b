/* The attributes of a node while it is interpreted. Private to onnx_nodes.c, onnx_windows.c and
 * onnx_dynamic.c. */
#ifndef ND_MODEL_ONNX_ATTRS_H
#define ND_MODEL_ONNX_ATTRS_H

#include "model/onnx/onnx_parts.h"

/* One node under way. The first error sticks in `status`; `opaque` says that nd leaves the node alone. */
typedef struct nd_node_reader {
    nd_graph *graph;
    nd_onnx_files *files;
    const Nd__Onnx__Node *proto;
    nd_node *node;
    nd_status status;
    bool opaque;
} nd_node_reader;

/* NULL when it is absent or, an error, of another type than AttributeProto's `type`. */
const Nd__Onnx__Attribute *nd_onnx_attr_find(nd_node_reader *reader, const char *name, int32_t type);

int64_t nd_onnx_attr_int(nd_node_reader *reader, const char *name, int64_t absent);
float nd_onnx_attr_float(nd_node_reader *reader, const char *name, float absent);
bool nd_onnx_attr_text_is(nd_node_reader *reader, const char *name, const char *text);

/* The entries of a list, 0 when it is absent; more than `max` is an error. */
int nd_onnx_attr_ints(nd_node_reader *reader, const char *name, int64_t *list, size_t max);

/* The entry of `names` that an attribute has: 0 when it is absent, -1 when it is none of them. */
int nd_onnx_attr_choice(nd_node_reader *reader, const char *name, const char *const *names, int count);

/* The tensor of attribute 'value', to be freed; false when it is absent. Taken from the bytes of the file
 * rather than from the parser's copy, so that large constants are shared. */
bool nd_onnx_attr_value(nd_node_reader *reader, nd_tensor *out);

/* Input k: its constant, NULL where it has none; whether it is there at all. */
const nd_tensor *nd_onnx_node_constant(const nd_node_reader *reader, int k);
bool nd_onnx_node_has(const nd_node_reader *reader, int k);

/* That no more than `most` inputs are there, and the first `required` of them. */
nd_status nd_onnx_check_inputs(const nd_node_reader *reader, int required, int most);

/* Those of a window over one axis or two, of a pool over two; with any other number a node is left alone. */
void nd_onnx_read_conv(nd_node_reader *reader);
void nd_onnx_read_conv_transpose(nd_node_reader *reader);
void nd_onnx_read_pool(nd_node_reader *reader);

/* A node that is none of nd_op: `dynamic` where run/dynamic/ runs it (onnx_dynamic.c). */
nd_status nd_onnx_interpret_dynamic(nd_node_reader *reader);

#endif
