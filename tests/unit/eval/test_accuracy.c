#include "eval/accuracy.h"
#include "eval/scores.h"

#include "base/log.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* --- a network that gives its image as the scores: 1 x 1 pixel, a channel a class */

static nd_graph *identity_network(int64_t classes, int64_t batch) {
    nd_graph *graph = new_graph("identity");
    nd_node *node;
    const int x = add_input(graph, "image", 4, (int64_t[]){-1, classes, 1, 1});
    const int y = add_value(graph, "scores");
    OK(nd_graph_add_node(graph, nd_op_flatten, "flatten", &x, 1, &y, 1, &node));
    node->attr.axis = 1;
    finish(graph, y, batch);
    return graph;
}

/* --- a stream over arrays */

typedef struct fixed_batches {
    nd_batches batches;
    const float *images;
    const int32_t *labels;
    int64_t at, index[64];
} fixed_batches;

static nd_status fixed_next(nd_batches *batches, nd_batch *out) {
    fixed_batches *self = (fixed_batches *)batches;
    const int64_t left = batches->count - self->at, n = left < batches->batch ? left : batches->batch;
    *out = (nd_batch){.n = n,
                      .images = self->images + self->at * batches->channels,
                      .labels = self->labels + self->at,
                      .index = self->index + self->at};
    self->at += n;
    return nd_status_ok;
}

static nd_status fixed_rewind(nd_batches *batches) {
    ((fixed_batches *)batches)->at = 0;
    return nd_status_ok;
}

static fixed_batches fixed(const float *images, const int32_t *labels, int64_t count, int64_t classes,
                           int64_t batch) {
    fixed_batches self = {.batches = {.channels = classes,
                                      .height = 1,
                                      .width = 1,
                                      .count = count,
                                      .batch = batch,
                                      .name = "fixed",
                                      .preprocess = "none",
                                      .next = fixed_next,
                                      .rewind = fixed_rewind},
                          .images = images,
                          .labels = labels};
    for (int64_t i = 0; i < count; i++) self.index[i] = i;
    return self;
}

static nd_accuracy measured(fixed_batches *stream, bool keep_logits) {
    nd_graph *graph = identity_network(stream->batches.channels, stream->batches.batch);
    nd_backend *backend;
    nd_accuracy accuracy;
    cr_assert_eq(nd_backend_open("ref", &(nd_backend_settings){0}, &backend), nd_status_ok);
    const nd_accuracy_settings settings = {.backend = backend, .keep_logits = keep_logits};
    cr_assert_eq(nd_accuracy_measure(graph, &stream->batches, &settings, &accuracy), nd_status_ok, "%s",
                 nd_error());
    nd_backend_close(backend);
    nd_graph_free(graph);
    return accuracy;
}

Test(accuracy, ties_go_to_the_lower_class_and_nan_is_never_a_hit) {
    const float images[][7] = {
        {0, 1, 2, 3, 4, 5, 6},              /* label 6: best */
        {5, 5, 5, 5, 5, 5, 5},              /* label 0: the tie is its */
        {5, 5, 5, 5, 5, 5, 5},              /* label 4: fifth */
        {5, 5, 5, 5, 5, 5, 5},              /* label 5: sixth */
        {NAN, 0, 0, 0, 0, 0, 0},            /* label 0: not a number */
        {NAN, -9, NAN, NAN, NAN, NAN, NAN}, /* label 1: the only number among NaN */
        {6, 5, 4, 3, 2, 1, 0},              /* label 4: fifth */
    };
    static const int32_t labels[] = {6, 0, 4, 5, 0, 1, 4};
    static const uint8_t hit1[] = {1, 1, 0, 0, 0, 0, 0}, hit5[] = {1, 1, 1, 0, 0, 0, 1};
    static const int32_t best[] = {6, 0, 0, 0, -1, -1, 0};
    fixed_batches stream = fixed(&images[0][0], labels, 7, 7, 3);
    nd_accuracy accuracy = measured(&stream, true);
    cr_assert_eq(accuracy.n, 7);
    cr_assert_eq(accuracy.classes, 7);
    for (int i = 0; i < 7; i++)
        cr_assert(accuracy.hit1[i] == hit1[i] && accuracy.hit5[i] == hit5[i] && accuracy.best[i] == best[i],
                  "image %d", i);
    cr_assert(accuracy.top1_correct == 2 && accuracy.top5_correct == 4 && accuracy.nan_images == 2);
    cr_assert_eq(accuracy.logits[6 * 7], 6);
    nd_accuracy_free(&accuracy);
    cr_assert_null(accuracy.hit1);
}

/* Read as NumPy's format is described, not as it was written. */
Test(accuracy, scores_become_an_array_of_numpy) {
    const float images[][7] = {{0, 1, 2, 3, 4, 5, 6}, {-1, 0.5f, 1e30f, NAN, 0, 0, 7}};
    static const int32_t labels[] = {6, 0};
    fixed_batches stream = fixed(&images[0][0], labels, 2, 7, 2);
    nd_accuracy two[] = {measured(&stream, true), measured(&stream, true)};
    char path[] = "/tmp/nd_scores_XXXXXX";
    const int made = mkstemp(path);
    cr_assert_geq(made, 0);
    close(made);
    for (size_t networks = 1; networks <= 2; networks++) {
        cr_assert_eq(nd_scores_write(path, two, networks), nd_status_ok, "%s", nd_error());
        unsigned char file[1024];
        FILE *in = fopen(path, "rb");
        cr_assert(in);
        const size_t bytes = fread(file, 1, sizeof file, in);
        fclose(in);
        cr_assert(!memcmp(file, "\x93NUMPY\1\0", 8));
        const size_t start = 10 + file[8] + 256u * file[9];
        cr_assert_eq(start % 64, 0);
        cr_assert_eq(bytes, start + networks * sizeof images);
        cr_assert_eq(file[start - 1], '\n');
        file[start - 1] = '\0';
        cr_assert(strstr((char *)file + 10, networks == 1 ? "'shape': (2, 7)" : "'shape': (2, 2, 7)"), "%s",
                  (char *)file + 10);
        for (size_t i = 0; i < networks; i++)
            cr_assert(!memcmp(file + start + i * sizeof images, images, sizeof images));
    }
    unlink(path);
    for (int i = 0; i < 2; i++) nd_accuracy_free(&two[i]);
}

Test(accuracy, a_stream_that_does_not_fit_is_refused_with_both_sizes) {
    const float images[4] = {0};
    const int32_t labels[2] = {0, 3};
    fixed_batches stream = fixed(images, labels, 2, 2, 1);
    nd_graph *wrong = identity_network(3, 1), *right = identity_network(2, 1);
    nd_backend *backend;
    nd_accuracy accuracy;
    cr_assert_eq(nd_backend_open("ref", &(nd_backend_settings){0}, &backend), nd_status_ok);
    const nd_accuracy_settings settings = {.backend = backend};
    cr_assert_eq(nd_accuracy_measure(wrong, &stream.batches, &settings, &accuracy), nd_status_usage);
    cr_assert(strstr(nd_error(), "3x1x1") && strstr(nd_error(), "2x1x1"), "%s", nd_error());
    cr_assert_eq(nd_accuracy_measure(right, &stream.batches, &settings, &accuracy), nd_status_format);
    cr_assert(strstr(nd_error(), "class 3"), "%s", nd_error());
    cr_assert_null(accuracy.hit1);
    stream.batches.count = 0;
    cr_assert_eq(nd_accuracy_measure(right, &stream.batches, &settings, &accuracy), nd_status_format);
    nd_backend_close(backend);
    nd_graph_free(wrong);
    nd_graph_free(right);
}

/* Two networks side by side: the distance of their scores without keeping them equals that from kept ones. */
Test(accuracy, a_row_holds_drops_agreement_and_the_distance_of_scores) {
    const float first[][2] = {{1, 0}, {0, 1}, {2, 1}, {0, 3}}, second[][2] = {{1, 0}, {1, 0}, {2, 1}, {0, 2}};
    static const int32_t labels[] = {0, 1, 0, 0};
    fixed_batches stream = fixed(&first[0][0], labels, 4, 2, 3),
                  changed = fixed(&second[0][0], labels, 4, 2, 2);
    nd_accuracy original = measured(&stream, true), accuracy = measured(&changed, true);
    nd_row row = {0};
    cr_assert_eq(nd_accuracy_row(&accuracy, &original, &stream.batches, &row), nd_status_ok);
    cr_assert_eq(row.values[nd_field_n].i, 4);
    cr_assert_eq(row.values[nd_field_top1_correct].i, 2);
    cr_assert_float_eq(row.values[nd_field_top1].r, 50, 1e-12);
    cr_assert_float_eq(row.values[nd_field_drop_top1].r, 25, 1e-12);
    cr_assert_float_eq(row.values[nd_field_drop_top5].r, 0, 1e-12);
    cr_assert_float_eq(row.values[nd_field_agreement].r, 75, 1e-12);
    /* distance 1 + 1 + 0 + 1; class means .75 and 1.25, spread 2.75 + 4.75 */
    cr_assert_float_eq(row.values[nd_field_logit_rel_mse].r, 3 / 7.5, 1e-12);
    nd_row_free(&row);

    accuracy.n = 3;
    cr_assert_eq(nd_accuracy_row(&accuracy, &original, &stream.batches, &row), nd_status_usage);
    nd_row_free(&row);
    nd_accuracy_free(&accuracy);
    nd_accuracy_free(&original);
}

Test(accuracy, networks_side_by_side_are_compared_with_the_first) {
    const float images[][2] = {{1, 0}, {0, 1}, {2, 1}, {0, 3}};
    static const int32_t labels[] = {0, 1, -1, 0};
    fixed_batches stream = fixed(&images[0][0], labels, 4, 2, 3);
    const nd_graph *graphs[] = {identity_network(2, 3), identity_network(2, 3)};
    nd_backend *backend;
    nd_accuracy results[2];
    cr_assert_eq(nd_backend_open("ref", &(nd_backend_settings){0}, &backend), nd_status_ok);
    const nd_accuracy_settings settings = {.backend = backend};
    cr_assert_eq(nd_accuracy_measure_all(graphs, 2, &stream.batches, &settings, results), nd_status_ok);
    cr_assert(isnan(results[0].logit_rel_mse));
    cr_assert_eq(results[1].logit_rel_mse, 0);
    cr_assert_eq(results[1].unlabelled, 1);
    nd_row row = {0};
    cr_assert_eq(nd_accuracy_row(&results[1], &results[0], &stream.batches, &row), nd_status_ok);
    /* of the three that have a label */
    cr_assert_float_eq(row.values[nd_field_top1].r, 200.0 / 3, 1e-12);
    cr_assert_eq(row.values[nd_field_unlabelled].i, 1);
    cr_assert_eq(row.values[nd_field_agreement].r, 100);
    nd_row_free(&row);
    for (int i = 0; i < 2; i++) {
        nd_accuracy_free(&results[i]);
        nd_graph_free((nd_graph *)graphs[i]);
    }
    nd_backend_close(backend);
}

/* --- the interval of a drop */

/* Tables of 41 to 104 pairs, from discordant in one direction to none at all; the figures are those of
 * Newcombe's formula computed in another language, the first of them printed in his paper (0.2000, 0.0569 to
 * 0.3404). */
Test(drop, equals_newcombes_method_10) {
    static const struct {
        nd_drop_counts counts;
        double points, lo, hi;
    } cases[] = {
        {{36, 12, 2, 0}, 20.00, 5.69, 34.04},   {{20, 12, 2, 16}, 20.00, 5.62, 32.92},
        {{1, 1, 7, 32}, -14.63, -29.45, -0.27}, {{18, 0, 1, 24}, -2.33, -8.55, 3.95},
        {{2, 98, 1, 1}, 95.10, 86.53, 97.92},   {{53, 0, 1, 0}, -1.85, -9.77, 4.96},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const nd_drop drop = nd_drop_of(&cases[i].counts);
        cr_assert_float_eq(drop.points, cases[i].points, 0.005, "case %zu: %g", i, drop.points);
        cr_assert_float_eq(drop.lo, cases[i].lo, 0.005, "case %zu: %g", i, drop.lo);
        cr_assert_float_eq(drop.hi, cases[i].hi, 0.005, "case %zu: %g", i, drop.hi);
    }
}

Test(drop, is_antisymmetric_bounded_and_never_of_no_width) {
    for (int64_t a = 0; a < 6; a++)
        for (int64_t b = 0; b < 6; b++)
            for (int64_t c = 0; c < 6; c++) {
                const nd_drop there = nd_drop_of(&(nd_drop_counts){a, b, c, 1}),
                              back = nd_drop_of(&(nd_drop_counts){a, c, b, 1});
                cr_assert_float_eq(there.points, -back.points, 1e-12);
                cr_assert_float_eq(there.lo, -back.hi, 1e-9);
                cr_assert(there.lo >= -100 && there.hi <= 100);
                cr_assert(there.lo < there.points && there.points < there.hi);
            }
    cr_assert(isnan(nd_drop_of(&(nd_drop_counts){0}).points));
}

Test(drop, counts_pairs) {
    static const uint8_t original[] = {1, 1, 1, 0, 0, 1}, changed[] = {1, 0, 0, 1, 0, 1};
    const nd_drop_counts counts = nd_drop_count(original, changed, 6);
    cr_assert(counts.both == 2 && counts.original_only == 2 && counts.changed_only == 1 &&
              counts.neither == 1);
}

Test(accuracy, scores_that_are_nan_agree_with_nothing) {
    const float images[][2] = {{NAN, NAN}, {0, NAN}, {2, 1}, {NAN, 3}};
    static const int32_t labels[] = {0, 0, 0, 1};
    fixed_batches stream = fixed(&images[0][0], labels, 4, 2, 3);
    nd_accuracy accuracy = measured(&stream, true);
    nd_row row = {0};
    cr_assert_eq(nd_accuracy_row(&accuracy, &accuracy, &stream.batches, &row), nd_status_ok);
    cr_assert_eq(row.values[nd_field_agreement].r, 25);
    cr_assert_eq(row.values[nd_field_top1_correct].i, 1);
    cr_assert_eq(row.values[nd_field_nan_images].i, 3);
    nd_row_free(&row);
    nd_accuracy_free(&accuracy);
}

/* 60 images of 4 classes whose best output is one above the label, and the same without any relation. */
Test(accuracy, labels_that_are_not_the_networks_are_doubted) {
    static float images[60][4], noise[60][4];
    static int32_t labels[60], right[60];
    char text[256];
    for (int i = 0; i < 60; i++) {
        labels[i] = i % 3;
        right[i] = i % 3 + 1;
        images[i][i % 3 + 1] = 1;
        noise[i][i / 3 % 4] = 1;
    }
    fixed_batches shifted = fixed(&images[0][0], labels, 60, 4, 20),
                  good = fixed(&images[0][0], right, 60, 4, 20),
                  chance = fixed(&noise[0][0], labels, 60, 4, 20);
    nd_accuracy accuracy = measured(&shifted, false);
    cr_assert(nd_accuracy_at_chance(&accuracy, text, sizeof text));
    cr_assert(strstr(text, "--label-offset 1"), "%s", text);
    nd_accuracy_free(&accuracy);
    accuracy = measured(&good, false);
    cr_assert_not(nd_accuracy_at_chance(&accuracy, text, sizeof text));
    nd_accuracy_free(&accuracy);
    accuracy = measured(&chance, false);
    cr_assert(nd_accuracy_at_chance(&accuracy, text, sizeof text));
    cr_assert(strstr(text, "--classes"), "%s", text);
    nd_accuracy_free(&accuracy);
}

/* --- which output has the scores */

static char said[512];

static void listen(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level == nd_log_warn) snprintf(said, sizeof said, "%s", message);
}

/* The identity network with its scores as a 2 x 2 map before them, or alone. */
static nd_graph *network_with_map(bool alone) {
    nd_graph *graph = identity_network(4, 1);
    nd_node *node;
    const int map = add_value(graph, "map");
    OK(nd_graph_add_node(graph, nd_op_reshape, "reshape", graph->inputs, 1, &map, 1, &node));
    node->attr.n = 3;
    node->attr.list[1] = node->attr.list[2] = 2;
    cr_assert_eq(nd_graph_add_output(graph, map), nd_status_ok);
    const int scores = graph->outputs[0];
    graph->outputs[0] = map;
    graph->outputs[1] = scores;
    if (alone) graph->n_outputs = 1;
    cr_assert_eq(nd_graph_sort(graph), nd_status_ok);
    cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}), nd_status_ok, "%s", nd_error());
    return graph;
}

Test(accuracy, takes_the_output_that_is_a_list_of_scores_and_says_so) {
    const float images[] = {0, 1, 2, 9, 5, 1, 2, 3};
    const int32_t labels[] = {3, 0};
    nd_backend *backend;
    nd_accuracy accuracy;
    cr_assert_eq(nd_backend_open("ref", &(nd_backend_settings){0}, &backend), nd_status_ok);
    nd_log_set(listen, NULL);
    for (int alone = 0; alone < 2; alone++) {
        nd_graph *graph = network_with_map(alone);
        fixed_batches stream = fixed(images, labels, 2, 4, 1);
        const nd_accuracy_settings settings = {.backend = backend};
        const nd_status status = nd_accuracy_measure(graph, &stream.batches, &settings, &accuracy);
        if (alone) {
            cr_expect_eq(status, nd_status_usage);
            cr_expect(strstr(nd_error(), "none of its outputs") && strstr(nd_error(), "map, is 1x2x2"), "%s",
                      nd_error());
        } else {
            cr_assert_eq(status, nd_status_ok, "%s", nd_error());
            cr_expect(strstr(said, "of its 2 outputs 'scores', with 4 scores"), "%s", said);
            cr_expect(accuracy.hit1[0] && accuracy.hit1[1]);
            nd_accuracy_free(&accuracy);
        }
        nd_graph_free(graph);
    }
    nd_backend_close(backend);
}

/* Scores turned around, and scores that no image goes into: neither is a row for each image, whatever room
 * there is for it. */
Test(accuracy, scores_that_are_no_rows_of_images_are_refused) {
    const float images[4] = {0};
    const int32_t labels[2] = {0, 1};
    nd_backend *backend;
    nd_accuracy accuracy;
    OK(nd_backend_open("ref", &(nd_backend_settings){0}, &backend));
    for (int constant = 0; constant < 2; constant++) {
        nd_graph *graph = identity_network(2, 1);
        nd_node *node;
        int x = graph->outputs[0];
        const int y = add_value(graph, "around");
        if (constant) x = add_floats(graph, "row", 2, (int64_t[]){1, 2}, NULL);
        OK(nd_graph_add_node(graph, constant ? nd_op_relu : nd_op_transpose, "turn", &x, 1, &y, 1, &node));
        if (!constant) {
            node->attr.n = 2;
            node->attr.list[0] = 1;
        }
        graph->n_outputs = 0;
        finish(graph, y, 1);
        fixed_batches stream = fixed(images, labels, 2, 2, 2);
        const nd_accuracy_settings settings = {.backend = backend};
        cr_expect_eq(nd_accuracy_measure(graph, &stream.batches, &settings, &accuracy),
                     constant ? nd_status_unsupported : nd_status_usage);
        cr_expect(strstr(nd_error(), "around"), "%s", nd_error());
        nd_graph_free(graph);
    }
    nd_backend_close(backend);
}
