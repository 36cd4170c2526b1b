#include "decouple/product.h"

#include <stdio.h>
#include <string.h>

/* In the place of the initializer in the slot where that is another than the conv's own, which others may
 * share: a pass that tries many kernels then holds one. */
static nd_status set_tensor(nd_graph *graph, nd_node *node, int slot, const nd_tensor *tensor,
                            const float *original, const char *what) {
    char name[512];
    const nd_tensor *present = nd_graph_constant(graph, node, slot);
    if (present && present->data != original) return nd_graph_set_init(graph, node->in[slot], tensor);
    snprintf(name, sizeof name, "%.400s.%s", node->name, what);
    return nd_graph_add_init(graph, name, tensor, &node->in[slot]);
}

static nd_status make_weights(const nd_node *node, const nd_conv *conv, const float *weights,
                              nd_tensor *out) {
    if (conv->product) return nd_product_weights(node->attr.trans_b, conv->no, conv->ni, weights, out);
    const int64_t dims[4] = {conv->no, conv->ni / conv->groups, conv->window.kernel[0],
                             conv->window.kernel[1]};
    ND_TRY(nd_tensor_new(nd_dtype_f32, 4, dims, out));
    memcpy(out->data, weights, nd_tensor_bytes(out));
    return nd_status_ok;
}

static nd_status set_bias(nd_graph *graph, nd_node *node, const nd_conv *conv, const float *bias) {
    nd_tensor tensor = {0};
    if (!bias) {
        node->in[2] = -1;
        return nd_status_ok;
    }
    ND_TRY(nd_tensor_new(nd_dtype_f32, 1, &conv->no, &tensor));
    memcpy(tensor.data, bias, nd_tensor_bytes(&tensor));
    nd_status status = set_tensor(graph, node, 2, &tensor, conv->bias, "bias");
    nd_tensor_free(&tensor);
    return status;
}

nd_status nd_conv_set(nd_graph *graph, int node, const nd_conv *conv, const float *weights,
                      const float *bias) {
    nd_node *target = &graph->nodes[node];
    nd_tensor tensor = {0};
    const bool biased = conv->product != nd_product_matmul;
    target->edited |= 1 << 1 | (biased ? 1 << 2 : 0);
    if (biased && target->n_in < 3) {
        int *in = nd_arena_alloc(&graph->arena, 3 * sizeof *in);
        ND_REQUIRE(in, nd_status_memory, "conv %s: no memory for a bias", conv->name);
        in[0] = target->in[0];
        in[1] = target->in[1];
        in[2] = -1;
        target->in = in;
        target->n_in = 3;
    }
    ND_TRY(make_weights(target, conv, weights, &tensor));
    nd_status status =
        set_tensor(graph, target, 1, &tensor, conv->product ? conv->stored : conv->weights, "weight");
    nd_tensor_free(&tensor);
    if (status || !biased) return status;
    return set_bias(graph, target, conv, bias);
}
