#include "model/onnx/onnx_parts.h"

#include <string.h>

bool nd_span_equal(nd_span a, nd_span b) {
    return a.bytes == b.bytes && (!a.bytes || !memcmp(a.data, b.data, a.bytes));
}

bool nd_span_is(nd_span span, const char *text) {
    return nd_span_equal(span, (nd_span){(const uint8_t *)text, strlen(text)});
}

static bool wire_take(nd_span *rest, size_t bytes) {
    if (bytes > rest->bytes) return false;
    rest->data += bytes;
    rest->bytes -= bytes;
    return true;
}

static bool wire_varint(nd_span *rest, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (!rest->bytes) return false;
        const uint8_t byte = rest->data[0];
        wire_take(rest, 1);
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

static bool wire_content(nd_span *rest, nd_wire_field *field) {
    uint64_t length;
    switch (field->type) {
    case nd_wire_type_varint:
        return wire_varint(rest, &field->varint);
    case nd_wire_type_fixed64:
        return wire_take(rest, 8);
    case nd_wire_type_fixed32:
        return wire_take(rest, 4);
    case nd_wire_type_bytes:
        if (!wire_varint(rest, &length) || length > rest->bytes) return false;
        field->content = (nd_span){rest->data, (size_t)length};
        return wire_take(rest, (size_t)length);
    }
    return false; /* groups have been out of use since before ONNX */
}

bool nd_wire_next(nd_span *rest, nd_wire_field *field, bool *broken) {
    if (!rest->bytes) return false;
    const uint8_t *start = rest->data;
    uint64_t key;
    *field = (nd_wire_field){0};
    *broken = true;
    if (!wire_varint(rest, &key) || key >> 3 == 0 || key >> 3 > 536870911) return false;
    field->number = (uint32_t)(key >> 3);
    field->type = (nd_wire_type)(key & 7);
    if (!wire_content(rest, field)) return false;
    field->whole = (nd_span){start, (size_t)(rest->data - start)};
    *broken = false;
    return true;
}

size_t nd_wire_put_varint(uint8_t *out, uint64_t value) {
    size_t bytes = 0;
    for (; value >= 128; value >>= 7) out[bytes++] = (uint8_t)(value | 128);
    out[bytes++] = (uint8_t)value;
    return bytes;
}

size_t nd_wire_put_header(uint8_t *out, uint32_t number, uint64_t length) {
    const size_t key = nd_wire_put_varint(out, (uint64_t)number << 3 | nd_wire_type_bytes);
    return key + nd_wire_put_varint(out + key, length);
}

nd_status nd_onnx_each(nd_span message, const char *what, uint32_t number, nd_onnx_visitor *visit,
                       void *context) {
    const uint8_t *const start = message.data, *at = start;
    nd_wire_field field;
    for (bool broken = false;; at = message.data) {
        if (!nd_wire_next(&message, &field, &broken)) {
            ND_REQUIRE(!broken, nd_status_format, "%s is cut short or malformed: field %u at byte %zu", what,
                       field.number, (size_t)(at - start));
            return nd_status_ok;
        }
        if (field.number != number) continue;
        ND_REQUIRE(field.type == nd_wire_type_bytes, nd_status_format,
                   "%s: field %u at byte %zu is of another type", what, number, (size_t)(at - start));
        ND_TRY(visit(context, field.content));
    }
}

nd_span nd_onnx_field(nd_span message, uint32_t number) {
    nd_span found = {0};
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&message, &field, &broken);)
        if (field.number == number && field.type == nd_wire_type_bytes) found = field.content;
    return found;
}
