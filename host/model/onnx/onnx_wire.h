/* An iterator over the fields of a protobuf message without parsing what they hold (Protocol Buffers
 * encoding: varint key = number << 3 | type). Points into the message; private to onnx*.c. */
#ifndef ND_MODEL_ONNX_WIRE_H
#define ND_MODEL_ONNX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nd_span {
    const uint8_t *data;
    size_t bytes;
} nd_span;

/* An absent field is a span without bytes, whose data is NULL: it equals the empty text. */
bool nd_span_equal(nd_span a, nd_span b);
bool nd_span_is(nd_span span, const char *text);

typedef enum nd_wire_type {
    nd_wire_type_varint = 0,
    nd_wire_type_fixed64 = 1,
    nd_wire_type_bytes = 2, /* length-delimited: texts, bytes, messages, packed lists */
    nd_wire_type_fixed32 = 5,
} nd_wire_type;

typedef struct nd_wire_field {
    uint32_t number;
    nd_wire_type type;
    uint64_t varint; /* of a varint field */
    nd_span content; /* of a bytes field */
    nd_span whole;   /* key and all, to be copied as it is */
} nd_wire_field;

/* Takes the first field off *rest. false at the end and where the encoding is broken: then *broken is set,
 * and field->number as far as it could be read. */
bool nd_wire_next(nd_span *rest, nd_wire_field *field, bool *broken);

enum { nd_wire_varint_max = 10 };
size_t nd_wire_put_varint(uint8_t *out, uint64_t value); /* bytes written */

/* The key and length in front of a bytes field; `out` has room for 2 * nd_wire_varint_max. */
size_t nd_wire_put_header(uint8_t *out, uint32_t number, uint64_t length);

#endif
