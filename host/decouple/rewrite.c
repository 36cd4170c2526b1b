/* Between graphs and chains: reading a conv out of a graph, putting a chain in its place. */
#include "decouple/product.h"

#include "model/infer/infer.h"

#include <stdio.h>
#include <string.h>

nd_status nd_conv_from_node(const nd_graph *graph, const nd_node *node, nd_conv *out) {
    ND_REQUIRE(node->op == nd_op_conv, nd_status_unsupported, "node %s is no convolution", node->name);
    const nd_tensor *weight = nd_graph_constant(graph, node, 1);
    ND_REQUIRE(weight && weight->dtype == nd_dtype_f32 && weight->rank == 4, nd_status_unsupported,
               "conv %s: its weights are no constant 4-D fp32 tensor", node->name);
    bool has_bias = node->n_in > 2 && node->in[2] >= 0;
    const nd_tensor *bias = has_bias ? nd_graph_constant(graph, node, 2) : NULL;
    ND_REQUIRE(!has_bias || (bias && bias->dtype == nd_dtype_f32), nd_status_unsupported,
               "conv %s: its bias is no constant fp32 tensor", node->name);

    const nd_value *x = &graph->values[node->in[0]];
    ND_REQUIRE(x->rank == 4 && x->dims[1] > 0 && x->dims[2] > 0 && x->dims[3] > 0, nd_status_unsupported,
               "conv %s: the size of its input is not known", node->name);
    int64_t groups = node->attr.groups;
    ND_REQUIRE(groups > 0 && weight->dims[1] * groups == x->dims[1] && weight->dims[0] % groups == 0 &&
                   nd_tensor_count(weight) > 0 && (!bias || nd_tensor_count(bias) == weight->dims[0]),
               nd_status_format, "conv %s: weights, bias, groups and input do not fit together", node->name);

    nd_conv conv = {
        .name = node->name,
        .no = weight->dims[0],
        .ni = x->dims[1],
        .groups = groups,
        .window = node->attr.window,
        .in_h = x->dims[2],
        .in_w = x->dims[3],
        .weights = weight->data,
        .bias = bias ? bias->data : NULL,
    };
    conv.window.kernel[0] = weight->dims[2];
    conv.window.kernel[1] = weight->dims[3];
    ND_REQUIRE(conv.no * conv.ni <= INT32_MAX / nd_conv_taps(&conv), nd_status_unsupported,
               "conv %s: the kernel is too large", node->name);
    ND_REQUIRE(nd_conv_out_h(&conv) > 0 && nd_conv_out_w(&conv) > 0, nd_status_format,
               "conv %s: the kernel is larger than its padded input", node->name);
    *out = conv;
    return nd_status_ok;
}

/* Without values: zeros, which take no memory before they are written. */
static nd_status add_floats(nd_graph *graph, const char *name, int rank, const int64_t *dims,
                            const float *values, int *value) {
    nd_tensor tensor = {0};
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, &tensor));
    if (values) memcpy(tensor.data, values, nd_tensor_bytes(&tensor));
    nd_status status = nd_graph_add_init(graph, name, &tensor, value);
    nd_tensor_free(&tensor);
    return status;
}

static nd_status add_product_weights(nd_graph *graph, const char *name, bool trans_b, int64_t no, int64_t ni,
                                     const float *weights, int *value) {
    nd_tensor tensor = {0};
    ND_TRY(nd_product_weights(trans_b, no, ni, weights, &tensor));
    nd_status status = nd_graph_add_init(graph, name, &tensor, value);
    nd_tensor_free(&tensor);
    return status;
}

static nd_status add_conv(nd_graph *graph, const nd_conv *conv, int64_t batch, int *in) {
    const int64_t dims[4] = {batch, conv->ni, conv->in_h, conv->in_w}, *kernel = conv->window.kernel;
    const int64_t weights[4] = {conv->no, conv->ni / conv->groups, kernel[0], kernel[1]};
    ND_TRY(nd_graph_add_input(graph, "x", 4, dims, &in[0]));
    return add_floats(graph, "w", 4, weights, conv->weights, &in[1]);
}

static nd_status add_product(nd_graph *graph, const nd_conv *conv, int64_t batch, int *in) {
    const bool gemm = conv->product == nd_product_gemm;
    const int64_t dims[3] = {batch, gemm ? conv->ni : conv->in_h, conv->ni};
    ND_TRY(nd_graph_add_input(graph, "x", gemm ? 2 : 3, dims, &in[0]));
    return add_product_weights(graph, "w", gemm, conv->no, conv->ni, conv->weights, &in[1]);
}

static nd_op op_of(const nd_conv *conv) {
    return conv->product == nd_product_gemm     ? nd_op_gemm
           : conv->product == nd_product_matmul ? nd_op_matmul
                                                : nd_op_conv;
}

static nd_attr attributes_of(const nd_conv *conv) {
    if (conv->product == nd_product_gemm) return (nd_attr){.trans_b = true, .alpha = 1, .beta = 1};
    return (nd_attr){.window = conv->window, .groups = conv->groups};
}

nd_status nd_conv_graph(const nd_conv *conv, int64_t batch, nd_graph **out) {
    nd_status status = nd_status_ok;
    nd_graph *graph = NULL;
    nd_node *node = NULL;
    const nd_infer_settings infer = {.batch = batch};
    int in[3] = {-1, -1, -1}, y = -1;
    ND_TRY_DONE(nd_graph_new(conv->name, &graph));
    ND_TRY_DONE(conv->product ? add_product(graph, conv, batch, in) : add_conv(graph, conv, batch, in));
    if (conv->bias) ND_TRY_DONE(add_floats(graph, "b", 1, &conv->no, conv->bias, &in[2]));
    ND_TRY_DONE(nd_graph_add_value(graph, "y", &y));
    ND_TRY_DONE(nd_graph_add_node(graph, op_of(conv), conv->name, in, conv->bias ? 3 : 2, &y, 1, &node));
    node->attr = attributes_of(conv);
    ND_TRY_DONE(nd_graph_add_output(graph, y));
    ND_TRY_DONE(nd_graph_sort(graph));
    ND_TRY_DONE(nd_graph_infer(graph, &infer));
done:
    if (status)
        nd_graph_free(graph);
    else
        *out = graph;
    return status;
}

/* A node of a chain stands where the convolution was, in the file as well. */
static void stand_for(nd_node *node, const nd_node *old) {
    node->raw = old->raw;
    node->raw_bytes = old->raw_bytes;
    node->norm = old->norm;
    node->stored = old->stored;
    node->edited = 1 << 1;
}

static nd_status add_gather(nd_graph *graph, const char *prefix, const nd_node *old, const nd_stage *stage,
                            int *x) {
    char name[512];
    snprintf(name, sizeof name, "%s.channel", prefix);
    nd_tensor tensor = {0};
    ND_TRY(nd_tensor_new(nd_dtype_i64, 1, &stage->ni, &tensor));
    for (int64_t c = 0; c < stage->ni; c++) ((int64_t *)tensor.data)[c] = stage->channel[c];
    int in[2] = {*x, -1}, out = -1;
    nd_status status = nd_graph_add_init(graph, name, &tensor, &in[1]);
    nd_tensor_free(&tensor);
    ND_TRY(status);

    snprintf(name, sizeof name, "%s.gather", prefix);
    ND_TRY(nd_graph_add_value(graph, name, &out));
    nd_node *node = NULL;
    ND_TRY(nd_graph_add_node(graph, nd_op_gather, name, in, 2, &out, 1, &node));
    node->attr.axis = 1;
    stand_for(node, old);
    *x = out;
    return nd_status_ok;
}

static nd_status add_stage(nd_graph *graph, const char *prefix, const nd_node *old, const nd_stage *stage,
                           int x, int out) {
    char name[512];
    const bool conv = old->op == nd_op_conv, biased = stage->bias && old->op != nd_op_matmul;
    const int64_t *kernel = stage->window.kernel;
    int64_t dims[4] = {stage->no, stage->ni / stage->groups, kernel[0], kernel[1]};
    int in[3] = {x, -1, -1};
    snprintf(name, sizeof name, "%s.weight", prefix);
    ND_TRY(conv ? add_floats(graph, name, 4, dims, stage->weights, &in[1])
                : add_product_weights(graph, name, old->attr.trans_b, stage->no, stage->ni, stage->weights,
                                      &in[1]));
    if (biased) {
        snprintf(name, sizeof name, "%s.bias", prefix);
        ND_TRY(add_floats(graph, name, 1, dims, stage->bias, &in[2]));
    }
    nd_node *node = NULL;
    ND_TRY(nd_graph_add_node(graph, old->op, prefix, in, biased ? 3 : 2, &out, 1, &node));
    node->attr = old->attr;
    if (conv) {
        node->attr.window = stage->window;
        node->attr.groups = stage->groups;
    }
    stand_for(node, old);
    return nd_status_ok;
}

nd_status nd_chain_rewrite(nd_graph *graph, int node, nd_chain *chain) {
    char name[256], prefix[300];
    const nd_node old = graph->nodes[node];
    ND_REQUIRE(strlen(old.name) < sizeof name, nd_status_unsupported, "layer name %.40s... is too long",
               old.name);
    memcpy(name, old.name, strlen(old.name) + 1);
    int x = old.in[0], y = old.out[0];
    nd_graph_remove_node(graph, node);
    for (int s = 0; s < chain->n; s++) {
        nd_stage *stage = &chain->stages[s];
        snprintf(prefix, sizeof prefix, "%s%s", name, stage->suffix);
        if (stage->channel) ND_TRY(add_gather(graph, prefix, &old, stage, &x));
        int out = y;
        if (s + 1 < chain->n) {
            char value[320];
            snprintf(value, sizeof value, "%s.out", prefix);
            ND_TRY(nd_graph_add_value(graph, value, &out));
        }
        ND_TRY(add_stage(graph, prefix, &old, stage, x, out));
        stage->output = x = out;
    }
    return nd_status_ok;
}
