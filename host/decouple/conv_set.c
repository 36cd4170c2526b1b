#include "decouple/chain.h"

#include <stdio.h>
#include <string.h>

/* In the place of the initializer in the slot where that is another than the conv's own, which others may
 * share: a pass that tries many kernels then holds one. */
static nd_status set_floats(nd_graph *graph, nd_node *node, int slot, int rank, const int64_t *dims,
                            const float *data, const float *original, const char *what) {
    char name[512];
    nd_tensor tensor = {0};
    const nd_tensor *present = nd_graph_constant(graph, node, slot);
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, &tensor));
    memcpy(tensor.data, data, nd_tensor_bytes(&tensor));
    snprintf(name, sizeof name, "%.400s.%s", node->name, what);
    nd_status status = present && present->data != original
                           ? nd_graph_set_init(graph, node->in[slot], &tensor)
                           : nd_graph_add_init(graph, name, &tensor, &node->in[slot]);
    nd_tensor_free(&tensor);
    return status;
}

nd_status nd_conv_set(nd_graph *graph, int node, const nd_conv *conv, const float *weights,
                      const float *bias) {
    nd_node *target = &graph->nodes[node];
    target->edited |= 1 << 1 | 1 << 2;
    int64_t dims[4] = {conv->no, conv->ni / conv->groups, conv->window.kernel[0], conv->window.kernel[1]};
    if (target->n_in < 3) {
        int *in = nd_arena_alloc(&graph->arena, 3 * sizeof *in);
        ND_REQUIRE(in, nd_status_memory, "conv %s: no memory for a bias", conv->name);
        in[0] = target->in[0];
        in[1] = target->in[1];
        in[2] = -1;
        target->in = in;
        target->n_in = 3;
    }
    ND_TRY(set_floats(graph, target, 1, 4, dims, weights, conv->weights, "weight"));
    if (bias) return set_floats(graph, target, 2, 1, dims, bias, conv->bias, "bias");
    target->in[2] = -1;
    return nd_status_ok;
}
