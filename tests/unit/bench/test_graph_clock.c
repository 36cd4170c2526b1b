/* The clock of --latency-ratio: what it times in 8 bits. */
#include "bench/timing/graph_clock.h"
#include "run/plugins.h"
#include "tests/unit/help/net_help.h"

#include <criterion/criterion.h>

static nd_backend *open_ref(void) {
    nd_backend *backend = NULL;
    OK(nd_backend_open("ref", NULL, &backend));
    return backend;
}

/* As decoupling times it: alone, dense or as a pair. */
static nd_graph *layer(nd_backend *backend, int64_t terms) {
    nd_graph *graph = new_graph("layer");
    const int x = add_input(graph, "x", 4, (int64_t[]){1, 8, 6, 7});
    finish(graph, add_conv(graph, "conv", x, 8, 8, 3, 1, 1), 2);
    if (!terms) return graph;
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "dwpw";
    settings.first_conv = true;
    settings.rule = nd_rule_rank;
    settings.target = (double)terms;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    cr_assert_eq(report.changed, 1);
    nd_decouple_report_free(&report);
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 2}));
    return graph;
}

/* All it does is one product of integers into 8 bits, and a pixel of them into fp32. */
static void expect_integers(nd_backend *backend, const nd_graph *graph, nd_operation product) {
    nd_exec *exec = NULL;
    OK(nd_exec_open(backend, graph, &(nd_exec_settings){.batch = 2}, &exec));
    const size_t count = nd_exec_node_count(exec);
    cr_assert_geq(count, 3u);
    cr_expect_eq(nd_exec_dynamic_count(exec), 0u, "nothing is left to the host");
    cr_expect_eq(nd_exec_node_at(exec, count - 3).operation, product);
    cr_expect_eq(nd_exec_node_at(exec, count - 2).operation, nd_operation_pool);
    cr_expect_eq(nd_exec_node_at(exec, count - 1).operation, nd_operation_dequantize);
    for (size_t i = 0; i + 3 < count; i++)
        cr_expect_eq(nd_exec_node_at(exec, i).operation, nd_operation_quantize, "of the input");
    nd_exec_close(exec);
    const nd_value *y = &graph->values[graph->outputs[0]];
    cr_expect_eq(y->dims[2] * y->dims[3], 1);
}

/* Activations have zeros as after a ReLU; what lies between the halves of a pair has both signs. */
static void expect_zeros(const nd_graph *graph) {
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (node->op != nd_op_quantize) continue;
        const uint8_t zero = *(const uint8_t *)nd_graph_constant(graph, node, 2)->data;
        const bool middle = strstr(graph->values[node->in[0]].name, ".dw") != NULL;
        cr_expect(middle ? zero > 100 && zero < 150 : zero == 0, "%s: %d", node->name, zero);
    }
}

Test(graph_clock, a_layer_in_8_bits_hands_8_bits_on) {
    nd_backend *backend = open_ref();
    const nd_operation products[] = {nd_operation_conv, nd_operation_separable};
    for (int pair = 0; pair < 2; pair++) {
        nd_graph *graph = layer(backend, 2 * pair);
        OK(nd_clock_quantize(graph, backend, nd_precision_int8, 2));
        cr_expect(nd_graph_is_quantised(graph));
        expect_integers(backend, graph, products[pair]);
        expect_zeros(graph);
        nd_graph_free(graph);
    }
    nd_backend_close(backend);
}

Test(graph_clock, times_every_precision_and_leaves_the_graphs) {
    nd_backend *backend = open_ref();
    nd_graph *graphs[] = {layer(backend, 0), layer(backend, 2)};
    const nd_precision precisions[] = {nd_precision_fp32, nd_precision_int8};
    char identities[2][1024];
    for (int p = 0; p < 2; p++) {
        nd_graph_clock clock;
        double ns[2] = {0};
        nd_graph_clock_init(&clock, backend, precisions[p], 2, 0.05);
        OK(clock.clock.measure(clock.clock.user, (const nd_graph *const *)graphs, 2, ns));
        cr_expect(ns[0] > 0 && ns[1] > 0);
        cr_expect_not(nd_graph_is_quantised(graphs[0]) || nd_graph_is_quantised(graphs[1]));
        snprintf(identities[p], sizeof identities[p], "%s", clock.identity);
    }
    cr_expect_str_neq(identities[0], identities[1], "times of one are not those of the other");
    for (int i = 0; i < 2; i++) nd_graph_free(graphs[i]);
    nd_backend_close(backend);
}
