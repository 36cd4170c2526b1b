/* Networks timed end to end on the reference backend, in simulated time. */
#include "bench/bench.h"
#include "bench/subjects/expected.h"
#include "bench/timing/pairing.h"
#include "decouple/decouple.h"
#include "tests/unit/help/decouple_help.h"

#include <stdio.h>

static int add_3x3(nd_graph *graph, const char *name, int x, int64_t no, int64_t ni, uint64_t seed) {
    char text[32];
    nd_node *node = NULL;
    nd_rng rng = nd_rng_seed(seed);
    snprintf(text, sizeof text, "%s.weight", name);
    const int in[] = {x, add_normals(graph, text, 4, (int64_t[]){no, ni, 3, 3}, &rng, 1)};
    const int y = add_node(graph, nd_op_conv, name, in, 2, &node);
    node->attr.window = (nd_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    return y;
}

static nd_graph *two_convs(void) {
    nd_graph *graph = new_graph("two");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 2, 6, 5});
    const int middle = add_3x3(graph, "first", x, 4, 2, 1);
    finish(graph, add_3x3(graph, "second", middle, 6, 4, 2), 1);
    return graph;
}

/* The map of the first convolution is an output as well. */
static nd_graph *two_outputs(void) {
    nd_graph *graph = new_graph("two outputs");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 2, 6, 5});
    const int middle = add_3x3(graph, "first", x, 4, 2, 1);
    OK(nd_graph_add_output(graph, middle));
    finish(graph, add_3x3(graph, "second", middle, 6, 4, 2), 1);
    return graph;
}

/* Which numbers are above 0: how many only the run knows. */
static nd_graph *late_output(void) {
    nd_graph *graph = new_graph("late");
    nd_node *node;
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 2, 6, 5});
    const int y = add_3x3(graph, "second", add_3x3(graph, "first", x, 4, 2, 1), 6, 4, 2);
    const int positive = add_node(graph, nd_op_relu, NULL, &y, 1, NULL);
    const int places = add_node(graph, nd_op_opaque, "places", &positive, 1, &node);
    node->op_type = "NonZero";
    node->dynamic = true;
    finish(graph, places, 1);
    return graph;
}

static nd_graph *decoupled(nd_backend *backend, const nd_graph *graph) {
    nd_graph *copy = NULL;
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_decouple_report report = {0};
    settings.method = "dwpw";
    settings.target = 2;
    OK(nd_graph_clone(graph, &copy));
    OK(nd_decouple(copy, backend, &settings, &report));
    nd_decouple_report_free(&report);
    return copy;
}

static double simulated_now(void *user) {
    return *(double *)user += 0.01;
}

static int64_t never_interrupted(void *user) {
    (void)user;
    return 0;
}

enum { most_rows = 32 };

typedef struct fixture {
    nd_backend *backend;
    nd_graph *original, *decoupled;
    nd_bench_network networks[2];
    double clock;
    nd_row common;
    nd_bench_settings settings;
    nd_row rows[most_rows];
    size_t n;
} fixture;

static nd_status collect(void *user, const nd_row *row) {
    fixture *f = user;
    cr_assert_lt(f->n, most_rows);
    nd_row_copy(&f->rows[f->n++], row);
    return nd_status_ok;
}

static fixture *set_up_with(nd_graph *original) {
    fixture *f = calloc(1, sizeof *f);
    cr_assert(f);
    f->backend = help_backend();
    f->original = original;
    f->decoupled = decoupled(f->backend, f->original);
    f->networks[0].graph = f->original;
    f->networks[1].graph = f->decoupled;
    nd_row_set_int(&f->networks[0].row, nd_field_total_macs, 1000);
    nd_row_set_int(&f->networks[1].row, nd_field_total_macs, 500);
    nd_row_set_text(&f->common, nd_field_model, "old");
    f->settings = (nd_bench_settings){
        .backend = f->backend,
        .batch = 2,
        .implementations = {[nd_implementation_unfused] = true, [nd_implementation_fused] = true},
        .timing = nd_timing_defaults(),
        .peaks = {100, 10},
        .common = &f->common,
        .row = collect,
        .user = f};
    nd_timing_settings *timing = &f->settings.timing;
    timing->now = simulated_now;
    timing->interruptions = never_interrupted;
    timing->user = &f->clock;
    timing->sample_ns = 1;
    timing->sessions = 2;
    timing->blocks = 3;
    return f;
}

static fixture *set_up(void) {
    return set_up_with(two_convs());
}

static void tear_down(fixture *f) {
    for (size_t i = 0; i < f->n; i++) nd_row_free(&f->rows[i]);
    for (int i = 0; i < 2; i++) nd_bench_network_free(&f->networks[i]);
    nd_row_free(&f->common);
    nd_graph_free(f->decoupled);
    nd_graph_free(f->original);
    nd_backend_close(f->backend);
    free(f);
}

static const char *implementation_of(const nd_row *row) {
    return row->values[nd_field_implementation].text;
}

Test(bench_networks, best_is_the_fastest_plan_of_the_network) {
    fixture *f = set_up();
    f->settings.implementations[nd_implementation_best] = true;
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    static const char *const expected[] = {"dense", "unfused", "fused", "best"};
    cr_assert_eq(f->n, 4);
    for (int i = 0; i < 4; i++) cr_expect_str_eq(implementation_of(&f->rows[i]), expected[i]);
    double unfused = f->rows[1].values[nd_field_ns_median].r, fused = f->rows[2].values[nd_field_ns_median].r;
    cr_expect_eq(f->rows[3].values[nd_field_ns_median].r, fmin(unfused, fused));
    cr_expect_eq(f->rows[0].values[nd_field_ratio].r, 1);
    cr_expect_eq(f->rows[2].values[nd_field_sessions].i, 2, "a session each");
    cr_expect_eq(f->rows[2].values[nd_field_samples_ns].i, f->rows[0].values[nd_field_samples_ns].i);
    tear_down(f);
}

Test(bench_networks, best_alone_is_the_executors_choice) {
    fixture *f = set_up();
    memset(f->settings.implementations, 0, sizeof f->settings.implementations);
    f->settings.implementations[nd_implementation_best] = true;
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    cr_assert_eq(f->n, 2);
    cr_expect_str_eq(implementation_of(&f->rows[1]), "best");
    cr_expect(strstr(f->rows[1].values[nd_field_engine].text, "1 of them separable"), "%s",
              f->rows[1].values[nd_field_engine].text);
    tear_down(f);
}

/* A backend that computes one wrong value must not get a time, and the reference must not go through it. */
static const nd_backend_table *true_table;
static int64_t corrupted_image, corrupted_channels; /* of a value; 0: of all */

static nd_status corrupt_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                                  nd_precision precision, float *dst) {
    ND_TRY(true_table->download(backend, src, view, precision, dst));
    if (!corrupted_channels || view->dims[1] == corrupted_channels)
        dst[corrupted_image * nd_view_count(view) / 2] += 100;
    return nd_status_ok;
}

static void expect_refusal(fixture *f, int64_t channels, const char *message) {
    nd_backend_table broken = *f->backend->table;
    true_table = f->backend->table;
    broken.download = corrupt_download;
    f->backend->table = &broken;
    corrupted_image = 0;
    corrupted_channels = channels;
    cr_expect_eq(nd_bench_networks(f->networks, 2, &f->settings), nd_status_failed);
    cr_expect(strstr(nd_error(), message), "%s", nd_error());
    cr_expect_eq(f->n, 0);
    f->backend->table = true_table;
}

Test(bench_networks, wrong_outputs_are_refused) {
    fixture *f = set_up();
    expect_refusal(f, 0, "two, dense: output \"");
    tear_down(f);
}

Test(bench_networks, every_output_is_compared) {
    for (int64_t channels = 4; channels <= 6; channels += 2) {
        fixture *f = set_up_with(two_outputs());
        expect_refusal(f, channels, "differs from the reference's");
        tear_down(f);
    }
    fixture *f = set_up_with(two_outputs());
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    cr_expect_eq(f->n, 3);
    tear_down(f);
}

/* What goes into the part that the host does is compared, and that part belongs to every run. */
Test(bench_networks, what_only_the_run_knows_is_timed) {
    fixture *f = set_up_with(late_output());
    f->settings.batch = 1;
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    cr_assert_eq(f->n, 3);
    cr_expect(strstr(f->rows[0].values[nd_field_engine].text, ", 1 more by the host one by one"), "%s",
              f->rows[0].values[nd_field_engine].text);
    tear_down(f);
    f = set_up_with(late_output());
    f->settings.batch = 1;
    expect_refusal(f, 0, "differs from the reference's");
    tear_down(f);
}

Test(bench_networks, the_reference_is_asked_once) {
    fixture *f = set_up();
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    float *kept = f->networks[1].expected;
    cr_assert(kept);
    f->settings.batch = 1;
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    cr_expect_eq(f->networks[1].expected, kept);
    kept[0] += 1000;
    cr_expect_eq(nd_bench_networks(f->networks, 2, &f->settings), nd_status_failed, "it is what counts");
    tear_down(f);
}

Test(bench_networks, every_kernel_has_a_row_without_samples) {
    fixture *f = set_up();
    f->settings.nodes = true;
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    int64_t macs = 0;
    int kernels = 0;
    double least = 0; /* the sum of every kernel's fastest run is at most that of any run */
    for (size_t i = 0; i < f->n; i++) {
        const nd_row_value *values = f->rows[i].values;
        if (!values[nd_field_operation].set || strcmp(implementation_of(&f->rows[i]), "dense")) continue;
        if (!strcmp(values[nd_field_operation].text, "sum")) {
            cr_expect_str_eq(values[nd_field_layer].text, "all kernels");
            cr_expect_eq(values[nd_field_total_macs].i, macs);
            cr_expect_geq(values[nd_field_ns_min].r, least * (1 - 1e-9));
            continue;
        }
        least += values[nd_field_ns_min].r;
        kernels++;
        macs += values[nd_field_total_macs].i;
        cr_expect(values[nd_field_layer].set && values[nd_field_ns_median].r > 0);
        cr_expect(!values[nd_field_samples_ns].set && !values[nd_field_ratio].set);
    }
    cr_expect_eq(kernels, 2);
    cr_expect_eq(macs, nd_cost_graph(f->original).total_macs);
    tear_down(f);
}

Test(bench_networks, two_files_are_partners_by_the_original) {
    fixture *f = set_up();
    nd_row_set_text(&f->common, nd_field_weights_sha256, "aaa");
    nd_row_set_text(&f->networks[1].row, nd_field_model, "new");
    nd_row_set_text(&f->networks[1].row, nd_field_weights_sha256, "bbb");
    nd_row_set_text(&f->networks[1].row, nd_field_original, "old");
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    nd_row_set set;
    OK(nd_row_set_make(f->rows, f->n, &set));
    cr_expect_eq(nd_row_dense_partner(&set, &f->rows[1]), &f->rows[0]);
    nd_row_set_text(&f->rows[1], nd_field_original, "another");
    cr_expect_null(nd_row_dense_partner(&set, &f->rows[1]));
    nd_row_set_free(&set);
    tear_down(f);
}

Test(bench_networks, images_must_fit_both) {
    fixture *f = set_up();
    f->decoupled->values[f->decoupled->inputs[0]].dims[3] = 9;
    cr_expect_eq(nd_bench_networks(f->networks, 2, &f->settings), nd_status_usage);
    cr_expect(strstr(nd_error(), "different sizes"), "%s", nd_error());
    tear_down(f);
}

/* A backend that takes a second longer for every convolution in one of the layouts, by the simulated clock.
 */
static struct {
    double *clock;
    bool slow_last;
    const nd_kernel *slow[64];
    int n_slow;
    size_t allocations, room; /* what may be allocated before memory is out; 0: all */
} sluggish;

static nd_status prepare_sluggish(nd_backend *backend, const nd_work *work, nd_precision precision,
                                  nd_kernel **out) {
    ND_TRY(true_table->prepare(backend, work, precision, out));
    const bool last = nd_view_is_channels_last(&work->x);
    if (work->operation == nd_operation_conv && last == sluggish.slow_last)
        sluggish.slow[sluggish.n_slow++ % 64] = *out;
    return nd_status_ok;
}

static void release_sluggish(nd_kernel *kernel) {
    for (int i = 0; i < 64; i++)
        if (sluggish.slow[i] == kernel) sluggish.slow[i] = NULL;
    true_table->release(kernel);
}

static nd_status run_sluggish(nd_backend *backend, nd_kernel *kernel, const nd_memory *x, const nd_memory *x2,
                              nd_memory *y, nd_memory *workspace) {
    for (int i = 0; i < 64; i++)
        if (sluggish.slow[i] == kernel) *sluggish.clock += 1;
    return true_table->run(backend, kernel, x, x2, y, workspace);
}

static const char *layout_of(const nd_row *row) {
    return row->values[nd_field_layout].text;
}

Test(bench_networks, dense_takes_the_faster_layout) {
    fixture *f = set_up();
    nd_backend_table table = *f->backend->table;
    true_table = f->backend->table;
    table.prepare = prepare_sluggish;
    table.release = release_sluggish;
    table.run = run_sluggish;
    sluggish.clock = &f->clock;
    f->backend->table = &table;
    f->settings.nodes = true;
    f->settings.implementations[nd_implementation_unfused] = false;
    f->settings.timing.sessions = 1;
    for (int round = 0; round < 5; round++) {
        const bool own = round & 1, slow = round & 2, layouts = round < 4;
        f->backend->channels_last = own;
        f->settings.layouts = layouts;
        sluggish.slow_last = slow;
        OK(nd_bench_networks(f->networks, 2, &f->settings));
        for (size_t i = 0; i < f->n; i++) {
            const bool dense = !strcmp(implementation_of(&f->rows[i]), "dense"),
                       last = dense && layouts ? !slow : own;
            cr_expect_str_eq(layout_of(&f->rows[i]), last ? "NHWC" : "NCHW", "round %d, row %d: %s", round,
                             (int)i, implementation_of(&f->rows[i]));
            nd_row_free(&f->rows[i]);
        }
        cr_expect_gt(f->n, 5, "networks and kernels");
        f->n = 0;
    }
    f->backend->table = true_table;
    tear_down(f);
}

/* An alternative that cannot be had is no failure: the own layout stays. */
static bool supports_own_alone(nd_backend *backend, const nd_work *work, nd_precision precision) {
    if (work->operation == nd_operation_conv && nd_view_is_channels_last(&work->x)) return false;
    return true_table->supports(backend, work, precision);
}

static nd_status allocate_sparingly(nd_backend *backend, size_t bytes, nd_memory **out) {
    ND_REQUIRE(++sluggish.allocations <= sluggish.room, nd_status_memory, "no room");
    return true_table->allocate(backend, bytes, out);
}

static char layout_warning[256];

static void keep_layout_warning(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level == nd_log_warn) snprintf(layout_warning, sizeof layout_warning, "%s", message);
}

static bool supports_no_conv(nd_backend *backend, const nd_work *work, nd_precision precision) {
    return work->operation != nd_operation_conv && true_table->supports(backend, work, precision);
}

static void keep_host_warning(void *user, nd_log_level level, const char *message) {
    if (strstr(message, "the host")) keep_layout_warning(user, level, message);
}

Test(bench_networks, rows_say_what_the_host_runs) {
    fixture *f = set_up();
    nd_backend_table table = *f->backend->table;
    true_table = f->backend->table;
    f->backend->table = &table;
    f->settings.nodes = true;
    table.supports = supports_no_conv;
    nd_log_set(keep_host_warning, NULL);
    OK(nd_bench_networks(f->networks, 1, &f->settings));
    const char *engine = f->rows[0].values[nd_field_engine].text;
    cr_expect(strstr(engine, ", 2 on the host with "), "%s", engine);
    bool named = false;
    for (size_t i = 0; i < f->n; i++)
        named |= f->rows[i].values[nd_field_engine].set &&
                 !strcmp(f->rows[i].values[nd_field_engine].text, "host:conv");
    cr_expect(named);
    cr_expect(strstr(layout_warning, "has no kernel for Conv: the host runs that"), "%s", layout_warning);
    f->backend->table = true_table;
    tear_down(f);
}

Test(bench_networks, a_layout_that_cannot_be_had_is_left) {
    fixture *f = set_up();
    nd_backend_table table = *f->backend->table;
    true_table = f->backend->table;
    f->backend->table = &table;
    f->settings.layouts = true;
    f->settings.batch = 1;
    table.supports = supports_own_alone;
    OK(nd_bench_networks(f->networks, 1, &f->settings));
    cr_expect_str_eq(layout_of(&f->rows[0]), "NCHW");
    cr_expect_str_empty(layout_warning);

    table.supports = true_table->supports;
    table.allocate = allocate_sparingly;
    nd_log_set(keep_layout_warning, NULL);
    f->settings.timing.sessions = 1;
    for (sluggish.room = 1; !*layout_warning && sluggish.room < 20; sluggish.room++) {
        sluggish.allocations = 0;
        (void)nd_bench_networks(f->networks, 1, &f->settings);
    }
    cr_expect(strstr(layout_warning, "two: no memory to try the dense network in NHWC too: no room"), "%s",
              layout_warning);
    cr_expect_eq(f->n, 2, "it was timed in its own");
    f->backend->table = true_table;
    tear_down(f);
}

static int questions_left;

static bool stop_soon(void *user) {
    (void)user;
    return questions_left-- <= 0;
}

Test(bench_networks, a_stop_keeps_what_was_measured) {
    fixture *f = set_up();
    f->settings.stop = stop_soon;
    f->settings.timing.sessions = 100;
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    cr_expect_eq(f->n, 0, "told before anything");
    questions_left = 3;
    f->settings.nodes = true;
    OK(nd_bench_networks(f->networks, 2, &f->settings));
    cr_assert_eq(f->n, 3, "dense, unfused, fused; no kernels");
    cr_expect(f->rows[2].values[nd_field_noisy].i);
    cr_expect_leq(f->rows[2].values[nd_field_sessions].i, 3);
    tear_down(f);
}

/* A device that knows its own time; the host's around it does not count. */
static nd_status svd_info(nd_backend *backend, nd_svd_info *out) {
    (void)backend;
    *out = (nd_svd_info){.engine = "simulated", .device_ns = 7};
    return nd_status_ok;
}

Test(bench_networks, decompositions_have_rows_and_a_sum) {
    const nd_window window = {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}};
    const nd_bench_layer layers[] = {
        {.conv = {.name = "first", .no = 4, .ni = 3, .groups = 1, .window = window},
         .layers = 1,
         .dense = true},
        {.conv = {.name = "second", .no = 5, .ni = 4, .groups = 1, .window = window}, .layers = 2},
        {.conv = {.name = "third", .no = 6, .ni = 5, .groups = 1, .window = window}, .layers = 3},
    };
    fixture *f = set_up();
    nd_backend_table table = *f->backend->table;
    const nd_backend_table *plain = f->backend->table;
    f->settings.forms[nd_form_dwpw] = true;
    for (int device = 0; device < 2; device++) {
        table.linalg.svd_info = device ? svd_info : NULL;
        f->backend->table = &table;
        f->n = 0;
        OK(nd_bench_svd(layers, 3, &f->settings));
        cr_assert_eq(f->n, 3, "two layers and all of them");
        cr_expect_str_eq(f->rows[0].values[nd_field_layer].text, "second");
        cr_expect_str_eq(f->rows[2].values[nd_field_layer].text, "all layers");
        cr_expect_eq(f->rows[2].values[nd_field_layers].i, 5);
        cr_expect_eq(f->rows[0].values[nd_field_engine].set, device);
        const double second = f->rows[0].values[nd_field_ns_median].r,
                     third = f->rows[1].values[nd_field_ns_median].r;
        cr_expect(device ? second == 7 && third == 7 : second > 0 && third > 0);
        cr_expect_float_eq(f->rows[2].values[nd_field_ns_median].r, 2 * second + 3 * third, 1e-3);
        for (size_t i = 0; i < f->n; i++) nd_row_free(&f->rows[i]);
    }
    f->n = 0;
    f->backend->table = plain;
    cr_expect_eq(nd_bench_svd(layers, 1, &f->settings), nd_status_usage, "only what stays dense");
    tear_down(f);
}

/* --- what plans are compared with */

static void expect_alike(nd_backend *backend, nd_graph *graph) {
    nd_outputs outputs;
    float image[60], sampled[400], whole[400];
    nd_rng rng = nd_rng_seed(7);
    for (int i = 0; i < 60; i++) image[i] = (float)nd_rng_normal(&rng);
    OK(nd_outputs_open(graph, &outputs));
    const int64_t size = nd_outputs_size(&outputs);
    cr_assert_leq(size, 400);
    OK(nd_expect(&outputs, backend, 0, 1e-4, image, sampled));
    OK(nd_expect(&outputs, backend, INFINITY, 1e-4, image, whole));
    for (int64_t e = 0; e < size; e++) cr_expect_float_eq(sampled[e], whole[e], 1e-4 * (1 + fabs(whole[e])));
    nd_outputs_close(&outputs);
    nd_graph_free(graph);
}

/* With all convolutions taken from the backend, the rest by the reference gives what the reference gives. */
Test(bench_networks, heavy_convolutions_are_taken_from_the_backend) {
    nd_backend *backend = help_backend();
    nd_graph *graph = two_convs();
    expect_alike(backend, decoupled(backend, graph));
    expect_alike(backend, graph);
    expect_alike(backend, two_outputs());
    expect_alike(backend, late_output());
    nd_backend_close(backend);
}

static const nd_backend_table *right;

/* One channel of six is 1 % too large. */
static nd_status wrong_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                                nd_precision precision, float *dst) {
    OK(right->download(backend, src, view, precision, dst));
    if (view->rank == 4 && view->dims[1] == 6)
        for (int64_t e = 0; e < view->dims[2] * view->dims[3]; e++) dst[e] *= 1.01f;
    return nd_status_ok;
}

Test(bench_networks, heavy_convolutions_that_are_wrong_are_found) {
    nd_backend *backend = help_backend();
    nd_graph *graph = two_convs();
    nd_outputs outputs;
    float image[60] = {1, 2, 3}, made[400];
    right = backend->table;
    nd_backend_table wrong = *right;
    wrong.download = wrong_download;
    backend->table = &wrong;
    OK(nd_outputs_open(graph, &outputs));
    cr_expect_eq(nd_expect(&outputs, backend, 0, 1e-3, image, made), nd_status_failed);
    cr_expect(strstr(nd_error(), "conv second differs from its definition"), "%s", nd_error());
    backend->table = right;
    OK(nd_expect(&outputs, backend, 0, 1e-3, image, made));
    nd_outputs_close(&outputs);
    nd_graph_free(graph);
    nd_backend_close(backend);
}
