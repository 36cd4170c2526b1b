#include "decouple/calib/calibrate.h"
#include "decouple/calib/output_metric.h"
#include "decouple/decouple.h"
#include "decouple/plan/plan.h"
#include "run/executor.h"
#include "run/heads.h"
#include "tests/unit/help/small_net.h"

/* What changes of a whole network are measured at. */

static int flatten(nd_graph *graph, int x) {
    nd_node *node;
    const int y = add_node(graph, nd_op_flatten, NULL, &x, 1, &node);
    node->attr.axis = 1;
    return y;
}

static int concat(nd_graph *graph, int a, int b) {
    nd_node *node;
    const int y = add_node(graph, nd_op_concat, NULL, (int[]){a, b}, 2, &node);
    node->attr.axis = 1;
    return y;
}

static int image(nd_graph *graph) {
    return add_input(graph, "x", 4, (int64_t[]){-1, 3, 4, 4});
}

Test(heads, of_a_classifier_are_its_scores_before_the_softmax) {
    nd_graph *graph = new_graph("classifier");
    nd_node *node;
    int heads[nd_heads_max];
    const int scores = flatten(graph, image(graph));
    const int y = add_node(graph, nd_op_softmax, NULL, &scores, 1, &node);
    node->attr.axis = 1;
    finish(graph, y, 1);
    cr_assert_eq(nd_graph_heads(graph, heads), 1);
    cr_expect_eq(heads[0], scores);
    nd_graph_free(graph);
}

Test(heads, of_a_detector_are_its_outputs_or_the_parts_of_the_only_one) {
    nd_graph *graph = new_graph("detector");
    int heads[nd_heads_max];
    const int x = image(graph), boxes = add_node(graph, nd_op_relu, NULL, &x, 1, NULL),
              scores = add_node(graph, nd_op_sigmoid, NULL, &x, 1, NULL);
    finish(graph, concat(graph, boxes, scores), 1);
    cr_assert_eq(nd_graph_heads(graph, heads), 2);
    cr_expect(heads[0] == boxes && heads[1] == scores);
    nd_graph_free(graph);

    graph = new_graph("two outputs");
    const int y = image(graph), one = add_node(graph, nd_op_relu, NULL, &y, 1, NULL),
              other = concat(graph, one, y);
    OK(nd_graph_add_output(graph, one));
    finish(graph, other, 1);
    cr_assert_eq(nd_graph_heads(graph, heads), 2);
    cr_expect(heads[0] == one && heads[1] == other);
    nd_graph_free(graph);
}

/* --- a detector whose boxes are scaled by numbers that its file computes from constants, early and of no
 * batch, as the places of default boxes are */

static int list_node(nd_graph *graph, nd_op op, int x) {
    nd_node *node;
    const int y = add_node(graph, op, NULL, &x, 1, &node);
    node->attr.n = 1; /* axis 0 */
    return y;
}

/* `single`: exported for one image, whose axis is taken away and put back. */
static nd_graph *scaled_net(bool single) {
    nd_graph *graph = new_graph("scaled");
    nd_node *node;
    float squares[8 * 8 * 8];
    for (int i = 0; i < 512; i++) squares[i] = (float)((1 + i % 5) * (1 + i % 5));
    int image = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    if (single) image = list_node(graph, nd_op_unsqueeze, list_node(graph, nd_op_squeeze, image));
    const int constant = add_floats(graph, NULL, 1, (int64_t[]){512}, squares);
    const int roots = add_node(graph, nd_op_unary, "roots", &constant, 1, &node);
    node->op_type = "Sqrt";
    const int a = add_plain(graph, nd_op_relu, add_conv(graph, "first", image, 8, 3, 3, 1, 1), -1);
    const int b = add_plain(graph, nd_op_relu, add_conv(graph, "middle", a, 8, 8, 3, 1, 3), -1);
    const int boxes = add_conv(graph, "boxes", b, 8, 8, 3, 1, 5),
              scores = add_conv(graph, "scores", b, 4, 8, 3, 1, 7);
    const int scales = add_node(graph, nd_op_reshape, "scales", &roots, 1, &node);
    node->attr.n = 4;
    node->attr.list[0] = 1;
    for (int i = 1; i < 4; i++) node->attr.list[i] = 8;
    finish(graph,
           concat(graph, add_plain(graph, nd_op_mul, boxes, scales),
                  add_plain(graph, nd_op_sigmoid, scores, -1)),
           1);
    return graph;
}

enum { pictures_count = 16, numbers = 12 * 64 };

static void run_all(nd_backend *backend, const nd_graph *graph, const nd_batches *set, float *out) {
    nd_exec *exec;
    OK(nd_exec_open(backend, graph, &(nd_exec_settings){.batch = pictures_count, .shrink = true}, &exec));
    OK(nd_exec_run(exec, pictures_count, (const float *[]){((const pictures *)set)->images}, &out));
    nd_exec_close(exec);
}

Test(heads, a_network_with_numbers_from_constants_alone_is_calibrated) {
    static float wanted[pictures_count * numbers], got[pictures_count * numbers];
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(pictures_count, 3);
    for (int run = 0; run < 4; run++) {
        const bool ratio = run % 2, single = run / 2;
        nd_graph *original = scaled_net(single), *graph = scaled_net(single);
        nd_decouple_settings settings = nd_decouple_defaults();
        nd_decouple_report report = {0};
        settings.method = "dwpw";
        settings.calib = calib;
        settings.target = 65536; /* all there is */
        if (ratio) {
            settings.rule = nd_rule_macs_ratio;
            settings.target = 1.5;
        }
        OK(nd_decouple(graph, backend, &settings, &report));
        OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
        run_all(backend, original, calib, wanted);
        run_all(backend, graph, calib, got);
        double change = 0, size = 0;
        for (int i = 0; i < pictures_count * numbers; i++) {
            change += ((double)got[i] - wanted[i]) * ((double)got[i] - wanted[i]);
            size += (double)wanted[i] * wanted[i];
        }
        cr_expect(ratio ? change / size > 1e-6 && change / size < 0.5 : change / size < 1e-8, "%d: %g", run,
                  change / size);
        nd_decouple_report_free(&report);
        nd_graph_free(original);
        nd_graph_free(graph);
    }
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* --- a detector that ends in the graph: boxes without the axis of images, taken by what is found */

static int reshaped(nd_graph *graph, int x, int64_t a, int64_t b) {
    nd_node *node;
    const int y = add_node(graph, nd_op_reshape, NULL, &x, 1, &node);
    node->attr.n = 3;
    node->attr.list[0] = 1;
    node->attr.list[1] = a;
    node->attr.list[2] = b;
    return y;
}

static nd_graph *ended_net(void) {
    nd_graph *graph = new_graph("ended");
    nd_node *node;
    const int64_t most = 4, column = 2;
    const int image = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    const int a = add_plain(graph, nd_op_relu, add_conv(graph, "first", image, 8, 3, 3, 1, 1), -1);
    const int b = add_plain(graph, nd_op_relu, add_conv(graph, "middle", a, 8, 8, 3, 1, 3), -1);
    const int boxes = reshaped(graph, add_conv(graph, "boxes", b, 8, 8, 3, 1, 5), 128, 4);
    const int scores = reshaped(graph, add_conv(graph, "scores", b, 4, 8, 3, 1, 7), 2, 128);
    const int in[] = {boxes, scores, add_ints(graph, 1, 1, &most)};
    const int found = add_node(graph, nd_op_opaque, "found", in, 3, &node);
    node->op_type = "NonMaxSuppression";
    node->dynamic = true;
    const int of_image = list_node(graph, nd_op_squeeze, boxes);
    const int place =
        add_node(graph, nd_op_gather, NULL, (int[]){found, add_ints(graph, 0, 1, &column)}, 2, &node);
    node->attr.axis = 1;
    finish(graph, add_node(graph, nd_op_gather, NULL, (int[]){of_image, place}, 2, NULL), 1);
    return graph;
}

/* dwpw at 1.5 times fewer MACs, its filters chosen by the metric of the outputs. */
static nd_decouple_settings by_curves(nd_batches *calib) {
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "dwpw";
    settings.calib = calib;
    settings.rule = nd_rule_macs_ratio;
    settings.target = 1.5;
    settings.output_metric = true;
    return settings;
}

Test(heads, a_detector_with_its_post_processing_is_calibrated_by_curves) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(pictures_count, 3);
    nd_graph *graph = ended_net(), *copy;
    const nd_decouple_settings settings = by_curves(calib);
    nd_decouple_report report = {0};
    OK(nd_decouple(graph, backend, &settings, &report));
    cr_expect(report.changed);
    OK(nd_graph_clone(graph, &copy));
    OK(nd_graph_infer(copy, &(nd_infer_settings){.batch = 1}));
    nd_decouple_report_free(&report);
    nd_graph_free(copy);
    nd_graph_free(graph);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* --- the metric that filters are chosen by */

/* A layer that two heads read, whose boxes are in units of `gain`. */
static nd_graph *two_heads(float gain) {
    nd_graph *graph = new_graph("two heads");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    const int a = add_plain(graph, nd_op_relu, add_conv(graph, "first", x, 8, 3, 3, 1, 1), -1);
    const int b = add_plain(graph, nd_op_relu, add_conv(graph, "middle", a, 8, 8, 3, 1, 3), -1);
    const int boxes = add_conv(graph, "boxes", b, 8, 8, 3, 1, 5),
              scores = add_conv(graph, "scores", b, 4, 8, 3, 1, 7);
    const nd_node *node = &graph->nodes[graph->values[boxes].producer];
    for (int i = 1; i < node->n_in; i++) {
        const nd_tensor *of = graph->values[node->in[i]].init;
        for (int64_t e = 0; e < nd_tensor_count(of); e++) ((float *)of->data)[e] *= gain;
    }
    OK(nd_graph_add_output(graph, boxes));
    finish(graph, scores, 1);
    return graph;
}

static double *metric_of(nd_backend *backend, nd_batches *calib, float gain) {
    nd_graph *graph = two_heads(gain);
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_plan plan = {0};
    double *copy = nd_alloc_array(64, sizeof *copy);
    settings.method = "dwpw";
    settings.calib = calib;
    settings.output_metric = true;
    OK(nd_plan_open(graph, &settings, &plan));
    OK(nd_output_metric(graph, backend, &settings, &plan));
    for (int l = 0; l < plan.n_layers; l++)
        if (!strcmp(plan.layers[l].name, "middle")) {
            cr_assert_not_null(plan.layers[l].metric);
            memcpy(copy, plan.layers[l].metric, 64 * sizeof *copy);
        }
    nd_plan_close(&plan);
    nd_graph_free(graph);
    return copy;
}

/* Pixels in place of parts of the image change no choice, and both heads count. */
Test(heads, each_counts_in_the_output_metric_relative_to_its_own_variance) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(pictures_count, 3);
    double *small = metric_of(backend, calib, 1), *large = metric_of(backend, calib, 320),
           *none = metric_of(backend, calib, 0);
    cr_expect_lt(help_distance(large, small, 64), 1e-4, "%g", help_distance(large, small, 64));
    cr_expect_gt(help_distance(none, small, 64), 1e-2, "the boxes do not count");
    free(small);
    free(large);
    free(none);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* --- post-processing in the graph */

/* Boxes by a convolution, in their places by a reshape, and scores by a softmax through NonMaxSuppression. */
static nd_graph *suppressed(int *boxes, int *scores) {
    nd_graph *graph = new_graph("suppressed");
    nd_node *node;
    const int64_t most = 10;
    const float least = 0.1f;
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    const int a = add_plain(graph, nd_op_relu, add_conv(graph, "first", x, 8, 3, 3, 1, 1), -1);
    const int b = add_plain(graph, nd_op_relu, add_conv(graph, "middle", a, 8, 8, 3, 1, 3), -1);
    *boxes = add_conv(graph, "boxes", b, 4, 8, 3, 1, 5);
    *scores = add_conv(graph, "scores", b, 4, 8, 3, 1, 7);
    const int box = add_node(graph, nd_op_reshape, NULL, boxes, 1, &node);
    node->attr.n = 3;
    memcpy(node->attr.list, (int64_t[]){1, 64, 4}, 3 * sizeof(int64_t));
    const int flat = add_node(graph, nd_op_reshape, NULL, scores, 1, &node);
    node->attr.n = 3;
    memcpy(node->attr.list, (int64_t[]){1, 4, 64}, 3 * sizeof(int64_t));
    const int score = add_node(graph, nd_op_softmax, NULL, &flat, 1, &node);
    node->attr.axis = 1;
    const int in[] = {box, score, add_ints(graph, 1, 1, &most),
                      add_floats(graph, NULL, 1, (int64_t[]){1}, &least),
                      add_floats(graph, NULL, 1, (int64_t[]){1}, &least)};
    const int kept = add_node(graph, nd_op_opaque, NULL, in, 5, &node);
    node->op_type = "NonMaxSuppression";
    node->dynamic = true;
    finish(graph, kept, 1);
    return graph;
}

Test(heads, of_post_processing_in_the_graph_are_what_goes_into_it) {
    int heads[nd_heads_max], boxes, scores;
    nd_graph *graph = suppressed(&boxes, &scores);
    cr_assert_eq(nd_graph_heads(graph, heads), 2);
    cr_expect(heads[0] != heads[1]);
    for (int h = 0; h < 2; h++) cr_expect(heads[h] == boxes || heads[h] == scores, "%d", heads[h]);
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(pictures_count, 3);
    const nd_decouple_settings settings = by_curves(calib);
    nd_decouple_report report = {0};
    OK(nd_decouple(graph, backend, &settings, &report));
    cr_expect_lt((double)report.after.conv_macs, (double)report.before.conv_macs / 1.45);
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
    nd_batches_close(calib);
    nd_backend_close(backend);
}
