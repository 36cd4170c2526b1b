#include "model/onnx/onnx_attrs.h"

#include <string.h>

const Nd__Onnx__Attribute *nd_onnx_attr_find(nd_node_reader *reader, const char *name, int32_t type) {
    for (size_t i = 0; i < reader->proto->n_attribute; i++) {
        const Nd__Onnx__Attribute *attribute = reader->proto->attribute[i];
        if (!attribute->name || strcmp(attribute->name, name)) continue;
        if (!attribute->has_type || attribute->type == type) return attribute;
        if (!reader->status)
            reader->status = nd_fail(nd_status_format, "attribute '%s' is of type %d, not %d", name,
                                     attribute->type, type);
        return NULL;
    }
    return NULL;
}

int64_t nd_onnx_attr_int(nd_node_reader *reader, const char *name, int64_t absent) {
    const Nd__Onnx__Attribute *attribute = nd_onnx_attr_find(reader, name, nd_onnx_attribute_int);
    return attribute ? attribute->i : absent;
}

float nd_onnx_attr_float(nd_node_reader *reader, const char *name, float absent) {
    const Nd__Onnx__Attribute *attribute = nd_onnx_attr_find(reader, name, nd_onnx_attribute_float);
    return attribute ? attribute->f : absent;
}

bool nd_onnx_attr_text_is(nd_node_reader *reader, const char *name, const char *text) {
    const Nd__Onnx__Attribute *attribute = nd_onnx_attr_find(reader, name, nd_onnx_attribute_string);
    return attribute && nd_span_is((nd_span){attribute->s.data, attribute->s.len}, text);
}

int nd_onnx_attr_ints(nd_node_reader *reader, const char *name, int64_t *list, size_t max) {
    const Nd__Onnx__Attribute *attribute = nd_onnx_attr_find(reader, name, nd_onnx_attribute_ints);
    if (!attribute) return 0;
    if (attribute->n_ints > max) {
        if (!reader->status)
            reader->status = nd_fail(nd_status_format, "attribute '%s' has %zu entries, at most %zu", name,
                                     attribute->n_ints, max);
        return 0;
    }
    for (size_t i = 0; i < attribute->n_ints; i++) list[i] = attribute->ints[i];
    return (int)attribute->n_ints;
}

const nd_tensor *nd_onnx_node_constant(const nd_node_reader *reader, int k) {
    return nd_graph_constant(reader->graph, reader->node, k);
}

bool nd_onnx_node_has(const nd_node_reader *reader, int k) {
    return k < reader->node->n_in && reader->node->in[k] >= 0;
}

int nd_onnx_attr_choice(nd_node_reader *reader, const char *name, const char *const *names, int count) {
    if (!nd_onnx_attr_find(reader, name, nd_onnx_attribute_string)) return 0;
    for (int i = 0; i < count; i++)
        if (nd_onnx_attr_text_is(reader, name, names[i])) return i;
    return -1;
}

bool nd_onnx_attr_value(nd_node_reader *reader, nd_tensor *out) {
    *out = (nd_tensor){0};
    if (!nd_onnx_attr_find(reader, "value", nd_onnx_attribute_tensor) || reader->status) return false;
    nd_span rest = {reader->node->raw, reader->node->raw_bytes}, tensor = {0};
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);) {
        if (field.number != nd_onnx_node_attribute) continue;
        const nd_span name = nd_onnx_field(field.content, nd_onnx_attribute_name);
        if (nd_span_is(name, "value")) tensor = nd_onnx_field(field.content, nd_onnx_attribute_tensor_field);
    }
    const nd_status status = nd_onnx_tensor(reader->files, tensor, out);
    if (status == nd_status_unsupported)
        reader->opaque = true;
    else if (status)
        reader->status = nd_fail_in(status, "attribute 'value'");
    return !status;
}

nd_status nd_onnx_check_inputs(const nd_node_reader *reader, int required, int most) {
    const nd_node *node = reader->node;
    ND_REQUIRE(node->n_in <= most, nd_status_format, "%d inputs, at most %d", node->n_in, most);
    for (int k = 0; k < required; k++)
        ND_REQUIRE(nd_onnx_node_has(reader, k), nd_status_format, "input %d is missing", k);
    return nd_status_ok;
}
