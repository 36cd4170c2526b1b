/* ONNX files in the making, byte by byte, for tests of the reader and of the writer. */
#ifndef ND_TEST_ONNX_HELP_H
#define ND_TEST_ONNX_HELP_H

#include "base/files/file.h"
#include "model/model.h"
#include "model/onnx/onnx_wire.h"
#include "tests/unit/help/graph_help.h"

#include <stdio.h>
#include <unistd.h>

/* A protobuf message in the making. */
typedef struct nd_message {
    uint8_t bytes[4096];
    size_t used;
} nd_message;

static inline void put(nd_message *message, uint32_t number, const void *data, size_t bytes) {
    uint8_t header[2 * nd_wire_varint_max];
    const size_t head = nd_wire_put_header(header, number, bytes);
    cr_assert_leq(message->used + head + bytes, sizeof message->bytes);
    memcpy(message->bytes + message->used, header, head);
    if (bytes) memcpy(message->bytes + message->used + head, data, bytes);
    message->used += head + bytes;
}

static inline void put_text(nd_message *message, uint32_t number, const char *text) {
    put(message, number, text, strlen(text));
}

static inline void put_message(nd_message *message, uint32_t number, const nd_message *content) {
    put(message, number, content->bytes, content->used);
}

static inline void put_int(nd_message *message, uint32_t number, uint64_t value) {
    message->used += nd_wire_put_varint(message->bytes + message->used, (uint64_t)number << 3);
    message->used += nd_wire_put_varint(message->bytes + message->used, value);
}

/* Field numbers of TensorProto. */
enum { dims_field = 1, type_field = 2, floats_field = 4, int32s_field = 5, int64s_field = 7, name_field = 8 };
enum { raw_field = 9, doubles_field = 10, uint64s_field = 11, external_field = 13, location_field = 14 };

static inline nd_message tensor_head(const char *name, int32_t type, int64_t count) {
    nd_message tensor = {.used = 0};
    put_int(&tensor, dims_field, (uint64_t)count);
    put_int(&tensor, type_field, (uint64_t)type);
    put_text(&tensor, name_field, name);
    return tensor;
}

static inline nd_message node(const char *op, const char *in, const char *second, const char *out) {
    nd_message proto = {.used = 0};
    if (in) put_text(&proto, 1, in);
    if (second) put_text(&proto, 1, second);
    put_text(&proto, 2, out);
    put_text(&proto, 4, op);
    return proto;
}

static inline nd_message value_info(const char *name, int rank, const int64_t *sizes) {
    nd_message info = {.used = 0}, type = {.used = 0}, tensor = {.used = 0}, shape = {.used = 0};
    for (int i = 0; i < rank; i++) {
        nd_message dim = {.used = 0};
        put_int(&dim, 1, (uint64_t)sizes[i]);
        put_message(&shape, 1, &dim);
    }
    put_int(&tensor, 1, 1);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&info, 1, name);
    put_message(&info, 2, &type);
    return info;
}

/* A model around a graph that reads x and writes y. */
static inline nd_message model(nd_message graph, int64_t opset) {
    nd_message whole = {.used = 0}, version = {.used = 0};
    const nd_message x = value_info("x", 2, (int64_t[]){2, 4}), y = value_info("y", 0, NULL);
    put_message(&graph, 11, &x);
    put_message(&graph, 12, &y);
    put_int(&version, 2, (uint64_t)opset);
    put_int(&whole, 1, 8);
    put_message(&whole, 8, &version);
    put_message(&whole, 7, &graph);
    return whole;
}

static inline nd_status parse_bytes(const void *bytes, size_t size, const char *folder, nd_graph **graph) {
    nd_buffer *buffer;
    cr_assert_eq(nd_buffer_new(size, &buffer), nd_status_ok);
    if (size) memcpy(buffer->data, bytes, size);
    nd_status status = nd_onnx_parse(buffer, folder, "m.onnx", graph);
    nd_buffer_unref(buffer);
    return status;
}

static inline nd_status parse(const nd_message *whole, const char *folder, nd_graph **graph) {
    return parse_bytes(whole->bytes, whole->used, folder, graph);
}

/* y = Add(x, w), with w as given. */
static inline nd_status parse_with(const nd_message *tensor, const char *folder, nd_graph **graph) {
    nd_message body = {.used = 0};
    const nd_message add = node("Add", "x", "w", "y");
    put_message(&body, 1, &add);
    put_message(&body, 5, tensor);
    const nd_message whole = model(body, 13);
    return parse(&whole, folder, graph);
}

static inline void expect_error(nd_status got, nd_status expected, const char *part) {
    cr_assert_eq(got, expected, "status %s: %s", nd_status_name(got), nd_error());
    cr_assert(strstr(nd_error(), "m.onnx"), "names the file: %s", nd_error());
    cr_assert(strstr(nd_error(), part), "'%s' in: %s", part, nd_error());
}

static const char *const seeds[] = {"branch", "conv_bn", "others", "pads", "pools", "shapes"};

static inline void seed_path(const char *name, char *path, size_t size) {
    snprintf(path, size, ND_SOURCE_DIR "/tests/fuzz/corpus/onnx/%s.onnx", name);
}

static inline void temporary(char *folder) {
    strcpy(folder, P_tmpdir "/nd_onnx_XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static inline void clear(const char *folder) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

static inline void write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

/* 2, 3, 5 and 7 in every encoding of every type. */

#endif
