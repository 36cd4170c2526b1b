/* What only the run knows the size of: a detector's last nodes, on whatever backend the rest is. */
#include "run/executor.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>

enum { boxes = 6, classes = 2 };

static int add_dynamic(nd_graph *graph, const char *op, const int *in, int n_in, int n_out, nd_attr attr) {
    int out[2];
    nd_node *node;
    for (int i = 0; i < n_out; i++) OK(nd_graph_add_value(graph, NULL, &out[i]));
    OK(nd_graph_add_node(graph, nd_op_opaque, op, in, n_in, out, n_out, &node));
    node->op_type = op;
    node->dynamic = true;
    node->attr = attr;
    return out[0];
}

static int add_scalar(nd_graph *graph, nd_dtype dtype, double number) {
    nd_tensor tensor;
    int value;
    OK(nd_tensor_new(dtype, 1, (const int64_t[]){1}, &tensor));
    if (dtype == nd_dtype_i64)
        *(int64_t *)tensor.data = (int64_t)number;
    else
        *(float *)tensor.data = (float)number;
    OK(nd_graph_add_init(graph, NULL, &tensor, &value));
    nd_tensor_free(&tensor);
    return value;
}

/* Scores go through a Relu that is planned; the boxes that are kept are gathered by computed indices. */
typedef struct net {
    nd_graph *graph;
    nd_backend *backend;
    nd_exec *exec;
} net;

static nd_status open_net(net *n, const char *backend, int64_t batch) {
    n->graph = new_graph("detector");
    const int box = add_input(n->graph, "boxes", 3, (const int64_t[]){1, boxes, 4});
    const int score = add_input(n->graph, "scores", 3, (const int64_t[]){1, classes, boxes});
    nd_node *node;
    const int positive = add_node(n->graph, nd_op_relu, NULL, &score, 1, &node);
    const int operands[] = {box, positive, add_scalar(n->graph, nd_dtype_i64, 10),
                            add_scalar(n->graph, nd_dtype_f32, 0.5),
                            add_scalar(n->graph, nd_dtype_f32, 0.25)};
    const int kept = add_dynamic(n->graph, "NonMaxSuppression", operands, 5, 1, (nd_attr){0});
    const int gather[] = {kept, add_scalar(n->graph, nd_dtype_i64, 2)};
    const int index = add_node(n->graph, nd_op_gather, NULL, gather, 2, &node);
    node->attr.axis = 1;
    const int row[] = {box, index};
    const int found = add_node(n->graph, nd_op_gather, NULL, row, 2, &node);
    node->attr.axis = 1;
    OK(nd_graph_add_output(n->graph, kept));
    OK(nd_graph_add_output(n->graph, found));
    OK(nd_graph_add_output(n->graph, positive));
    OK(nd_graph_infer(n->graph, &(nd_infer_settings){.batch = 1}));
    if (nd_backend_open(backend, NULL, &n->backend)) cr_skip_test("no %s backend", backend);
    return nd_exec_open(n->backend, n->graph, &(nd_exec_settings){.batch = batch}, &n->exec);
}

static void close_net(net *n) {
    nd_exec_close(n->exec);
    nd_backend_close(n->backend);
    nd_graph_free(n->graph);
}

static const float box[boxes][4] = {{0, 0, 1, 1},   {0, 0.1f, 1, 1.1f}, {0, -0.1f, 1, 0.9f},
                                    {0, 10, 1, 11}, {0, 10.1f, 1, 11},  {1, 101, 0, 100}};

static void expect_kept(net *n, const float *scores, const int64_t (*want)[3], int64_t count) {
    float positive[classes * boxes];
    OK(nd_exec_run(n->exec, 1, (const float *[]){box[0], scores}, (float *[]){NULL, NULL, positive}));
    const nd_tensor *kept = nd_exec_output(n->exec, 0), *found = nd_exec_output(n->exec, 1);
    cr_assert(kept->dtype == nd_dtype_i64 && kept->rank == 2 && kept->dims[0] == count && kept->dims[1] == 3);
    for (int64_t i = 0; i < 3 * count; i++)
        cr_expect_eq(((const int64_t *)kept->data)[i], want[i / 3][i % 3]);
    cr_assert(found->rank == 4 && found->dims[1] == count && found->dims[2] == 1 && found->dims[3] == 4);
    for (int64_t i = 0; i < 4 * count; i++)
        cr_expect_eq(((const float *)found->data)[i], box[want[i / 4][2]][i % 4]);
    cr_expect_null(nd_exec_output(n->exec, 2), "its shape is the graph's");
    for (int i = 0; i < classes * boxes; i++) cr_expect_eq(positive[i], scores[i] > 0 ? scores[i] : 0);
}

Test(dynamic, boxes_are_as_many_as_each_run_finds) {
    static const float some[classes * boxes] = {0.9f, 0.75f, 0.6f, 0.95f, 0.5f, 0.3f,
                                                -1,   0.3f,  0.4f, 0,     0.2f, 0.1f};
    static const float none[classes * boxes] = {0.25f, 0.1f, -3};
    static const int64_t want[][3] = {{0, 0, 3}, {0, 0, 0}, {0, 0, 5}, {0, 1, 2}};
    static const char *const backends[] = {"ref", "cpu"};
    for (int b = 0; b < 2; b++) {
        net n = {0};
        OK(open_net(&n, backends[b], 1));
        cr_expect_eq(nd_exec_dynamic_count(n.exec), 3);
        expect_kept(&n, some, want, 4);
        expect_kept(&n, none, NULL, 0);
        expect_kept(&n, some, want, 4);
        close_net(&n);
    }
}

Test(dynamic, an_output_without_a_shape_has_no_room_to_be_written_to) {
    net n = {0};
    float out[64], scores[classes * boxes] = {0};
    OK(open_net(&n, "ref", 1));
    cr_expect_eq(nd_exec_run(n.exec, 1, (const float *[]){box[0], scores}, (float *[]){out, NULL, out}),
                 nd_status_usage);
    close_net(&n);
}

Test(dynamic, the_batch_is_the_one_that_was_inferred) {
    net n = {0};
    cr_expect_eq(open_net(&n, "ref", 2), nd_status_unsupported);
    close_net(&n);
}

/* y = x[:, top] for the k largest of another input: products of what was gathered are planned for its
 * size. */
Test(dynamic, what_follows_is_planned_for_the_size_of_the_run) {
    enum { rows = 5, width = 3 };
    nd_graph *graph = new_graph("top");
    nd_backend *backend;
    nd_exec *exec;
    nd_node *node;
    const int x = add_input(graph, "x", 2, (const int64_t[]){rows, width});
    const int64_t dims[] = {width, 2};
    nd_tensor weights;
    int w;
    OK(nd_tensor_new(nd_dtype_f32, 2, dims, &weights));
    for (int i = 0; i < width * 2; i++) ((float *)weights.data)[i] = (float)i;
    OK(nd_graph_add_init(graph, "w", &weights, &w));
    nd_tensor_free(&weights);
    const int first = add_node(graph, nd_op_reduce, NULL, (const int[]){x}, 1, &node);
    node->op_type = "ReduceMax";
    node->attr.n = 1;
    node->attr.list[0] = 1;
    const int positive = add_node(graph, nd_op_relu, NULL, &first, 1, &node);
    const int chosen = add_dynamic(graph, "NonZero", &positive, 1, 1, (nd_attr){0});
    const int row = add_node(graph, nd_op_gather, NULL,
                             (const int[]){chosen, add_scalar(graph, nd_dtype_i64, 0)}, 2, &node);
    const int flat = add_node(graph, nd_op_reshape, NULL,
                              (const int[]){row, add_scalar(graph, nd_dtype_i64, -1)}, 2, &node);
    const int picked = add_node(graph, nd_op_gather, NULL, (const int[]){x, flat}, 2, &node);
    const int y = add_node(graph, nd_op_matmul, NULL, (const int[]){picked, w}, 2, &node);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = rows}));
    if (nd_backend_open("cpu", NULL, &backend)) cr_skip_test("no cpu backend");
    OK(nd_exec_open(backend, graph, NULL, &exec));
    for (int kept = 0; kept <= rows; kept++) {
        float data[rows][width];
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < width; k++) data[i][k] = i < kept ? (float)(1 + i * width + k) : -1;
        OK(nd_exec_run(exec, rows, (const float *[]){data[0]}, (float *[]){NULL}));
        const nd_tensor *got = nd_exec_output(exec, 0);
        cr_assert(got->rank == 2 && got->dims[0] == kept && got->dims[1] == 2, "%d rows", kept);
        for (int i = 0; i < kept; i++)
            for (int o = 0; o < 2; o++) {
                float want = 0;
                for (int k = 0; k < width; k++) want += data[i][k] * (float)(2 * k + o);
                cr_expect_float_eq(((const float *)got->data)[2 * i + o], want, 1e-4);
            }
    }
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(graph);
}

Test(dynamic, an_index_outside_names_the_node) {
    nd_graph *graph = new_graph("outside");
    nd_backend *backend;
    nd_exec *exec;
    nd_node *node;
    const int x = add_input(graph, "x", 1, (const int64_t[]){4});
    const int whole = add_node(graph, nd_op_cast, NULL, &x, 1, &node);
    node->attr.dtype = nd_dtype_i64;
    const int y = add_node(graph, nd_op_gather, "take", (const int[]){x, whole}, 2, &node);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 4}));
    OK(nd_backend_open("ref", NULL, &backend));
    OK(nd_exec_open(backend, graph, NULL, &exec));
    OK(nd_exec_run(exec, 4, (const float *[]){(float[]){3, -1, 2, 0}}, (float *[]){NULL}));
    static const float want[] = {0, 0, 2, 3};
    for (int i = 0; i < 4; i++) cr_expect_eq(((const float *)nd_exec_output(exec, 0)->data)[i], want[i]);
    cr_expect_eq(nd_exec_run(exec, 4, (const float *[]){(float[]){3, 4, 2, 0}}, (float *[]){NULL}),
                 nd_status_format);
    cr_expect(strstr(nd_error(), "take (Gather)") && strstr(nd_error(), "index 4 of 4"), "%s", nd_error());
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(graph);
}

/* [steps][batch][1] through an LSTM of one number, whose weights are the same for all gates and without
 * recurrence: every step follows from the one before by the definition. */
static nd_exec *open_lstm(nd_graph *graph, nd_backend *backend, const float *weights, int64_t rows) {
    enum { steps = 3, batch = 2 };
    static const float bias[8] = {0.5f, -0.25f, 1, 0.125f};
    const int64_t dims[][3] = {{1, rows, 1}, {1, rows, 1}, {1, 8}};
    const int x = add_input(graph, "x", 3, (const int64_t[]){steps, batch, 1});
    int operands[4] = {x};
    for (int k = 0; k < 3; k++) {
        nd_tensor tensor;
        OK(nd_tensor_new(nd_dtype_f32, k == 2 ? 2 : 3, dims[k], &tensor));
        if (k != 1) memcpy(tensor.data, k ? bias : weights, nd_tensor_bytes(&tensor));
        OK(nd_graph_add_init(graph, NULL, &tensor, &operands[k + 1]));
        nd_tensor_free(&tensor);
    }
    nd_attr attr = {.recurrence = {.directions = 1, .clip = INFINITY}};
    attr.recurrence.gates[0][1] = attr.recurrence.gates[0][2] = nd_gate_tanh;
    OK(nd_graph_add_output(graph, add_dynamic(graph, "LSTM", operands, 4, 2, attr)));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = steps}));
    nd_exec *exec;
    OK(nd_exec_open(backend, graph, NULL, &exec));
    return exec;
}

Test(dynamic, an_lstm_carries_its_cell_along) {
    static const float x[3][2] = {{1, -2}, {0.5f, 0}, {-1, 3}}, weights[8] = {1, 1, 1, 1};
    nd_graph *graph = new_graph("lstm");
    nd_backend *backend;
    OK(nd_backend_open("ref", NULL, &backend));
    nd_exec *exec = open_lstm(graph, backend, weights, 4);
    OK(nd_exec_run(exec, 3, (const float *[]){x[0]}, (float *[]){NULL}));
    const nd_tensor *y = nd_exec_output(exec, 0);
    cr_assert(y->rank == 4 && y->dims[0] == 3 && y->dims[1] == 1 && y->dims[2] == 2 && y->dims[3] == 1);
    for (int b = 0; b < 2; b++) {
        double cell = 0;
        for (int t = 0; t < 3; t++) {
            const double in = 1 / (1 + exp(-(x[t][b] + 0.5))), out = 1 / (1 + exp(-(x[t][b] - 0.25)));
            const double kept = 1 / (1 + exp(-(x[t][b] + 1.0)));
            cell = kept * cell + in * tanh(x[t][b] + 0.125);
            cr_expect_float_eq((double)((const float *)y->data)[2 * t + b], out * tanh(cell), 1e-6);
        }
    }
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(graph);
}

Test(dynamic, weights_of_another_number_of_gates_are_refused) {
    static const float x[3][2] = {{0}}, weights[8] = {0};
    nd_graph *graph = new_graph("lstm");
    nd_backend *backend;
    OK(nd_backend_open("ref", NULL, &backend));
    nd_exec *exec = open_lstm(graph, backend, weights, 3);
    cr_expect_eq(nd_exec_run(exec, 3, (const float *[]){x[0]}, (float *[]){NULL}), nd_status_format);
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(graph);
}
