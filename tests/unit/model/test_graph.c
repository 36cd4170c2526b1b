#include "tests/unit/help/graph_help.h"

static int add_three(nd_graph *graph, const char *name) {
    return add_input(graph, name, 1, (int64_t[]){3});
}

static int add_number(nd_graph *graph, const char *name, float number) {
    return add_floats(graph, name, 1, (int64_t[]){1}, &number);
}

static void connect(nd_graph *graph, nd_op op, const char *name, int a, int b, int out) {
    cr_assert_eq(nd_graph_add_node(graph, op, name, (int[]){a, b}, b < 0 ? 1 : 2, &out, 1, NULL),
                 nd_status_ok);
}

Test(graph, names_are_unique_and_found) {
    nd_graph *graph = new_graph("test");
    int first = add_value(graph, "x"), second = add_value(graph, "x"), nameless = add_value(graph, NULL);
    cr_assert_eq(nd_graph_find_value(graph, "x"), first);
    cr_assert_str_neq(graph->values[second].name, "x");
    cr_assert_eq(strncmp(graph->values[second].name, "x", 1), 0, "the prefix stays");
    cr_assert_eq(nd_graph_find_value(graph, graph->values[second].name), second);
    cr_assert_neq(*graph->values[nameless].name, '\0');
    for (int i = 0; i < 1000; i++) add_value(graph, "x");
    for (int i = 0; i < graph->n_values; i++)
        cr_assert_eq(nd_graph_find_value(graph, graph->values[i].name), i);
    cr_assert_eq(nd_graph_find_value(graph, "absent"), -1);
    nd_graph_free(graph);
}

Test(graph, a_removed_node_frees_its_name) {
    nd_graph *graph = new_graph("test");
    int x = add_three(graph, "x"), y = add_value(graph, "y");
    connect(graph, nd_op_relu, "layer", x, -1, y);
    nd_graph_remove_node(graph, 0);
    cr_assert_eq(nd_graph_find_node(graph, "layer"), -1);
    connect(graph, nd_op_sigmoid, "layer", x, -1, y);
    cr_assert_eq(nd_graph_find_node(graph, "layer"), 1);
    OK(nd_graph_add_output(graph, y));
    cr_assert_eq(nd_graph_sort(graph), nd_status_ok);
    cr_assert_eq(graph->n_nodes, 1);
    cr_assert_eq(nd_graph_find_node(graph, "layer"), 0);
    cr_assert_eq(graph->values[y].producer, 0);
    nd_graph_free(graph);
}

Test(graph, sorting_orders_and_drops) {
    nd_graph *graph = new_graph("test");
    int x = add_three(graph, "x"), a = add_value(graph, "a"), b = add_value(graph, "b");
    int unused = add_value(graph, "unused"), lost = add_number(graph, "lost", 1);
    connect(graph, nd_op_relu, "second", a, -1, b);
    connect(graph, nd_op_relu, "dead end", b, -1, unused);
    connect(graph, nd_op_relu, "first", x, -1, a);
    OK(nd_graph_add_output(graph, b));
    cr_assert_eq(nd_graph_sort(graph), nd_status_ok, "%s", nd_error());
    cr_assert_eq(graph->n_nodes, 2);
    cr_assert_str_eq(graph->nodes[0].name, "first");
    cr_assert_str_eq(graph->nodes[1].name, "second");
    cr_assert_eq(graph->values[a].producer, 0);
    cr_assert_eq(graph->values[b].producer, 1);
    cr_assert_null(graph->values[lost].init);
    cr_assert_eq(nd_graph_find_value(graph, "lost"), -1);
    cr_assert_eq(nd_graph_find_value(graph, "b"), b, "value numbers stay");
    nd_graph_free(graph);
}

Test(graph, sorting_keeps_a_sorted_order) {
    nd_graph *graph = new_graph("test");
    int x = add_three(graph, "x"), left = x, right = x;
    for (int i = 0; i < 5; i++) {
        int next = add_value(graph, "l");
        connect(graph, nd_op_relu, "l", left, -1, next);
        left = next;
        next = add_value(graph, "r");
        connect(graph, nd_op_relu, "r", right, -1, next);
        right = next;
    }
    int sum = add_value(graph, "sum");
    connect(graph, nd_op_add, "sum", left, right, sum);
    OK(nd_graph_add_output(graph, sum));
    const char *names[11];
    for (int i = 0; i < 11; i++) names[i] = graph->nodes[i].name;
    cr_assert_eq(nd_graph_sort(graph), nd_status_ok);
    for (int i = 0; i < 11; i++) cr_assert_str_eq(graph->nodes[i].name, names[i]);
    nd_graph_free(graph);
}

Test(graph, contradictions_are_named) {
    nd_graph *cycle = new_graph("test");
    int a = add_value(cycle, "a"), b = add_value(cycle, "b");
    connect(cycle, nd_op_relu, "one", a, -1, b);
    connect(cycle, nd_op_relu, "two", b, -1, a);
    OK(nd_graph_add_output(cycle, b));
    cr_assert_eq(nd_graph_sort(cycle), nd_status_format);
    cr_assert(strstr(nd_error(), "one") || strstr(nd_error(), "two"), "%s", nd_error());
    nd_graph_free(cycle);

    nd_graph *twice = new_graph("test");
    int x = add_three(twice, "x"), y = add_value(twice, "y");
    connect(twice, nd_op_relu, "one", x, -1, y);
    connect(twice, nd_op_relu, "two", x, -1, y);
    OK(nd_graph_add_output(twice, y));
    cr_assert_eq(nd_graph_sort(twice), nd_status_format);
    cr_assert(strstr(nd_error(), "one") && strstr(nd_error(), "two") && strstr(nd_error(), "'y'"), "%s",
              nd_error());
    nd_graph_free(twice);

    nd_graph *nowhere = new_graph("test");
    int lost = add_value(nowhere, "lost"), out = add_value(nowhere, "out");
    connect(nowhere, nd_op_relu, "reader", lost, -1, out);
    OK(nd_graph_add_output(nowhere, out));
    cr_assert_eq(nd_graph_sort(nowhere), nd_status_format);
    cr_assert(strstr(nd_error(), "reader") && strstr(nd_error(), "lost"), "%s", nd_error());
    nd_graph_free(nowhere);
}

Test(graph, a_value_is_replaced_everywhere) {
    nd_graph *graph = new_graph("test");
    int x = add_three(graph, "x"), y = add_value(graph, "y"), z = add_value(graph, "z");
    connect(graph, nd_op_relu, "relu", x, -1, y);
    connect(graph, nd_op_add, "add", y, y, z);
    OK(nd_graph_add_output(graph, y));
    int user;
    cr_assert_eq(nd_graph_uses(graph, y, &user), 2);
    cr_assert_eq(user, 1);
    nd_graph_replace_value(graph, y, x);
    cr_assert_eq(nd_graph_uses(graph, y, &user), 0);
    cr_assert_eq(user, -1);
    cr_assert(nd_graph_is_output(graph, x) && !nd_graph_is_output(graph, y));
    nd_graph_free(graph);
}

Test(graph, a_clone_shares_weights_and_nothing_else) {
    nd_graph *graph = new_graph("test"), *copy;
    int x = add_three(graph, "x"), w = add_number(graph, "w", 2), y = add_value(graph, "y");
    connect(graph, nd_op_mul, "scale", x, w, y);
    OK(nd_graph_add_output(graph, y));
    cr_assert_eq(nd_graph_set_meta(graph, "key", "text"), nd_status_ok);
    cr_assert_eq(nd_graph_clone(graph, &copy), nd_status_ok);
    cr_assert_eq(copy->values[w].init->data, graph->values[w].init->data);
    char before[65], after[65];
    nd_graph_sha256(graph, before);
    nd_graph_free(graph);
    nd_graph_sha256(copy, after);
    cr_assert_str_eq(before, after);
    cr_assert_str_eq(nd_graph_meta(copy, "key"), "text");
    cr_assert_eq(nd_graph_find_node(copy, "scale"), 0);
    cr_assert_eq(*(float *)nd_graph_constant(copy, &copy->nodes[0], 1)->data, 2.0f);
    nd_graph_free(copy);
}

Test(graph, the_hash_sees_names_and_values_but_no_order) {
    char first[65], second[65], third[65];
    nd_graph *graph = new_graph("test");
    add_number(graph, "a", 1), add_number(graph, "b", 2);
    nd_graph_sha256(graph, first);
    nd_graph_free(graph);
    graph = new_graph("test");
    add_number(graph, "b", 2), add_number(graph, "a", 1);
    nd_graph_sha256(graph, second);
    nd_graph_free(graph);
    graph = new_graph("test");
    add_number(graph, "a", 2), add_number(graph, "b", 1);
    nd_graph_sha256(graph, third);
    nd_graph_free(graph);
    cr_assert_str_eq(first, second);
    cr_assert_str_neq(first, third);
}

/* Counts windows one by one: without ceil those that end inside the padded input; with it those that start in
 * the input or the padding before it, until one has reached the end. */
static int64_t count_windows(const nd_window *window, int64_t input, bool ceil_mode) {
    const int64_t span = window->dilation[0] * (window->kernel[0] - 1) + 1;
    const int64_t end = input + window->pad[0] + window->pad[2];
    if (span > end) return 0;
    for (int64_t at = 0, count = 0;; at += window->stride[0], count++) {
        const bool reached = count && at - window->stride[0] + span >= end;
        const bool taken = ceil_mode ? at < input + window->pad[0] && !reached : at + span <= end;
        if (!taken) return count;
    }
}

Test(graph, window_outputs_are_counted) {
    for (int bits = 0; bits < 5 * 4 * 3 * 4 * 4 * 12 * 2; bits++) {
        int rest = bits;
        nd_window window = {.kernel = {1 + rest % 5, 1}, .stride = {1 + rest / 5 % 4, 1}};
        rest /= 20;
        window.dilation[0] = 1 + rest % 3;
        window.pad[0] = rest / 3 % 4;
        window.pad[2] = rest / 12 % 4;
        rest /= 48;
        const int64_t input = 1 + rest % 12;
        const bool ceil_mode = rest / 12;
        if (window.pad[2] > window.dilation[0] * (window.kernel[0] - 1))
            continue; /* nd_graph_infer refuses it */
        cr_assert_eq(nd_window_output(&window, 0, input, ceil_mode), count_windows(&window, input, ceil_mode),
                     "kernel %ld stride %ld dilation %ld pads %ld %ld input %ld ceil %d",
                     (long)window.kernel[0], (long)window.stride[0], (long)window.dilation[0],
                     (long)window.pad[0], (long)window.pad[2], (long)input, ceil_mode);
    }
}

Test(graph, every_operator_has_a_name) {
    for (int op = 0; op < nd_op_count; op++) {
        cr_assert_not_null(nd_op_name((nd_op)op), "operator %d", op);
        for (int other = 0; other < op; other++)
            cr_assert_str_neq(nd_op_name((nd_op)op), nd_op_name((nd_op)other));
    }
}
