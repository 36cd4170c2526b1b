#define _GNU_SOURCE /* memmem */
#include "base/files/file.h"
#include "model/model.h"
#include "model/onnx/onnx_wire.h"
#include "tests/unit/help/graph_help.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A protobuf message in the making. */
typedef struct nd_message {
    uint8_t bytes[4096];
    size_t used;
} nd_message;

static void put(nd_message *message, uint32_t number, const void *data, size_t bytes) {
    uint8_t header[2 * nd_wire_varint_max];
    const size_t head = nd_wire_put_header(header, number, bytes);
    cr_assert_leq(message->used + head + bytes, sizeof message->bytes);
    memcpy(message->bytes + message->used, header, head);
    if (bytes) memcpy(message->bytes + message->used + head, data, bytes);
    message->used += head + bytes;
}

static void put_text(nd_message *message, uint32_t number, const char *text) {
    put(message, number, text, strlen(text));
}

static void put_message(nd_message *message, uint32_t number, const nd_message *content) {
    put(message, number, content->bytes, content->used);
}

static void put_int(nd_message *message, uint32_t number, uint64_t value) {
    message->used += nd_wire_put_varint(message->bytes + message->used, (uint64_t)number << 3);
    message->used += nd_wire_put_varint(message->bytes + message->used, value);
}

/* Field numbers of TensorProto. */
enum { dims_field = 1, type_field = 2, floats_field = 4, int32s_field = 5, int64s_field = 7, name_field = 8 };
enum { raw_field = 9, doubles_field = 10, uint64s_field = 11, external_field = 13, location_field = 14 };

static nd_message tensor_head(const char *name, int32_t type, int64_t count) {
    nd_message tensor = {.used = 0};
    put_int(&tensor, dims_field, (uint64_t)count);
    put_int(&tensor, type_field, (uint64_t)type);
    put_text(&tensor, name_field, name);
    return tensor;
}

static nd_message node(const char *op, const char *in, const char *second, const char *out) {
    nd_message proto = {.used = 0};
    if (in) put_text(&proto, 1, in);
    if (second) put_text(&proto, 1, second);
    put_text(&proto, 2, out);
    put_text(&proto, 4, op);
    return proto;
}

static nd_message value_info(const char *name, int rank, const int64_t *sizes) {
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
static nd_message model(nd_message graph, int64_t opset) {
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

static nd_status parse_bytes(const void *bytes, size_t size, const char *folder, nd_graph **graph) {
    nd_buffer *buffer;
    cr_assert_eq(nd_buffer_new(size, &buffer), nd_status_ok);
    if (size) memcpy(buffer->data, bytes, size);
    nd_status status = nd_onnx_parse(buffer, folder, "m.onnx", graph);
    nd_buffer_unref(buffer);
    return status;
}

static nd_status parse(const nd_message *whole, const char *folder, nd_graph **graph) {
    return parse_bytes(whole->bytes, whole->used, folder, graph);
}

/* y = Add(x, w), with w as given. */
static nd_status parse_with(const nd_message *tensor, const char *folder, nd_graph **graph) {
    nd_message body = {.used = 0};
    const nd_message add = node("Add", "x", "w", "y");
    put_message(&body, 1, &add);
    put_message(&body, 5, tensor);
    const nd_message whole = model(body, 13);
    return parse(&whole, folder, graph);
}

static void expect_error(nd_status got, nd_status expected, const char *part) {
    cr_assert_eq(got, expected, "status %s: %s", nd_status_name(got), nd_error());
    cr_assert(strstr(nd_error(), "m.onnx"), "names the file: %s", nd_error());
    cr_assert(strstr(nd_error(), part), "'%s' in: %s", part, nd_error());
}

static const char *const seeds[] = {"branch", "conv_bn", "others", "pads", "pools", "shapes"};

static void seed_path(const char *name, char *path, size_t size) {
    snprintf(path, size, ND_SOURCE_DIR "/tests/fuzz/corpus/onnx/%s.onnx", name);
}

static void temporary(char *folder) {
    strcpy(folder, P_tmpdir "/nd_onnx_XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static void clear(const char *folder) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

/* 2, 3, 5 and 7 in every encoding of every type. */
Test(onnx, tensors_in_every_encoding) {
    static const uint8_t packed[] = {2, 3, 5, 7},
                         half[] = {0x80, 0x80, 1, 0x80, 0x84, 1, 0x80, 0x8a, 1, 0x80, 0x8e, 1};
    static const uint8_t brain[] = {0x80, 0x80, 1, 0xc0, 0x80, 1, 0xa0, 0x81, 1, 0xe0, 0x81, 1};
    static const float floats[] = {2, 3, 5, 7};
    static const double doubles[] = {2, 3, 5, 7};
    static const int8_t bytes[] = {2, 3, 5, 7};
    static const int16_t shorts[] = {2, 3, 5, 7};
    static const int32_t ints[] = {2, 3, 5, 7};
    static const int64_t longs[] = {2, 3, 5, 7};
    static const uint16_t halves[] = {0x4000, 0x4200, 0x4500, 0x4700};
    static const uint16_t brains[] = {0x4000, 0x4040, 0x40a0, 0x40e0};
    const struct {
        int32_t type;
        nd_dtype dtype;
        uint32_t list;
        const void *packed;
        size_t packed_bytes;
        const void *raw;
        size_t raw_bytes;
    } cases[] = {
        {1, nd_dtype_f32, floats_field, floats, sizeof floats, floats, sizeof floats},
        {2, nd_dtype_u8, int32s_field, packed, 4, bytes, sizeof bytes},
        {3, nd_dtype_i8, int32s_field, packed, 4, bytes, sizeof bytes},
        {4, nd_dtype_u16, int32s_field, packed, 4, shorts, sizeof shorts},
        {5, nd_dtype_i16, int32s_field, packed, 4, shorts, sizeof shorts},
        {6, nd_dtype_i32, int32s_field, packed, 4, ints, sizeof ints},
        {7, nd_dtype_i64, int64s_field, packed, 4, longs, sizeof longs},
        {10, nd_dtype_f16, int32s_field, half, sizeof half, halves, sizeof halves},
        {11, nd_dtype_f64, doubles_field, doubles, sizeof doubles, doubles, sizeof doubles},
        {12, nd_dtype_u32, uint64s_field, packed, 4, ints, sizeof ints},
        {13, nd_dtype_u64, uint64s_field, packed, 4, longs, sizeof longs},
        {16, nd_dtype_bf16, int32s_field, brain, sizeof brain, brains, sizeof brains},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int raw = 0; raw < 2; raw++) {
            nd_message tensor = tensor_head("w", cases[i].type, 4);
            if (raw)
                put(&tensor, raw_field, cases[i].raw, cases[i].raw_bytes);
            else
                put(&tensor, cases[i].list, cases[i].packed, cases[i].packed_bytes);
            nd_graph *graph;
            float found[4];
            cr_assert_eq(parse_with(&tensor, NULL, &graph), nd_status_ok, "case %zu: %s", i, nd_error());
            const nd_tensor *w = nd_graph_constant(graph, &graph->nodes[0], 1);
            cr_assert(w && w->dtype == cases[i].dtype && nd_tensor_count(w) == 4);
            cr_assert_eq((uintptr_t)w->data % nd_dtype_bytes(w->dtype), 0, "aligned");
            nd_tensor_to_f32(w, found);
            cr_assert_arr_eq(found, floats, sizeof floats, "type %d, raw %d: %g %g %g %g", cases[i].type, raw,
                             (double)found[0], (double)found[1], (double)found[2], (double)found[3]);
            nd_graph_free(graph);
        }
    }
}

Test(onnx, tensors_that_contradict_themselves) {
    nd_graph *graph;
    nd_message tensor = tensor_head("w", 1, 4);
    put(&tensor, raw_field, "0123456789", 10);
    expect_error(parse_with(&tensor, NULL, &graph), nd_status_format, "raw_data");
    tensor = tensor_head("w", 1, 4);
    expect_error(parse_with(&tensor, NULL, &graph), nd_status_format, "float_data");
    tensor = tensor_head("w", 1, INT64_MAX);
    put_int(&tensor, dims_field, INT64_MAX);
    expect_error(parse_with(&tensor, NULL, &graph), nd_status_format, "dims");
    tensor = tensor_head("w", 1, -4);
    expect_error(parse_with(&tensor, NULL, &graph), nd_status_format, "dims");
    tensor = tensor_head("w", 1, INT64_MAX / 64);
    put(&tensor, raw_field, "0123", 4);
    expect_error(parse_with(&tensor, NULL, &graph), nd_status_format, "'w'");
}

/* What nd has no type for is carried along. */
Test(onnx, tensors_of_foreign_types_survive) {
    nd_graph *graph, *again;
    char folder[32], path[64];
    nd_message tensor = tensor_head("w", 8, 1); /* a text */
    put_text(&tensor, 6, "text");
    cr_assert_eq(parse_with(&tensor, NULL, &graph), nd_status_ok, "%s", nd_error());
    const int w = nd_graph_find_value(graph, "w");
    cr_assert_eq(graph->values[w].raw_bytes, tensor.used);
    temporary(folder);
    snprintf(path, sizeof path, "%s/a.onnx", folder);
    cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
    const nd_value *kept = &again->values[nd_graph_find_value(again, "w")];
    cr_assert(kept->raw && kept->raw_bytes == tensor.used && !memcmp(kept->raw, tensor.bytes, tensor.used));
    nd_graph_free(graph);
    nd_graph_free(again);
    clear(folder);
}

static nd_message external(const char *location, const char *offset, const char *length) {
    const char *const entries[][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    nd_message tensor = tensor_head("w", 1, 4);
    for (int i = 0; i < 3; i++) {
        nd_message entry = {.used = 0};
        if (!entries[i][1]) continue;
        put_text(&entry, 1, entries[i][0]);
        put_text(&entry, 2, entries[i][1]);
        put_message(&tensor, external_field, &entry);
    }
    put_int(&tensor, location_field, 1);
    return tensor;
}

Test(onnx, external_data) {
    char folder[32], path[96], other[96];
    static const float floats[] = {0, 2, 3, 5, 7};
    nd_graph *graph;
    temporary(folder);
    snprintf(path, sizeof path, "%s/sub", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/sub/data", folder);
    write_file(path, floats, sizeof floats);

    nd_message tensor = external("sub/data", "4", "16");
    cr_assert_eq(parse_with(&tensor, folder, &graph), nd_status_ok, "%s", nd_error());
    cr_assert_arr_eq(nd_graph_constant(graph, &graph->nodes[0], 1)->data, floats + 1, 16);
    nd_graph_free(graph);
    tensor = external("sub/data", NULL, NULL);
    cr_assert_eq(parse_with(&tensor, folder, &graph), nd_status_ok, "%s", nd_error());
    nd_graph_free(graph);

    snprintf(other, sizeof other, "%s/soft", folder);
    cr_assert_eq(symlink(path, other), 0);
    snprintf(other, sizeof other, "%s/folder", folder);
    cr_assert_eq(symlink("sub", other), 0);
    const struct {
        const char *location, *offset, *length;
        nd_status status;
    } refused[] = {
        {"sub/../sub/data", "4", "16", nd_status_input},
        {"../data", "0", "16", nd_status_input},
        {path, "4", "16", nd_status_input},
        {"soft", "4", "16", nd_status_input},
        {"folder/data", "4", "16", nd_status_input},
        {"sub", "0", "16", nd_status_input},
        {"absent", "0", "16", nd_status_input},
        {"", "0", "16", nd_status_format},
        {"sub/data", "8", "16", nd_status_format},
        {"sub/data", "-4", "16", nd_status_format},
        {"sub/data", "18446744073709551612", "16", nd_status_format},
        {"sub/data", "9223372036854775807", "16", nd_status_format},
        {"sub/data", "4", "12", nd_status_format},
        {"sub/data", "4x", "16", nd_status_format},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        tensor = external(refused[i].location, refused[i].offset, refused[i].length);
        expect_error(parse_with(&tensor, folder, &graph), refused[i].status, "'w'");
    }
    tensor = external("sub/data", "4", "16");
    expect_error(parse_with(&tensor, NULL, &graph), nd_status_format, "refused");
    snprintf(other, sizeof other, "%s/hard", folder);
    cr_assert_eq(link(path, other), 0);
    tensor = external("hard", "4", "16");
    expect_error(parse_with(&tensor, folder, &graph), nd_status_input, "hard");
    clear(folder);
}

/* In folder/old.onnx, whose data lie in folder/sub: y = Add(x, w), or the same within a branch of an If. */
static nd_graph *read_with_data(const char *folder, const char *location, bool nested) {
    char path[96];
    nd_graph *graph;
    nd_message body = {.used = 0}, choice = node("If", "x", NULL, "y"), branch = {.used = 0},
               attribute = {.used = 0};
    const nd_message tensor = external(location, NULL, NULL), add = node("Add", "x", "w", nested ? "z" : "y"),
                     z = value_info("z", 0, NULL);
    nd_message *around = nested ? &branch : &body;
    put_message(around, 1, &add);
    put_message(around, 5, &tensor);
    if (nested) {
        put_text(&branch, 2, "branch");
        put_message(&branch, 12, &z);
        put_text(&attribute, 1, "then_branch");
        put_message(&attribute, 6, &branch);
        put_text(&choice, 3, "choice");
        put_message(&choice, 5, &attribute);
        put_message(&body, 1, &choice);
    }
    const nd_message whole = model(body, 13);
    snprintf(path, sizeof path, "%s/old.onnx", folder);
    write_file(path, whole.bytes, whole.used);
    cr_assert_eq(nd_onnx_read(path, &graph), nd_status_ok, "%s", nd_error());
    return graph;
}

static void expect_file(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[96];
    nd_buffer *found;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(nd_file_map(path, &found), nd_status_ok, "%s", nd_error());
    cr_assert(found->bytes == size && !memcmp(found->data, bytes, size), "%s", name);
    nd_buffer_unref(found);
}

/* Data that move to a new model go into a file that no other model has: not the original's, nor
 * a stranger's. */
Test(onnx, data_of_another_model_are_not_written_over) {
    char folder[32], path[96], beside[128];
    static const float floats[] = {2, 3, 5, 7}, others[] = {1, 1, 2, 3, 5};
    temporary(folder);
    snprintf(path, sizeof path, "%s/sub", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/sub/new.onnx.data", folder);
    write_file(path, floats, sizeof floats);
    snprintf(path, sizeof path, "%s/sub/new.onnx.1.data", folder);
    write_file(path, others, sizeof others);
    nd_graph *graph = read_with_data(folder, "sub/new.onnx.data", false), *again;
    snprintf(path, sizeof path, "%s/sub/new.onnx", folder);
    for (int pass = 0; pass < 4; pass++) { /* another name while the model that is replaced has data */
        cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
        cr_assert_arr_eq(nd_graph_constant(again, &again->nodes[0], 1)->data, floats, sizeof floats);
        nd_graph_free(again);
        expect_file(folder, "sub/new.onnx.data", floats, sizeof floats);
        expect_file(folder, "sub/new.onnx.1.data", others, sizeof others);
        snprintf(beside, sizeof beside, "sub/new.onnx.%d.data", 2 + pass % 2);
        expect_file(folder, beside, floats, sizeof floats);
        snprintf(beside, sizeof beside, "%s.%d.data", path, 3 - pass % 2);
        cr_assert(access(beside, F_OK));
    }
    nd_graph_free(graph);
    clear(folder);
}

/* A model that is written where it was read from: as it was, and with an operand of its own in the place of
 * its data, which are let go. */
Test(onnx, data_of_a_model_in_its_own_place) {
    char folder[32], path[96], data[128];
    static const float floats[] = {2, 3, 5, 7};
    nd_graph *again;
    temporary(folder);
    snprintf(data, sizeof data, "%s/old.onnx.data", folder);
    write_file(data, floats, sizeof floats);
    nd_graph *graph = read_with_data(folder, "old.onnx.data", false);
    snprintf(path, sizeof path, "%s/old.onnx", folder);
    for (int pass = 0; pass < 2; pass++) {
        if (pass) graph->nodes[0].edited = 1 << 1;
        cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
        cr_assert_arr_eq(nd_graph_constant(again, &again->nodes[0], 1)->data, floats, sizeof floats);
        nd_graph_free(again);
        cr_assert_eq(!access(data, F_OK), !pass);
    }
    nd_graph_free(graph);
    clear(folder);
}

/* Each says by its metadata which data are its own. */
static void write_for_ever(nd_graph *const graphs[2], int first, const char *path) {
    for (int i = first;; i = !i)
        if (nd_onnx_write(graphs[i], path)) _exit(1);
}

/* Killed at any moment: a model and its own data. */
Test(onnx, model_and_data_stay_a_pair, .timeout = 60) {
    enum { kills = 60, floats = 4 };
    float numbers[2][floats];
    char folder[32], path[96], name[2];
    nd_graph *graphs[2], *found;
    int seen[2] = {0};
    temporary(folder);
    snprintf(path, sizeof path, "%s/new", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < floats; k++) numbers[i][k] = (float)(i + 1);
        snprintf(path, sizeof path, "%s/sub%d", folder, i);
        write_file(path, numbers[i], sizeof numbers[i]);
        snprintf(path, sizeof path, "sub%d", i);
        graphs[i] = read_with_data(folder, path, false);
        snprintf(name, sizeof name, "%d", i);
        cr_assert_eq(nd_graph_set_meta(graphs[i], "own", name), nd_status_ok);
        snprintf(path, sizeof path, "%s/old.onnx", folder);
        cr_assert_eq(unlink(path), 0, "its bytes are the graph's");
    }
    snprintf(path, sizeof path, "%s/new/m.onnx", folder);
    cr_assert_eq(nd_onnx_write(graphs[0], path), nd_status_ok, "%s", nd_error());
    for (int i = 0; i < kills; i++) {
        int how;
        const pid_t child = fork();
        cr_assert_geq(child, 0);
        if (!child) write_for_ever(graphs, i % 2, path);
        usleep((useconds_t)(1000 + i * 7919 % 60000)); /* some are written in that time */
        cr_assert_eq(kill(child, SIGKILL), 0);
        cr_assert_eq(waitpid(child, &how, 0), child);
        cr_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL, "it ended by itself");
        cr_assert_eq(nd_onnx_read(path, &found), nd_status_ok, "%s", nd_error());
        const int own = atoi(nd_graph_meta(found, "own"));
        const float *data = nd_graph_constant(found, &found->nodes[0], 1)->data;
        cr_assert_eq(data[0], (float)(own + 1), "the model with the data of the other");
        seen[own]++;
        nd_graph_free(found);
    }
    cr_assert(seen[0] && seen[1], "one of them was never written");
    nd_graph_free(graphs[0]);
    nd_graph_free(graphs[1]);
    clear(folder);
}

/* Tensors within nodes do not move: the file is written where it finds their data, or not at all. */
Test(onnx, data_of_subgraphs_stay_in_reach) {
    char folder[32], path[96];
    static const float floats[] = {2, 3, 5, 7};
    temporary(folder);
    snprintf(path, sizeof path, "%s/sub", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/old.data", folder);
    write_file(path, floats, sizeof floats);
    nd_graph *graph = read_with_data(folder, "old.data", true);
    snprintf(path, sizeof path, "%s/sub/m.onnx", folder);
    expect_error(nd_onnx_write(graph, path), nd_status_unsupported, "node 'choice' holds tensors whose data");
    cr_assert(access(path, F_OK), "nothing is written");
    snprintf(path, sizeof path, "%s/m.onnx", folder);
    cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
    nd_graph_free(graph);
    clear(folder);
}

Test(onnx, contradictions_name_file_and_node) {
    nd_graph *graph;
    nd_message body = {.used = 0}, a = node("Relu", "b", NULL, "a"), b = node("Relu", "a", NULL, "b");
    nd_message y = node("Add", "a", "x", "y");
    put_message(&body, 1, &a), put_message(&body, 1, &b), put_message(&body, 1, &y);
    nd_message whole = model(body, 13);
    expect_error(parse(&whole, NULL, &graph), nd_status_format, "its own output");

    body.used = 0;
    y = node("Relu", "x", NULL, "y");
    put_message(&body, 1, &y), put_message(&body, 1, &y);
    whole = model(body, 13);
    expect_error(parse(&whole, NULL, &graph), nd_status_format, "'y' is written by");

    body.used = 0;
    y = node("Relu", "nowhere", NULL, "y");
    put_message(&body, 1, &y);
    whole = model(body, 13);
    expect_error(parse(&whole, NULL, &graph), nd_status_format, "nowhere");

    body.used = 0;
    y = node("Relu", NULL, NULL, "y");
    put_text(&y, 3, "act1");
    put_message(&body, 1, &y);
    whole = model(body, 13);
    expect_error(parse(&whole, NULL, &graph), nd_status_format, "act1");

    nd_message attribute = {.used = 0};
    body.used = 0;
    y = node("Flatten", "x", NULL, "y");
    put_text(&attribute, 1, "axis");
    put_int(&attribute, 20, 1);
    put_message(&y, 5, &attribute);
    put_message(&body, 1, &y);
    whole = model(body, 13);
    expect_error(parse(&whole, NULL, &graph), nd_status_format, "'axis'");

    const nd_message w = tensor_head("w", 1, 0);
    body.used = 0;
    put_message(&body, 5, &w), put_message(&body, 5, &w);
    whole = model(body, 13);
    expect_error(parse(&whole, NULL, &graph), nd_status_format, "'w'");

    body.used = 0;
    y = node("Relu", "x", NULL, "y");
    put_message(&body, 1, &y);
    whole = model(body, 6);
    expect_error(parse(&whole, NULL, &graph), nd_status_unsupported, "opset 6");
    expect_error(parse_bytes("", 0, NULL, &graph), nd_status_format, "empty");
    expect_error(parse_bytes("\x08\x08\x3a\x7f", 4, NULL, &graph), nd_status_format, "field 7 at byte 2");
    expect_error(parse_bytes("\x0a\x03nd!", 5, NULL, &graph), nd_status_format, "graph");
}

/* Before IR 4 initializers stood among the inputs. */
Test(onnx, initializers_are_no_inputs) {
    nd_graph *graph;
    nd_message body = {.used = 0}, tensor = tensor_head("w", 1, 4);
    const nd_message add = node("Add", "x", "w", "y"), w = value_info("w", 1, (int64_t[]){4});
    put(&tensor, raw_field, "0123456789abcdef", 16);
    put_message(&body, 1, &add);
    put_message(&body, 5, &tensor);
    put_message(&body, 11, &w);
    const nd_message whole = model(body, 13);
    cr_assert_eq(parse(&whole, NULL, &graph), nd_status_ok, "%s", nd_error());
    cr_assert_eq(graph->n_inputs, 1);
    cr_assert_str_eq(graph->values[graph->inputs[0]].name, "x");
    nd_graph_free(graph);
}

Test(onnx, layers_are_named_for_their_weights) {
    nd_graph *graph;
    char path[256];
    seed_path("conv_bn", path, sizeof path);
    cr_assert_eq(nd_onnx_read(path, &graph), nd_status_ok, "%s", nd_error());
    cr_assert_str_eq(graph->nodes[0].name, "c");
    cr_assert_eq(graph->nodes[0].op, nd_op_conv);
    nd_graph_free(graph);
}

/* Subgraphs read values of the graph around them by name: those keep their producers and their names. */
Test(onnx, opaque_nodes_keep_their_bytes_and_what_they_read) {
    nd_graph *graph, *again;
    char folder[32], path[256];
    seed_path("branch", path, sizeof path);
    cr_assert_eq(nd_onnx_read(path, &graph), nd_status_ok, "%s", nd_error());
    cr_assert_eq(graph->nodes[0].op, nd_op_opaque);
    cr_assert_str_eq(graph->nodes[0].op_type, "If");
    cr_assert_eq(nd_graph_fold(graph), nd_status_ok, "%s", nd_error());
    const int k = nd_graph_find_value(graph, "k");
    int user;
    cr_assert(k >= 0 && graph->values[k].init && nd_graph_uses(graph, k, &user) == 1);
    temporary(folder);
    snprintf(path, sizeof path, "%s/a.onnx", folder);
    cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
    cr_assert_eq(again->n_nodes, graph->n_nodes);
    for (int i = 0; i < graph->n_nodes; i++) {
        cr_assert_eq(again->nodes[i].raw_bytes, graph->nodes[i].raw_bytes);
        cr_assert_arr_eq(again->nodes[i].raw, graph->nodes[i].raw, graph->nodes[i].raw_bytes);
    }
    nd_graph_free(graph);
    nd_graph_free(again);
    clear(folder);
}

Test(onnx, what_is_written_reads_the_same) {
    char folder[32], path[256];
    temporary(folder);
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        nd_graph *graph, *again;
        char before[65], after[65];
        seed_path(seeds[i], path, sizeof path);
        cr_assert_eq(nd_onnx_read(path, &graph), nd_status_ok, "%s", nd_error());
        const nd_infer_settings settings = {.batch = 2, .allow_opaque = true};
        cr_assert_eq(nd_graph_infer(graph, &settings), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_graph_fold(graph), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_graph_set_meta(graph, "nd.method", "dwpw"), nd_status_ok);
        snprintf(path, sizeof path, "%s/a.onnx", folder);
        cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_graph_infer(again, &settings), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_graph_fold(again), nd_status_ok, "%s", nd_error());
        cr_assert_eq(again->n_nodes, graph->n_nodes);
        for (int k = 0; k < graph->n_nodes; k++) {
            cr_assert_eq(again->nodes[k].op, graph->nodes[k].op);
            cr_assert_eq(again->nodes[k].n_in, graph->nodes[k].n_in);
            cr_assert_arr_eq(&again->nodes[k].attr.window, &graph->nodes[k].attr.window, sizeof(nd_window));
        }
        nd_graph_sha256(graph, before);
        nd_graph_sha256(again, after);
        cr_assert_str_eq(before, after, "%s", seeds[i]);
        cr_assert_str_eq(nd_graph_meta(again, "nd.method"), "dwpw");
        cr_assert_str_eq(nd_graph_meta(again, "k"), "v");
        nd_graph_free(graph);
        nd_graph_free(again);
    }
    clear(folder);
}

/* Nodes nd makes itself, one of every kind that it can write, through a file. */
Test(onnx, made_nodes_are_written) {
    static const nd_op ops[] = {nd_op_relu,     nd_op_clip,      nd_op_leaky_relu,   nd_op_sigmoid,
                                nd_op_identity, nd_op_max_pool,  nd_op_hard_sigmoid, nd_op_hard_swish,
                                nd_op_dropout,  nd_op_transpose, nd_op_average_pool, nd_op_softmax,
                                nd_op_pad,      nd_op_slice,     nd_op_lrn,          nd_op_reduce_mean,
                                nd_op_reshape,  nd_op_unsqueeze, nd_op_squeeze,      nd_op_flatten};
    enum { count = sizeof ops / sizeof *ops };
    nd_graph *graph, *again;
    char folder[32], path[64];
    graph = new_graph("made");
    int x = add_input(graph, "x", 4, (int64_t[]){1, 4, 9, 9});
    for (int i = 0; i < count; i++) {
        nd_node *made;
        x = add_node(graph, ops[i], NULL, &x, 1, &made);
        nd_attr *attr = &made->attr;
        attr->alpha = 0.25f, attr->beta = 0.5f, attr->bias = 2, attr->size = 3, attr->axis = 1;
        attr->lo = -1, attr->hi = 2, attr->value = 1.5f, attr->keep_dims = true;
        if (ops[i] == nd_op_max_pool || ops[i] == nd_op_average_pool)
            attr->window = (nd_window){{2, 3}, {1, 1}, {1, 1}, {0, 1, 1, 1}};
        if (ops[i] == nd_op_transpose) attr->n = 4, memcpy(attr->list, (int64_t[]){0, 1, 3, 2}, 32);
        if (ops[i] == nd_op_pad) attr->n = 8, attr->list[2] = 1, attr->list[7] = 2;
        if (ops[i] == nd_op_slice) attr->n = 1, attr->ends[0] = 3, attr->axes[0] = 1, attr->steps[0] = 2;
        if (ops[i] == nd_op_reduce_mean) attr->n = 1, attr->list[0] = 3;
        if (ops[i] == nd_op_reshape) attr->n = 2, attr->list[1] = -1;
        if (ops[i] == nd_op_unsqueeze || ops[i] == nd_op_squeeze) attr->n = 1, attr->list[0] = 2;
    }
    cr_assert_eq(nd_graph_add_output(graph, x), nd_status_ok);
    temporary(folder);
    snprintf(path, sizeof path, "%s/a.onnx", folder);
    cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 3}), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_graph_infer(again, &(nd_infer_settings){.batch = 3}), nd_status_ok, "%s", nd_error());
    cr_assert_eq(again->n_nodes, count);
    for (int i = 0; i < count; i++) {
        const nd_node *from = &graph->nodes[i], *to = &again->nodes[i];
        cr_assert_eq(to->op, ops[i]);
        cr_assert_arr_eq(&to->attr.window, &from->attr.window, sizeof from->attr.window);
        cr_assert_eq(to->attr.n, from->attr.n);
        cr_assert_arr_eq(to->attr.list, from->attr.list, sizeof from->attr.list);
        const nd_value *a = &graph->values[from->out[0]], *b = &again->values[to->out[0]];
        cr_assert(a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims));
    }
    nd_graph_free(graph);
    nd_graph_free(again);
    clear(folder);
}

static bool holds(const nd_buffer *file, const char *text) {
    return memmem(file->data, file->bytes, text, strlen(text)) != NULL;
}

Test(onnx, fields_nd_does_not_read_are_kept) {
    nd_graph *graph;
    nd_buffer *file;
    char folder[32], path[64];
    nd_message body = {.used = 0}, relu = node("Relu", "x", NULL, "y");
    put_text(&relu, 6, "documented node");
    put_message(&body, 1, &relu);
    put_text(&body, 2, "graph name");
    put_text(&body, 10, "documented graph");
    put_text(&body, 77, "later graph field");
    nd_message whole = model(body, 13);
    put_text(&whole, 2, "some exporter");
    put_text(&whole, 6, "documented model");
    put_text(&whole, 99, "later model field");
    cr_assert_eq(parse(&whole, NULL, &graph), nd_status_ok, "%s", nd_error());
    temporary(folder);
    snprintf(path, sizeof path, "%s/a.onnx", folder);
    cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_file_map(path, &file), nd_status_ok);
    static const char *const kept[] = {"documented node",   "graph name",    "documented graph",
                                       "later graph field", "some exporter", "documented model",
                                       "later model field"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) cr_assert(holds(file, kept[i]), "%s", kept[i]);
    nd_buffer_unref(file);
    nd_graph_free(graph);
    clear(folder);
}

static void try_bytes(const uint8_t *bytes, size_t size) {
    nd_graph *graph;
    if (parse_bytes(bytes, size, NULL, &graph)) {
        cr_assert(strstr(nd_error(), "m.onnx"), "%s", nd_error());
        return;
    }
    nd_infer_settings settings = {.batch = 1, .allow_opaque = true};
    if (!nd_graph_infer(graph, &settings)) (void)nd_graph_fold(graph);
    nd_graph_free(graph);
}

Test(onnx, truncated_and_flipped_files_are_survived) {
    char path[256];
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        nd_buffer *file;
        seed_path(seeds[i], path, sizeof path);
        cr_assert_eq(nd_file_map(path, &file), nd_status_ok, "%s", nd_error());
        uint8_t *bytes = malloc(file->bytes);
        cr_assert_not_null(bytes);
        memcpy(bytes, file->data, file->bytes);
        for (size_t size = 0; size < file->bytes; size++) try_bytes(bytes, size);
        for (size_t at = 0; at < file->bytes; at++) {
            bytes[at] ^= (uint8_t)(1 << at % 8);
            try_bytes(bytes, file->bytes);
            bytes[at] ^= (uint8_t)(1 << at % 8);
        }
        free(bytes);
        nd_buffer_unref(file);
    }
}
