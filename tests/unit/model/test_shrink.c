/* Channels that nothing reads go, and the function stays what it was to the last bit. */
#include "model/shrink.h"

#include "decouple/decouple.h"
#include "tests/unit/help/net_help.h"

static nd_graph *net_of(int *x) {
    nd_graph *graph = new_graph("gathers");
    *x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    return graph;
}

/* Shrinks a copy: the rows that went; the copy computes the same. */
static int64_t shrink(const nd_graph *graph, nd_graph **out) {
    nd_backend *backend = help_backend();
    int64_t dropped = -1;
    OK(nd_graph_clone(graph, out));
    OK(nd_graph_infer(*out, &(nd_infer_settings){.batch = 1}));
    OK(nd_graph_shrink(*out, &dropped));
    OK(nd_graph_infer(*out, &(nd_infer_settings){.batch = 1}));
    cr_expect_eq(logit_distance(backend, graph, *out, 3, 5), 0);
    nd_backend_close(backend);
    return dropped;
}

static int64_t rows_of(const nd_graph *graph, const char *name) {
    const nd_node *node = &graph->nodes[nd_graph_find_node(graph, name)];
    return nd_graph_constant(graph, node, 1)->dims[0];
}

static int count_gathers(const nd_graph *graph) {
    int count = 0;
    for (int n = 0; n < graph->n_nodes; n++) count += graph->nodes[n].op == nd_op_gather;
    return count;
}

Test(shrink, rows_go_through_activation_and_pool) {
    int x;
    nd_graph *graph = net_of(&x), *small;
    int a = add_plain(graph, nd_op_relu, add_conv(graph, "a", x, 6, 3, 3, 1, 1), -1);
    int g = add_gather(graph, add_plain(graph, nd_op_identity, a, -1), (int64_t[]){1, 4}, 2);
    int b = add_conv(graph, "b", g, 4, 2, 3, 1, 3);
    finish(graph, add_plain(graph, nd_op_global_average_pool, b, -1), 1);
    cr_expect_eq(shrink(graph, &small), 4);
    cr_expect_eq(rows_of(small, "a"), 2);
    cr_expect_eq(rows_of(small, "b"), 4);
    cr_expect_eq(count_gathers(small), 0);
    cr_expect_lt(nd_cost_graph(small).total_macs, nd_cost_graph(graph).total_macs);
    nd_graph_free(graph);
    nd_graph_free(small);
}

/* Two readers: what either needs stays, and both Gathers count anew. A repeated channel stays repeated. */
Test(shrink, readers_share_what_they_need) {
    int x;
    nd_graph *graph = net_of(&x), *small;
    int a = add_plain(graph, nd_op_relu, add_conv(graph, "a", x, 8, 3, 3, 1, 1), -1);
    int b = add_conv(graph, "b", add_gather(graph, a, (int64_t[]){1, 4, 4}, 3), 4, 3, 3, 1, 3);
    int c = add_conv(graph, "c", add_gather(graph, a, (int64_t[]){6, 1}, 2), 4, 2, 3, 1, 5);
    finish(graph, add_plain(graph, nd_op_global_average_pool, add_plain(graph, nd_op_add, b, c), -1), 1);
    cr_expect_eq(shrink(graph, &small), 5);
    cr_expect_eq(rows_of(small, "a"), 3);
    cr_expect_eq(count_gathers(small), 2);
    nd_graph_free(graph);
    nd_graph_free(small);
}

/* A residual sum that is read whole keeps both of its operands whole; one that is read in part loses the
 * rest. */
Test(shrink, a_sum_goes_as_one) {
    for (int whole = 0; whole < 2; whole++) {
        int x;
        nd_graph *graph = net_of(&x), *small;
        int a = add_conv(graph, "a", x, 6, 3, 3, 1, 1), b = add_conv(graph, "b", x, 6, 3, 1, 1, 3);
        int sum = add_plain(graph, nd_op_relu, add_plain(graph, nd_op_add, a, b), -1);
        int c = add_conv(graph, "c", add_gather(graph, sum, (int64_t[]){0, 5}, 2), 6, 2, 3, 1, 5);
        if (whole) c = add_plain(graph, nd_op_add, c, sum);
        finish(graph, add_plain(graph, nd_op_global_average_pool, c, -1), 1);
        cr_expect_eq(shrink(graph, &small), whole ? 0 : 8);
        cr_expect_eq(count_gathers(small), whole);
        nd_graph_free(graph);
        nd_graph_free(small);
    }
}

/* A depthwise conv between producer and reader loses its groups with its channels. */
Test(shrink, grouped_convs_lose_whole_groups) {
    int x;
    nd_graph *graph = net_of(&x), *small;
    int a = add_conv(graph, "a", x, 12, 3, 3, 1, 1), d = add_conv(graph, "d", a, 6, 2, 3, 1, 3);
    graph->nodes[nd_graph_find_node(graph, "d")].attr.groups = 6;
    int b = add_conv(graph, "b", add_gather(graph, d, (int64_t[]){2, 3, 5}, 3), 4, 3, 3, 1, 5);
    finish(graph, add_plain(graph, nd_op_global_average_pool, b, -1), 1);
    cr_expect_eq(shrink(graph, &small), 6 + 3);
    cr_expect_eq(rows_of(small, "a"), 6);
    cr_expect_eq(small->nodes[nd_graph_find_node(small, "d")].attr.groups, 3);
    nd_graph_free(graph);
    nd_graph_free(small);
}

/* A Gather of what cannot get narrower itself is where the loss of groups ends. */
Test(shrink, a_gather_of_the_input_takes_fewer_channels) {
    int x;
    nd_graph *graph = net_of(&x), *small;
    const int wide = add_gather(graph, x, (int64_t[]){0, 1, 2, 1}, 4);
    const int d = add_conv(graph, "d", wide, 8, 2, 3, 1, 3);
    graph->nodes[nd_graph_find_node(graph, "d")].attr.groups = 2;
    const int b = add_conv(graph, "b", add_gather(graph, d, (int64_t[]){5, 6}, 2), 4, 2, 3, 1, 5);
    finish(graph, add_plain(graph, nd_op_global_average_pool, b, -1), 1);
    cr_expect_eq(shrink(graph, &small), 4);
    cr_expect_eq(rows_of(small, "d"), 4);
    nd_graph_free(graph);
    nd_graph_free(small);
}

Test(shrink, outputs_and_graphs_without_gathers_stay) {
    int x;
    nd_graph *graph = net_of(&x), *small;
    int a = add_conv(graph, "a", x, 6, 3, 3, 1, 1);
    int b = add_conv(graph, "b", add_gather(graph, a, (int64_t[]){1, 4}, 2), 4, 2, 3, 1, 3);
    OK(nd_graph_add_output(graph, b));
    finish(graph, a, 1);
    int64_t dropped = -1;
    OK(nd_graph_shrink(graph, &dropped));
    cr_expect_eq(dropped, 0);
    cr_expect_eq(rows_of(graph, "a"), 6);
    nd_graph_free(graph);
    graph = small_net();
    cr_expect_eq(shrink(graph, &small), 0);
    nd_graph_free(graph);
    nd_graph_free(small);
}

static nd_decouple_report prune(nd_graph *graph, const nd_decouple_settings *settings) {
    nd_backend *backend = help_backend();
    nd_decouple_report report = {0};
    OK(nd_decouple(graph, backend, settings, &report));
    int64_t macs = 0;
    for (size_t l = 0; l < report.n_layers; l++) macs += report.layers[l].new_macs;
    cr_expect_eq(macs, report.after.total_macs, "the layers add up to the network");
    nd_backend_close(backend);
    return report;
}

/* The inner conv of a residual block loses what the second one does not read; one that reads the
 * sum gathers. */
Test(shrink, the_conv_before_a_pruned_one_shrinks) {
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    const nd_layer_rule rules[] = {{"block.b", "prune:3"}, {"block.a", "dense"}, {"down", "prune:5"}};
    settings.layers = rules;
    settings.n_layers = 3;
    nd_decouple_report report = prune(graph, &settings);
    cr_expect_eq(rows_of(graph, "block.a"), 3);
    cr_expect_eq(rows_of(graph, "block.b"), 8);
    cr_expect_eq(count_gathers(graph), 1);
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
}

/* What pruning saves in the layers before is spent, within the budget. */
Test(shrink, a_pruned_network_spends_its_budget) {
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "prune";
    settings.rule = nd_rule_macs_ratio;
    settings.target = 1.5;
    nd_decouple_report report = prune(graph, &settings);
    double ratio = (double)report.before.total_macs / (double)report.after.total_macs;
    cr_expect(ratio >= 1.5 && ratio < 1.6, "%g", ratio);
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
}
