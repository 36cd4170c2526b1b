#include "base/log.h"
#include "model/cost.h"
#include "model/zoo/zoo.h"
#include "tests/unit/help/run_help.h"

static void ignore(void *user, nd_log_level level, const char *message) {
    (void)user;
    (void)level;
    (void)message;
}

/* A backend that takes nothing but dense operands in its own layout, like many library kernels. */
static const nd_backend_table *strict_inner;

static bool strict_view(const nd_view *view, bool channels_last) {
    return channels_last && view->rank == 4 ? nd_view_is_channels_last(view) : nd_view_is_row_major(view);
}

static bool strict_supports(nd_backend *backend, const nd_work *work, nd_precision precision) {
    const bool last = backend->channels_last,
               binary = work->operation == nd_operation_binary || work->residual;
    if (work->operation == nd_operation_separable) return false;
    if (work->operation != nd_operation_copy && work->operation != nd_operation_fill &&
        !(strict_view(&work->x, last) && strict_view(&work->y, last) &&
          (!binary || strict_view(&work->x2, last))))
        return false;
    return strict_inner->supports(backend, work, precision);
}

static bool strict_fast(nd_backend *backend, const nd_work *work, nd_precision precision) {
    return work->operation != nd_operation_fill && strict_supports(backend, work, precision);
}

Test(executor, fused_plain_and_every_layout_agree) {
    const int64_t batch = 2;
    net n = net_everything(batch);
    nd_backend *backend = open_ref();
    float *x = random_images(input_count(n.graph)), expected[64], y[64];
    const int64_t count = output_count(n.graph);
    cr_assert_eq(count, 2 * 5);
    run_whole(backend, n.graph, (nd_exec_settings){.plain = true}, x, expected);
    for (int64_t i = 0; i < batch; i++) {
        float sum = 0;
        for (int64_t j = 0; j < 5; j++) sum += expected[i * 5 + j];
        cr_assert(fabsf(sum - 1) < 1e-6f);
    }
    nd_backend_table strict = *backend->table;
    strict_inner = backend->table;
    for (int variant = 0; variant < 24; variant++) {
        const bool turned = variant >= 12, slow = variant % 12 & 8, only_own = variant % 12 & 2 && !slow;
        if (turned && only_own) continue; /* see what_runs_in_one_layout_alone_is_refused_in_the_other */
        backend->channels_last = variant & 1;
        backend->table = only_own || slow ? &strict : strict_inner;
        strict.supports = slow ? strict_inner->supports : strict_supports;
        strict.fast = slow ? strict_fast : NULL; /* all is supported, little is fast */
        const nd_exec_settings settings = {.separable = variant % 12 & 4 ? nd_fuse_off : nd_fuse_auto,
                                           .turned = turned};
        memset(y, 0, sizeof y);
        run_whole(backend, n.graph, settings, x, y);
        expect_close(y, expected, count, 1e-5, "variant");
    }
    backend->table = strict_inner;
    nd_backend_close(backend);
    nd_graph_free(n.graph);
    free(x);
}

static nd_operation lacked;

static bool lacking_supports(nd_backend *backend, const nd_work *work, nd_precision precision) {
    return work->operation != lacked && strict_supports(backend, work, precision);
}

/* Each operation in turn is one that the backend has not: the host runs it, and nothing of its group is lost.
 */
Test(executor, what_a_backend_lacks_is_run_on_the_host) {
    net n = net_everything(2);
    nd_backend *backend = open_ref();
    float *x = random_images(input_count(n.graph)), expected[64], y[64];
    run_whole(backend, n.graph, (nd_exec_settings){.plain = true}, x, expected);
    nd_backend_table lacking = *backend->table;
    strict_inner = backend->table;
    lacking.supports = lacking_supports;
    backend->table = &lacking;
    nd_log_set(ignore, NULL);
    int64_t moved;
    int lacking_something = 0;
    for (int variant = 0; variant < 2 * nd_operation_count; variant++) {
        lacked = variant / 2;
        backend->channels_last = variant % 2;
        if (lacked == nd_operation_copy) continue;
        nd_exec *exec;
        cr_assert_eq(nd_exec_open(backend, n.graph, NULL, &exec), nd_status_ok, "%s", nd_error());
        lacking_something += nd_exec_host_count(exec, &moved) > 0;
        cr_assert_eq(nd_exec_run(exec, 2, (const float *[]){x}, (float *[]){y}), nd_status_ok);
        nd_exec_close(exec);
        expect_close(y, expected, output_count(n.graph), 1e-5, nd_operation_name(lacked));
    }
    cr_expect_geq(lacking_something, 16, "%d", lacking_something);
    backend->table = strict_inner;
    nd_backend_close(backend);
    nd_graph_free(n.graph);
    free(x);
}

Test(executor, what_runs_in_one_layout_alone_is_refused_in_the_other) {
    nd_backend *backend = open_ref();
    nd_backend_table strict = *backend->table;
    strict_inner = backend->table;
    strict.supports = strict_supports;
    backend->table = &strict;
    net n = net_everything(1);
    for (int last = 0; last < 2; last++) {
        nd_exec *exec;
        backend->channels_last = last;
        const nd_status status = nd_exec_open(backend, n.graph, &(nd_exec_settings){.turned = true}, &exec);
        cr_expect_eq(status, nd_status_unsupported);
        cr_expect_null(exec);
        cr_expect(strstr(nd_error(), "backend ref has no conv") &&
                      strstr(nd_error(), last ? "in NCHW" : "in NHWC"),
                  "%s", nd_error());
    }
    backend->table = strict_inner;
    nd_backend_close(backend);
    nd_graph_free(n.graph);
}

static int count_operation(const nd_exec *exec, nd_operation operation) {
    int count = 0;
    for (size_t i = 0; i < nd_exec_node_count(exec); i++)
        count += nd_exec_node_at(exec, i).operation == operation;
    return count;
}

Test(executor, fuses_what_it_should) {
    net n = net_everything(1);
    nd_backend *backend = open_ref();
    nd_exec *exec = open_exec(backend, n.graph, (nd_exec_settings){0});
    cr_expect_eq(count_operation(exec, nd_operation_separable), 2);
    cr_expect_eq(count_operation(exec, nd_operation_conv), 6);
    cr_expect_eq(count_operation(exec, nd_operation_gemm), 2);
    cr_expect_eq(count_operation(exec, nd_operation_gather), 1, "the other gather is inside a separable op");
    cr_expect_eq(count_operation(exec, nd_operation_affine), 1, "Mul, Add and Relu by channel are one");
    cr_expect_eq(count_operation(exec, nd_operation_binary), 2, "by pixel, and the gate");
    cr_expect_eq(count_operation(exec, nd_operation_activation), 1, "the sigmoid after a pool");
    cr_expect_eq(count_operation(exec, nd_operation_fill), 4,
                 "four edges; zero padding went into the convolution");
    /* the shuffle, the interior of the padding, two repeated parts of the last concatenation */
    cr_expect_leq(count_operation(exec, nd_operation_copy), 4);
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(n.graph);
}

Test(executor, a_dense_block_is_made_in_place) {
    net n = net_new();
    int parts[6] = {net_input(&n, 4, (int64_t[]){1, 3, 5, 5})}, whole = -1;
    parts[0] = net_conv(&n, parts[0], 3, 4, 1, 3, 1, true);
    for (int i = 1; i < 6; i++) {
        whole = i > 1 ? net_concat(&n, parts, i, 1) : parts[0];
        parts[i] = net_conv(&n, whole, 4 * i, 4, 1, 3, 1, true);
    }
    net_finish(&n, net_concat(&n, parts, 6, 1), 1);
    nd_backend *backend = open_ref();
    nd_exec *exec = open_exec(backend, n.graph, (nd_exec_settings){0});
    cr_expect_eq(nd_exec_node_count(exec), 6, "%zu kernels: only convolutions", nd_exec_node_count(exec));
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(n.graph);
}

Test(executor, smaller_batches_give_the_same_images) {
    enum { batch = 4 };
    net n = net_everything(1);
    nd_backend *backend = open_ref();
    const int64_t in = input_count(n.graph), out = output_count(n.graph);
    float *x = random_images(batch * in), expected[batch * 8], y[batch * 8];
    nd_exec *one = open_exec(backend, n.graph, (nd_exec_settings){.batch = 1});
    for (int i = 0; i < batch; i++)
        cr_assert_eq(nd_exec_run(one, 1, (const float *[]){x + i * in}, (float *[]){expected + i * out}),
                     nd_status_ok);
    nd_exec *exec = open_exec(backend, n.graph, (nd_exec_settings){.batch = batch});
    for (int count = 1; count <= batch; count++) {
        memset(y, 0xff, sizeof y);
        cr_assert_eq(nd_exec_run(exec, count, (const float *[]){x}, (float *[]){y}), nd_status_ok, "%s",
                     nd_error());
        expect_close(y, expected, count * out, 1e-6, "images");
    }
    cr_assert_eq(nd_exec_run(exec, batch + 1, (const float *[]){x}, (float *[]){y}), nd_status_usage);
    nd_exec_close(one);
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(n.graph);
    free(x);
}

/* y = x * sqrt(c): the square root is the same for all images of every batch. */
Test(executor, what_follows_from_constants_is_the_same_for_all_images) {
    enum { batch = 4, channels = 5000 };
    static float squares[channels], in[batch * channels * 2], out[batch * channels * 2];
    for (int i = 0; i < channels; i++) squares[i] = (float)((i % 7 + 1) * (i % 7 + 1));
    nd_graph *graph = new_graph("scaled");
    nd_node *node;
    const int x = add_input(graph, "x", 3, (int64_t[]){-1, channels, 2});
    const int c = add_floats(graph, "c", 2, (int64_t[]){channels, 1}, squares);
    const int flat = add_node(graph, nd_op_unary, NULL, &c, 1, &node);
    node->op_type = "Sqrt";
    const int root = add_node(graph, nd_op_unsqueeze, NULL, &flat, 1, &node);
    node->attr.n = 1; /* axis 0 */
    finish(graph, add_node(graph, nd_op_mul, NULL, (int[]){x, root}, 2, NULL), 1);
    nd_backend *backend = open_ref();
    nd_exec *exec = open_exec(backend, graph, (nd_exec_settings){.batch = batch});
    for (int i = 0; i < batch * channels * 2; i++) in[i] = (float)(i % 11);
    for (int n = 1; n <= batch; n++) {
        memset(out, 0, sizeof out);
        cr_assert_eq(nd_exec_run(exec, n, (const float *[]){in}, (float *[]){out}), nd_status_ok, "%s",
                     nd_error());
        for (int i = 0; i < n * channels * 2; i++)
            cr_expect_float_eq(out[i], in[i] * (float)(i / 2 % channels % 7 + 1), 1e-5);
    }
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(graph);
}

Test(executor, a_part_runs_between_any_values) {
    net n = net_everything(1);
    nd_backend *backend = open_ref();
    float *x = random_images(input_count(n.graph)), whole[8], parts[8];
    /* After the first convolution and after its ReLU one value separates the network. */
    run_whole(backend, n.graph, (nd_exec_settings){0}, x, whole);
    for (int i = 0; i < 2; i++) {
        const int cut = n.graph->nodes[i].out[0];
        float middle[9 * 9 * 8];
        run_whole(backend, n.graph, (nd_exec_settings){.outputs = &cut, .n_outputs = 1}, x, middle);
        run_whole(backend, n.graph, (nd_exec_settings){.inputs = &cut, .n_inputs = 1}, middle, parts);
        expect_close(parts, whole, output_count(n.graph), 1e-6, "cut");
    }
    const int late = n.graph->nodes[n.graph->n_nodes - 2].out[0];
    nd_exec *exec;
    const nd_exec_settings impossible = {
        .inputs = &late, .n_inputs = 1, .outputs = &n.graph->nodes[0].out[0], .n_outputs = 1};
    cr_assert_neq(nd_exec_open(backend, n.graph, &impossible, &exec), nd_status_ok);
    cr_assert_null(exec);
    nd_backend_close(backend);
    nd_graph_free(n.graph);
    free(x);
}

Test(executor, zoo_networks_run_fused_as_plain) {
    uint64_t seed = 3;
    nd_graph *graph;
    nd_backend *backend = open_ref();
    cr_assert_eq(nd_zoo_build(nd_zoo_find("resnet20"), nd_zoo_random, &seed, &graph), nd_status_ok);
    cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}), nd_status_ok);
    float *x = random_images(input_count(graph)), plain[10], fused[10], folded[10];
    run_whole(backend, graph, (nd_exec_settings){.plain = true}, x, plain);
    run_whole(backend, graph, (nd_exec_settings){0}, x, fused);
    cr_assert_eq(nd_graph_fold(graph), nd_status_ok);
    cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}), nd_status_ok);
    nd_exec *exec = open_exec(backend, graph, (nd_exec_settings){.time_nodes = true});
    cr_assert_eq(nd_exec_run(exec, 1, (const float *[]){x}, (float *[]){folded}), nd_status_ok);
    expect_close(fused, plain, 10, 1e-4, "fused");
    expect_close(folded, plain, 10, 1e-3, "folded");
    int64_t macs = 0;
    for (size_t i = 0; i < nd_exec_node_count(exec); i++) {
        macs += nd_exec_node_at(exec, i).macs;
        cr_expect(nd_exec_node_at(exec, i).ns > 0, "%s took no time", nd_exec_node_at(exec, i).name);
    }
    cr_expect_eq(macs, nd_cost_graph(graph).total_macs);
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(graph);
    free(x);
}

Test(executor, what_cannot_run_is_named) {
    net n = net_new();
    const int x = net_input(&n, 4, (int64_t[]){1, 3, 4, 4});
    const int y = net_node(&n, nd_op_transpose, &x, 1, &(nd_attr){.n = 4, .list = {1, 0, 2, 3}});
    net_finish(&n, y, 1);
    nd_backend *backend = open_ref();
    nd_exec *exec;
    cr_assert_eq(nd_exec_open(backend, n.graph, &(nd_exec_settings){.batch = 2}, &exec),
                 nd_status_unsupported);
    cr_assert(strstr(nd_error(), "Transpose") && strstr(nd_error(), "mixes images"), "%s", nd_error());
    nd_graph_free(n.graph);

    n = net_new();
    const int image = net_input(&n, 4, (int64_t[]){1, 3, 4, 4});
    int out;
    nd_node *node;
    cr_assert_eq(nd_graph_add_value(n.graph, "z", &out), nd_status_ok);
    cr_assert_eq(nd_graph_add_node(n.graph, nd_op_opaque, "head.erf", &image, 1, &out, 1, &node),
                 nd_status_ok);
    node->op_type = "Erf";
    n.graph->values[out].rank = 1;
    n.graph->values[out].dims[0] = 1;
    cr_assert_eq(nd_graph_add_output(n.graph, out), nd_status_ok);
    cr_assert_eq(nd_exec_open(backend, n.graph, &(nd_exec_settings){0}, &exec), nd_status_unsupported);
    cr_assert(strstr(nd_error(), "head.erf") && strstr(nd_error(), "Erf") && strstr(nd_error(), "1x3x4x4"),
              "%s", nd_error());
    nd_graph_free(n.graph);
    nd_backend_close(backend);
}

/* Exported for one image, as detectors are: axis 0 is taken away and put back, or cut. */
Test(executor, what_mixes_images_runs_one_by_one_where_it_may) {
    enum { images = 5, numbers = 3 * 4 * 4, results = 2 * 4 * 4 };
    float *x = random_images(images * numbers), whole[images * results], single[images * results];
    nd_backend *backend = open_ref();
    for (int cut = 0; cut < 2; cut++) {
        net n = net_new();
        int y = net_input(&n, 4, (int64_t[]){1, 3, 4, 4});
        if (cut) {
            const nd_attr first = {.n = 1, .list = {0}, .ends = {1}, .axes = {0}, .steps = {1}};
            y = net_node(&n, nd_op_slice, &y, 1, &first);
        } else {
            y = net_node(&n, nd_op_squeeze, &y, 1, &(nd_attr){.n = 1, .list = {0}});
            y = net_unary(&n, nd_op_relu, y);
            y = net_node(&n, nd_op_unsqueeze, &y, 1, &(nd_attr){.n = 1, .list = {0}});
        }
        net_finish(&n, net_conv(&n, y, 3, 2, 1, 3, 1, true), 1);
        nd_exec *exec;
        cr_expect_eq(nd_exec_open(backend, n.graph, &(nd_exec_settings){.batch = images}, &exec),
                     nd_status_unsupported);
        exec = open_exec(backend, n.graph, (nd_exec_settings){.batch = images, .shrink = true});
        cr_expect_eq(nd_exec_batch(exec), 1);
        cr_assert_eq(nd_exec_run(exec, images, (const float *[]){x}, (float *[]){whole}), nd_status_ok);
        for (int i = 0; i < images; i++)
            cr_assert_eq(
                nd_exec_run(exec, 1, (const float *[]){x + i * numbers}, (float *[]){single + i * results}),
                nd_status_ok);
        cr_expect_arr_eq(whole, single, sizeof whole);
        nd_exec_close(exec);
        nd_graph_free(n.graph);
    }
    nd_backend_close(backend);
    free(x);
}

/* What would run on general loops is taken apart, or brought into the layout that is fast. */
Test(executor, prefers_what_is_fast) {
    net n = net_everything(1);
    nd_backend *backend = open_ref();
    nd_backend_table table = *backend->table;
    strict_inner = backend->table;
    table.fast = strict_fast;
    backend->table = &table;
    nd_exec *exec = open_exec(backend, n.graph, (nd_exec_settings){0});
    cr_expect_eq(count_operation(exec, nd_operation_separable), 0);
    cr_expect_eq(count_operation(exec, nd_operation_conv), 6 + 4);
    cr_expect_eq(count_operation(exec, nd_operation_fill), 0, "copies of a constant instead");
    for (int i = 0; i < exec->n_steps; i++)
        if (exec->steps[i].work.operation == nd_operation_conv)
            cr_expect(nd_view_is_row_major(&exec->steps[i].work.y), "%s", exec->steps[i].name);
    nd_exec_close(exec);
    exec = open_exec(backend, n.graph, (nd_exec_settings){.separable = nd_fuse_forced});
    cr_expect_eq(count_operation(exec, nd_operation_separable), 2, "forced: slow, but supported");
    nd_exec_close(exec);
    backend->table = strict_inner;
    nd_backend_close(backend);
    nd_graph_free(n.graph);
}

Test(executor, forced_separable_is_an_error_where_there_is_none) {
    net n = net_new();
    int x = net_input(&n, 4, (int64_t[]){1, 4, 6, 6});
    x = net_conv(&n, x, 4, 8, 4, 3, 1, false);
    x = net_conv(&n, x, 8, 5, 1, 1, 1, true);
    net_finish(&n, x, 1);
    nd_backend *backend = open_ref();
    nd_exec *exec = open_exec(backend, n.graph, (nd_exec_settings){.separable = nd_fuse_forced});
    cr_assert_eq(nd_exec_node_count(exec), 1);
    nd_exec_close(exec);
    nd_backend_table strict = *backend->table;
    strict_inner = backend->table;
    strict.supports = strict_supports;
    backend->table = &strict;
    exec = open_exec(backend, n.graph, (nd_exec_settings){0});
    cr_assert_eq(nd_exec_node_count(exec), 2);
    nd_exec_close(exec);
    cr_assert_eq(nd_exec_open(backend, n.graph, &(nd_exec_settings){.separable = nd_fuse_forced}, &exec),
                 nd_status_unsupported);
    cr_assert(strstr(nd_error(), "separable"), "%s", nd_error());
    backend->table = strict_inner;
    nd_backend_close(backend);
    nd_graph_free(n.graph);
}
