/* What is in the subgraphs of an If, Loop or Scan: names that they read from the graph around them,
 * convolutions, tensors. */
#include "model/onnx/onnx_parts.h"

#include <stdlib.h>
#include <string.h>

enum { nd_subgraph_depth_max = 32 };

/* A walk over the attributes of a node and all nodes below them. Each visitor may be NULL; that of a node and
 * of an attribute comes before what is inside, that of a graph after its nodes. */
typedef struct walk {
    nd_onnx_visitor *node, *graph, *attribute;
    void *context; /* of the visitors */
    int depth;
} walk;

static nd_status walk_graph(void *context, nd_span graph);

static nd_status walk_attribute(void *context, nd_span attribute) {
    const walk *at = context;
    if (at->attribute) ND_TRY(at->attribute(at->context, attribute));
    ND_TRY(nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graph, walk_graph, context));
    return nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_graphs, walk_graph, context);
}

static nd_status walk_attributes(walk *at, nd_span node) {
    return nd_onnx_each(node, "a node", nd_onnx_node_attribute, walk_attribute, at);
}

static nd_status walk_node(void *context, nd_span node) {
    walk *at = context;
    if (at->node) ND_TRY(at->node(at->context, node));
    return walk_attributes(at, node);
}

static nd_status walk_graph(void *context, nd_span graph) {
    walk *at = context;
    ND_REQUIRE(at->depth < nd_subgraph_depth_max, nd_status_format, "subgraphs nested over %d deep",
               nd_subgraph_depth_max);
    at->depth++;
    nd_status status = nd_onnx_each(graph, "a subgraph", nd_onnx_graph_node, walk_node, at);
    if (!status && at->graph) status = at->graph(at->context, graph);
    at->depth--;
    return status;
}

/* --- names read from outside */

typedef struct captures {
    nd_onnx_name_visitor *visit;
    void *context;
} captures;

static nd_status captures_name(void *context, nd_span text) {
    const captures *to = context;
    if (!text.bytes) return nd_status_ok;
    char *name = strndup((const char *)text.data, text.bytes);
    ND_REQUIRE(name, nd_status_memory, "no memory");
    nd_status status = to->visit(to->context, name);
    free(name);
    return status;
}

static nd_status captures_node(void *context, nd_span node) {
    return nd_onnx_each(node, "a node", nd_onnx_node_input, captures_name, context);
}

static nd_status captures_output(void *context, nd_span info) {
    return captures_name(context, nd_onnx_field(info, nd_onnx_value_info_name));
}

static nd_status captures_graph(void *context, nd_span graph) {
    return nd_onnx_each(graph, "a subgraph", nd_onnx_graph_output, captures_output, context);
}

/* Names are unique across nested scopes (ONNX IR specification), so what a subgraph defines itself is unknown
 * outside and needs no bookkeeping here. */
nd_status nd_onnx_captures(nd_span node, nd_onnx_name_visitor *visit, void *context) {
    captures to = {visit, context};
    return walk_attributes(&(walk){.node = captures_node, .graph = captures_graph, .context = &to}, node);
}

/* --- convolutions */

typedef struct convolutions {
    nd_nested_visitor *visit;
    void *context;
} convolutions;

static nd_status convolutions_node(void *context, nd_span node) {
    const convolutions *to = context;
    const nd_span type = nd_onnx_field(node, nd_onnx_node_op_type),
                  name = nd_onnx_field(node, nd_onnx_node_name);
    char *type_text = strndup(type.bytes ? (const char *)type.data : "", type.bytes);
    char *name_text = strndup(name.bytes ? (const char *)name.data : "", name.bytes);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(type_text && name_text, nd_status_memory, "no memory");
    if (strstr(type_text, "Conv"))
        ND_TRY_DONE(to->visit(to->context, *name_text ? name_text : NULL, type_text));
done:
    free(type_text);
    free(name_text);
    return status;
}

nd_status nd_onnx_nested_convs(const nd_node *node, nd_nested_visitor *visit, void *context) {
    convolutions to = {visit, context};
    if (!node->raw) return nd_status_ok;
    return walk_attributes(&(walk){.node = convolutions_node, .context = &to},
                           (nd_span){node->raw, node->raw_bytes});
}

/* --- tensors */

typedef struct tensors {
    nd_onnx_tensor_visitor *visit;
    void *context;
} tensors;

static nd_status tensors_attribute(void *context, nd_span attribute) {
    const tensors *to = context;
    ND_TRY(nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_tensor_field, to->visit, to->context));
    return nd_onnx_each(attribute, "an attribute", nd_onnx_attribute_tensors, to->visit, to->context);
}

static nd_status tensors_graph(void *context, nd_span graph) {
    const tensors *to = context;
    return nd_onnx_each(graph, "a subgraph", nd_onnx_graph_initializer, to->visit, to->context);
}

nd_status nd_onnx_node_tensors(nd_span node, nd_onnx_tensor_visitor *visit, void *context) {
    tensors to = {visit, context};
    return walk_attributes(&(walk){.graph = tensors_graph, .attribute = tensors_attribute, .context = &to},
                           node);
}
