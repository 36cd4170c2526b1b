/* Small networks to be run, and running them. */
#ifndef ND_TESTS_RUN_HELP_H
#define ND_TESTS_RUN_HELP_H

#include "run/executor/executor_parts.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>

typedef struct net {
    nd_graph *graph;
    nd_rng rng;
} net;

static inline net net_new(void) {
    return (net){.graph = new_graph("net"), .rng = nd_rng_seed(17)};
}

static inline int net_input(net *n, int rank, const int64_t *dims) {
    return add_input(n->graph, "x", rank, dims);
}

static inline int net_constant(net *n, int rank, const int64_t *dims) {
    return add_normals(n->graph, NULL, rank, dims, &n->rng, 0.4f);
}

static inline int net_indices(net *n, int64_t count, const int64_t *indices) {
    return add_ints(n->graph, 1, count, indices);
}

static inline int net_node(net *n, nd_op op, const int *in, int n_in, const nd_attr *attr) {
    nd_node *node;
    const int out = add_node(n->graph, op, NULL, in, n_in, &node);
    if (attr) node->attr = *attr;
    return out;
}

static inline int net_unary(net *n, nd_op op, int x) {
    return net_node(n, op, &x, 1, &(nd_attr){.alpha = 0.1f});
}

static inline int net_binary(net *n, nd_op op, int a, int b) {
    return net_node(n, op, (int[]){a, b}, 2, NULL);
}

static inline int net_conv(net *n, int x, int64_t ni, int64_t no, int64_t groups, int64_t kernel,
                           int64_t stride, bool bias) {
    const int64_t pad = kernel / 2;
    const nd_attr attr = {.groups = groups,
                          .window = {{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad, pad, pad}}};
    const int in[] = {x, net_constant(n, 4, (int64_t[]){no, ni / groups, kernel, kernel}),
                      bias ? net_constant(n, 1, &no) : -1};
    return net_node(n, nd_op_conv, in, bias ? 3 : 2, &attr);
}

static inline int net_concat(net *n, const int *in, int count, int64_t axis) {
    return net_node(n, nd_op_concat, in, count, &(nd_attr){.axis = axis});
}

static inline void net_finish(net *n, int output, int64_t batch) {
    cr_assert_eq(nd_graph_add_output(n->graph, output), nd_status_ok);
    cr_assert_eq(nd_graph_infer(n->graph, &(nd_infer_settings){.batch = batch}), nd_status_ok, "%s",
                 nd_error());
}

/* Everything the executor moves or fuses, in one small network:
 * conv+bias+residual+relu, a DenseNet block, channel shuffle, padding, slices, gathers, pools, products. */
static inline net net_everything(int64_t batch) {
    net n = net_new();
    const int x = net_input(&n, 4, (int64_t[]){batch, 3, 9, 9});
    int stem = net_unary(&n, nd_op_relu, net_conv(&n, x, 3, 8, 1, 3, 1, true));
    /* a residual block whose shortcut comes after the convolution it joins */
    const int main_path = net_conv(&n, stem, 8, 8, 1, 3, 1, true);
    const int shortcut = net_conv(&n, stem, 8, 8, 1, 1, 1, false);
    int block = net_unary(&n, nd_op_leaky_relu, net_binary(&n, nd_op_add, main_path, shortcut));
    /* dense block: parts of nested concatenations, one of them named twice */
    const int a = net_conv(&n, block, 8, 4, 1, 3, 1, true);
    const int ab = net_concat(&n, (int[]){block, a}, 2, 1);
    const int b = net_unary(&n, nd_op_relu, net_conv(&n, ab, 12, 4, 1, 1, 1, true));
    const int abc = net_concat(&n, (int[]){block, a, b}, 3, 1);
    const int dense = net_concat(&n, (int[]){abc, b, abc}, 3, -3);
    /* shuffle: [n][36] as [n][4][9] transposed */
    const nd_attr split = {.n = 5, .list = {0, 4, 9, 9, 9}};
    const nd_attr turn = {.n = 5, .list = {0, 2, 1, 3, 4}};
    const nd_attr join = {.n = 4, .list = {0, 36, 9, 9}};
    int shuffled = net_node(&n, nd_op_reshape, &dense, 1, &split);
    shuffled = net_node(&n, nd_op_transpose, &shuffled, 1, &turn);
    shuffled = net_node(&n, nd_op_reshape, &shuffled, 1, &join);
    /* an adaptive separable pair with a bias between its parts, and a uniform one */
    const int64_t list[] = {0, 0, 3, 4, 4, 4, 20, 35};
    int terms =
        net_node(&n, nd_op_gather, (int[]){shuffled, net_indices(&n, 8, list)}, 2, &(nd_attr){.axis = 1});
    terms = net_conv(&n, terms, 8, 8, 8, 3, 2, true);
    int s = net_unary(&n, nd_op_relu, net_conv(&n, terms, 8, 10, 1, 1, 1, true));
    s = net_conv(&n, s, 10, 20, 10, 3, 1, false);
    s = net_conv(&n, s, 20, 6, 1, 1, 1, true);
    /* every other row, reversed columns, padded with a constant, then with zeros into a convolution */
    const nd_attr cut = {.n = 2, .list = {0, -1}, .ends = {5, -100}, .axes = {2, 3}, .steps = {2, -1}};
    s = net_node(&n, nd_op_slice, &s, 1, &cut);
    s = net_node(&n, nd_op_pad, &s, 1, &(nd_attr){.n = 8, .value = 0.5f, .list = {0, 1, 2, 0, 0, 1, 0, 1}});
    s = net_node(&n, nd_op_pad, &s, 1, &(nd_attr){.n = 8, .list = {0, 0, 1, 0, 0, 0, 0, 2}});
    s = net_conv(&n, s, 8, 8, 1, 3, 1, true);
    s = net_node(&n, nd_op_pad, &s, 1, &(nd_attr){.n = 8, .list = {0, 0, 0, -1, 0, 0, 0, 0}});
    s = net_node(&n, nd_op_gather, (int[]){s, net_indices(&n, 3, (int64_t[]){6, 1, 4})}, 2,
                 &(nd_attr){.axis = 1});
    /* per-channel arithmetic */
    s = net_binary(&n, nd_op_mul, net_constant(&n, 3, (int64_t[]){3, 1, 1}), s);
    s = net_unary(&n, nd_op_relu, net_binary(&n, nd_op_add, s, net_constant(&n, 4, (int64_t[]){1, 3, 1, 1})));
    s = net_binary(&n, nd_op_add, s, net_constant(&n, 2, (int64_t[]){6, 7})); /* by pixel */
    const nd_attr pool = {.window = {{2, 2}, {2, 2}, {1, 1}, {0}}, .ceil_mode = true};
    const int pooled = net_node(&n, nd_op_max_pool, &s, 1, &pool);
    const int gate = net_unary(&n, nd_op_sigmoid, net_unary(&n, nd_op_global_average_pool, pooled));
    s = net_binary(&n, nd_op_mul, gate, pooled);
    s = net_node(&n, nd_op_flatten, &s, 1, &(nd_attr){.axis = 1});
    s = net_binary(&n, nd_op_matmul, s, net_constant(&n, 2, (int64_t[]){3 * 3 * 4, 12}));
    s = net_unary(&n, nd_op_relu, net_binary(&n, nd_op_add, s, net_constant(&n, 1, (int64_t[]){12})));
    const int gemm[] = {s, net_constant(&n, 2, (int64_t[]){5, 12}), net_constant(&n, 1, (int64_t[]){5})};
    s = net_node(&n, nd_op_gemm, gemm, 3, &(nd_attr){.trans_b = true, .alpha = 0.5f, .beta = 2});
    s = net_node(&n, nd_op_softmax, &s, 1, &(nd_attr){.axis = -1});
    net_finish(&n, s, batch);
    return n;
}

static inline nd_backend *open_ref(void) {
    nd_backend *backend;
    cr_assert_eq(nd_backend_open("ref", NULL, &backend), nd_status_ok);
    return backend;
}

static inline nd_exec *open_exec(nd_backend *backend, const nd_graph *graph, nd_exec_settings settings) {
    nd_exec *exec;
    cr_assert_eq(nd_exec_open(backend, graph, &settings, &exec), nd_status_ok, "%s", nd_error());
    return exec;
}

static inline float *random_images(int64_t count) {
    nd_rng rng = nd_rng_seed(23);
    float *x = nd_alloc_array((size_t)count, sizeof *x);
    for (int64_t i = 0; i < count; i++) x[i] = (float)nd_rng_normal(&rng);
    return x;
}

static inline int64_t input_count(const nd_graph *graph) {
    return nd_dims_count(graph->values[graph->inputs[0]].rank, graph->values[graph->inputs[0]].dims);
}

static inline int64_t output_count(const nd_graph *graph) {
    return nd_dims_count(graph->values[graph->outputs[0]].rank, graph->values[graph->outputs[0]].dims);
}

static inline void run_whole(nd_backend *backend, const nd_graph *graph, nd_exec_settings settings,
                             const float *x, float *y) {
    nd_exec *exec = open_exec(backend, graph, settings);
    cr_assert_eq(nd_exec_run(exec, exec->settings.batch, &x, &y), nd_status_ok, "%s", nd_error());
    nd_exec_close(exec);
}

static inline void expect_close(const float *a, const float *b, int64_t count, double tolerance,
                                const char *what) {
    for (int64_t i = 0; i < count; i++)
        cr_assert(fabs((double)a[i] - b[i]) <= tolerance * (1 + fabs((double)b[i])), "%s: [%d] %g, not %g",
                  what, (int)i, (double)a[i], (double)b[i]);
}

#endif
