#include "tests/unit/help/graph_help.h"

static nd_status infer(nd_graph *graph, int64_t batch) {
    return nd_graph_infer(graph, &(nd_infer_settings){.batch = batch});
}

/* The graph x -> op -> y in the making, for one operator. */
typedef struct nd_single {
    nd_graph *graph;
    int x;
    nd_attr *attr;
    int y;
} nd_single;

static nd_single single(nd_op op, int rank, const int64_t *dims) {
    nd_single s;
    nd_node *node;
    s.graph = new_graph("single");
    s.x = add_input(s.graph, "x", rank, dims);

    s.y = add_node(s.graph, op, "op", &s.x, 1, &node);
    s.attr = &node->attr;
    OK(nd_graph_add_output(s.graph, s.y));
    return s;
}

static void expect_dims(const nd_graph *graph, int value, const char *expected) {
    char text[200];
    const nd_value *v = &graph->values[value];
    cr_assert_geq(v->rank, 0);
    cr_assert_str_eq(nd_dims_format(v->rank, v->dims, text, sizeof text), expected);
}

static void expect_single(nd_single *s, const char *expected) {
    cr_assert_eq(infer(s->graph, 2), nd_status_ok, "%s", nd_error());
    expect_dims(s->graph, s->y, expected);
    nd_graph_free(s->graph);
}

static const int64_t image[] = {2, 3, 9, 8};

Test(infer, convolutions) {
    static const struct {
        nd_attr attr;
        int64_t weights[4];
        const char *expected;
    } cases[] = {
        {{.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}}, .groups = 1}, {5, 3, 3, 3}, "2x5x9x8"},
        {{.window = {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}}, .groups = 1}, {5, 3, 3, 3}, "2x5x5x4"},
        {{.window = {{3, 1}, {1, 2}, {2, 1}, {0, 0, 0, 0}}, .groups = 3}, {6, 1, 3, 1}, "2x6x5x4"},
        {{.window = {{2, 2}, {1, 1}, {1, 1}, {1, 0, 0, 1}}, .groups = 1}, {4, 3, 2, 2}, "2x4x9x8"},
        {{.window = {{0, 0}, {1, 1}, {1, 1}, {0}}, .groups = 1}, {4, 3, 5, 7}, "2x4x5x2"},
        {{.window = {{3, 4}, {2, 3}, {1, 1}, {0}}, .groups = 1, .auto_pad = nd_auto_pad_same_upper},
         {4, 3, 3, 4},
         "2x4x5x3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_graph *graph = new_graph("conv");
        nd_node *node;
        int in[] = {add_input(graph, "x", 4, image), add_floats(graph, "w", 4, cases[i].weights, NULL)};
        int y = add_node(graph, nd_op_conv, "conv", in, 2, &node);
        node->attr = cases[i].attr;
        OK(nd_graph_add_output(graph, y));
        cr_assert_eq(infer(graph, 2), nd_status_ok, "case %zu: %s", i, nd_error());
        expect_dims(graph, y, cases[i].expected);
        nd_graph_free(graph);
    }
}

Test(infer, automatic_padding_follows_the_input) {
    static const struct {
        nd_auto_pad mode;
        int64_t size, lead, trail;
    } cases[] = {
        {nd_auto_pad_same_upper, 8, 0, 1},
        {nd_auto_pad_same_lower, 8, 1, 0},
        {nd_auto_pad_same_upper, 9, 1, 1},
        {nd_auto_pad_same_lower, 9, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_single s = single(nd_op_max_pool, 4, (int64_t[]){1, 1, cases[i].size, cases[i].size});
        s.attr->auto_pad = cases[i].mode;
        s.attr->window = (nd_window){{3, 3}, {2, 2}, {1, 1}, {7, 7, 7, 7}};
        cr_assert_eq(infer(s.graph, 1), nd_status_ok, "%s", nd_error());
        const nd_window *window = &s.graph->nodes[0].attr.window;
        cr_assert_eq(window->pad[0], cases[i].lead);
        cr_assert_eq(window->pad[2], cases[i].trail);
        nd_graph_free(s.graph);
    }
}

Test(infer, one_operator_each) {
    nd_single s;
    s = single(nd_op_max_pool, 4, image);
    s.attr->window = (nd_window){{3, 3}, {2, 2}, {1, 1}, {0}};
    s.attr->ceil_mode = true;
    expect_single(&s, "2x3x4x4");
    s = single(nd_op_global_average_pool, 4, image);
    expect_single(&s, "2x3x1x1");
    s = single(nd_op_global_max_pool, 4, image);
    expect_single(&s, "2x3x1x1");
    s = single(nd_op_flatten, 4, image);
    s.attr->axis = 1;
    expect_single(&s, "2x216");
    s = single(nd_op_flatten, 4, image);
    s.attr->axis = -1;
    expect_single(&s, "54x8");
    s = single(nd_op_reshape, 4, image);
    s.attr->n = 3, s.attr->list[0] = 0, s.attr->list[1] = -1, s.attr->list[2] = 4;
    expect_single(&s, "2x54x4");
    s = single(nd_op_squeeze, 4, (int64_t[]){2, 5, 1, 1});
    expect_single(&s, "2x5");
    s = single(nd_op_squeeze, 4, (int64_t[]){2, 5, 1, 1});
    s.attr->n = 1, s.attr->list[0] = -1;
    expect_single(&s, "2x5x1");
    s = single(nd_op_unsqueeze, 2, (int64_t[]){2, 5});
    s.attr->n = 2, s.attr->list[0] = 0, s.attr->list[1] = -1;
    expect_single(&s, "1x2x5x1");
    s = single(nd_op_transpose, 4, image);
    expect_single(&s, "8x9x3x2");
    s = single(nd_op_transpose, 4, image);
    s.attr->n = 4, memcpy(s.attr->list, (int64_t[]){0, 2, 3, 1}, 4 * sizeof(int64_t));
    expect_single(&s, "2x9x8x3");
    s = single(nd_op_pad, 4, image);
    s.attr->n = 8, memcpy(s.attr->list, (int64_t[]){0, 1, 2, -1, 0, 3, 0, 1}, 8 * sizeof(int64_t));
    expect_single(&s, "2x7x11x8");
    s = single(nd_op_reduce_mean, 4, image);
    s.attr->n = 2, s.attr->list[0] = 2, s.attr->list[1] = -1;
    expect_single(&s, "2x3");
    s = single(nd_op_reduce_mean, 4, image);
    s.attr->keep_dims = true;
    expect_single(&s, "1x1x1x1");
    s = single(nd_op_softmax, 4, image);
    s.attr->axis = -3;
    expect_single(&s, "2x3x9x8");
}

Test(infer, slices_count_like_a_loop) {
    for (int64_t dim = 1; dim < 6; dim++)
        for (int64_t start = -7; start < 8; start++)
            for (int64_t end = -7; end < 8; end++)
                for (int64_t step = -3; step < 4; step++) {
                    if (!step) continue;
                    const nd_attr attr = {.n = 1, .list = {start}, .ends = {end}, .steps = {step}};
                    int64_t first, at = start < 0 ? start + dim : start, to = end < 0 ? end + dim : end;
                    if (step > 0) at = at < 0 ? 0 : at;
                    if (step < 0) at = at > dim - 1 ? dim - 1 : at, to = to < -1 ? -1 : to;
                    if (step < 0 && at < 0) at = 0;
                    int64_t count = 0, begin = at;
                    for (; step > 0 ? at < to && at < dim : at > to; at += step) count++;
                    cr_assert_eq(nd_slice_count(&attr, 0, dim, &first), count, "dim %ld [%ld:%ld:%ld]",
                                 (long)dim, (long)start, (long)end, (long)step);
                    if (count) cr_assert_eq(first, begin);
                }
    int64_t first;
    const nd_attr all = {.n = 1, .list = {INT64_MAX}, .ends = {INT64_MIN}, .steps = {-1}};
    cr_assert_eq(nd_slice_count(&all, 0, 5, &first), 5);
    cr_assert_eq(first, 4);
}

Test(infer, broadcasting_and_products) {
    nd_graph *graph = new_graph("two");

    int x = add_input(graph, "x", 4, image);
    int row = add_floats(graph, "row", 3, (int64_t[]){3, 1, 1}, NULL);
    int w = add_floats(graph, "w", 2, (int64_t[]){8, 5}, NULL);
    int index = add_ints(graph, 1, 4, (int64_t[]){0, 2, 2, 1});
    nd_node *node;
    int sum = add_node(graph, nd_op_add, "sum", (int[]){row, x}, 2, NULL);
    int product = add_node(graph, nd_op_matmul, "product", (int[]){sum, w}, 2, NULL);
    int chosen = add_node(graph, nd_op_gather, "chosen", (int[]){product, index}, 2, &node);
    node->attr.axis = -3;
    int joined = add_node(graph, nd_op_concat, "joined", (int[]){chosen, product}, 2, &node);
    node->attr.axis = 1;
    OK(nd_graph_add_output(graph, joined));
    OK(infer(graph, 2));
    expect_dims(graph, sum, "2x3x9x8");
    expect_dims(graph, product, "2x3x9x5");
    expect_dims(graph, chosen, "2x4x9x5");
    expect_dims(graph, joined, "2x7x9x5");
    nd_graph_free(graph);
}

/* reshape(x, concat(unsqueeze(gather(shape(x), 0)), -1)), as exporters write x.view(x.size(0), -1). */
Test(infer, a_folded_reshape_keeps_the_batch_open) {
    nd_graph *graph = new_graph("view");
    nd_node *node;
    int x = add_input(graph, "x", 4, (int64_t[]){-1, 3, 4, 5});
    int zero = add_ints(graph, 0, 1, (int64_t[]){0}), axes = add_ints(graph, 1, 1, (int64_t[]){0});
    int size = add_ints(graph, 1, 1, (int64_t[]){60});
    int shape = add_node(graph, nd_op_shape, "shape", &x, 1, NULL);
    int batch = add_node(graph, nd_op_gather, "batch", (int[]){shape, zero}, 2, NULL);
    int list = add_node(graph, nd_op_unsqueeze, "list", (int[]){batch, axes}, 2, NULL);
    int to = add_node(graph, nd_op_concat, "to", (int[]){list, size}, 2, NULL);
    int y = add_node(graph, nd_op_reshape, "view", (int[]){x, to}, 2, &node);
    OK(nd_graph_add_output(graph, y));
    cr_assert_eq(infer(graph, 4), nd_status_ok, "%s", nd_error());
    expect_dims(graph, y, "4x60");
    cr_assert_eq(graph->n_nodes, 1, "the arithmetic is folded away");
    cr_assert_eq(infer(graph, 7), nd_status_ok, "%s", nd_error());
    expect_dims(graph, y, "7x60");
    nd_graph_free(graph);
}

Test(infer, a_reshape_for_one_image_takes_the_batch) {
    static const struct {
        int n;
        int64_t list[4];
        const char *expected;
    } cases[] = {
        {2, {1, -1}, "6x54"}, {2, {1, 54}, "6x54"}, {3, {1, 9, -1}, "6x9x6"}, {2, {1, 324}, "1x324"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_single s = single(nd_op_reshape, 4, (int64_t[]){1, 6, 3, 3});
        s.attr->n = cases[i].n;
        memcpy(s.attr->list, cases[i].list, sizeof cases[i].list);
        cr_assert_eq(infer(s.graph, 6), nd_status_ok, "%s", nd_error());
        expect_dims(s.graph, s.y, cases[i].expected);
        nd_graph_free(s.graph);
    }
}

/* Zeros from ConstantOfShape after the given pads, reversed and transposed: how exporters write F.pad. */
Test(infer, pads_are_computed) {
    nd_graph *graph = new_graph("pad");
    nd_node *node;
    int x = add_input(graph, "x", 4, image);
    int given = add_ints(graph, 1, 4, (int64_t[]){1, 2, 3, 4}), four = add_ints(graph, 1, 1, (int64_t[]){4});
    int two = add_ints(graph, 1, 2, (int64_t[]){-1, 2}), minus = add_ints(graph, 1, 1, (int64_t[]){-1});
    int low = add_ints(graph, 1, 1, (int64_t[]){INT64_MIN}), zero = add_ints(graph, 1, 1, (int64_t[]){0});
    int zeros = add_node(graph, nd_op_constant_of_shape, "zeros", &four, 1, &node);
    node->attr.dtype = nd_dtype_i64;
    int all = add_node(graph, nd_op_concat, "all", (int[]){given, zeros}, 2, NULL);
    int pairs = add_node(graph, nd_op_reshape, "pairs", (int[]){all, two}, 2, NULL);
    int back = add_node(graph, nd_op_slice, "back", (int[]){pairs, minus, low, zero, minus}, 5, NULL);
    int turned = add_node(graph, nd_op_transpose, "turned", &back, 1, &node);
    node->attr.n = 2, node->attr.list[0] = 1, node->attr.list[1] = 0;
    int flat = add_node(graph, nd_op_reshape, "flat", (int[]){turned, minus}, 2, NULL);
    int y = add_node(graph, nd_op_pad, "pad", (int[]){x, flat}, 2, NULL);
    OK(nd_graph_add_output(graph, y));
    OK(infer(graph, 2));
    cr_assert_eq(graph->n_nodes, 1);
    const int64_t expected[] = {0, 0, 3, 1, 0, 0, 4, 2};
    cr_assert_arr_eq(graph->nodes[0].attr.list, expected, sizeof expected);
    expect_dims(graph, y, "2x3x16x11");
    nd_graph_free(graph);
}

Test(infer, contradictions_name_the_node) {
    nd_graph *graph = new_graph("file");

    int in[] = {add_input(graph, "x", 4, image), add_floats(graph, "w", 4, (int64_t[]){5, 4, 3, 3}, NULL)};
    int y = add_node(graph, nd_op_conv, "layer1", in, 2, NULL);
    OK(nd_graph_add_output(graph, y));
    cr_assert_eq(infer(graph, 1), nd_status_format);
    cr_assert(strstr(nd_error(), "file") && strstr(nd_error(), "layer1") && strstr(nd_error(), "Conv") &&
                  strstr(nd_error(), "1x3x9x8") && strstr(nd_error(), "5x4x3x3"),
              "%s", nd_error());
    nd_graph_free(graph);

    nd_single s = single(nd_op_opaque, 4, image);
    cr_assert_eq(infer(s.graph, 1), nd_status_unsupported);
    cr_assert(strstr(nd_error(), "'op'"), "%s", nd_error());
    cr_assert_eq(nd_graph_infer(s.graph, &(nd_infer_settings){.batch = 1, .allow_opaque = true}),
                 nd_status_ok);
    cr_assert_eq(s.graph->values[s.y].rank, -1);
    nd_graph_free(s.graph);

    s = single(nd_op_relu, 4, (int64_t[]){-1, 3, -1, -1});
    cr_assert_eq(infer(s.graph, 1), nd_status_unsupported);
    cr_assert(strstr(nd_error(), "'x'"), "%s", nd_error());
    cr_assert_eq(nd_graph_infer(s.graph, &(nd_infer_settings){.batch = 1, .height = 5, .width = 6}),
                 nd_status_ok);
    expect_dims(s.graph, s.y, "1x3x5x6");
    nd_graph_free(s.graph);

    s = single(nd_op_pad, 4, image);
    s.attr->n = 8, s.attr->list[0] = INT64_MAX;
    cr_assert_eq(infer(s.graph, 2), nd_status_format, "%s", nd_error());
    nd_graph_free(s.graph);
}

/* After a node nd cannot run the shapes go on where they are known all the same. */
Test(infer, shapes_after_opaque_nodes) {
    const nd_infer_settings settings = {.batch = 2, .allow_opaque = true},
                            other = {.batch = 5, .allow_opaque = true};
    nd_graph *graph = new_graph("opaque");
    nd_node *node;
    int x = add_input(graph, "x", 4, (int64_t[]){-1, 3, 9, 8});
    int kept = add_node(graph, nd_op_opaque, "kept", &x, 1, &node);
    node->op_type = "Mish";
    int relu = add_node(graph, nd_op_relu, "relu", &kept, 1, NULL);
    int declared = add_node(graph, nd_op_opaque, "declared", &relu, 1, &node);
    node->op_type = "Resize";
    graph->values[declared].rank = 4;
    memcpy(graph->values[declared].dims, (int64_t[]){-1, 3, 18, 16}, 4 * sizeof(int64_t));
    int pool = add_node(graph, nd_op_global_average_pool, "pool", &declared, 1, NULL);
    int lost = add_node(graph, nd_op_opaque, "lost", &pool, 1, &node);
    node->op_type = "Einsum";
    int y = add_node(graph, nd_op_relu, "last", &lost, 1, NULL);
    OK(nd_graph_add_output(graph, y));
    cr_assert_eq(nd_graph_infer(graph, &settings), nd_status_ok, "%s", nd_error());
    expect_dims(graph, relu, "2x3x9x8");
    expect_dims(graph, pool, "2x3x1x1");
    cr_assert_eq(graph->values[y].rank, -1);
    cr_assert_eq(nd_graph_infer(graph, &other), nd_status_ok, "%s", nd_error());
    expect_dims(graph, relu, "5x3x9x8");
    expect_dims(graph, pool, "5x3x1x1");
    nd_graph_free(graph);
}

static nd_node *add_opaque(nd_graph *graph, const char *op_type, int in, int *out) {
    nd_node *node = NULL;
    *out = add_node(graph, nd_op_opaque, NULL, &in, 1, &node);
    node->op_type = op_type;
    graph->values[*out].rank = 1;
    graph->values[*out].dims[0] = -1;
    return node;
}

Test(infer, an_open_length_that_counts_is_no_batch) {
    nd_graph *graph = new_graph("counts");
    const int x = add_input(graph, "x", 4, (int64_t[]){-1, 3, 8, 8});
    int counted, other;
    add_opaque(graph, "NonZero", x, &counted);
    add_opaque(graph, "Strange", x, &other);
    OK(nd_graph_add_output(graph, counted));
    OK(nd_graph_add_output(graph, other));
    OK(nd_graph_sort(graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 2, .allow_opaque = true}));
    cr_expect_eq(graph->values[counted].rank, -1);
    cr_expect(graph->values[other].rank == 1 && graph->values[other].dims[0] == 2);
    nd_graph_free(graph);
}

Test(infer, a_range_and_a_constant_of_a_shape_are_as_long_as_they_are) {
    nd_graph *graph = new_graph("long");
    nd_node *range, *constant;
    const int64_t length = 332;
    const int ends[] = {add_floats(graph, NULL, 0, NULL, (float[]){4}),
                        add_floats(graph, NULL, 0, NULL, (float[]){1000}),
                        add_floats(graph, NULL, 0, NULL, (float[]){3})};
    const int x = add_input(graph, "x", 2, (int64_t[]){1, 332});
    const int numbers = add_node(graph, nd_op_opaque, NULL, ends, 3, &range);
    range->op_type = "Range";
    const int shape = add_ints(graph, 1, 1, &length),
              same = add_node(graph, nd_op_constant_of_shape, NULL, &shape, 1, &constant);
    constant->attr.dtype = nd_dtype_f32;
    constant->attr.value = 0.5f;
    finish(graph, add_node(graph, nd_op_add, NULL, (int[]){x, same, numbers}, 3, NULL), 1);
    const nd_tensor *all = graph->values[same].init, *row = graph->values[numbers].init;
    cr_assert(all && nd_tensor_count(all) == 332 && ((const float *)all->data)[331] == 0.5f);
    cr_assert(row && nd_tensor_count(row) == 332 && ((const float *)row->data)[331] == 997);
    nd_graph_free(graph);
}

/* Sizes of detectors: the least and the largest side, and what they are scaled by. */
Test(infer, lists_are_reduced_to_a_number) {
    static const struct {
        const char *op;
        int64_t count, whole;
        double real;
    } cases[] = {{"ReduceProd", 3, 84, 84}, {"ReduceSum", 3, 5, 5},  {"ReduceMin", 3, -6, -6},
                 {"ReduceMax", 3, 7, 7},    {"ReduceProd", 0, 1, 0}, {"ReduceSum", 0, 0, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const bool product = !strcmp(cases[c].op, "ReduceProd");
        const int64_t list[] = {7, -6, product ? -2 : 4};
        const float reals[] = {7, -6, product ? -2 : 4};
        for (int is_real = 0; is_real < (cases[c].count ? 2 : 1); is_real++) {
            nd_graph *graph = new_graph("reduced");
            nd_node *node, *last;
            const int x = add_input(graph, "x", 2, (const int64_t[]){1, 2});
            const int numbers = is_real ? add_floats(graph, NULL, 1, &cases[c].count, reals)
                                        : add_ints(graph, 1, cases[c].count, list);
            const int found =
                add_node(graph, product ? nd_op_reduce_prod : nd_op_reduce, NULL, &numbers, 1, &node);
            node->op_type = cases[c].op;
            const int number = add_node(graph, is_real ? nd_op_unary : nd_op_cast, NULL, &found, 1, &last);
            last->op_type = is_real ? "Reciprocal" : last->op_type;
            finish(graph, add_node(graph, nd_op_add, NULL, (int[]){x, number}, 2, NULL), 1);
            const nd_tensor *init = graph->values[is_real ? number : found].init;
            cr_assert(init && nd_tensor_count(init) == 1, "%s of %d, real %d", cases[c].op,
                      (int)cases[c].count, is_real);
            if (is_real)
                cr_expect_float_eq(*(const float *)init->data, 1 / cases[c].real, 1e-7, "%s", cases[c].op);
            else
                cr_expect_eq(*(const int64_t *)init->data, cases[c].whole, "%s", cases[c].op);
            nd_graph_free(graph);
        }
    }
}

/* A file for eight images says eight where it means all of them, in whatever order batches come, and in
 * copies of its graph. */
Test(infer, shapes_for_so_many_images_take_the_batch) {
    static const int64_t batches[] = {8, 1, 3, 8};
    nd_graph *graph = new_graph("eight"), *copy;
    const int x = add_input(graph, "x", 4, (int64_t[]){8, 3, 4, 4});
    const int sizes = add_ints(graph, 1, 4, (int64_t[]){8, 3, 8, 8});
    const int wide = add_node(graph, nd_op_resize, NULL, (int[]){x, -1, -1, sizes}, 4, NULL);
    const int shape = add_ints(graph, 1, 2, (int64_t[]){8, -1});
    const int y = add_node(graph, nd_op_reshape, NULL, (int[]){wide, shape}, 2, NULL);
    finish(graph, y, 8);
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        OK(infer(graph, batches[b]));
        OK(nd_graph_clone(graph, &copy));
        OK(infer(copy, batches[b] + 1));
        cr_expect(graph->values[y].dims[0] == batches[b] && graph->values[y].dims[1] == 192);
        cr_expect_eq(copy->values[copy->outputs[0]].dims[0], batches[b] + 1);
        nd_graph_free(copy);
    }
    nd_graph_free(graph);
}
