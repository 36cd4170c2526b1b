/* The executor on a device: memory that runs out, captured graphs, time events, and calls that fail. The
 * device is a mock around ref that keeps accounts of all it hands out and breaks the test on what a real one
 * forbids.
 */
#include "base/log.h"
#include "run/executor.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>
#include <stdio.h>

enum { mock_steps = 64, batch = 8, workspace_bytes = 1000 };

typedef struct mock {
    nd_backend base; /* first */
    nd_backend *inner;
    size_t budget, used; /* bytes of memory and of kernels' weights */
    int alive;           /* memories, kernels and captured graphs not given back */
    int allocations, prepared, runs, replays, captures, events;
    int fail_allocation, fail_prepare, fail_run; /* the n-th, from 1 */
    bool fail_capture, capturing, opened;        /* opened: nothing may be allocated any more */
    bool lacks[nd_operation_count];              /* what it has no kernels for */
    bool lacks_half;                             /* only in fp16 and bf16 */
    double clock;
} mock;

struct nd_memory {
    nd_memory *inner;
    size_t bytes;
    mock *device;
};

struct nd_kernel {
    nd_kernel *inner;
    size_t bytes;
    mock *device;
};

typedef struct mock_run {
    nd_kernel *kernel;
    const nd_memory *x, *x2;
    nd_memory *y;
} mock_run;

typedef struct mock_captured {
    mock *device;
    int n, events;
    mock_run runs[mock_steps];
} mock_captured;

static mock_captured *open_capture; /* while the mock captures */

static nd_status mock_take(mock *device, size_t bytes) {
    cr_assert(!device->capturing, "memory was asked for in a graph capture");
    cr_assert(!device->opened, "memory was asked for in a run");
    device->allocations++;
    ND_REQUIRE(device->allocations != device->fail_allocation && device->used + bytes <= device->budget,
               nd_status_memory, "the mock is full");
    device->used += bytes;
    device->alive++;
    return nd_status_ok;
}

static void mock_give(mock *device, size_t bytes) {
    cr_assert(device->used >= bytes && device->alive > 0);
    device->used -= bytes;
    device->alive--;
}

static nd_status mock_allocate(nd_backend *backend, size_t bytes, nd_memory **out) {
    mock *device = (mock *)backend;
    *out = NULL;
    ND_TRY(mock_take(device, bytes));
    nd_memory *memory = *out = nd_alloc_array(1, sizeof *memory);
    *memory = (nd_memory){.bytes = bytes, .device = device};
    return device->inner->table->allocate(device->inner, bytes, &memory->inner);
}

static void mock_free(nd_memory *memory) {
    if (!memory) return;
    mock_give(memory->device, memory->bytes);
    memory->device->inner->table->free(memory->inner);
    free(memory);
}

static bool mock_supports(nd_backend *backend, const nd_work *work, nd_precision precision) {
    mock *device = (mock *)backend;
    if (device->lacks[work->operation] && (!device->lacks_half || precision != nd_precision_fp32))
        return false;
    return device->inner->table->supports(device->inner, work, precision);
}

static nd_status mock_prepare(nd_backend *backend, const nd_work *work, nd_precision precision,
                              nd_kernel **out) {
    mock *device = (mock *)backend;
    *out = NULL;
    ND_REQUIRE(++device->prepared != device->fail_prepare, nd_status_device, "the mock lost its device");
    const size_t bytes = work->weights ? (size_t)work->y.dims[1] * sizeof(float) : 0;
    ND_TRY(mock_take(device, bytes));
    nd_kernel *kernel = *out = nd_alloc_array(1, sizeof *kernel);
    *kernel = (nd_kernel){.bytes = bytes, .device = device};
    return device->inner->table->prepare(device->inner, work, precision, &kernel->inner);
}

static nd_kernel_info mock_info(const nd_kernel *kernel) {
    nd_kernel_info info = kernel->device->inner->table->info(kernel->inner);
    info.workspace_bytes = workspace_bytes;
    return info;
}

static void mock_release(nd_kernel *kernel) {
    if (!kernel) return;
    mock_give(kernel->device, kernel->bytes);
    kernel->device->inner->table->release(kernel->inner);
    free(kernel);
}

static nd_status mock_start(mock *device, const mock_run *run) {
    return device->inner->table->run(device->inner, run->kernel->inner, run->x ? run->x->inner : NULL,
                                     run->x2 ? run->x2->inner : NULL, run->y->inner, NULL);
}

static nd_status mock_run_kernel(nd_backend *backend, nd_kernel *kernel, const nd_memory *x,
                                 const nd_memory *x2, nd_memory *y, nd_memory *workspace) {
    mock *device = (mock *)backend;
    const mock_run run = {kernel, x, x2, y};
    cr_assert(workspace && workspace->bytes >= workspace_bytes);
    ND_REQUIRE(++device->runs != device->fail_run, nd_status_device, "the mock's kernel failed");
    if (!device->capturing) return mock_start(device, &run);
    cr_assert(open_capture->n < mock_steps);
    open_capture->runs[open_capture->n++] = run;
    return nd_status_ok;
}

static nd_status mock_upload(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_precision precision,
                             const float *src) {
    mock *device = (mock *)backend;
    cr_assert(!device->capturing, "an upload in a graph capture");
    return device->inner->table->upload(device->inner, dst->inner, view, precision, src);
}

static nd_status mock_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                               nd_precision precision, float *dst) {
    mock *device = (mock *)backend;
    cr_assert(!device->capturing, "a download in a graph capture");
    return device->inner->table->download(device->inner, src->inner, view, precision, dst);
}

static nd_status mock_synchronize(nd_backend *backend) {
    cr_assert(!((mock *)backend)->capturing, "a wait in a graph capture");
    return nd_status_ok;
}

/* Every event is 10 ns after the one before. */
static nd_status mock_record_event(nd_backend *backend, int slot) {
    mock *device = (mock *)backend;
    int *events = device->capturing ? &open_capture->events : &device->events;
    cr_assert_eq(slot, (*events)++ % (mock_steps + 1));
    return nd_status_ok;
}

static nd_status mock_elapsed(nd_backend *backend, int from, int to, double *ns) {
    cr_assert(to <= ((mock *)backend)->events);
    *ns = 10 * (to - from);
    return nd_status_ok;
}

static nd_status mock_capture_begin(nd_backend *backend) {
    mock *device = (mock *)backend;
    ND_TRY(mock_take(device, 0));
    open_capture = nd_alloc_array(1, sizeof *open_capture);
    open_capture->device = device;
    device->capturing = true;
    device->captures++;
    return nd_status_ok;
}

static void mock_capture_free(void *capture) {
    mock_captured *r = capture;
    mock_give(r->device, 0);
    free(r);
}

static nd_status mock_capture_end(nd_backend *backend, void **capture) {
    mock *device = (mock *)backend;
    cr_assert(device->capturing);
    device->capturing = false;
    *capture = NULL;
    if (device->fail_capture) {
        mock_capture_free(open_capture);
        return nd_fail(nd_status_device, "the mock cannot capture this");
    }
    *capture = open_capture;
    return nd_status_ok;
}

static nd_status mock_replay(nd_backend *backend, void *capture) {
    mock *device = (mock *)backend;
    const mock_captured *r = capture;
    device->replays++;
    device->events += r->events;
    for (int i = 0; i < r->n; i++) ND_TRY(mock_start(device, &r->runs[i]));
    return nd_status_ok;
}

static const nd_backend_table mock_table = {
    .supports = mock_supports,
    .prepare = mock_prepare,
    .info = mock_info,
    .run = mock_run_kernel,
    .release = mock_release,
    .allocate = mock_allocate,
    .free = mock_free,
    .upload = mock_upload,
    .download = mock_download,
    .synchronize = mock_synchronize,
    .record_event = mock_record_event,
    .elapsed = mock_elapsed,
    .capture_begin = mock_capture_begin,
    .capture_end = mock_capture_end,
    .replay = mock_replay,
    .capture_free = mock_capture_free,
};

static mock mock_open(void) {
    mock device = {.base = {.table = &mock_table, .name = "mock", .channels_last = true},
                   .budget = (size_t)64 << 20};
    cr_assert_eq(nd_backend_open("ref", NULL, &device.inner), nd_status_ok);
    return device;
}

static void mock_close(mock *device) {
    cr_expect_eq(device->alive, 0, "%d things were not given back", device->alive);
    cr_expect_eq(device->used, 0);
    nd_backend_close(device->inner);
}

static int add_layer(nd_graph *graph, nd_op op, const char *name, const int *in, int n, const nd_attr *attr) {
    nd_node *node;
    const int out = add_node(graph, op, name, in, n, &node);
    node->attr = *attr;
    return out;
}

/* A residual block and a classifier: x[1][3][8][8] -> [1][5]. `axis`: of the softmax; 0 mixes images. */
static nd_graph *small_network(int64_t images, int64_t axis) {
    nd_graph *graph = new_graph("small");
    nd_rng rng = nd_rng_seed(7);
    const nd_attr conv = {.groups = 1, .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}}};
    const int x = add_input(graph, "x", 4, (int64_t[]){images, 3, 8, 8});
    const int w1 = add_normals(graph, NULL, 4, (int64_t[]){6, 3, 3, 3}, &rng, 0.3f),
              w2 = add_normals(graph, NULL, 4, (int64_t[]){6, 6, 3, 3}, &rng, 0.3f),
              w3 = add_normals(graph, NULL, 2, (int64_t[]){5, 6}, &rng, 0.3f);
    const int a = add_layer(graph, nd_op_conv, "conv1", (int[]){x, w1}, 2, &conv);
    const int b = add_layer(graph, nd_op_conv, "conv2", (int[]){a, w2}, 2, &conv);
    const int c = add_layer(graph, nd_op_add, "add", (int[]){a, b}, 2, &(nd_attr){0});
    const int d = add_layer(graph, nd_op_global_average_pool, "pool", &c, 1, &(nd_attr){0});
    const int e = add_layer(graph, nd_op_flatten, "flatten", &d, 1, &(nd_attr){.axis = 1});
    const int f = add_layer(graph, nd_op_gemm, "fc", (int[]){e, w3}, 2,
                            &(nd_attr){.trans_b = true, .alpha = 1, .beta = 1});
    const int g = add_layer(graph, nd_op_softmax, "softmax", &f, 1, &(nd_attr){.axis = axis});
    finish(graph, g, images);
    return graph;
}

enum { image_size = 3 * 8 * 8, classes = 5 };

typedef struct scores {
    float of[batch * classes];
} scores;

static const float *images(void) {
    static float x[batch * image_size];
    nd_rng rng = nd_rng_seed(11);
    for (int i = 0; i < batch * image_size; i++) x[i] = (float)nd_rng_normal(&rng);
    return x;
}

static scores run(nd_exec *exec, int64_t n) {
    scores y = {0};
    const nd_status status = nd_exec_run(exec, n, (const float *[]){images()}, (float *[]){y.of});
    cr_assert_eq(status, nd_status_ok, "%s", nd_error());
    return y;
}

static scores expected_scores(const nd_graph *graph, nd_precision precision) {
    nd_backend *ref;
    nd_exec *exec;
    const nd_exec_settings settings = {.batch = batch, .precision = precision};
    cr_assert_eq(nd_backend_open("ref", NULL, &ref), nd_status_ok);
    ref->channels_last = true;
    cr_assert_eq(nd_exec_open(ref, graph, &settings, &exec), nd_status_ok, "%s", nd_error());
    const scores y = run(exec, batch);
    nd_exec_close(exec);
    nd_backend_close(ref);
    return y;
}

static nd_exec *open_on(mock *device, const nd_graph *graph, nd_exec_settings settings) {
    nd_exec *exec;
    if (!settings.batch) settings.batch = batch;
    cr_assert_eq(nd_exec_open(&device->base, graph, &settings, &exec), nd_status_ok, "%s", nd_error());
    device->opened = true;
    return exec;
}

static void close_on(mock *device, nd_exec *exec) {
    nd_exec_close(exec);
    device->opened = false;
}

Test(executor_device, a_network_is_one_capture) {
    static const nd_precision precisions[] = {nd_precision_fp32, nd_precision_fp16, nd_precision_bf16};
    nd_graph *graph = small_network(1, 1);
    for (size_t p = 0; p < sizeof precisions / sizeof *precisions; p++) {
        const scores expected = expected_scores(graph, precisions[p]);
        mock device = mock_open();
        nd_exec *exec = open_on(&device, graph, (nd_exec_settings){.precision = precisions[p]});
        cr_expect(nd_exec_captured(exec));
        cr_expect_eq(device.captures, 1);
        cr_expect_eq((size_t)device.runs, 2 * nd_exec_node_count(exec), "once to warm up, once to capture");
        for (int i = 0; i < 3; i++) {
            const scores y = run(exec, batch);
            cr_expect_arr_eq(y.of, expected.of, sizeof y.of);
        }
        cr_expect_eq(device.replays, 3);
        cr_expect_eq((size_t)device.runs, 2 * nd_exec_node_count(exec));
        close_on(&device, exec);
        mock_close(&device);
    }
    nd_graph_free(graph);
}

Test(executor_device, what_cannot_be_recorded_runs_kernel_by_kernel) {
    nd_graph *graph = small_network(1, 1);
    const scores expected = expected_scores(graph, nd_precision_fp32);
    for (int inside = 0; inside < 2; inside++) {
        mock device = mock_open();
        device.fail_capture = !inside;
        device.fail_run =
            inside ? 6 : 0; /* all kernels run once; the first ones are captured, then one fails */
        nd_exec *exec = open_on(&device, graph, (nd_exec_settings){0});
        cr_assert(!inside || nd_exec_node_count(exec) < 6);
        cr_expect(!nd_exec_captured(exec));
        const scores y = run(exec, batch);
        cr_expect_arr_eq(y.of, expected.of, sizeof y.of);
        cr_expect_eq(device.captures, 1);
        cr_expect_eq(device.replays, 0);
        close_on(&device, exec);
        mock_close(&device);
    }
    nd_graph_free(graph);
}

static char warning[512];

static void keep_warning(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level == nd_log_warn) snprintf(warning, sizeof warning, "%s", message);
}

Test(executor_device, out_of_memory_halves_the_batch_and_says_so) {
    nd_graph *graph = small_network(1, 1);
    const scores expected = expected_scores(graph, nd_precision_fp32);
    mock device = mock_open();
    nd_exec *exec = open_on(&device, graph, (nd_exec_settings){.batch = 3});
    const size_t three = device.used;
    close_on(&device, exec);
    nd_log_set(keep_warning, NULL);
    device.budget = three;
    cr_expect_eq(nd_exec_open(&device.base, graph, &(nd_exec_settings){.batch = batch}, &exec),
                 nd_status_memory, "without `shrink` it is an error");
    cr_expect_null(exec);
    cr_expect_eq(device.used, 0);
    exec = open_on(&device, graph, (nd_exec_settings){.shrink = true});
    cr_expect_eq(nd_exec_batch(exec), 2, "8 and 4 do not fit where 3 do");
    cr_expect(strstr(warning, "small: 8 images") && strstr(warning, " 2 do") &&
                  strstr(warning, "mock is full"),
              "%s", warning);
    for (int64_t n = 1; n <= batch; n++) {
        const scores y = run(exec, n);
        cr_expect_arr_eq(y.of, expected.of, (size_t)(n * classes) * sizeof *y.of);
    }
    scores y;
    cr_expect_eq(nd_exec_run(exec, batch + 1, (const float *[]){images()}, (float *[]){y.of}),
                 nd_status_usage);
    cr_expect_eq(nd_exec_upload(exec, 3, (const float *[]){images()}), nd_status_usage);
    close_on(&device, exec);

    device.budget = 100;
    nd_status status =
        nd_exec_open(&device.base, graph, &(nd_exec_settings){.batch = batch, .shrink = true}, &exec);
    cr_expect_eq(status, nd_status_memory, "not one image fits");
    cr_expect_null(exec);
    mock_close(&device);
    nd_graph_free(graph);
}

/* The other layout is captured, cut and run in parts as the own one is; ref sums in one order, so all is
 * equal. */
Test(executor_device, the_other_layout_is_recorded_and_cut_alike) {
    nd_graph *graph = small_network(1, 1);
    const scores expected = expected_scores(graph, nd_precision_fp16);
    mock device = mock_open();
    nd_exec_settings settings = {.precision = nd_precision_fp16, .turned = true, .shrink = true};
    nd_exec *exec = open_on(&device, graph, settings);
    cr_expect(nd_exec_captured(exec));
    const size_t whole = device.used;
    scores y = run(exec, batch);
    cr_expect_arr_eq(y.of, expected.of, sizeof y.of);
    close_on(&device, exec);
    device.budget = whole - 1;
    exec = open_on(&device, graph, settings);
    cr_expect_eq(nd_exec_batch(exec), batch / 2);
    cr_expect(nd_exec_captured(exec));
    for (int64_t n = 1; n <= batch; n++) {
        y = run(exec, n);
        cr_expect_arr_eq(y.of, expected.of, (size_t)(n * classes) * sizeof *y.of);
    }
    close_on(&device, exec);
    mock_close(&device);
    nd_graph_free(graph);
}

Test(executor_device, a_network_that_mixes_images_is_not_cut) {
    nd_graph *graph = small_network(batch, 0);
    mock device = mock_open();
    nd_exec *exec;
    device.budget = 2000;
    const nd_status status =
        nd_exec_open(&device.base, graph, &(nd_exec_settings){.batch = batch, .shrink = true}, &exec);
    cr_expect_eq(status, nd_status_memory);
    cr_expect_eq(device.captures, 0);
    mock_close(&device);
    nd_graph_free(graph);
}

/* Each call that can fail does, one at a time: the error comes back with its name, and nothing leaks.
 */
Test(executor_device, every_failure_is_an_error_and_leaves_nothing) {
    nd_graph *graph = small_network(1, 1);
    mock counted = mock_open();
    nd_exec *exec = open_on(&counted, graph, (nd_exec_settings){0});
    const int nodes = (int)nd_exec_node_count(exec),
              allocations = counted.allocations - 1; /* not capture's */
    close_on(&counted, exec);
    mock_close(&counted);
    cr_assert(allocations > nodes);
    for (int i = 1; i <= allocations + 2 * nodes; i++) {
        mock device = mock_open();
        const int at = i - allocations;
        if (at <= 0) device.fail_allocation = i;
        if (at > 0 && at <= nodes) device.fail_prepare = at;
        if (at > nodes) device.fail_run = at - nodes;
        const nd_status status =
            nd_exec_open(&device.base, graph, &(nd_exec_settings){.batch = batch}, &exec);
        cr_expect_eq(status, at <= 0 ? nd_status_memory : nd_status_device);
        cr_expect_null(exec);
        cr_expect(strstr(nd_error(), "mock"), "%s", nd_error());
        cr_expect(at <= 0 || strstr(nd_error(), "conv") || strstr(nd_error(), "fc") ||
                      strstr(nd_error(), "add") || strstr(nd_error(), "pool") ||
                      strstr(nd_error(), "softmax"),
                  "no node is named: %s", nd_error());
        mock_close(&device);
    }
    nd_graph_free(graph);
}

Test(executor_device, nodes_are_timed_one_by_one) {
    nd_graph *graph = small_network(1, 1);
    const scores expected = expected_scores(graph, nd_precision_fp32);
    mock device = mock_open();
    nd_exec *exec = open_on(&device, graph, (nd_exec_settings){.time_nodes = true});
    const size_t events = nd_exec_node_count(exec) + 1;
    cr_expect(nd_exec_captured(exec), "as it runs otherwise");
    cr_expect_eq((size_t)device.events, events, "of the run that is not captured");
    const scores y = run(exec, batch);
    cr_expect_arr_eq(y.of, expected.of, sizeof y.of);
    cr_expect_eq((size_t)device.events, 2 * events, "recorded again by the replay");
    for (size_t i = 0; i < nd_exec_node_count(exec); i++) cr_expect_eq(nd_exec_node_at(exec, i).ns, 10);
    close_on(&device, exec);
    mock_close(&device);
    nd_graph_free(graph);
}

/* --- what the device has no kernels for */

static char heard[512];

static void hear(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level == nd_log_warn) snprintf(heard, sizeof heard, "%s", message);
}

/* `bytes`: what goes to the host and back in fp32, a batch. */
static void expect_on_the_host(const nd_graph *graph, nd_operation operation, const char *op, int64_t bytes) {
    static const nd_precision precisions[] = {nd_precision_fp32, nd_precision_fp16};
    for (int p = 0; p < 2; p++) {
        const nd_precision precision = precisions[p];
        const scores expected = expected_scores(graph, precision);
        for (int timed = 0; timed < 2; timed++) {
            mock device = mock_open();
            int64_t moved;
            device.lacks[operation] = true;
            *heard = 0;
            const nd_exec_settings settings = {.precision = precision, .time_nodes = timed};
            nd_exec *exec = open_on(&device, graph, settings);
            cr_expect(strstr(heard, "small: backend mock has no kernel for") && strstr(heard, op), "%s",
                      heard);
            cr_expect_eq(nd_exec_host_count(exec, &moved), operation == nd_operation_conv ? 2 : 1);
            cr_expect_eq(moved, bytes, "%s: %lld bytes", op, (long long)moved);
            cr_expect(!nd_exec_captured(exec) && !device.captures);
            for (int pass = 0; pass < 2; pass++) {
                device.events = 0;
                const scores got = run(exec, batch);
                for (int i = 0; i < batch * classes; i++)
                    cr_expect(fabsf(got.of[i] - expected.of[i]) < (p ? 2e-3f : 1e-6f), "%s: %g, not %g", op,
                              (double)got.of[i], (double)expected.of[i]);
            }
            bool named = false;
            for (size_t i = 0; i < nd_exec_node_count(exec); i++)
                named |= !strncmp(nd_exec_node_at(exec, i).engine, "host:", 5);
            cr_expect(named);
            close_on(&device, exec);
            mock_close(&device);
        }
    }
}

Test(executor_device, the_host_runs_what_the_device_has_no_kernel_for) {
    nd_graph *graph = small_network(1, 1);
    nd_log_set(hear, NULL);
    const int64_t number = (int64_t)sizeof(float) * batch, map = 6 * 8 * 8;
    expect_on_the_host(graph, nd_operation_softmax, "Softmax", number * (5 + 5));
    expect_on_the_host(graph, nd_operation_gemm, "Gemm", number * (6 + 5));
    expect_on_the_host(graph, nd_operation_conv, "Conv", number * (image_size + map + map + map));
    nd_graph_free(graph);
}

/* Another backend may have the narrow numbers; in a turned plan a layout is compared, not the host. */
Test(executor_device, the_host_runs_nothing_that_others_are_asked_for) {
    nd_graph *graph = small_network(1, 1);
    mock device = mock_open();
    nd_exec *exec;
    device.lacks[nd_operation_softmax] = device.lacks_half = true;
    cr_expect_eq(
        nd_exec_open(&device.base, graph, &(nd_exec_settings){.precision = nd_precision_fp16}, &exec),
        nd_status_backend);
    device.lacks_half = false;
    cr_expect_eq(nd_exec_open(&device.base, graph, &(nd_exec_settings){.turned = true}, &exec),
                 nd_status_unsupported);
    cr_expect(strstr(nd_error(), "softmax (Softmax): backend mock has no softmax"), "%s", nd_error());
    mock_close(&device);
    nd_graph_free(graph);
}
