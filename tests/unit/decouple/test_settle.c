/* Budgets of plans whose layers read fewer channels than they are given, which the fit alone can tell. */
#include "decouple/settle.h"
#include "tests/unit/help/net_help.h"

static const int64_t widths[] = {3, 20, 24, 24, 32};

/* Four 3x3 convs in a row: every channel that one does not read is one that the conv before need not compute.
 */
static nd_graph *row_of_convs(void) {
    nd_graph *graph = new_graph("row");
    int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    for (int c = 0; c < 4; c++) {
        char name[16];
        snprintf(name, sizeof name, "conv%d", c);
        x = add_conv(graph, name, x, widths[c + 1], widths[c], 3, 1, (uint64_t)(2 * c + 1));
        x = add_plain(graph, nd_op_relu, x, -1);
    }
    x = add_plain(graph, nd_op_global_average_pool, add_conv(graph, "score", x, 5, widths[4], 1, 1, 9), -1);
    finish(graph, x, 1);
    return graph;
}

/* Some channels that hardly matter to the convs that read them. */
static void make_faint(nd_graph *graph, int64_t channels) {
    for (int c = 1; c < 4; c++) {
        char name[32];
        snprintf(name, sizeof name, "conv%d.weight", c);
        const int value = nd_graph_find_value(graph, name);
        cr_assert(value >= 0);
        float *w = (float *)graph->values[value].init->data;
        for (int64_t o = 0; o < widths[c + 1]; o++)
            for (int64_t e = 0; e < channels * 9; e++) w[o * widths[c] * 9 + e] *= 1e-3f;
    }
}

/* The share of its budget that the graph comes to; it is closed. */
static double land(nd_graph *graph, nd_backend *backend, nd_batches *calib, const char *method,
                   double target) {
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_decouple_report report = {0};
    settings.method = method;
    settings.ranks = nd_ranks_adaptive;
    settings.rule = nd_rule_macs_ratio;
    settings.target = target;
    settings.quick = calib != NULL;
    settings.calib = calib;
    OK(nd_decouple(graph, backend, &settings, &report));
    const double budget = floor((double)report.before.total_macs / target);
    const double landed = (double)nd_cost_graph(graph).total_macs / budget;
    cr_expect_eq(nd_cost_graph(graph).total_macs, report.after.total_macs);
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
    return landed;
}

typedef struct landing {
    const char *method;
    bool calibrated;
    double within; /* of the budget: how coarse the candidates are */
    int64_t faint; /* channels of each conv's input that no term is spent on */
} landing;

static void check_landing(nd_backend *backend, nd_batches *calib, const landing *wanted, double target) {
    nd_graph *graph = row_of_convs();
    make_faint(graph, wanted->faint);
    const double landed = land(graph, backend, wanted->calibrated ? calib : NULL, wanted->method, target);
    cr_expect(landed <= 1 && landed >= 1 - wanted->within, "%s at %g%s: %.2f %% of the budget",
              wanted->method, target, wanted->calibrated ? "" : ", weights alone", 100 * landed);
}

static void check_landings(const landing *wanted, size_t count) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(24, 11);
    for (size_t w = 0; w < count; w++) check_landing(backend, calib, &wanted[w], 2);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* One channel of these layers is up to three hundredths of the budget where it is the whole candidate. */
Test(settle, pruned_networks_keep_to_their_budget) {
    static const landing wanted[] = {{"prune", true, .03, 0},
                                     {"prune+dwpw", false, .01, 0},
                                     {"prune+dwpw", true, .05, 0},
                                     {"prune+pwdw", true, .03, 0}};
    check_landings(wanted, sizeof wanted / sizeof *wanted);
}

/* There are more terms than channels, so that by their number every channel could be read. */
Test(settle, what_the_fits_leave_unread_is_spent) {
    static const landing wanted[] = {{"dwpw", false, .02, 8}, {"dwpw", true, .05, 8}};
    check_landings(wanted, sizeof wanted / sizeof *wanted);
}

/* Which channels a layer reads tells little of what a grouped one before it saves. */
static nd_graph *row_of_groups(void) {
    static const struct {
        int64_t no, ni, groups, kernel, stride;
    } rows[] = {{16, 3, 1, 3, 1},   {32, 16, 4, 3, 2}, {32, 32, 2, 3, 1},
                {32, 32, 32, 3, 1}, {32, 32, 1, 1, 1}, {32, 32, 8, 3, 1}};
    nd_graph *graph = new_graph("groups");
    int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        char name[16];
        snprintf(name, sizeof name, "conv%zu", r);
        x = add_conv(graph, name, x, rows[r].no, rows[r].ni / rows[r].groups, rows[r].kernel, rows[r].stride,
                     2 * r + 1);
        graph->nodes[graph->n_nodes - 1].attr.groups = rows[r].groups;
        x = add_plain(graph, nd_op_relu, x, -1);
    }
    x = add_conv(graph, "score", x, 5, 32, 1, 1, 99);
    finish(graph, add_plain(graph, nd_op_global_average_pool, x, -1), 1);
    return graph;
}

static void check_groups(nd_backend *backend, nd_batches *calib, const char *method, double target) {
    const double landed = land(row_of_groups(), backend, calib, method, target);
    cr_expect(landed <= 1 && landed >= .7, "%s at %g: %.2f %% of the budget", method, target, 100 * landed);
}

Test(settle, networks_with_groups_are_never_over_their_budget) {
    static const char *const methods[] = {"dwpw", "prune", "prune,dwpw", "dwpw_lowrank,spatial"};
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(24, 11);
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        for (double target = 1.5; target < 2.5; target += .25)
            check_groups(backend, NULL, methods[m], target);
        check_groups(backend, calib, methods[m], 2);
    }
    nd_batches_close(calib);
    nd_backend_close(backend);
}
