/* x * sigmoid(x) as exporters write SiLU, a Sigmoid and a Mul, and hard swish likewise: one activation, in
 * the epilogue of what makes x, and in no other case. */
#include "run/executor/executor_parts.h"
#include "run/plugins.h"
#include "tests/unit/help/decouple_help.h"
#include "tests/unit/help/graph_help.h"

enum { channels = 8, side = 6, batch = 2, numbers = batch * channels * side * side };

typedef struct net {
    nd_graph *graph;
    nd_rng rng;
    int x;
} net;

static net net_new(void) {
    net n = {.graph = new_graph("gates"), .rng = nd_rng_seed(29)};
    n.x = add_input(n.graph, "x", 4, (int64_t[]){-1, channels, side, side});
    return n;
}

static int conv(net *n, int x, int64_t groups, int64_t kernel) {
    nd_node *node;
    const int in[] = {x,
                      add_normals(n->graph, NULL, 4, (int64_t[]){channels, channels / groups, kernel, kernel},
                                  &n->rng, 0.5f),
                      add_normals(n->graph, NULL, 1, (int64_t[]){channels}, &n->rng, 0.5f)};
    const int out = add_node(n->graph, nd_op_conv, NULL, in, groups > 1 ? 2 : 3, &node);
    const int64_t pad = kernel / 2;
    node->attr.groups = groups;
    node->attr.window = (nd_window){{kernel, kernel}, {1, 1}, {1, 1}, {pad, pad, pad, pad}};
    return out;
}

static int two(net *n, nd_op op, int a, int b) {
    return add_node(n->graph, op, NULL, (int[]){a, b}, 2, NULL);
}

static int sigmoid(net *n, int x) {
    return add_node(n->graph, nd_op_sigmoid, NULL, &x, 1, NULL);
}

static int hard_sigmoid(net *n, int x, float alpha) {
    nd_node *node;
    const int out = add_node(n->graph, nd_op_hard_sigmoid, NULL, &x, 1, &node);
    node->attr.alpha = alpha;
    node->attr.beta = 0.5f;
    return out;
}

static int silu(net *n, int x) {
    return two(n, nd_op_mul, x, sigmoid(n, x));
}

static nd_exec *open_in(nd_backend *backend, const nd_graph *graph, nd_exec_settings settings) {
    nd_exec *exec;
    settings.batch = batch;
    OK(nd_exec_open(backend, graph, &settings, &exec));
    return exec;
}

static int count_of(const nd_exec *exec, nd_operation operation) {
    int count = 0;
    for (size_t i = 0; i < nd_exec_node_count(exec); i++)
        count += nd_exec_node_at(exec, i).operation == operation;
    return count;
}

static void run(nd_exec *exec, float *y, float *second) {
    float *x = help_normals(numbers, 31);
    OK(nd_exec_run(exec, batch, (const float *[]){x}, (float *[]){y, second}));
    nd_exec_close(exec);
    free(x);
}

/* The same on both backends, fused or not, and the kernels that are left. `second`: an output more. */
static void expect_kernels(net *n, int out, int second, int kernels, int activations, int pairs) {
    static const char *const backends[] = {"ref", "cpu"};
    float y[2][numbers], plain[2][numbers];
    if (second >= 0) OK(nd_graph_add_output(n->graph, second));
    finish(n->graph, out, batch);
    for (int b = 0; b < 2; b++) {
        nd_backend *backend;
        if (nd_backend_open(backends[b], NULL, &backend)) continue; /* built without it */
        nd_exec *exec = open_in(backend, n->graph, (nd_exec_settings){0});
        cr_expect_eq((int)nd_exec_node_count(exec), kernels, "%s: %d kernels, not %d", backends[b],
                     (int)nd_exec_node_count(exec), kernels);
        cr_expect_eq(count_of(exec, nd_operation_activation), activations, "%s: activations", backends[b]);
        cr_expect_eq(count_of(exec, nd_operation_binary), pairs, "%s: functions of two", backends[b]);
        run(exec, y[0], y[1]);
        run(open_in(backend, n->graph, (nd_exec_settings){.plain = true}), plain[0], plain[1]);
        for (int o = 0; o < (second >= 0 ? 2 : 1); o++)
            for (int i = 0; i < numbers; i++)
                cr_assert_float_eq(y[o][i], plain[o][i], 1e-4, "%s", backends[b]);
        nd_backend_close(backend);
    }
    nd_graph_free(n->graph);
}

Test(executor_gates, end_a_convolution_a_residual_sum_and_a_separable_pair) {
    net n = net_new();
    const int first = silu(&n, conv(&n, n.x, 1, 3));
    const int sum = two(&n, nd_op_add, first, conv(&n, first, 1, 3));
    const int block = two(&n, nd_op_mul, sigmoid(&n, sum), sum); /* the operands in the other order */
    const int depthwise = conv(&n, block, channels, 3);
    expect_kernels(&n, silu(&n, conv(&n, depthwise, 1, 1)), -1, 3, 0, 0);
}

Test(executor_gates, are_hard_swish_where_the_slope_is_a_sixth) {
    net n = net_new();
    const int a = conv(&n, n.x, 1, 3), b = two(&n, nd_op_mul, a, hard_sigmoid(&n, a, 1.0f / 6));
    const int c = conv(&n, b, 1, 3);
    expect_kernels(&n, two(&n, nd_op_mul, c, hard_sigmoid(&n, c, 0.2f)), -1, 4, 1, 1);
}

Test(executor_gates, after_anything_else_are_one_kernel) {
    net n = net_new();
    nd_node *pool;
    const int pooled = add_node(n.graph, nd_op_max_pool, NULL, &n.x, 1, &pool);
    pool->attr.window = (nd_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    expect_kernels(&n, silu(&n, silu(&n, pooled)), -1, 3, 2, 0);
}

Test(executor_gates, leave_what_others_read) {
    net n = net_new(); /* the convolution's own result is read by an addition too */
    int a = conv(&n, n.x, 1, 3);
    expect_kernels(&n, two(&n, nd_op_add, silu(&n, a), a), -1, 3, 1, 1);
    n = net_new(); /* or wanted */
    a = conv(&n, n.x, 1, 3);
    expect_kernels(&n, silu(&n, a), a, 2, 1, 0);
    n = net_new(); /* the gate is read by an addition */
    a = conv(&n, n.x, 1, 3);
    const int gate = sigmoid(&n, a);
    expect_kernels(&n, two(&n, nd_op_add, two(&n, nd_op_mul, a, gate), gate), -1, 4, 1, 2);
    n = net_new(); /* it gates another value */
    a = conv(&n, n.x, 1, 3);
    expect_kernels(&n, two(&n, nd_op_mul, n.x, sigmoid(&n, a)), -1, 2, 0, 1);
    n = net_new(); /* a square of the gate */
    a = sigmoid(&n, conv(&n, n.x, 1, 3));
    expect_kernels(&n, two(&n, nd_op_mul, a, a), -1, 2, 0, 1);
}
