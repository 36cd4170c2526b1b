/* What the subgraphs of an If, Loop or Scan read from the graph around them, and the convolutions in them. */
#include "model/onnx/onnx_parts.h"

#include <stdlib.h>
#include <string.h>

enum { nd_subgraph_depth_max = 32 };

typedef struct nd_captures {
    nd_onnx_name_visitor *visit;
    void *context;
    int depth;
} nd_captures;

static nd_status captures_attribute(void *context, nd_span attribute);

static nd_status captures_name(void *context, nd_span text) {
    const nd_captures *captures = context;
    if (!text.bytes) return nd_status_ok;
    char *name = strndup((const char *)text.data, text.bytes);
    ND_REQUIRE(name, nd_status_memory, "no memory");
    nd_status status = captures->visit(captures->context, name);
    free(name);
    return status;
}

static nd_status captures_node(void *context, nd_span node) {
    ND_TRY(nd_onnx_each(node, "a node", nd_onnx_node_input, captures_name, context));
    return nd_onnx_each(node, "a node", nd_onnx_node_attribute, captures_attribute, context);
}

static nd_status captures_output(void *context, nd_span info) {
    return captures_name(context, nd_onnx_field(info, nd_onnx_value_info_name));
}

/* Names are unique across nested scopes (ONNX IR specification), so what a subgraph defines itself is unknown
 * outside and needs no bookkeeping here. */
static nd_status captures_graph(void *context, nd_span graph) {
    nd_captures *captures = context;
    ND_REQUIRE(captures->depth < nd_subgraph_depth_max, nd_status_format, "subgraphs nested over %d deep",
               nd_subgraph_depth_max);
    captures->depth++;
    nd_status status = nd_onnx_each(graph, "a subgraph", nd_onnx_graph_node, captures_node, captures);
    if (!status) status = nd_onnx_each(graph, "a subgraph", nd_onnx_graph_output, captures_output, captures);
    captures->depth--;
    return status;
}

static nd_status captures_attribute(void *context, nd_span attribute) {
    ND_TRY(nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graph, captures_graph, context));
    return nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graphs, captures_graph, context);
}

nd_status nd_onnx_captures(nd_span node, nd_onnx_name_visitor *visit, void *context) {
    nd_captures captures = {visit, context, 0};
    return nd_onnx_each(node, "a node", nd_onnx_node_attribute, captures_attribute, &captures);
}

/* --- convolutions inside */

typedef struct nd_nested {
    nd_nested_visitor *visit;
    void *context;
    int depth;
} nd_nested;

static nd_status nested_attribute(void *context, nd_span attribute);

static nd_status nested_node(void *context, nd_span node) {
    const nd_nested *nested = context;
    const nd_span type = nd_onnx_field(node, nd_onnx_node_op_type),
                  name = nd_onnx_field(node, nd_onnx_node_name);
    char *type_text = strndup(type.bytes ? (const char *)type.data : "", type.bytes);
    char *name_text = strndup(name.bytes ? (const char *)name.data : "", name.bytes);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(type_text && name_text, nd_status_memory, "no memory");
    if (strstr(type_text, "Conv"))
        ND_TRY_DONE(nested->visit(nested->context, *name_text ? name_text : NULL, type_text));
    ND_TRY_DONE(nd_onnx_each(node, "a node", nd_onnx_node_attribute, nested_attribute, context));
done:
    free(type_text);
    free(name_text);
    return status;
}

static nd_status nested_graph(void *context, nd_span graph) {
    nd_nested *nested = context;
    ND_REQUIRE(nested->depth < nd_subgraph_depth_max, nd_status_format, "subgraphs nested over %d deep",
               nd_subgraph_depth_max);
    nested->depth++;
    const nd_status status = nd_onnx_each(graph, "a subgraph", nd_onnx_graph_node, nested_node, nested);
    nested->depth--;
    return status;
}

static nd_status nested_attribute(void *context, nd_span attribute) {
    ND_TRY(nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graph, nested_graph, context));
    return nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graphs, nested_graph, context);
}

nd_status nd_onnx_nested_convs(const nd_node *node, nd_nested_visitor *visit, void *context) {
    nd_nested nested = {visit, context, 0};
    if (!node->raw) return nd_status_ok;
    return nd_onnx_each((nd_span){node->raw, node->raw_bytes}, "a node", nd_onnx_node_attribute,
                        nested_attribute, &nested);
}

/* --- tensors inside */

typedef struct nd_tensors {
    nd_onnx_tensor_visitor *visit;
    void *context;
    int depth;
} nd_tensors;

static nd_status tensors_attribute(void *context, nd_span attribute);

static nd_status tensors_one(void *context, nd_span tensor) {
    const nd_tensors *tensors = context;
    return tensors->visit(tensors->context, tensor);
}

static nd_status tensors_node(void *context, nd_span node) {
    return nd_onnx_each(node, "a node", nd_onnx_node_attribute, tensors_attribute, context);
}

static nd_status tensors_graph(void *context, nd_span graph) {
    nd_tensors *tensors = context;
    ND_REQUIRE(tensors->depth < nd_subgraph_depth_max, nd_status_format, "subgraphs nested over %d deep",
               nd_subgraph_depth_max);
    tensors->depth++;
    nd_status status = nd_onnx_each(graph, "a subgraph", nd_onnx_graph_node, tensors_node, tensors);
    if (!status) status = nd_onnx_each(graph, "a subgraph", nd_onnx_graph_initializer, tensors_one, tensors);
    tensors->depth--;
    return status;
}

static nd_status tensors_attribute(void *context, nd_span attribute) {
    ND_TRY(nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_tensor_field, tensors_one, context));
    ND_TRY(nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_tensors, tensors_one, context));
    ND_TRY(nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graph, tensors_graph, context));
    return nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graphs, tensors_graph, context);
}

nd_status nd_onnx_node_tensors(nd_span node, nd_onnx_tensor_visitor *visit, void *context) {
    nd_tensors tensors = {visit, context, 0};
    return tensors_node(&tensors, node);
}
