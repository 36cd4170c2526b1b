/* Layer benchmarks on the reference backend, in simulated time. */
#include "bench/bench.h"
#include "bench/subjects/rig_check.h"
#include "bench/timing/displace.h"
#include "run/plugins.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static nd_bench_layer small_layer(int64_t ni, int64_t no, int64_t kernel, int64_t stride, bool dense) {
    int64_t p = kernel / 2;
    return (nd_bench_layer){.conv = {.name = dense ? "first" : "second",
                                     .no = no,
                                     .ni = ni,
                                     .groups = 1,
                                     .window = {.kernel = {kernel, kernel},
                                                .stride = {stride, stride},
                                                .dilation = {1, 1},
                                                .pad = {p, p, p, p}},
                                     .in_h = 9,
                                     .in_w = 7},
                            .layers = dense ? 1 : 3,
                            .dense = dense};
}

static nd_backend *open_ref(void) {
    nd_backend *backend;
    cr_assert_eq(nd_backend_open("ref", NULL, &backend), nd_status_ok, "%s", nd_error());
    return backend;
}

/* Simulated time goes on by itself, so that nothing depends on how fast this machine is. */
static double simulated_now(void *user) {
    return *(double *)user += 0.01;
}

static int64_t never_interrupted(void *user) {
    (void)user;
    return 0;
}

static nd_timing_settings quick_timing(double *clock) {
    nd_timing_settings timing = nd_timing_defaults();
    timing.now = simulated_now;
    timing.interruptions = never_interrupted;
    timing.user = clock;
    timing.sample_ns = 1;
    timing.sessions = 1; /* so that ratios are those of the medians in the rows */
    timing.blocks = 5;
    return timing;
}

#define EVERY_IMPLEMENTATION                                                                                 \
    {                                                                                                        \
        [nd_implementation_dense] = true, [nd_implementation_unfused] = true,                                \
        [nd_implementation_fused] = true, [nd_implementation_best] = true                                    \
    }

typedef struct collected {
    nd_row rows[64];
    size_t count;
} collected;

static nd_status collect(void *user, const nd_row *row) {
    collected *all = user;
    cr_assert_lt(all->count, 64);
    nd_row_copy(&all->rows[all->count++], row);
    return nd_status_ok;
}

static const nd_row *find(const collected *all, const char *layer, const char *implementation, int64_t rank) {
    for (size_t i = 0; i < all->count; i++) {
        const nd_row_value *values = all->rows[i].values;
        if (strcmp(values[nd_field_layer].text, layer) ||
            strcmp(values[nd_field_implementation].text, implementation))
            continue;
        if (!rank || (values[nd_field_rank].set && values[nd_field_rank].i == rank)) return &all->rows[i];
    }
    return NULL;
}

static void run_bench(collected *all, nd_bench_settings *settings) {
    const nd_bench_layer layers[] = {small_layer(3, 4, 3, 1, true), small_layer(4, 6, 3, 2, false)};
    static const int64_t terms[] = {1, 2};
    double clock = 0;
    nd_row common = {0};
    nd_row_set_text(&common, nd_field_verb, "bench");
    settings->backend = open_ref();
    settings->batch = 2;
    settings->terms = terms;
    settings->n_terms = 2;
    settings->timing = quick_timing(&clock);
    settings->peaks = (nd_peaks){100, 10};
    settings->common = &common;
    settings->row = collect;
    settings->user = all;
    cr_assert_eq(nd_bench_layers(layers, 2, settings), nd_status_ok, "%s", nd_error());
    nd_backend_close(settings->backend);
    nd_row_free(&common);
}

static void free_rows(collected *all) {
    for (size_t i = 0; i < all->count; i++) nd_row_free(&all->rows[i]);
    free(all);
}

Test(bench_layers, rows_of_layers_and_stacks) {
    collected *all = calloc(1, sizeof *all);
    nd_bench_settings settings = {
        .forms = {true, false}, .implementations = EVERY_IMPLEMENTATION, .cold = true};
    run_bench(all, &settings);
    /* dense; dense + (unfused, fused, best) x 2; stacks: dense + 3 x 2 */
    cr_expect_eq(all->count, 1 + 7 + 7);
    const nd_row *dense = find(all, "second", "dense", 0), *fused = find(all, "second", "fused", 2);
    cr_assert(dense && fused);
    int64_t pixels = 5 * 4;
    cr_expect_eq(dense->values[nd_field_conv_macs].i, 6 * 4 * 9 * pixels);
    cr_expect_eq(fused->values[nd_field_conv_macs].i, (2 * 4 * 9 + 6 * 2 * 4) * pixels);
    cr_expect_eq(dense->values[nd_field_ratio].r, 1);
    cr_expect_eq(fused->values[nd_field_layers].i, 3);
    cr_expect_float_eq(fused->values[nd_field_conv_macs_ratio].r, 216.0 / 120, 1e-12);
    cr_expect_eq(fused->values[nd_field_samples_ns].i, dense->values[nd_field_samples_ns].i);
    cr_expect_null(find(all, "first", "fused", 0), "a dense layer has no fused row");
    free_rows(all);
}

Test(bench_layers, a_stack_is_the_sum_of_its_layers) {
    collected *all = calloc(1, sizeof *all);
    nd_bench_settings settings = {.forms = {true, true}, .implementations = EVERY_IMPLEMENTATION};
    run_bench(all, &settings);
    const nd_row *first = find(all, "first", "dense", 0), *second = find(all, "second", "unfused", 2);
    const nd_row *stack = find(all, "conv stack", "unfused", 2), *dense = find(all, "second", "dense", 0);
    const nd_row *dense_stack = find(all, "conv stack", "dense", 0);
    cr_assert(first && second && stack && dense && dense_stack);
    double expected = first->values[nd_field_ns_median].r + 3 * second->values[nd_field_ns_median].r;
    cr_expect_float_eq(stack->values[nd_field_ns_median].r, expected, 1e-6 * expected);
    double total = first->values[nd_field_ns_median].r + 3 * dense->values[nd_field_ns_median].r;
    cr_expect_float_eq(dense_stack->values[nd_field_ns_median].r, total, 1e-6 * total);
    cr_expect_float_eq(stack->values[nd_field_ratio].r, total / expected, 1e-9 * total / expected);
    cr_expect_eq(stack->values[nd_field_conv_macs].i,
                 first->values[nd_field_conv_macs].i + 3 * second->values[nd_field_conv_macs].i);
    free_rows(all);
}

Test(bench_layers, best_is_never_slower_than_dense) {
    collected *all = calloc(1, sizeof *all);
    nd_bench_settings settings = {.forms = {true, true}, .implementations = EVERY_IMPLEMENTATION};
    run_bench(all, &settings);
    for (int64_t rank = 1; rank <= 2; rank++) {
        const nd_row *best = find(all, "second", "best", rank), *dense = find(all, "second", "dense", 0);
        cr_assert(best && dense);
        cr_expect_leq(best->values[nd_field_ns_median].r, dense->values[nd_field_ns_median].r);
        cr_expect(strchr(best->values[nd_field_engine].text, ':'), "names what it chose");
    }
    free_rows(all);
}

static size_t pad_bytes[nd_pads_max];
static int pads_made, pads_open;

static nd_status count_pad(nd_backend *backend, size_t bytes, nd_memory **out) {
    (void)backend;
    pad_bytes[pads_made++] = bytes;
    *out = (nd_memory *)&pad_bytes[pads_open++];
    return nd_status_ok;
}

static void uncount_pad(nd_memory *memory) {
    pads_open -= memory != NULL;
}

/* Sessions differ in where their buffers lie, runs of one build do not differ in the sizes drawn, and nothing
 * leaks. */
Test(bench_layers, pads_differ_by_session_and_are_given_back) {
    static const nd_backend_table table = {.allocate = count_pad, .free = uncount_pad};
    nd_backend backend = {.table = &table};
    size_t first[2][nd_pads_max];
    for (int round = 0; round < 3; round++) {
        nd_displacer displacer = nd_displacer_new(&backend, round == 2 ? 1 : (uint64_t)round);
        pads_made = 0;
        for (int i = 0; i < nd_pads_max + 5; i++) cr_assert_eq(nd_displace(&displacer), nd_status_ok);
        cr_expect_eq(pads_made, nd_pads_max);
        for (int i = 0; i < nd_pads_max; i++) cr_expect(pad_bytes[i] >= 64 && pad_bytes[i] <= 64 << 10);
        nd_displacer_free(&displacer);
        cr_expect_eq(pads_open, 0);
        if (round < 2) memcpy(first[round], pad_bytes, sizeof pad_bytes);
    }
    cr_expect(memcmp(first[0], first[1], sizeof pad_bytes));
    cr_expect_not(memcmp(first[1], pad_bytes, sizeof pad_bytes));
}

/* A backend that computes one wrong value must not get a time. */
static const nd_backend_table *true_table;

static nd_status corrupt_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                                  nd_precision precision, float *dst) {
    ND_TRY(true_table->download(backend, src, view, precision, dst));
    int64_t pixels = view->dims[2] * view->dims[3];
    dst[2 * pixels] += 0.01f; /* image 0, channel 2, the corner */
    return nd_status_ok;
}

Test(bench_layers, wrong_results_are_refused) {
    nd_backend *backend = open_ref();
    true_table = backend->table;
    nd_backend_table broken = *true_table;
    broken.download = corrupt_download;
    nd_bench_layer layer = small_layer(4, 6, 3, 1, false);
    nd_rig_settings settings = {.backend = backend, .batch = 2};
    for (int corrupt = 0; corrupt < 2; corrupt++) {
        nd_rig *rig;
        bool added;
        cr_assert_eq(nd_rig_open(&layer, &settings, &rig), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_rig_add(rig, nd_implementation_dense, nd_form_dwpw, 0, &added), nd_status_ok);
        cr_assert_eq(nd_rig_add(rig, nd_implementation_fused, nd_form_dwpw, 3, &added), nd_status_ok);
        cr_assert(added);
        backend->table = corrupt ? &broken : true_table;
        nd_status status = nd_rig_check(rig);
        backend->table = true_table;
        cr_expect_eq(status, corrupt ? nd_status_failed : nd_status_ok, "%s", nd_error());
        if (corrupt) cr_expect(strstr(nd_error(), "second: dense"), "%s", nd_error());
        if (!corrupt) cr_expect(nd_rig_at(rig, 1)->error > 0 && nd_rig_at(rig, 1)->error < 1);
        nd_rig_close(rig);
    }
    nd_backend_close(backend);
}

/* A backend on which time depends on the layout alone. */
static struct {
    const nd_kernel *last[8]; /* kernels prepared for channels-last views */
    int n_last;
    double cost[2], clock, marks[2]; /* cost: of a run in NCHW, in NHWC */
} layout_clock;

static nd_status prepare_noting(nd_backend *backend, const nd_work *work, nd_precision precision,
                                nd_kernel **out) {
    nd_status status = true_table->prepare(backend, work, precision, out);
    if (!status && nd_view_is_channels_last(&work->x)) layout_clock.last[layout_clock.n_last++ % 8] = *out;
    return status;
}

static nd_status run_by_layout(nd_backend *backend, nd_kernel *kernel, const nd_memory *x,
                               const nd_memory *x2, nd_memory *y, nd_memory *workspace) {
    bool last = false;
    for (int i = 0; i < 8; i++) last = last || layout_clock.last[i] == kernel;
    layout_clock.clock += layout_clock.cost[last];
    return true_table->run(backend, kernel, x, x2, y, workspace);
}

static nd_status record_by_layout(nd_backend *backend, int slot) {
    (void)backend;
    layout_clock.marks[slot] = layout_clock.clock;
    return nd_status_ok;
}

static nd_status elapsed_by_layout(nd_backend *backend, int from, int to, double *ns) {
    (void)backend;
    *ns = layout_clock.marks[to] - layout_clock.marks[from];
    return nd_status_ok;
}

/* Dense takes the layout that is faster, runs right in it, and leaves the others' input as it was. */
Test(bench_layers, dense_takes_the_faster_layout) {
    nd_backend *backend = open_ref();
    true_table = backend->table;
    nd_backend_table table = *true_table;
    table.prepare = prepare_noting;
    table.run = run_by_layout;
    table.record_event = record_by_layout;
    table.elapsed = elapsed_by_layout;
    backend->table = &table;
    nd_bench_layer layer = small_layer(4, 6, 3, 2, false);
    for (int last = 0; last < 2; last++)
        for (int own = 0; own < 2; own++) {
            nd_rig_settings settings = {.backend = backend, .batch = 2, .layout = nd_rig_layout_faster};
            nd_rig *rig;
            bool added;
            memset(&layout_clock, 0, sizeof layout_clock);
            layout_clock.cost[last] = 1;
            layout_clock.cost[!last] = 2;
            backend->channels_last = own;
            cr_assert_eq(nd_rig_open(&layer, &settings, &rig), nd_status_ok, "%s", nd_error());
            cr_assert_eq(nd_rig_add(rig, nd_implementation_dense, nd_form_dwpw, 0, &added), nd_status_ok);
            cr_assert_eq(nd_rig_add(rig, nd_implementation_fused, nd_form_dwpw, 2, &added), nd_status_ok);
            cr_expect_eq(nd_rig_at(rig, 0)->channels_last, last);
            cr_expect_eq(nd_rig_at(rig, 1)->channels_last, own,
                         "what is not dense keeps the backend's order");
            cr_expect_eq(nd_rig_check(rig), nd_status_ok, "%s", nd_error());
            nd_rig_close(rig);
        }
    backend->table = true_table;
    nd_backend_close(backend);
}

/* The pixel-wise check is itself checked: against the plain definition on a 1 x 1 stage after a 3 x 3 one. */
Test(bench_layers, evaluation_composes) {
    const float image[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const float box[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, minus_two[1] = {-2}, bias[1] = {0.5f};
    const nd_conv stages[2] = {
        {.no = 1,
         .ni = 1,
         .groups = 1,
         .in_h = 3,
         .in_w = 3,
         .weights = box,
         .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}}},
        {.no = 1,
         .ni = 1,
         .groups = 1,
         .in_h = 3,
         .in_w = 3,
         .weights = minus_two,
         .bias = bias,
         .window = {{1, 1}, {1, 1}, {1, 1}, {0}}},
    };
    double value, scale;
    cr_assert_eq(nd_rig_evaluate(stages, 2, image, 1, 1, &value, &scale), nd_status_ok);
    cr_expect_eq(value, -2 * 45 + 0.5);
    cr_expect_eq(scale, 2 * 45 + 0.5);
    cr_assert_eq(nd_rig_evaluate(stages, 2, image, 0, 0, &value, &scale), nd_status_ok);
    cr_expect_eq(value, -2 * (1 + 2 + 4 + 5) + 0.5);
}

/* Told to stop, it measures no more, and what has a session becomes rows. */
static int questions_left;

static bool stop_soon(void *user) {
    (void)user;
    return questions_left-- <= 0;
}

Test(bench_layers, a_stop_keeps_what_was_measured) {
    static const struct {
        int questions; /* answered with no: one a layer and session */
        size_t rows;
    } cases[] = {{0, 0}, {1, 1}, {2, 15}, {3, 15}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        collected *all = calloc(1, sizeof *all);
        nd_bench_settings settings = {
            .forms = {true, false}, .implementations = EVERY_IMPLEMENTATION, .stop = stop_soon};
        questions_left = cases[i].questions;
        run_bench(all, &settings);
        cr_expect_eq(all->count, cases[i].rows, "after %d: %zu rows", cases[i].questions, all->count);
        free_rows(all);
    }
}
