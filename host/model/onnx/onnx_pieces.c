#include "model/onnx/onnx_out.h"

#include <string.h>

nd_status nd_pieces_add(nd_pieces *pieces, nd_span span) {
    nd_span *items = nd_array_grow(pieces->items, pieces->count, &pieces->capacity, sizeof *items);
    ND_REQUIRE(items, nd_status_memory, "no memory to write a model");
    pieces->items = items;
    pieces->items[pieces->count++] = span;
    pieces->bytes += span.bytes;
    return nd_status_ok;
}

/* A length-delimited field with borrowed content. */
static nd_status pieces_add_field(nd_pieces *pieces, uint32_t number, nd_span content) {
    uint8_t *header = nd_arena_alloc(pieces->arena, 2 * nd_wire_varint_max);
    ND_REQUIRE(header, nd_status_memory, "no memory to write a model");
    ND_TRY(nd_pieces_add(pieces, (nd_span){header, nd_wire_put_header(header, number, content.bytes)}));
    return nd_pieces_add(pieces, content);
}

nd_status nd_pieces_add_message(nd_pieces *pieces, uint32_t number, const ProtobufCMessage *message) {
    const size_t bytes = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = nd_arena_alloc(pieces->arena, bytes);
    ND_REQUIRE(packed, nd_status_memory, "no memory to write a model");
    protobuf_c_message_pack(message, packed);
    return pieces_add_field(pieces, number, (nd_span){packed, bytes});
}

nd_status nd_pieces_add_varint(nd_pieces *pieces, uint32_t number, uint64_t value) {
    uint8_t *bytes = nd_arena_alloc(pieces->arena, 2 * nd_wire_varint_max);
    ND_REQUIRE(bytes, nd_status_memory, "no memory to write a model");
    size_t used = nd_wire_put_varint(bytes, (uint64_t)number << 3 | nd_wire_type_varint);
    used += nd_wire_put_varint(bytes + used, value);
    return nd_pieces_add(pieces, (nd_span){bytes, used});
}

nd_status nd_pieces_add_text(nd_pieces *pieces, uint32_t number, const char *text) {
    return pieces_add_field(pieces, number, (nd_span){(const uint8_t *)text, strlen(text)});
}

nd_status nd_pieces_add_pieces(nd_pieces *pieces, uint32_t number, const nd_pieces *content) {
    uint8_t *header = nd_arena_alloc(pieces->arena, 2 * nd_wire_varint_max);
    ND_REQUIRE(header, nd_status_memory, "no memory to write a model");
    ND_TRY(nd_pieces_add(pieces, (nd_span){header, nd_wire_put_header(header, number, content->bytes)}));
    for (size_t i = 0; i < content->count; i++) ND_TRY(nd_pieces_add(pieces, content->items[i]));
    return nd_status_ok;
}
