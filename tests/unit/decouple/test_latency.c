/* Ranks by time, with a clock that is made up: what is optimal is then known. */
#include "decouple/plan/latency.h"
#include "decouple/plan/plan.h"
#include "model/cost.h"
#include "tests/unit/help/small_net.h"

#include <stdlib.h>
#include <string.h>

/* The time of a graph is its MACs times a price, dense convolutions having another. */
typedef struct prices {
    double dense, decoupled;
    int calls, graphs;
} prices;

static nd_status price_graphs(void *user, const nd_graph *const *graphs, int n, double *ns) {
    prices *p = user;
    p->calls++;
    p->graphs += n;
    for (int i = 0; i < n; i++) {
        bool dense = true;
        for (int k = 0; k < graphs[i]->n_nodes; k++)
            dense = dense && !strstr(graphs[i]->nodes[k].name, ".dw");
        ns[i] = (double)nd_cost_graph(graphs[i]).total_macs * (dense ? p->dense : p->decoupled);
    }
    return nd_status_ok;
}

typedef struct timed {
    nd_backend *backend;
    nd_graph *graph;
    prices prices;
    nd_clock clock;
    nd_decouple_settings settings;
} timed;

static void open_timed(timed *t, double dense, double decoupled) {
    *t = (timed){.backend = help_backend(), .graph = small_net(), .prices = {dense, decoupled, 0, 0}};
    OK(nd_decouple_prepare(t->graph));
    t->clock = (nd_clock){price_graphs, &t->prices, 1, "made up"};
    t->settings = nd_decouple_defaults();
    t->settings.method = "dwpw";
    t->settings.ranks = nd_ranks_adaptive;
    t->settings.rule = nd_rule_latency_ratio;
    t->settings.target = 1.3;
    t->settings.clock = &t->clock;
}

static void close_timed(timed *t) {
    nd_graph_free(t->graph);
    nd_backend_close(t->backend);
}

/* Where every MAC takes as long, ranks by time are ranks by MACs. */
Test(latency, equal_prices_give_the_ranks_of_the_macs_ratio) {
    timed t;
    open_timed(&t, 1000, 1000);
    nd_graph *by_macs = small_net();
    nd_decouple_report one, other;
    OK(nd_decouple(t.graph, t.backend, &t.settings, &one));
    t.settings.rule = nd_rule_macs_ratio;
    OK(nd_decouple(by_macs, t.backend, &t.settings, &other));
    cr_assert_eq(one.n_layers, other.n_layers);
    for (size_t l = 0; l < one.n_layers; l++) {
        cr_expect_eq(one.layers[l].rank, other.layers[l].rank, "%s", one.layers[l].name);
        cr_expect_str_eq(one.layers[l].method, other.layers[l].method);
    }
    cr_expect_geq(one.expected_ratio, 1.3);
    cr_expect_float_eq(one.expected_ratio, (double)one.before.total_macs / (double)one.after.total_macs,
                       1e-3);
    nd_decouple_report_free(&one);
    nd_decouple_report_free(&other);
    nd_graph_free(by_macs);
    close_timed(&t);
}

/* Where decoupled layers take twice the time a MAC, the same target needs fewer MACs. */
Test(latency, dear_decoupled_layers_get_lower_ranks) {
    timed cheap, dear;
    nd_decouple_report one, other;
    open_timed(&cheap, 1000, 1000);
    open_timed(&dear, 1000, 2000);
    OK(nd_decouple(cheap.graph, cheap.backend, &cheap.settings, &one));
    OK(nd_decouple(dear.graph, dear.backend, &dear.settings, &other));
    cr_expect_lt(other.after.total_macs, one.after.total_macs);
    cr_expect_geq(other.expected_ratio, 1.3);
    nd_decouple_report_free(&one);
    nd_decouple_report_free(&other);
    close_timed(&cheap);
    close_timed(&dear);
}

/* Where nothing is faster than dense, no ratio above 1 is within reach. */
Test(latency, slow_decoupled_layers_are_left_dense) {
    timed t;
    nd_decouple_report report;
    open_timed(&t, 1, 1000);
    cr_expect_eq(nd_decouple(t.graph, t.backend, &t.settings, &report), nd_status_usage);
    cr_expect(strstr(nd_error(), "at most 1.000"), "%s", nd_error());
    t.settings.target = 1;
    OK(nd_decouple(t.graph, t.backend, &t.settings, &report));
    for (size_t l = 0; l < report.n_layers; l++) cr_expect_str_eq(report.layers[l].method, "dense");
    nd_decouple_report_free(&report);
    t.settings.conv_only = true;
    cr_expect_eq(nd_decouple(t.graph, t.backend, &t.settings, &report), nd_status_usage);
    t.settings.conv_only = false;
    t.settings.clock = NULL;
    cr_expect_eq(nd_decouple(t.graph, t.backend, &t.settings, &report), nd_status_usage);
    close_timed(&t);
}

/* Two layers of the small network have one shape: they are timed once. On disk, times serve the next run. */
Test(latency, a_shape_is_timed_once_and_kept) {
    char folder[] = "/tmp/nd-times-XXXXXX", command[64];
    timed t;
    nd_candidates first, second;
    cr_assert(mkdtemp(folder));
    open_timed(&t, 1000, 1500);
    t.settings.cache = folder;
    OK(nd_decouple_candidates(t.graph, t.backend, &t.settings, &first));
    cr_expect_eq(t.prices.calls, 3, "the network, two shapes: %d", t.prices.calls);
    OK(nd_decouple_candidates(t.graph, t.backend, &t.settings, &second));
    cr_expect_eq(t.prices.calls, 3);
    cr_assert_eq(first.count, second.count);
    cr_expect(first.total == second.total && first.fixed == second.fixed);
    for (size_t c = 0; c < first.count; c++) cr_expect_eq(first.rows[c].cost, second.rows[c].cost);
    nd_candidates_free(&second);
    t.clock.identity = "another machine";
    OK(nd_decouple_candidates(t.graph, t.backend, &t.settings, &second));
    cr_expect_eq(t.prices.calls, 6);
    nd_candidates_free(&first);
    nd_candidates_free(&second);
    close_timed(&t);
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}
