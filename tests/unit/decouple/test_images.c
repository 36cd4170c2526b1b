/* The order of a network's images and of the stream's. */
#include "datasets/dataset.h"
#include "model/images.h"
#include "tests/unit/help/net_help.h"

/* small_net behind a Transpose, as exporters of channels-last frameworks write it. */
static nd_graph *turned_net(void) {
    nd_graph *graph = small_net();
    nd_node *node = NULL;
    int image = -1, y = graph->inputs[0];
    const int64_t dims[4] = {1, 8, 8, 3};
    OK(nd_graph_add_input(graph, "pixels", 4, dims, &image));
    graph->inputs[0] = image;
    graph->n_inputs = 1;
    OK(nd_graph_add_node(graph, nd_op_transpose, "planes", &image, 1, &y, 1, &node));
    node->attr.n = 4;
    memcpy(node->attr.list, (int64_t[]){0, 3, 1, 2}, 4 * sizeof *node->attr.list);
    OK(nd_graph_sort(graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    return graph;
}

static void turn(nd_batches *batches) {
    float *images = ((pictures *)batches)->images;
    const int64_t area = batches->height * batches->width, size = batches->channels * area;
    float *old = nd_alloc_array((size_t)(batches->count * size), sizeof *old);
    memcpy(old, images, (size_t)(batches->count * size) * sizeof *old);
    for (int64_t e = 0; e < batches->count * size; e++)
        images[e / size * size + e % area * batches->channels + e / area % batches->channels] = old[e];
    batches->channels_last = true;
    free(old);
}

Test(images, channels_last_are_told_by_their_number) {
    static const struct {
        int64_t dims[4];
        nd_image_input wanted;
    } cases[] = {
        {{1, 3, 224, 200}, {3, 224, 200, false}}, {{1, 224, 200, 3}, {3, 224, 200, true}},
        {{-1, -1, -1, 3}, {3, -1, -1, true}},     {{1, 28, 28, 1}, {1, 28, 28, true}},
        {{1, 3, 224, 3}, {3, 224, 3, false}},     {{1, 16, 8, 8}, {16, 8, 8, false}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        nd_value value = {.rank = 4};
        memcpy(value.dims, cases[c].dims, sizeof cases[c].dims);
        const nd_image_input got = nd_image_input_of(&value), *wanted = &cases[c].wanted;
        cr_expect(got.channels == wanted->channels && got.height == wanted->height &&
                      got.width == wanted->width && got.channels_last == wanted->channels_last,
                  "case %d", (int)c);
    }
}

Test(images, are_inferred_at_their_own_size_whichever_way_they_lie) {
    nd_graph *planes = small_net(), *pixels = turned_net();
    const nd_infer_settings of_planes = nd_infer_image(planes), of_pixels = nd_infer_image(pixels);
    cr_expect(of_planes.height == 8 && of_planes.width == 8);
    cr_expect(of_pixels.height == 8 && of_pixels.width == 8);
    nd_graph_free(planes);
    nd_graph_free(pixels);
}

/* The same fit whichever way the images lie; images the other way round are refused, not taken for others. */
Test(images, calibration_feeds_what_the_network_takes) {
    nd_backend *backend = help_backend();
    nd_graph *plain = small_net(), *turned = turned_net();
    nd_batches *planes = open_pictures(24, 11), *pixels = open_pictures(24, 11);
    turn(pixels);
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_decouple_report report;
    settings.method = "dwpw";
    settings.target = 2;
    settings.calib = planes;
    cr_expect_eq(nd_decouple(turned, backend, &settings, &report), nd_status_usage);
    report = decouple_net(plain, backend, &settings);
    nd_decouple_report_free(&report);
    settings.calib = pixels;
    report = decouple_net(turned, backend, &settings);
    nd_decouple_report_free(&report);

    int64_t classes = 0;
    float *a = run_net(backend, plain, 24, ((pictures *)planes)->images, &classes);
    float *b = run_net(backend, turned, 24, ((pictures *)pixels)->images, &classes);
    for (int64_t e = 0; e < 24 * classes; e++) cr_assert_float_eq(a[e], b[e], 1e-6f * (1 + fabsf(a[e])));
    free(a);
    free(b);
    nd_batches_close(planes);
    nd_batches_close(pixels);
    nd_graph_free(plain);
    nd_graph_free(turned);
    nd_backend_close(backend);
}

Test(images, a_stream_turns_its_pictures) {
    nd_batches *stream[2];
    nd_batch batch[2];
    for (int last = 0; last < 2; last++) {
        const nd_dataset_settings settings = {.spec = "synthetic:seed=3",
                                              .preprocess = "crop=6x8",
                                              .batch = 2,
                                              .limit = 4,
                                              .channels_last = last,
                                              .workers = 1};
        OK(nd_dataset_open(&settings, &stream[last]));
        for (int part = 0; part < 2; part++) OK(stream[last]->next(stream[last], &batch[last]));
    }
    const int64_t area = 6 * 8;
    cr_assert_eq(stream[0]->channels, 3);
    cr_assert(stream[0]->height == 6 && stream[0]->width == 8);
    cr_assert(batch[0].n == 2 && batch[1].n == 2);
    for (int64_t i = 0; i < 2; i++)
        for (int64_t c = 0; c < 3; c++)
            for (int64_t p = 0; p < area; p++)
                cr_assert_eq(batch[0].images[(i * 3 + c) * area + p],
                             batch[1].images[(i * area + p) * 3 + c]);
    nd_batches_close(stream[0]);
    nd_batches_close(stream[1]);
}
