/* The folding of BatchNormalization is checked against its definition in double precision. */
#include "tests/unit/help/graph_help.h"

#include <math.h>

enum { channels = 3, inner = 4 };

static const float scale[] = {1.5f, -0.5f, 2}, shift[] = {0.25f, 1, -3};
static const float mean[] = {0.5f, -1, 2}, variance[] = {0.9f, 2, 0.01f}, bias[] = {1, 2, -1};
static const float weights[] = {1, 2, 3, 4, -1, 0.5f, 0.25f, 2, 3, -2, 1, 0};
static const float epsilon = 1e-3f;

/* Output channel c of a linear layer with these weights for the input (1, 2, 3, 4), then normalised. */
static double normalised(const float *w, int stride_channel, int stride_inner, double b, int c) {
    double sum = b;
    for (int k = 0; k < inner; k++) sum += (double)w[c * stride_channel + k * stride_inner] * (k + 1);
    return (sum - mean[c]) / sqrt((double)variance[c] + epsilon) * scale[c] + shift[c];
}

static int add_norm(nd_graph *graph, int x) {
    nd_node *node;
    const int64_t row[] = {channels};
    int in[] = {x, add_floats(graph, "bn.weight", 1, row, scale), add_floats(graph, "bn.bias", 1, row, shift),
                add_floats(graph, "bn.running_mean", 1, row, mean),
                add_floats(graph, "bn.running_var", 1, row, variance)};
    int y = add_node(graph, nd_op_batchnorm, "bn", in, 5, &node);
    node->attr.epsilon = epsilon;
    return y;
}

static void expect_folded(const nd_graph *graph, int y, const char *name, bool transposed, float beta,
                          double old_bias) {
    cr_assert_eq(graph->n_nodes, 1);
    const nd_node *node = &graph->nodes[0];
    cr_assert_eq(node->out[0], y);
    const float *w = nd_graph_constant(graph, node, 1)->data, *b = nd_graph_constant(graph, node, 2)->data;
    const int by_channel = transposed ? 1 : inner, by_inner = transposed ? channels : 1;
    for (int c = 0; c < channels; c++) {
        double sum = (double)beta * b[c];
        for (int k = 0; k < inner; k++) sum += (double)w[c * by_channel + k * by_inner] * (k + 1);
        double expected = normalised(weights, by_channel, by_inner, beta * (old_bias ? bias[c] : 0), c);
        cr_assert_float_eq(sum, expected, 1e-4, "%s channel %d: %g, not %g", name, c, sum, expected);
    }
}

Test(fold, batchnorm_goes_into_a_convolution) {
    for (int biased = 0; biased < 2; biased++) {
        nd_graph *graph = new_graph("conv");

        int in[] = {add_input(graph, "x", 4, (int64_t[]){1, inner, 1, 1}),
                    add_floats(graph, "c.weight", 4, (int64_t[]){channels, inner, 1, 1}, weights),
                    add_floats(graph, "c.bias", 1, (int64_t[]){channels}, bias)};
        int conv = add_node(graph, nd_op_conv, "c", in, biased ? 3 : 2, NULL);
        int y = add_norm(graph, conv);
        OK(nd_graph_add_output(graph, y));
        OK(nd_graph_fold(graph));
        expect_folded(graph, y, "conv", false, 1, biased);
        cr_assert_str_eq(graph->values[graph->nodes[0].in[1]].name, "c.weight");
        cr_assert_str_eq(graph->values[graph->nodes[0].in[2]].name, "c.bias");
        cr_assert_eq(nd_graph_find_value(graph, "bn.weight"), -1);
        nd_graph_free(graph);
    }
}

Test(fold, batchnorm_goes_into_an_inner_product) {
    for (int turned = 0; turned < 2; turned++) {
        nd_graph *graph = new_graph("gemm");
        nd_node *node;
        const int64_t dims[][2] = {{channels, inner}, {inner, channels}};
        int in[] = {add_input(graph, "x", 2, (int64_t[]){1, inner}),
                    add_floats(graph, "w", 2, dims[turned], weights),
                    add_floats(graph, "b", 1, (int64_t[]){channels}, bias)};
        int gemm = add_node(graph, nd_op_gemm, "fc", in, 3, &node);
        node->attr.trans_b = !turned;
        node->attr.beta = 0.5f;
        int y = add_norm(graph, gemm);
        OK(nd_graph_add_output(graph, y));
        OK(nd_graph_fold(graph));
        expect_folded(graph, y, "gemm", turned, 0.5f, 1);
        nd_graph_free(graph);
    }
}

Test(fold, shared_weights_are_not_overwritten) {
    nd_graph *graph = new_graph("shared");

    int x = add_input(graph, "x", 4, (int64_t[]){1, inner, 1, 1});
    int w = add_floats(graph, "w.weight", 4, (int64_t[]){channels, inner, 1, 1}, weights);
    int first = add_node(graph, nd_op_conv, "first", (int[]){x, w}, 2, NULL);
    int second = add_node(graph, nd_op_conv, "second", (int[]){x, w}, 2, NULL);
    int norm = add_norm(graph, first);
    int y = add_node(graph, nd_op_add, "sum", (int[]){norm, second}, 2, NULL);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_fold(graph));
    const nd_node *plain = &graph->nodes[nd_graph_find_node(graph, "second")];
    cr_assert_arr_eq(nd_graph_constant(graph, plain, 1)->data, weights, sizeof weights);
    const nd_node *folded = &graph->nodes[nd_graph_find_node(graph, "first")];
    cr_assert_neq(folded->in[1], plain->in[1]);
    nd_graph_free(graph);
}

Test(fold, batchnorm_stays_where_it_must) {
    nd_graph *graph = new_graph("alone");

    int x = add_input(graph, "x", 4, (int64_t[]){1, channels, 2, 2});
    int relu = add_node(graph, nd_op_relu, "relu", &x, 1, NULL);
    int y = add_norm(graph, relu);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_fold(graph));
    cr_assert_eq(graph->n_nodes, 2);
    nd_graph_free(graph);

    graph = new_graph("read twice");
    int in[] = {add_input(graph, "x", 4, (int64_t[]){1, inner, 1, 1}),
                add_floats(graph, "w", 4, (int64_t[]){channels, inner, 1, 1}, weights)};
    int conv = add_node(graph, nd_op_conv, "c", in, 2, NULL);
    y = add_norm(graph, conv);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_add_output(graph, conv));
    OK(nd_graph_fold(graph));
    cr_assert_eq(graph->n_nodes, 2);
    nd_graph_free(graph);
}

Test(fold, pass_through_nodes_go_and_output_names_stay) {
    nd_graph *graph = new_graph("pass");

    int x = add_input(graph, "x", 2, (int64_t[]){1, 4});
    int a = add_node(graph, nd_op_identity, "a", &x, 1, NULL);
    int b = add_node(graph, nd_op_relu, "b", &a, 1, NULL);
    int c = add_node(graph, nd_op_dropout, "c", &b, 1, NULL);
    int d = add_node(graph, nd_op_identity, "d", &c, 1, NULL);
    OK(nd_graph_add_output(graph, d));
    OK(nd_graph_fold(graph));
    cr_assert_eq(graph->n_nodes, 1);
    cr_assert_eq(graph->outputs[0], d);
    cr_assert_eq(graph->nodes[0].in[0], x);
    cr_assert_eq(graph->nodes[0].out[0], d);
    nd_graph_free(graph);

    graph = new_graph("straight through");
    x = add_input(graph, "x", 2, (int64_t[]){1, 4});
    int y = add_node(graph, nd_op_identity, "only", &x, 1, NULL);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_fold(graph));
    cr_assert_eq(graph->n_nodes, 1, "the output needs a name of its own");
    nd_graph_free(graph);
}

Test(fold, weights_in_half_precision_become_fp32) {
    nd_graph *graph = new_graph("half");
    nd_node *node;
    nd_tensor half;
    int w;
    cr_assert_eq(nd_tensor_new(nd_dtype_f16, 1, (int64_t[]){2}, &half), nd_status_ok);
    ((uint16_t *)half.data)[0] = 0x3c00, ((uint16_t *)half.data)[1] = 0xc200;
    cr_assert_eq(nd_graph_add_init(graph, "w", &half, &w), nd_status_ok);
    nd_tensor_free(&half);
    int x = add_input(graph, "x", 2, (int64_t[]){1, 2});
    int cast = add_node(graph, nd_op_cast, "cast", &w, 1, &node);
    node->attr.dtype = nd_dtype_f32;
    int y = add_node(graph, nd_op_add, "add", (int[]){x, cast}, 2, NULL);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_fold(graph));
    cr_assert_eq(graph->n_nodes, 1);
    const nd_tensor *tensor = nd_graph_constant(graph, &graph->nodes[0], 1);
    cr_assert(tensor && tensor->dtype == nd_dtype_f32);
    cr_assert_arr_eq(tensor->data, ((float[]){1, -3}), 2 * sizeof(float));
    nd_graph_free(graph);
}

Test(fold, means_of_constants_are_constants) {
    for (int keep = 0; keep < 2; keep++) {
        nd_graph *graph = new_graph("mean");
        nd_node *node;
        const float w[] = {1, 2, 3, 10, 20, 30, 4, 8, 12, 7, 7, 10};
        int x = add_input(graph, "x", 1, (int64_t[]){2}),
            w_in = add_floats(graph, "w", 3, (int64_t[]){2, 2, 3}, w);
        int mean = add_node(graph, nd_op_reduce_mean, "mean", &w_in, 1, &node);
        node->attr.n = 2, node->attr.list[0] = 0, node->attr.list[1] = -1, node->attr.keep_dims = keep;
        int y = add_node(graph, nd_op_add, "add", (int[]){x, mean}, 2, NULL);
        OK(nd_graph_add_output(graph, y));
        OK(nd_graph_fold(graph));
        cr_assert_eq(graph->n_nodes, 1);
        const nd_tensor *tensor = nd_graph_constant(graph, &graph->nodes[0], 1);
        cr_assert(tensor && tensor->rank == (keep ? 3 : 1) && tensor->dims[keep] == 2);
        cr_assert_float_eq(((const float *)tensor->data)[0], 5, 1e-6);
        cr_assert_float_eq(((const float *)tensor->data)[1], 14, 1e-6);
        nd_graph_free(graph);
    }
}

/* A BatchNormalization in training mode is opaque, but of constants: every channel has mean 5 and deviation 2
 * then. */
Test(fold, standardised_weights_become_constants) {
    for (int computed = 0; computed < 2; computed++) {
        nd_graph *graph = new_graph("standard");
        nd_node *node;
        const float w[] = {1, 2, 3, 10, 20, 30, 4, 8, 12, 7, 7, 10}, scale[] = {2, 2}, shift[] = {5, 5};
        int in[5], x = add_input(graph, "x", 3, (int64_t[]){2, 2, 3});
        in[0] = computed ? x : add_floats(graph, "w", 3, (int64_t[]){2, 2, 3}, w);
        in[1] = add_floats(graph, "scale", 1, (int64_t[]){2}, scale);
        in[2] = add_floats(graph, "shift", 1, (int64_t[]){2}, shift);
        in[3] = in[4] = x; /* what is written, not read */
        int norm = add_node(graph, nd_op_opaque, "norm", in, 5, &node);
        node->attr.training = true;
        int y = add_node(graph, nd_op_add, "add", (int[]){x, norm}, 2, NULL);
        OK(nd_graph_add_output(graph, y));
        OK(nd_graph_fold(graph));
        cr_assert_eq(graph->n_nodes, 1 + computed);
        const nd_tensor *tensor = nd_graph_constant(graph, &graph->nodes[computed], 1);
        cr_assert_eq(!tensor, computed);
        for (int c = 0; c < 2 && tensor; c++) {
            double sum = 0, squares = 0;
            for (int i = 0; i < 6; i++) {
                const double value = (double)((const float *)tensor->data)[(i / 3 * 2 + c) * 3 + i % 3];
                sum += value;
                squares += (value - 5) * (value - 5);
            }
            cr_assert_float_eq(sum / 6, 5, 1e-5);
            cr_assert_float_eq(sqrt(squares / 6), 2, 1e-5);
        }
        nd_graph_free(graph);
    }
}

/* transpose(dequantize(w, 2, 1)) * 2, in half precision where it is stored. */
Test(fold, computed_weights_become_constants) {
    nd_graph *graph = new_graph("computed");
    nd_node *node;
    nd_tensor bytes, zero, half;
    int in[3];
    cr_assert_eq(nd_tensor_new(nd_dtype_i8, 2, (int64_t[]){1, 2}, &bytes), nd_status_ok);
    ((int8_t *)bytes.data)[0] = 3, ((int8_t *)bytes.data)[1] = -5;
    cr_assert_eq(nd_tensor_new(nd_dtype_i8, 0, NULL, &zero), nd_status_ok);
    *(int8_t *)zero.data = 1;
    cr_assert_eq(nd_tensor_new(nd_dtype_f16, 0, NULL, &half), nd_status_ok);
    *(uint16_t *)half.data = nd_f32_to_f16(2);
    cr_assert_eq(nd_graph_add_init(graph, "q", &bytes, &in[0]), nd_status_ok);
    cr_assert_eq(nd_graph_add_init(graph, "scale", &half, &in[1]), nd_status_ok);
    cr_assert_eq(nd_graph_add_init(graph, "zero", &zero, &in[2]), nd_status_ok);
    int two, x = add_input(graph, "x", 2, (int64_t[]){2, 1});
    cr_assert_eq(nd_graph_add_init(graph, "two", &half, &two), nd_status_ok);
    int w = add_node(graph, nd_op_dequantize, "d", in, 3, NULL);
    int t = add_node(graph, nd_op_transpose, "t", &w, 1, &node);
    node->attr.n = 2, node->attr.list[0] = 1, node->attr.list[1] = 0;
    int m = add_node(graph, nd_op_mul, "m", (int[]){t, two}, 2, NULL);
    int y = add_node(graph, nd_op_add, "add", (int[]){x, m}, 2, NULL);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_fold(graph));
    cr_assert_eq(graph->n_nodes, 1);
    const nd_tensor *tensor = nd_graph_constant(graph, &graph->nodes[0], 1);
    cr_assert(tensor && tensor->rank == 2 && tensor->dims[0] == 2 && tensor->dims[1] == 1);
    cr_assert_arr_eq(tensor->data, ((float[]){8, -24}), 2 * sizeof(float));
    cr_assert_eq(graph->nodes[0].stored, nd_dtype_f16, "the file has it in half precision");
    nd_tensor_free(&bytes);
    nd_tensor_free(&zero);
    nd_tensor_free(&half);
    nd_graph_free(graph);
}

/* The second row, the first behind it, by Concat, Slice, Unsqueeze and Squeeze. */
Test(fold, parts_of_constants_become_constants) {
    nd_graph *graph = new_graph("parts");
    nd_node *node;
    int part[2], ends[2];
    for (int i = 0; i < 2; i++) {
        nd_tensor rows, end;
        OK(nd_tensor_new(nd_dtype_f32, 2, (int64_t[]){1, 2}, &rows));
        memcpy(rows.data, (float[]){(float)i, 5}, 2 * sizeof(float));
        OK(nd_graph_add_init(graph, NULL, &rows, &part[i]));
        OK(nd_tensor_new(nd_dtype_i64, 1, (int64_t[]){1}, &end));
        *(int64_t *)end.data = i ? INT64_MIN : -1; /* from the last row, to before the first */
        OK(nd_graph_add_init(graph, NULL, &end, &ends[i]));
        nd_tensor_free(&rows);
        nd_tensor_free(&end);
    }
    int zero, back, x = add_input(graph, "x", 2, (int64_t[]){2, 2});
    for (int i = 0; i < 2; i++) {
        nd_tensor list;
        OK(nd_tensor_new(nd_dtype_i64, 1, (int64_t[]){1}, &list));
        *(int64_t *)list.data = i ? -1 : 0;
        OK(nd_graph_add_init(graph, NULL, &list, i ? &back : &zero));
        nd_tensor_free(&list);
    }
    int c = add_node(graph, nd_op_concat, "c", part, 2, &node);
    node->attr.axis = -2;
    int s = add_node(graph, nd_op_slice, "s", (int[]){c, ends[0], ends[1], zero, back}, 5, NULL);
    int u = add_node(graph, nd_op_unsqueeze, "u", (int[]){s, zero}, 2, NULL);
    int q = add_node(graph, nd_op_squeeze, "q", (int[]){u, zero}, 2, NULL);
    int y = add_node(graph, nd_op_add, "add", (int[]){x, q}, 2, NULL);
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_fold(graph));
    cr_assert_eq(graph->n_nodes, 1);
    const nd_tensor *tensor = nd_graph_constant(graph, &graph->nodes[0], 1);
    cr_assert(tensor && tensor->rank == 2 && tensor->dims[0] == 2 && tensor->dims[1] == 2);
    cr_assert_arr_eq(tensor->data, ((float[]){1, 5, 0, 5}), 4 * sizeof(float));
    nd_graph_free(graph);
}

/* --- lengths */
