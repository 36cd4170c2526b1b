#define _GNU_SOURCE /* memmem */
#include "tests/unit/help/onnx_help.h"

#include <stdio.h>

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
