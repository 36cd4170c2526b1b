/* Post-training quantisation: what it may change, what it may not, and that the result runs in integers. */
#include "model/model.h"
#include "quantize/balance.h"
#include "quantize/quantize.h"
#include "quantize/ranges.h"
#include "run/plugins.h"
#include "tests/unit/help/net_help.h"

#include <criterion/criterion.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { images = 28 };

static nd_backend *open_ref(void) {
    nd_backend *backend = NULL;
    OK(nd_backend_open("ref", NULL, &backend));
    return backend;
}

static nd_graph *decoupled_by(nd_backend *backend, nd_ranks ranks) {
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.ranks = ranks;
    settings.rule = nd_rule_rank;
    settings.target = 2;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    nd_decouple_report_free(&report);
    return graph;
}

static nd_graph *decoupled_net(nd_backend *backend) {
    return decoupled_by(backend, nd_ranks_uniform);
}

/* Written where `path` is not NULL; then folded, as every network is before it runs. */
static nd_quantize_report quantize_to(nd_graph *graph, nd_backend *backend, bool e4m3, const char *path) {
    nd_batches *calib = open_pictures(images, 11);
    nd_quantize_report report = {0};
    OK(nd_quantize_graph(graph, backend, &(nd_quantize_settings){.calib = calib, .e4m3 = e4m3}, &report));
    nd_batches_close(calib);
    if (path) OK(nd_model_save(graph, path));
    OK(nd_graph_fold(graph));
    return report;
}

static nd_quantize_report quantize_net(nd_graph *graph, nd_backend *backend, const char *path) {
    return quantize_to(graph, backend, false, path);
}

static double picture_distance(nd_backend *backend, const nd_graph *a, const nd_graph *b) {
    nd_batches *batches = open_pictures(images, 12);
    const double distance = distance_on(backend, a, b, images, ((pictures *)batches)->images);
    nd_batches_close(batches);
    return distance;
}

static int count_steps(nd_backend *backend, const nd_graph *graph, nd_operation operation) {
    nd_exec *exec = NULL;
    int count = 0;
    OK(nd_exec_open(backend, graph, &(nd_exec_settings){.batch = 1}, &exec));
    for (size_t i = 0; i < nd_exec_node_count(exec); i++)
        count += nd_exec_node_at(exec, i).operation == operation;
    nd_exec_close(exec);
    return count;
}

Test(quantize, a_dense_network_stays_near_and_runs_in_integers) {
    nd_backend *backend = open_ref();
    nd_graph *real = small_net(), *graph = small_net();
    const nd_quantize_report report = quantize_net(graph, backend, NULL);
    cr_expect_eq(report.layers, 5);
    cr_expect_eq(report.quantised, 5);
    const double distance = picture_distance(backend, real, graph);
    cr_expect(distance > 1e-5 && distance < 0.03, "%g", distance);
    cr_expect_eq(count_steps(backend, graph, nd_operation_dequantize), 0, "the addition as well");
    cr_expect_eq(count_steps(backend, graph, nd_operation_binary), 1, "in integers");
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

Test(quantize, a_decoupled_network_keeps_its_pairs) {
    nd_backend *backend = open_ref();
    nd_graph *real = decoupled_net(backend), *graph = decoupled_net(backend);
    const int pairs = count_steps(backend, real, nd_operation_separable);
    const nd_quantize_report report = quantize_net(graph, backend, NULL);
    const double distance = picture_distance(backend, real, graph);
    cr_expect_gt(pairs, 0);
    cr_expect_eq(report.balanced, pairs);
    cr_expect_eq(count_steps(backend, graph, nd_operation_separable), pairs);
    cr_expect(distance > 1e-5 && distance < 0.05, "%g", distance);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* Numbers of 4 bits are further away than integers of 8, and less than a step of them. */
Test(quantize, pairs_in_e4m3) {
    nd_backend *backend = open_ref();
    nd_graph *real = decoupled_net(backend), *graph = decoupled_net(backend);
    const int pairs = count_steps(backend, real, nd_operation_separable);
    const nd_quantize_report report = quantize_to(graph, backend, true, NULL);
    const double distance = picture_distance(backend, real, graph);
    cr_expect_eq(report.quantised, report.layers);
    cr_expect(nd_graph_is_e4m3(graph));
    cr_expect_eq(count_steps(backend, graph, nd_operation_separable), pairs);
    cr_expect(distance > 1e-4 && distance < 0.125, "%g", distance);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* Adaptive ranks gather channels, and the file quantises what was gathered again. */
Test(quantize, a_network_of_adaptive_ranks_gathers_nothing) {
    nd_backend *backend = open_ref();
    nd_graph *real = decoupled_by(backend, nd_ranks_adaptive),
             *graph = decoupled_by(backend, nd_ranks_adaptive);
    int gathers = 0;
    for (int i = 0; i < real->n_nodes; i++) gathers += real->nodes[i].op == nd_op_gather;
    const int pairs = count_steps(backend, real, nd_operation_separable);
    quantize_net(graph, backend, NULL);
    cr_expect_gt(gathers, 0);
    cr_expect_eq(count_steps(backend, graph, nd_operation_separable), pairs);
    cr_expect_eq(count_steps(backend, graph, nd_operation_gather), 0);
    const double distance = picture_distance(backend, real, graph);
    cr_expect(distance > 1e-5 && distance < 0.05, "%g", distance);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* What a residual adds and a Gather reads is in one scale. */
Test(quantize, what_is_moved_keeps_its_range) {
    nd_backend *backend = open_ref();
    nd_graph *graph = new_graph("moved");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    const int a = add_plain(graph, nd_op_relu, add_conv(graph, "first", x, 8, 3, 3, 1, 1), -1);
    const int g = add_gather(graph, a, (int64_t[]){0, 1}, 2);
    const int b = add_plain(graph, nd_op_add, add_conv(graph, "second", g, 8, 2, 1, 1, 3), a);
    const int c = add_plain(graph, nd_op_relu, b, -1);
    finish(graph, add_conv(graph, "score", c, 5, 8, 1, 1, 5), 1);
    quantize_net(graph, backend, NULL);
    float scales[2] = {0};
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (node->op != nd_op_quantize || (node->in[0] != a && node->in[0] != g)) continue;
        scales[node->in[0] == g] = ((const float *)nd_graph_constant(graph, node, 1)->data)[0];
    }
    cr_expect_gt(scales[0], 0);
    cr_expect_eq(scales[0], scales[1], "%g %g", (double)scales[0], (double)scales[1]);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* The identity of cross-layer equalisation; and it does something. */
Test(quantize, balancing_changes_weights_but_no_answer) {
    nd_backend *backend = open_ref();
    nd_batches *calib = open_pictures(images, 11);
    nd_graph *real = decoupled_net(backend), *graph = decoupled_net(backend);
    bool chosen[64];
    char before[65], after[65];
    int pairs = 0;
    cr_assert_lt(graph->n_nodes, 64);
    for (int i = 0; i < graph->n_nodes; i++) chosen[i] = graph->nodes[i].op == nd_op_conv;
    nd_graph_sha256(graph, before);
    OK(nd_balance(graph, backend, calib, images, chosen, &pairs));
    nd_graph_sha256(graph, after);
    cr_expect_gt(pairs, 0);
    cr_expect_str_neq(before, after);
    const double distance = picture_distance(backend, real, graph);
    cr_expect(distance < 1e-5, "%g", distance);
    nd_batches_close(calib);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* Every pair's scales are used up: a second time they are alike. */
Test(quantize, balancing_twice_changes_no_more) {
    nd_backend *backend = open_ref();
    nd_batches *calib = open_pictures(images, 11);
    nd_graph *graph = decoupled_net(backend);
    bool chosen[64];
    int pairs = 0, seen = 0;
    cr_assert_lt(graph->n_nodes, 64);
    for (int i = 0; i < graph->n_nodes; i++) chosen[i] = graph->nodes[i].op == nd_op_conv;
    OK(nd_balance(graph, backend, calib, images, chosen, &pairs));
    for (int i = 0; i < graph->n_nodes; i++) {
        const int partner = nd_balance_partner(graph, chosen, i), middle = graph->nodes[i].out[0];
        if (partner < 0) continue;
        const nd_tensor *w = nd_graph_constant(graph, &graph->nodes[partner], 1);
        double *magnitudes = nd_alloc_array((size_t)w->dims[1], sizeof *magnitudes), first = 0;
        OK(nd_ranges_channels(graph, backend, calib, images, &middle, 1, &magnitudes));
        for (int64_t c = 0; c < w->dims[1]; c++) {
            double squares = 0;
            for (int64_t o = 0; o < w->dims[0]; o++)
                squares += pow((double)((const float *)w->data)[o * w->dims[1] + c], 2);
            if (magnitudes[c] > 0 && squares > 0) {
                const double scale = pow(magnitudes[c], 3) / sqrt(squares);
                if (!first) first = scale;
                cr_expect_float_eq(scale / first, 1, 1e-3);
                seen++;
            }
        }
        free(magnitudes);
    }
    cr_expect_gt(seen, 0);
    nd_batches_close(calib);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* The pointwise half of the first pair, its columns divided by `factor`; filters are multiplied by it, and
 * those of term 0 are zero. */
static int sized_pair(nd_graph *graph, const bool *chosen, float factor) {
    int node = 0, partner = -1;
    while (node < graph->n_nodes && (partner = nd_balance_partner(graph, chosen, node)) < 0) node++;
    cr_assert_geq(partner, 0);
    const nd_tensor *filters = nd_graph_constant(graph, &graph->nodes[node], 1),
                    *columns = nd_graph_constant(graph, &graph->nodes[partner], 1);
    const int64_t taps = filters->dims[2] * filters->dims[3];
    for (int64_t i = 0; i < nd_tensor_count(filters); i++)
        ((float *)filters->data)[i] *= i < taps ? 0 : factor;
    for (int64_t i = 0; i < nd_tensor_count(columns); i++) ((float *)columns->data)[i] /= factor;
    return partner;
}

/* How large the tensor between is decides nothing, beside a term that is always 0 either. */
Test(quantize, balancing_forgets_the_size_of_a_pair) {
    nd_backend *backend = open_ref();
    nd_batches *calib = open_pictures(images, 11);
    const float factor = 0x1p-17f;
    nd_graph *plain = decoupled_net(backend), *sized = decoupled_net(backend);
    bool chosen[64];
    int pairs = 0;
    cr_assert_lt(plain->n_nodes, 64);
    for (int i = 0; i < plain->n_nodes; i++) chosen[i] = plain->nodes[i].op == nd_op_conv;
    const int node = sized_pair(plain, chosen, 1);
    cr_assert_eq(sized_pair(sized, chosen, factor), node);
    OK(nd_balance(plain, backend, calib, images, chosen, &pairs));
    OK(nd_balance(sized, backend, calib, images, chosen, &pairs));
    const nd_tensor *a = nd_graph_constant(plain, &plain->nodes[node], 1),
                    *b = nd_graph_constant(sized, &sized->nodes[node], 1);
    for (int64_t i = 0; i < nd_tensor_count(a); i++) {
        const double x = (double)((const float *)a->data)[i],
                     y = (double)((const float *)b->data)[i] * (double)factor;
        cr_expect_float_eq(x, y, 1e-4 * fabs(x), "%lld: %g, %g", (long long)i, x, y);
    }
    nd_batches_close(calib);
    nd_graph_free(plain);
    nd_graph_free(sized);
    nd_backend_close(backend);
}

/* means[channels] over images and places of what convolution `name` makes. */
static double *channel_means(nd_backend *backend, const nd_graph *graph, const char *name,
                             int64_t *channels) {
    const int node = nd_graph_find_node(graph, name);
    cr_assert_geq(node, 0, "%s", name);
    const int value = graph->nodes[node].out[0];
    const int64_t *dims = graph->values[value].dims, area = dims[2] * dims[3];
    float *real = nd_alloc_array((size_t)(dims[1] * area), sizeof *real);
    float *stored = nd_alloc_array((size_t)(dims[1] * area), sizeof *stored);
    double *means = nd_alloc_array((size_t)dims[1], sizeof *means);
    nd_batches *calib = open_pictures(images, 11);
    const nd_range any = {0, 1, 0, false};
    OK(nd_ranges_means(graph, backend, calib, images, &value, 1, &any, &real, &stored));
    for (int64_t i = 0; i < dims[1] * area; i++) means[i / area] += (double)real[i] / (double)area;
    *channels = dims[1];
    nd_batches_close(calib);
    free(real);
    free(stored);
    return means;
}

/* The identity of bias correction: a layer that reads pictures keeps the mean of every channel, but for
 * what rounds the bias. Without it they move by up to 3e-4. */
Test(quantize, biases_keep_the_means_of_a_layer) {
    nd_backend *backend = open_ref();
    nd_graph *real = small_net(), *graph = small_net();
    OK(nd_graph_fold(real));
    quantize_net(graph, backend, NULL);
    const char *name = NULL;
    for (int i = 0; i < real->n_nodes && !name; i++)
        if (real->nodes[i].op == nd_op_conv) name = real->nodes[i].name;
    cr_assert(name);
    int64_t channels = 0;
    double *before = channel_means(backend, real, name, &channels);
    double *after = channel_means(backend, graph, name, &channels);
    for (int64_t c = 0; c < channels; c++)
        cr_expect_float_eq(after[c], before[c], 1e-4, "channel %d: %g, %g", (int)c, after[c], before[c]);
    free(before);
    free(after);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* Pairs of one network, with a bias behind the pointwise half alone, that takes up what rounding the
 * depthwise half does. */
Test(quantize, biases_of_pointwise_halves_keep_the_means_of_pairs) {
    nd_backend *backend = open_ref();
    nd_graph *real = decoupled_net(backend), *graph = decoupled_net(backend);
    const char *name = NULL;
    for (int i = 0; i + 1 < real->n_nodes && !name; i++)
        if (real->nodes[i].op == nd_op_conv && real->nodes[i].attr.groups > 1 &&
            real->nodes[i + 1].op == nd_op_conv)
            name = real->nodes[i + 1].name;
    cr_assert(name);
    quantize_net(graph, backend, NULL);
    int64_t channels = 0;
    double moved = 0, size = 0, *before = channel_means(backend, real, name, &channels);
    double *after = channel_means(backend, graph, name, &channels);
    for (int64_t c = 0; c < channels; c++) {
        moved += fabs(after[c] - before[c]);
        size += fabs(before[c]);
    }
    cr_expect_lt(moved, 3e-3 * size, "%g", moved / size);
    free(before);
    free(after);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

static nd_graph *one_layer(void) {
    nd_graph *graph = new_graph("layer");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    finish(graph, add_conv(graph, "layer", x, 6, 3, 3, 1, 7), 1);
    return graph;
}

/* Of the outputs of one layer with these weights instead, about their means, which biases keep. */
static double varies_by(nd_backend *backend, const nd_graph *real, const float *weights) {
    nd_graph *graph = NULL;
    nd_tensor other;
    OK(nd_graph_clone(real, &graph));
    const nd_tensor *own = nd_graph_constant(graph, &graph->nodes[0], 1);
    OK(nd_tensor_new(nd_dtype_f32, own->rank, own->dims, &other));
    const int64_t channels = own->dims[0];
    memcpy(other.data, weights, nd_tensor_bytes(&other));
    OK(nd_graph_set_init(graph, graph->nodes[0].in[1], &other));
    nd_batches *batches = open_pictures(images, 12);
    int64_t size = 0;
    float *a = run_net(backend, real, images, ((pictures *)batches)->images, &size);
    float *b = run_net(backend, graph, images, ((pictures *)batches)->images, &size);
    const int64_t area = size / channels;
    double variance = 0;
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < images * area; i++) {
            const int64_t at = (i / area * channels + c) * area + i % area;
            const double off = (double)b[at] - (double)a[at];
            sum += off;
            squares += off * off;
        }
        variance += squares - sum * sum / (double)(images * area);
    }
    free(a);
    free(b);
    nd_tensor_free(&other);
    nd_batches_close(batches);
    nd_graph_free(graph);
    return variance;
}

/* What pixels have in common, weights that are rounded later take up: against each rounded by itself at the
 * same scales, on pictures that were not calibrated on. */
Test(quantize, rounding_minds_what_the_weights_meet) {
    nd_backend *backend = open_ref();
    nd_graph *real = one_layer(), *graph = one_layer();
    OK(nd_graph_fold(real));
    quantize_net(graph, backend, NULL);
    const int layer = nd_graph_find_node(graph, "layer");
    const nd_value *value = &graph->values[graph->nodes[layer].in[1]];
    const float *w = nd_graph_constant(real, &real->nodes[0], 1)->data;
    cr_assert(value->integers);
    const int64_t count = nd_tensor_count(value->init), length = count / value->integers->n_scales;
    float *nearest = nd_alloc_array((size_t)count, sizeof *nearest);
    for (int64_t i = 0; i < count; i++) {
        const float scale = value->integers->scales[i / length];
        nearest[i] = fminf(fmaxf(rintf(w[i] / scale), -127), 127) * scale;
    }
    const double apart = varies_by(backend, real, nearest);
    const double ours = varies_by(backend, real, value->init->data);
    cr_expect_lt(ours, 0.85 * apart, "%g, each by itself %g", ours, apart);
    free(nearest);
    nd_graph_free(real);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

static void written_answers_the_same(bool e4m3) {
    char path[] = "/tmp/nd-quantize-XXXXXX.onnx";
    nd_backend *backend = open_ref();
    nd_graph *graph = small_net(), *again = NULL;
    const int file = mkstemps(path, 5);
    cr_assert_geq(file, 0);
    close(file);
    quantize_to(graph, backend, e4m3, path);
    OK(nd_model_open(path, &again));
    OK(nd_graph_fold(again));
    OK(nd_graph_infer(again, &(nd_infer_settings){.batch = 1}));
    cr_expect_eq(picture_distance(backend, graph, again), 0);
    unlink(path);
    nd_graph_free(graph);
    nd_graph_free(again);
    nd_backend_close(backend);
}

Test(quantize, a_written_network_answers_the_same) {
    written_answers_the_same(false);
    written_answers_the_same(true);
}

Test(quantize, what_cannot_be_quantised_is_said) {
    nd_backend *backend = open_ref();
    nd_batches *calib = open_pictures(images, 11);
    nd_quantize_report report;
    nd_graph *graph = small_net();
    const char *const skip[] = {"nothing-like-it"};
    const nd_quantize_settings skipped = {.calib = calib, .skip = skip, .n_skip = 1};
    cr_expect_eq(nd_quantize_graph(graph, backend, &skipped, &report), nd_status_usage);
    nd_graph_free(graph);
    graph = small_net();
    const char *const all[] = {"*"};
    const nd_quantize_settings none = {.calib = calib, .skip = all, .n_skip = 1};
    cr_expect_eq(nd_quantize_graph(graph, backend, &none, &report), nd_status_usage);
    cr_expect(strstr(nd_error(), "--skip '*' leaves no Conv or Gemm"), "%s", nd_error());
    nd_graph_free(graph);
    graph = small_net();
    quantize_net(graph, backend, NULL);
    const nd_quantize_settings settings = {.calib = calib};
    cr_expect_eq(nd_quantize_graph(graph, backend, &settings, &report), nd_status_unsupported);
    nd_batches_close(calib);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

/* A million numbers in a tenth of the span and one at its end: clipping that one costs less than a step ten
 * times as wide. Ten thousand there cost more. */
Test(quantize, a_range_weighs_clipping_against_rounding) {
    enum { bins = 100 };
    double counts[bins] = {0};
    for (int i = 0; i < 10; i++) counts[i] = 1e5;
    counts[bins - 1] = 1;
    const nd_range tight = {0, 1, 0, false}, wide = {0, 10, 0, false};
    cr_expect_lt(nd_range_error(counts, bins, 0, 10, &tight), nd_range_error(counts, bins, 0, 10, &wide));
    counts[bins - 1] = 1e4;
    cr_expect_gt(nd_range_error(counts, bins, 0, 10, &tight), nd_range_error(counts, bins, 0, 10, &wide));

    /* Steps of e4m3 grow with the numbers: four octaves more cost nothing. */
    const nd_range octaves = {-16, 16, 0, true}, clipped = {-1, 1, 0, true};
    counts[bins - 1] = 0;
    const double one = nd_range_error(counts, bins, 0, 10, &clipped);
    cr_expect_float_eq(nd_range_error(counts, bins, 0, 10, &octaves), one, 0.01 * one);
    counts[bins - 1] = 1;
    cr_expect_lt(nd_range_error(counts, bins, 0, 10, &octaves), 1.01 * one);
    cr_expect_gt(nd_range_error(counts, bins, 0, 10, &clipped), 1.01 * one);
}
