/* What the subgraphs of an If, Loop or Scan read from the graph around them. */
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
