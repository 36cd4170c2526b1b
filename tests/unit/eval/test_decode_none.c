/* Outputs that nothing decodes: what post-processing in the graph leaves, and raw numbers. */
#include "eval/detect/detection.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>

enum { images = 5, batch = 2, boxes = 6, classes = 2, numbers = (4 + classes) * boxes };

typedef struct stream {
    nd_batches batches;
    float raw[images][numbers]; /* corners of boxes, then scores of classes */
    nd_object objects[images][boxes];
    nd_frame frames[images];
    int64_t at, index[images];
    int32_t labels[images];
} stream;

static nd_status next(nd_batches *batches, nd_batch *out) {
    stream *self = (stream *)batches;
    const int64_t left = images - self->at, n = left < batch ? left : batch;
    *out = (nd_batch){.n = n,
                      .images = self->raw[self->at],
                      .labels = self->labels,
                      .index = self->index + self->at,
                      .frames = self->frames + self->at};
    self->at += n;
    return nd_status_ok;
}

static nd_status rewind_it(nd_batches *batches) {
    ((stream *)batches)->at = 0;
    return nd_status_ok;
}

static nd_status objects_of(nd_batches *batches, int64_t index, const nd_object **out, size_t *count) {
    *out = ((stream *)batches)->objects[index];
    *count = (size_t)index + 1;
    return nd_status_ok;
}

/* Image i has i + 1 objects with a score above a half, of classes in turn, and boxes of lower scores; the
 * picture is twice as large as its image. */
static void fill(stream *self) {
    *self = (stream){.batches = {.channels = numbers / 4,
                                 .height = 2,
                                 .width = 2,
                                 .count = images,
                                 .batch = batch,
                                 .name = "boxes",
                                 .preprocess = "none",
                                 .next = next,
                                 .rewind = rewind_it,
                                 .objects = objects_of}};
    for (int i = 0; i < images; i++) {
        self->index[i] = i;
        self->frames[i] = (nd_frame){.width = 2000, .height = 2000, .scale_x = 0.5, .scale_y = 0.5};
        for (int k = 0; k < boxes; k++) {
            const float box[] = {100.0f * (float)k, 50, 100.0f * (float)k + 30, 90};
            memcpy(self->raw[i] + 4 * k, box, sizeof box);
            self->raw[i][4 * boxes + k % classes * boxes + k] = k <= i ? 0.9f - 0.05f * (float)k : 0.3f;
            self->objects[i][k] =
                (nd_object){.box = {200.0 * k, 100, 60, 80}, .area = 4800, .label = k % classes};
        }
    }
}

static int reshape(nd_graph *graph, int x, int rank, int64_t a, int64_t b, int64_t c) {
    nd_node *node;
    const int y = add_node(graph, nd_op_reshape, NULL, &x, 1, &node);
    node->attr.n = rank;
    node->attr.list[0] = a;
    node->attr.list[1] = b;
    node->attr.list[2] = c;
    return y;
}

static int part(nd_graph *graph, int x, int64_t begin, int64_t end) {
    nd_node *node;
    const int y = add_node(graph, nd_op_slice, NULL, &x, 1, &node);
    node->attr.n = 1;
    node->attr.axes[0] = node->attr.steps[0] = 1;
    node->attr.list[0] = begin;
    node->attr.ends[0] = end;
    return y;
}

static int take(nd_graph *graph, int x, int index, int64_t axis) {
    nd_node *node;
    const int y = add_node(graph, nd_op_gather, NULL, (int[]){x, index}, 2, &node);
    node->attr.axis = axis;
    return y;
}

static int suppressed(nd_graph *graph, int box, int score) {
    const int64_t most = 10;
    const float overlap = 0.5f, least = 0.5f;
    const int in[] = {box, score, add_ints(graph, 1, 1, &most),
                      add_floats(graph, NULL, 1, (int64_t[]){1}, &overlap),
                      add_floats(graph, NULL, 1, (int64_t[]){1}, &least)};
    nd_node *node;
    const int out = add_node(graph, nd_op_opaque, NULL, in, 5, &node);
    node->op_type = "NonMaxSuppression";
    node->dynamic = true;
    return out;
}

/* Boxes and scores through NonMaxSuppression, as detectors of torchvision end; every box is `shift` further
 * right, every score times `gain`. */
static nd_graph *detector(float shift, float gain) {
    nd_graph *graph = new_graph("detector");
    const float by[] = {shift, 0, shift, 0};
    const int x = add_input(graph, "image", 4, (int64_t[]){1, numbers / 4, 2, 2});
    const int flat = reshape(graph, x, 2, 1, numbers, 0);
    const int corners = reshape(graph, part(graph, flat, 0, 4 * boxes), 3, 1, boxes, 4);
    const int box = add_node(graph, nd_op_add, NULL,
                             (int[]){corners, add_floats(graph, NULL, 1, (int64_t[]){4}, by)}, 2, NULL);
    const int raw = reshape(graph, part(graph, flat, 4 * boxes, numbers), 3, 1, classes, boxes);
    const int score = add_node(graph, nd_op_mul, NULL,
                               (int[]){raw, add_floats(graph, NULL, 1, (int64_t[]){1}, &gain)}, 2, NULL);
    const int kept = suppressed(graph, box, score);
    const int label = take(graph, kept, add_ints(graph, 0, 1, (int64_t[]){1}), 1);
    const int index = take(graph, kept, add_ints(graph, 0, 1, (int64_t[]){2}), 1);
    /* One of the classes' scores is 0: their sum is that of the box. */
    nd_node *node;
    const int sum = add_node(graph, nd_op_reduce, NULL, &score, 1, &node);
    node->op_type = "ReduceSum";
    node->attr.n = 1;
    node->attr.list[0] = 1;
    node->attr.keep_dims = false;
    OK(nd_graph_add_output(graph, take(graph, reshape(graph, box, 2, boxes, 4, 0), index, 0)));
    OK(nd_graph_add_output(graph, label));
    finish(graph, take(graph, reshape(graph, sum, 1, boxes, 0, 0), index, 0), 1);
    return graph;
}

Test(decode_none, post_processing_in_the_graph_is_measured) {
    static stream data;
    nd_backend *backend;
    nd_found found[2];
    nd_truth truth;
    fill(&data);
    OK(nd_backend_open("ref", &(nd_backend_settings){0}, &backend));
    nd_graph *graphs[] = {detector(0, 1), detector(3, 1)};
    const nd_detection_settings settings = {.backend = backend, .decoder = "none"};
    OK(nd_detection_run((const nd_graph *const *)graphs, 2, &data.batches, &settings, found, &truth));
    cr_assert(found[0].n == images && truth.objects == 15 && found[0].detections == 15);
    cr_expect_eq(found[0].decode.classes, classes);
    for (int i = 0; i < images; i++) {
        cr_expect_eq((int)found[0].of[i].count, i + 1);
        const nd_detection *first = &found[0].of[i].items[0];
        cr_expect(first->label == 0 && first->box.x == 0 && first->box.width == 60 &&
                  first->box.height == 80);
        cr_expect_float_eq(first->score, 0.9, 1e-6);
    }
    nd_row row = {0};
    const nd_detection_rows rows = {
        .batches = &data.batches, .truth = &truth, .original = &found[0], .score = 0.25, .draws = 20};
    OK(nd_detection_row(&rows, &found[1], &row));
    /* 3 of 30 pixels: overlap 27 / 33 = 0.818, which is 7 of COCO's 10. */
    cr_expect_float_eq(row.values[nd_field_ap].r, 70, 1e-9);
    cr_expect_float_eq(row.values[nd_field_agree_ap].r, 70, 1e-9);
    cr_expect(!row.values[nd_field_raw_rel_mse].set, "no raw numbers are seen");
    nd_row_free(&row);
    for (int k = 0; k < 2; k++) {
        nd_found_free(&found[k]);
        nd_graph_free(graphs[k]);
    }
    nd_truth_free(&truth);
    nd_backend_close(backend);
}

/* The boxes and the scores of one image as two outputs. */
static nd_graph *heads(float gain) {
    nd_graph *graph = new_graph("heads");
    const int x = add_input(graph, "image", 4, (int64_t[]){-1, numbers / 4, 2, 2});
    const int flat = reshape(graph, x, 2, 0, numbers, 0);
    const int raw = part(graph, flat, 4 * boxes, numbers);
    const int score = add_node(graph, nd_op_mul, "scores",
                               (int[]){raw, add_floats(graph, NULL, 1, (int64_t[]){1}, &gain)}, 2, NULL);
    OK(nd_graph_add_output(graph, part(graph, flat, 0, 4 * boxes)));
    finish(graph, score, batch);
    return graph;
}

Test(decode_none, of_raw_numbers_the_errors_alone_are_measured) {
    static stream data;
    nd_backend *backend;
    nd_found found[2];
    nd_truth truth;
    fill(&data);
    for (int i = 0; i < images; i++) data.raw[i][0] = (float)i; /* the boxes vary too */
    OK(nd_backend_open("ref", &(nd_backend_settings){0}, &backend));
    nd_graph *graphs[] = {heads(1), heads(1.5f)};
    const nd_detection_settings settings = {.backend = backend, .decoder = "none"};
    OK(nd_detection_run((const nd_graph *const *)graphs, 2, &data.batches, &settings, found, &truth));
    cr_expect(!nd_decode_finds(&found[0].decode) && !truth.n && !found[0].detections);
    double squares = 0, spread = 0;
    for (int k = 4 * boxes; k < numbers; k++) {
        double mean = 0;
        for (int i = 0; i < images; i++) mean += (double)data.raw[i][k] / images;
        for (int i = 0; i < images; i++) {
            squares += pow(0.5 * data.raw[i][k], 2);
            spread += pow(data.raw[i][k] - mean, 2);
        }
    }
    nd_row row = {0};
    const nd_detection_rows rows = {
        .batches = &data.batches, .truth = &truth, .original = &found[0], .draws = 20};
    OK(nd_detection_row(&rows, &found[1], &row));
    const nd_row_value *each = &row.values[nd_field_heads_rel_mse];
    cr_assert(each->set && each->i == 2);
    cr_expect_eq(each->reals[0], 0);
    cr_expect_float_eq(each->reals[1], squares / spread, 1e-6 * squares / spread);
    cr_expect_float_eq(row.values[nd_field_raw_rel_mse].r, squares / spread / 2, 1e-6 * squares / spread);
    cr_expect(!row.values[nd_field_detections].set && !row.values[nd_field_agree_ap50].set);
    nd_row_free(&row);
    for (int k = 0; k < 2; k++) {
        nd_found_free(&found[k]);
        nd_graph_free(graphs[k]);
    }
    nd_backend_close(backend);
}
