#include "eval/detect/detection.h"
#include "model/zoo/zoo.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>

/* A graph whose output of rows x columns is its image's numbers, in their order. */
static nd_graph *heads_graph(int64_t side, int64_t rows, int64_t columns, int64_t batch) {
    nd_graph *graph = new_graph("heads");
    nd_node *node;
    const int x = add_input(graph, "image", 4, (int64_t[]){-1, rows * columns / (side * side), side, side});
    const int y = add_node(graph, nd_op_reshape, "heads", &x, 1, &node);
    node->attr.n = 3;
    node->attr.list[0] = 0;
    node->attr.list[1] = rows;
    node->attr.list[2] = columns;
    finish(graph, y, batch);
    return graph;
}

static const nd_frame whole = {.width = 1000, .height = 1000, .scale_x = 1, .scale_y = 1};

static nd_detections decoded(const nd_graph *graph, const char *name, const float *const *outputs) {
    nd_decode decode;
    nd_detections found = {0};
    OK(nd_decode_open(graph, name, &decode));
    OK(nd_decode_image(&decode, outputs, &whole, &found));
    nd_decode_close(&decode);
    return found;
}

static void expect_box(nd_box box, double x, double y, double width, double height) {
    cr_expect(fabs(box.x - x) < 1e-4 && fabs(box.y - y) < 1e-4 && fabs(box.width - width) < 1e-4 &&
                  fabs(box.height - height) < 1e-4,
              "%g %g %g %g, not %g %g %g %g", box.x, box.y, box.width, box.height, x, y, width, height);
}

enum { boxes = 12, classes = 2 };

Test(decode, both_layouts_of_yolo_say_the_same) {
    float v5[boxes][5 + classes] = {{0}}, v8[4 + classes][boxes] = {{0}};
    nd_rng rng = nd_rng_seed(1);
    for (int i = 0; i < boxes; i++) {
        for (int k = 0; k < 4; k++) v5[i][k] = v8[k][i] = (float)(100 + 400 * nd_rng_uniform(&rng));
        v5[i][4] = 1;
        for (int c = 0; c < classes; c++) v5[i][5 + c] = v8[4 + c][i] = (float)nd_rng_uniform(&rng);
    }
    nd_graph *old = heads_graph(2, boxes, 5 + classes, 1), *new = heads_graph(2, 4 + classes, boxes, 1);
    nd_detections a = decoded(old, "yolo", (const float *[]){v5[0]}),
                  b = decoded(new, "yolo", (const float *[]){v8[0]});
    cr_assert(a.count && a.count == b.count);
    for (size_t i = 0; i < a.count; i++) {
        cr_expect(a.items[i].label == b.items[i].label && a.items[i].score == b.items[i].score);
        cr_expect_eq(a.items[i].box.x, b.items[i].box.x);
        if (i) cr_expect_geq(a.items[i - 1].score, a.items[i].score);
    }
    free(a.items);
    free(b.items);
    nd_graph_free(old);
    nd_graph_free(new);
}

Test(decode, of_overlapping_boxes_of_a_class_the_best_stays) {
    float v8[4 + classes][boxes] = {{0}};
    enum { given = 5 };
    static const float centres[given][4] = {
        {100, 100, 50, 50}, {105, 100, 50, 50}, {105, 100, 50, 50}, {300, 300, 20, 20}, {200, 200, 0, 30}};
    /* Below all thresholds, and of a box without area. */
    static const float scores[given][2] = {{0.5f, 0}, {0.75f, 0}, {0, 0.25f}, {0.005f, 0}, {0.9f, 0}};
    for (int i = 0; i < given; i++) {
        for (int k = 0; k < 4; k++) v8[k][i] = centres[i][k];
        for (int c = 0; c < 2; c++) v8[4 + c][i] = scores[i][c];
    }
    nd_graph *graph = heads_graph(2, 4 + classes, boxes, 1);
    nd_detections found = decoded(graph, "yolo", (const float *[]){v8[0]});
    cr_assert_eq(found.count, 2);
    cr_expect(found.items[0].score == 0.75 && found.items[0].label == 0);
    cr_expect(found.items[1].score == 0.25 && found.items[1].label == 1);
    expect_box(found.items[0].box, 80, 75, 50, 50);
    free(found.items);
    nd_graph_free(graph);
}

Test(decode, yolox_counts_from_its_grids) {
    enum { all = 16 + 4 + 1, columns = 6 };
    static float raw[all][columns];
    nd_graph *graph = new_graph("yolox");
    nd_node *node;
    /* 32 x 32 pixels, of which the heads take as many numbers as they need. */
    const int x = add_input(graph, "image", 4, (int64_t[]){-1, 1, 32, 32});
    const int flat = add_node(graph, nd_op_flatten, NULL, &x, 1, &node);
    node->attr.axis = 1;
    const int part = add_node(graph, nd_op_slice, NULL, &flat, 1, &node);
    node->attr.n = 1;
    node->attr.axes[0] = node->attr.steps[0] = 1;
    node->attr.ends[0] = all * columns;
    const int y = add_node(graph, nd_op_reshape, NULL, &part, 1, &node);
    node->attr.n = 3;
    node->attr.list[1] = all;
    node->attr.list[2] = columns;
    finish(graph, y, 1);
    raw[6][4] = raw[6][5] = 1;     /* second row, third column of the grid of 8 */
    raw[18][4] = raw[18][5] = .5f; /* second row, first column of that of 16 */
    raw[18][2] = (float)log(2);
    nd_detections found = decoded(graph, "yolox", (const float *[]){raw[0]});
    cr_assert_eq(found.count, 2);
    expect_box(found.items[0].box, 12, 4, 8, 8);
    expect_box(found.items[1].box, 0, 8, 16, 16); /* from -16 to 16: cut to the picture */
    cr_expect_float_eq(found.items[1].score, 0.25, 1e-6);
    free(found.items);
    nd_graph_free(graph);
}

/* 60 x 60 pixels, of which two heads take as many numbers as they need. */
enum { retina_boxes = 9 * (64 + 16 + 4 + 1 + 1), retina_classes = 2 };

static nd_graph *retina_graph(void) {
    nd_graph *graph = new_graph("retinanet");
    const int64_t columns[] = {retina_classes, 4};
    const int x = add_input(graph, "image", 4, (int64_t[]){-1, 1, 60, 60});
    nd_node *node;
    int heads[2];
    const int flat = add_node(graph, nd_op_flatten, NULL, &x, 1, &node);
    node->attr.axis = 1;
    for (int h = 0; h < 2; h++) {
        const int part = add_node(graph, nd_op_slice, NULL, &flat, 1, &node);
        node->attr.n = 1;
        node->attr.axes[0] = node->attr.steps[0] = 1;
        node->attr.ends[0] = retina_boxes * columns[h];
        heads[h] = add_node(graph, nd_op_reshape, NULL, &part, 1, &node);
        node->attr.n = 3;
        node->attr.list[1] = retina_boxes;
        node->attr.list[2] = columns[h];
    }
    OK(nd_graph_add_output(graph, heads[0]));
    finish(graph, heads[1], 1);
    return graph;
}

/* By hand, as torchvision's AnchorGenerator makes them: halves of sides rounded, ratios before sizes, places
 * at 60 / 8, 60 / 4 ... pixels rounded down. */
Test(decode, retinanet_starts_from_torchvisions_boxes) {
    static const struct {
        int64_t index;
        double x, y, width, height; /* centre and size */
    } anchors[] = {
        {0, 0, 0, 46, 22},
        {1, 0, 0, 56, 28},
        {4, 0, 0, 40, 40},
        {8, 0, 0, 36, 70},
        {9 * 9 + 3, 7, 7, 32, 32}, /* second row and column of 8 x 8 */
        {9 * (64 + 5) + 3, 15, 15, 64, 64},
        {9 * (80 + 3) + 3, 30, 30, 128, 128},
        {9 * 84 + 3, 0, 0, 256, 256},
        {9 * 85 + 3, 0, 0, 512, 512},
    };
    static float scores[retina_boxes][retina_classes], offsets[retina_boxes][4];
    nd_graph *graph = retina_graph();
    const float *outputs[] = {scores[0], offsets[0]};
    for (int i = 0; i < retina_boxes; i++)
        for (int c = 0; c < retina_classes; c++) scores[i][c] = -20;
    for (size_t i = 0; i < sizeof anchors / sizeof *anchors; i++) {
        float *score = &scores[anchors[i].index][1];
        *score = 0;
        nd_detections found = decoded(graph, "retinanet", outputs);
        *score = -20;
        cr_assert_eq(found.count, 1);
        cr_expect(found.items[0].label == 1 && found.items[0].score == 0.5);
        const double width = anchors[i].width / 2, height = anchors[i].height / 2; /* cut to the image */
        const double left = fmax(anchors[i].x - width, 0), right = fmin(anchors[i].x + width, 60);
        const double top = fmax(anchors[i].y - height, 0), below = fmin(anchors[i].y + height, 60);
        expect_box(found.items[0].box, left, top, right - left, below - top);
        free(found.items);
    }
    /* Offsets in sides and in logarithms of them, no variances. That of 100 is cut to that of 62.5: the upper
     * border is 4,000 pixels above the middle. */
    float *offset = offsets[9 * (80 + 3) + 3];
    scores[9 * (80 + 3) + 3][0] = 3;
    offset[0] = 0.125f;
    offset[1] = 31.25f;
    offset[2] = -(float)log(2);
    offset[3] = (float)log(100);
    nd_detections found = decoded(graph, "retinanet", outputs);
    cr_assert_eq(found.count, 1);
    cr_expect(found.items[0].label == 0 && fabs(found.items[0].score - 1 / (1 + exp(-3))) < 1e-12);
    expect_box(found.items[0].box, 14, 30, 46, 30);
    free(found.items);
    nd_graph_free(graph);
}

Test(decode, boxes_of_a_retinanet_are_as_its_metadata_says) {
    static float scores[retina_boxes][retina_classes], offsets[retina_boxes][4];
    nd_graph *graph = retina_graph();
    nd_decode decode;
    for (int i = 0; i < retina_boxes; i++) scores[i][0] = scores[i][1] = -20;
    scores[9][0] = 4; /* second place, first of 9 */
    OK(nd_graph_set_meta(graph, "nd.anchors",
                         "steps=8:16:32:64:128;ratios=4:0.5,1,2:0.5,1,2:0.5,1,2:0.5,1,2;"
                         "sizes=20,24,28,32,36,40,44,48:1,2,3:1,2,3:1,2,3:1,2,3"));
    cr_expect_eq(nd_decode_open(graph, "retinanet", &decode),
                 nd_status_format); /* 8 sizes where 9 are wanted */
    cr_expect(strstr(nd_error(), "nd.anchors describes"), "%s", nd_error());
    OK(nd_graph_set_meta(graph, "nd.anchors",
                         "steps=8:16:32:64:128;ratios=4:0.5,1,2:0.5,1,2:0.5,1,2:0.5,1,2;sizes=1"));
    cr_expect_eq(nd_decode_open(graph, "retinanet", &decode), nd_status_format);
    OK(nd_graph_set_meta(graph, "nd.anchors",
                         "ratios=4,1,0.25:0.5,1,2:0.5,1,2:0.5,1,2:0.5,1,2;steps=8:16:32:64:128;"
                         "sizes=20,24,28:1,2,3:1,2,3:1,2,3:1,2,3"));
    nd_detections found = decoded(graph, "retinanet", (const float *[]){scores[0], offsets[0]});
    cr_assert_eq(found.count, 1);
    expect_box(found.items[0].box, 2, 0, 10, 20); /* 10 x 40 around (7, 0) */
    free(found.items);
    nd_graph_free(graph);
}

/* Default boxes by hand, from section 2.2 of the paper. */
Test(decode, ssd_starts_from_its_default_boxes) {
    static const struct {
        int64_t index;
        double x, y, width, height; /* centre and size */
    } anchors[] = {
        {0, 4, 4, 30, 30},
        {1, 4, 4, 42.426406871192846, 42.426406871192846}, /* sqrt(30 * 60) */
        {2, 4, 4, 42.426406871192846, 21.213203435596423}, /* aspect 2 */
        {3, 4, 4, 21.213203435596423, 42.426406871192846},
        {4 * 39, 12, 12, 30, 30}, /* second row, second column of 38 x 38 */
        {38 * 38 * 4 + 4, 8, 8, 103.92304845413264, 34.64101615137755}, /* aspect 3 on 19 x 19 */
        {8731, 150, 150, 186.676, 300},                                 /* the last one, cut to the image */
    };
    static float scores[8732][21], offsets[8732][4];
    nd_graph *graph;
    OK(nd_zoo_build(nd_zoo_find("ssd300"), nd_zoo_blank, NULL, &graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    const float *outputs[] = {scores[0], offsets[0]};
    for (size_t i = 0; i < sizeof anchors / sizeof *anchors; i++) {
        memset(scores, 0, sizeof scores);
        for (int k = 0; k < 8732; k++) scores[k][0] = 20;
        scores[anchors[i].index][0] = 0;
        scores[anchors[i].index][1 + 14] = 20;
        nd_detections found = decoded(graph, "ssd", outputs);
        cr_assert_eq(found.count, 1);
        cr_expect(found.items[0].label == 14 && fabs(found.items[0].score - 1) < 1e-6);
        const double left = fmax(anchors[i].x - anchors[i].width / 2, 0),
                     top = fmax(anchors[i].y - anchors[i].height / 2, 0);
        if (i < 6)
            expect_box(found.items[0].box, left, top, anchors[i].x + anchors[i].width / 2 - left,
                       anchors[i].y + anchors[i].height / 2 - top);
        else
            cr_expect_float_eq(found.items[0].box.height, 300, 1e-3);
        free(found.items);
    }
    /* Variances 0.1 and 0.2. */
    offsets[8731][0] = 1;
    offsets[8731][2] = (float)(-5 * log(2));
    nd_detections found = decoded(graph, "ssd", outputs);
    cr_assert_eq(found.count, 1);
    const double width = 0.88 * 300 / sqrt(2);
    expect_box(found.items[0].box, 150 + 0.1 * width - width / 4, 0, width / 2, 300);
    free(found.items);
    nd_graph_free(graph);
}

Test(decode, what_does_not_fit_is_named) {
    nd_decode decode;
    nd_graph *graph = heads_graph(2, 4 + classes, boxes, 1);
    cr_expect_eq(nd_decode_open(graph, "rcnn", &decode), nd_status_usage);
    cr_expect(strstr(nd_error(), "expected ssd, retinanet, yolo, yolox or none"), "%s", nd_error());
    cr_expect_eq(nd_decode_open(graph, "ssd", &decode), nd_status_usage);
    cr_expect_eq(nd_decode_open(graph, "yolox", &decode), nd_status_usage);
    cr_expect(strstr(nd_error(), "not those of grids"), "%s", nd_error());
    nd_graph_free(graph);
    OK(nd_zoo_build(nd_zoo_find("ssd300"), nd_zoo_blank, NULL, &graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    static const char *const bad[] = {"",
                                      "steps=8",
                                      "steps=8:16;scales=0.1:0.2;ratios=2:2",
                                      "steps=1e-9;scales=0.1:0.2;ratios=2",
                                      "steps=8;scales=0.1:0.2;ratios=2",
                                      "steps=8;scales=0.1:nan;ratios=2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        OK(nd_graph_set_meta(graph, "nd.anchors", bad[i]));
        cr_expect_eq(nd_decode_open(graph, "ssd", &decode), nd_status_format, "%s", bad[i]);
        cr_expect(strstr(nd_error(), "nd.anchors"), "%s", nd_error());
    }
    nd_graph_free(graph);
}

/* --- a stream whose images are heads */

enum { images = 7, batch = 3 };

typedef struct head_stream {
    nd_batches batches;
    float raw[images][4 + classes][boxes];
    nd_object objects[images][boxes];
    nd_frame frames[images];
    int64_t at, index[images];
    int32_t labels[images];
} head_stream;

static nd_status stream_next(nd_batches *batches, nd_batch *out) {
    head_stream *self = (head_stream *)batches;
    const int64_t left = images - self->at, n = left < batch ? left : batch;
    *out = (nd_batch){.n = n,
                      .images = self->raw[0][0] + self->at * (4 + classes) * boxes,
                      .labels = self->labels,
                      .index = self->index + self->at,
                      .frames = self->frames + self->at};
    self->at += n;
    return nd_status_ok;
}

static nd_status stream_rewind(nd_batches *batches) {
    ((head_stream *)batches)->at = 0;
    return nd_status_ok;
}

static nd_status stream_objects(nd_batches *batches, int64_t index, const nd_object **out, size_t *count) {
    *out = ((head_stream *)batches)->objects[index];
    *count = boxes;
    return nd_status_ok;
}

/* Boxes far from each other, found as they are annotated; the picture is twice as large as its image. */
static void make_stream(head_stream *self) {
    *self = (head_stream){.batches = {.channels = (4 + classes) * boxes / 4,
                                      .height = 2,
                                      .width = 2,
                                      .count = images,
                                      .batch = batch,
                                      .name = "heads",
                                      .preprocess = "none",
                                      .next = stream_next,
                                      .rewind = stream_rewind,
                                      .objects = stream_objects}};
    nd_rng rng = nd_rng_seed(3);
    for (int i = 0; i < images; i++) {
        self->index[i] = i;
        self->frames[i] = (nd_frame){.width = 2000, .height = 2000, .scale_x = 0.5, .scale_y = 0.5};
        for (int k = 0; k < boxes; k++) {
            const float box[] = {50 + 70.0f * (float)k, 100 + 20.0f * (float)nd_rng_uniform(&rng), 30, 40};
            for (int c = 0; c < 4; c++) self->raw[i][c][k] = box[c];
            self->raw[i][4 + k % 2][k] = 0.3f + 0.6f * (float)nd_rng_uniform(&rng);
            self->objects[i][k] = (nd_object){
                .box = {2 * (box[0] - 15), 2 * (box[1] - 20), 60, 80}, .area = 4800, .label = k % 2};
        }
    }
}

/* The network that takes the heads, and one whose boxes are `shift` further right and whose scores are
 * all doubled. */
static nd_graph *shifted(float shift) {
    nd_graph *graph = new_graph("shifted");
    nd_node *node;
    float add[4 + classes][boxes] = {{0}};
    for (int k = 0; k < boxes; k++) add[0][k] = shift;
    const int x = add_input(graph, "image", 4, (int64_t[]){-1, (4 + classes) * boxes / 4, 2, 2});
    const int y = add_node(graph, nd_op_reshape, NULL, &x, 1, &node);
    node->attr.n = 3;
    node->attr.list[1] = 4 + classes;
    node->attr.list[2] = boxes;
    const int by = add_floats(graph, NULL, 3, (int64_t[]){1, 4 + classes, boxes}, add[0]);
    finish(graph, add_node(graph, nd_op_add, NULL, (int[]){y, by}, 2, NULL), batch);
    return graph;
}

Test(decode, networks_are_measured_against_annotations_and_each_other) {
    static head_stream stream;
    nd_backend *backend;
    nd_found found[3];
    nd_truth truth;
    make_stream(&stream);
    OK(nd_backend_open("ref", &(nd_backend_settings){0}, &backend));
    nd_graph *graphs[] = {shifted(0), shifted(3), shifted(0)};
    const nd_detection_settings settings = {.backend = backend, .decoder = "yolo"};
    OK(nd_detection_run((const nd_graph *const *)graphs, 3, &stream.batches, &settings, found, &truth));
    cr_assert(found[0].n == images && truth.n == images && truth.objects == images * boxes);
    cr_expect_eq(found[0].detections, images * boxes);
    cr_expect(isnan(found[0].rel_mse[0]) && found[2].rel_mse[0] == 0 && found[2].rel_mse[1] == 0);
    cr_expect(found[1].rel_mse[0] > 0 && found[1].rel_mse[1] == 0);

    nd_detection_rows rows = {
        .batches = &stream.batches, .truth = &truth, .original = &found[0], .score = 0.25, .draws = 100};
    nd_row row = {0};
    OK(nd_detection_row(&rows, &found[1], &row));
    /* 3 of 30 pixels: overlap 27 / 33 = 0.818, which is 7 of COCO's 10. */
    cr_expect_float_eq(row.values[nd_field_ap].r, 70, 1e-9);
    cr_expect_float_eq(row.values[nd_field_ap75].r, 100, 1e-9);
    cr_expect_float_eq(row.values[nd_field_voc2007].r, 100, 1e-9);
    cr_expect_float_eq(row.values[nd_field_drop_ap].r, 30, 1e-9);
    cr_expect_float_eq(row.values[nd_field_drop_ap_lo].r, 30, 1e-9);
    cr_expect_float_eq(row.values[nd_field_agree_ap].r, 70, 1e-9);
    cr_expect_float_eq(row.values[nd_field_agree_ap50].r, 100, 1e-9);
    cr_expect_float_eq(row.values[nd_field_agree_iou].r, 27.0 / 33, 1e-6);
    cr_expect_eq(row.values[nd_field_agree_objects].i, images * boxes);
    cr_expect_eq(row.values[nd_field_agree_matched].i, images * boxes);
    nd_row_free(&row);

    nd_detection_classes by;
    OK(nd_detection_by_class(&found[1], &truth, &by));
    cr_expect(by.classes == classes && by.objects[0] == images * boxes / 2);
    cr_expect_float_eq(by.ap[1], 0.7, 1e-9);
    nd_detection_classes_free(&by);

    nd_truth high;
    OK(nd_truth_of(&found[0], 2, &high)); /* no score is */
    cr_expect_eq(high.objects, 0);
    nd_truth_free(&high);
    for (int i = 0; i < 3; i++) {
        nd_found_free(&found[i]);
        nd_graph_free(graphs[i]);
    }
    nd_truth_free(&truth);
    nd_backend_close(backend);
}

/* A network that finds nothing is more often fed wrongly than bad. */
Test(decode, images_that_are_not_as_the_network_wants_them_are_told) {
    static head_stream stream;
    nd_backend *backend;
    make_stream(&stream);
    OK(nd_backend_open("ref", &(nd_backend_settings){0}, &backend));
    for (int away = 0; away < 2; away++) {
        nd_graph *graph = shifted(away ? 35 : 0); /* between what is annotated */
        const nd_detection_settings settings = {.backend = backend, .decoder = "yolo"};
        nd_found found;
        nd_truth truth;
        OK(nd_detection_run((const nd_graph *const *)&graph, 1, &stream.batches, &settings, &found, &truth));
        cr_expect_eq(found.batch, batch);
        nd_detection_rows rows = {.batches = &stream.batches, .truth = &truth, .score = 0.25};
        nd_row row = {0};
        char text[512];
        OK(nd_detection_row(&rows, &found, &row));
        cr_expect_eq(nd_detection_blind(&rows, &found, &row, text, sizeof text), away);
        if (away) cr_expect(strstr(text, "AP50 is 0.00") && strstr(text, "--classes"), "%s", text);
        rows.score = 0.95;
        cr_expect(nd_detection_blind(&rows, &found, &row, text, sizeof text));
        cr_expect(strstr(text, "with a score of at least 0.95, the best has 0."), "%s", text);
        nd_row_free(&row);
        nd_found_free(&found);
        nd_truth_free(&truth);
        nd_graph_free(graph);
    }
    nd_backend_close(backend);
}

Test(decode, classes_beyond_the_networks_are_named) {
    static head_stream stream;
    nd_backend *backend;
    nd_found found;
    nd_truth truth;
    make_stream(&stream);
    stream.objects[4][1].label = classes;
    OK(nd_backend_open("ref", &(nd_backend_settings){0}, &backend));
    nd_graph *graph = shifted(0);
    const nd_detection_settings settings = {.backend = backend, .decoder = "yolo"};
    cr_expect_eq(
        nd_detection_run((const nd_graph *const *)&graph, 1, &stream.batches, &settings, &found, &truth),
        nd_status_format);
    cr_expect(strstr(nd_error(), "an object of class 2, but the network's are 0 to 1"), "%s", nd_error());
    nd_graph_free(graph);
    nd_backend_close(backend);
}
