/* Precision by layer: the bound is kept by what is written, and nothing is in fp32 that need not be. */
#include "model/infer/infer.h"
#include "quantize/quantize.h"
#include "run/plugins.h"
#include "tests/unit/help/net_help.h"

#include <criterion/criterion.h>

enum { images = 28 };

/* A judge of tests, and what it saw. */
typedef struct verdicts {
    nd_backend *backend;
    const nd_graph *real;
    const char *guilty; /* node that costs 10 points in integers; NULL: the distance from `real` is judged */
    double always;      /* points that are lost in any case */
    int count;
} verdicts;

static bool in_integers(const nd_graph *graph, const char *name) {
    const int node = nd_graph_find_node(graph, name);
    cr_assert_geq(node, 0, "%s", name);
    return graph->values[graph->nodes[node].in[1]].integers != NULL;
}

static double picture_distance(nd_backend *backend, const nd_graph *a, const nd_graph *b) {
    nd_batches *batches = open_pictures(images, 12);
    const double distance = distance_on(backend, a, b, images, ((pictures *)batches)->images);
    nd_batches_close(batches);
    return distance;
}

static nd_status judge(void *user, const nd_graph *graph, double *points) {
    verdicts *v = user;
    v->count++;
    *points = v->always;
    if (v->guilty)
        *points += in_integers(graph, v->guilty) ? 10 : 0;
    else if (v->real)
        *points += 1e4 * picture_distance(v->backend, v->real, graph);
    return nd_status_ok;
}

static nd_status choose(nd_graph *graph, verdicts *v, double points, nd_quantize_report *report) {
    nd_batches *calib = open_pictures(images, 11);
    const nd_quantize_judge judging = {judge, v};
    const nd_quantize_settings settings = {
        .calib = calib, .automatic = true, .points = points, .judge = v ? &judging : NULL};
    const nd_status status = nd_quantize_graph(graph, v ? v->backend : NULL, &settings, report);
    nd_batches_close(calib);
    return status;
}

static void fold(nd_graph *graph) {
    OK(nd_graph_fold(graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
}

static nd_graph *decoupled_net(nd_backend *backend) {
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.rule = nd_rule_rank;
    settings.target = 2;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    nd_decouple_report_free(&report);
    return graph;
}

/* Half of what int8 throughout loses: some layers stay in fp32, not all, and the loss that was reported is
 * that of the network that was written. */
Test(quantize_choose, the_bound_holds_of_what_is_written) {
    verdicts v = {.backend = help_backend(), .real = small_net()};
    nd_graph *all = small_net(), *graph = small_net();
    nd_quantize_report report;
    OK(choose(all, &v, 100, &report));
    const double loss = report.points;
    cr_expect_gt(loss, 0);
    cr_expect_eq(report.quantised, report.layers);
    nd_quantize_report_free(&report);

    OK(choose(graph, &v, loss / 2, &report));
    fold(graph);
    cr_expect_float_eq(report.all_points, loss, 1e-9);
    cr_expect_leq(report.points, loss / 2);
    cr_expect_float_eq(1e4 * picture_distance(v.backend, v.real, graph), report.points, 1e-9);
    cr_expect(report.quantised > 0 && report.quantised < report.layers, "%d", report.quantised);
    cr_expect_leq(report.runs, 2 + 3 * report.n);
    for (int l = 0; l < report.n; l++)
        cr_expect_eq(report.of[l].in_integers, in_integers(graph, report.of[l].name), "%s",
                     report.of[l].name);
    nd_quantize_report_free(&report);
    nd_graph_free(all);
    nd_graph_free(graph);
    nd_graph_free((nd_graph *)v.real);
    nd_backend_close(v.backend);
}

/* Whoever goes into fp32 before the guilty one comes back. */
Test(quantize_choose, only_what_the_bound_needs_stays_in_fp32) {
    static const char *const guilty[] = {"first", "block.a", "block.b", "down", "score"};
    for (size_t g = 0; g < sizeof guilty / sizeof *guilty; g++) {
        verdicts v = {.backend = help_backend(), .guilty = guilty[g]};
        nd_graph *graph = small_net();
        nd_quantize_report report;
        OK(choose(graph, &v, 5, &report));
        fold(graph);
        cr_expect_eq(report.points, 0);
        for (int l = 0; l < report.n; l++) {
            const char *name = report.of[l].name;
            cr_expect_eq(in_integers(graph, name), strcmp(name, guilty[g]) != 0, "%s beside %s", name,
                         guilty[g]);
        }
        nd_quantize_report_free(&report);
        nd_graph_free(graph);
        nd_backend_close(v.backend);
    }
}

/* Whatever the times are, the bound is kept. */
Test(quantize_choose, networks_are_timed) {
    nd_backend *backend = help_backend();
    nd_graph *graph = decoupled_net(backend);
    verdicts v = {.backend = backend, .guilty = "score"};
    const nd_quantize_judge judging = {judge, &v};
    nd_batches *calib = open_pictures(images, 11);
    const nd_quantize_settings settings = {
        .calib = calib, .automatic = true, .timed = true, .points = 5, .judge = &judging};
    nd_quantize_report report;
    OK(nd_quantize_graph(graph, backend, &settings, &report));
    fold(graph);
    cr_expect_not(in_integers(graph, "score"));
    cr_expect_eq(report.points, 0);
    cr_expect(report.real_ns > 0 && report.all_ns > 0 && report.ns > 0);
    nd_quantize_report_free(&report);
    nd_batches_close(calib);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

Test(quantize_choose, the_halves_of_a_pair_are_one_layer) {
    nd_backend *backend = help_backend();
    verdicts v = {.backend = backend, .guilty = "block.b.pw"};
    nd_graph *graph = decoupled_net(backend);
    nd_quantize_report report;
    OK(choose(graph, &v, 5, &report));
    fold(graph);
    cr_expect_not(in_integers(graph, "block.b.dw"));
    cr_expect_not(in_integers(graph, "block.b.pw"));
    int pairs = 0;
    for (int l = 0; l < report.n; l++) pairs += report.of[l].pair;
    cr_expect_gt(pairs, 1);
    cr_expect_eq(pairs, report.balanced);
    cr_expect_eq(report.n + pairs, report.layers);
    nd_quantize_report_free(&report);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

Test(quantize_choose, says_when_nothing_is_good_enough) {
    verdicts v = {.backend = help_backend(), .always = 7};
    nd_graph *graph = small_net();
    nd_quantize_report report;
    cr_expect_eq(choose(graph, &v, 5, &report), nd_status_failed);
    cr_expect_null(report.of);
    nd_graph_free(graph);
    nd_backend_close(v.backend);
}

/* Without a judge it is the best classes of the calibration images that may not change. */
Test(quantize_choose, best_classes_are_counted_without_labels) {
    nd_backend *backend = help_backend();
    nd_graph *real = small_net(), *graph = small_net();
    nd_batches *calib = open_pictures(images, 11);
    const nd_quantize_settings settings = {.calib = calib, .automatic = true, .points = 0};
    nd_quantize_report report;
    int64_t classes;
    int moved = 0;
    OK(nd_graph_fold(real));
    OK(nd_quantize_graph(graph, backend, &settings, &report));
    fold(graph);
    float *a = run_net(backend, real, images, ((pictures *)calib)->images, &classes);
    float *b = run_net(backend, graph, images, ((pictures *)calib)->images, &classes);
    for (int i = 0; i < images; i++) {
        int64_t best[2] = {0};
        for (int64_t c = 0; c < classes; c++) {
            if (a[i * classes + c] > a[i * classes + best[0]]) best[0] = c;
            if (b[i * classes + c] > b[i * classes + best[1]]) best[1] = c;
        }
        moved += best[0] != best[1];
    }
    cr_expect_eq(report.points, 0);
    cr_expect_eq(moved, 0);
    free(a);
    free(b);
    nd_quantize_report_free(&report);
    nd_batches_close(calib);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}
