#include "quantize/balance.h"
#include "quantize/ranges.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct nd_pair {
    int depthwise, pointwise; /* nodes */
    double *magnitude;        /* [channels between] */
} nd_pair;

static bool is_depthwise(const nd_graph *graph, const nd_node *node) {
    const nd_tensor *w = nd_graph_constant(graph, node, 1);
    return node->op == nd_op_conv && w && w->rank == 4 && w->dims[1] == 1 && node->attr.groups > 1;
}

static bool is_pointwise(const nd_graph *graph, const nd_node *node) {
    const nd_tensor *w = nd_graph_constant(graph, node, 1);
    return node->op == nd_op_conv && w && w->rank == 4 && w->dims[2] * w->dims[3] == 1 &&
           node->attr.groups == 1;
}

int nd_balance_partner(const nd_graph *graph, const bool *chosen, int node) {
    if (!chosen[node] || !is_depthwise(graph, &graph->nodes[node])) return -1;
    const int middle = graph->nodes[node].out[0];
    int user;
    if (nd_graph_uses(graph, middle, &user) != 1 || user < 0 || nd_graph_is_output(graph, middle)) return -1;
    const bool reads = graph->nodes[user].in[0] == middle && is_pointwise(graph, &graph->nodes[user]);
    return chosen[user] && reads ? user : -1;
}

static int find_pairs(const nd_graph *graph, const bool *chosen, nd_pair *pairs) {
    int n = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        const int partner = nd_balance_partner(graph, chosen, i);
        if (partner >= 0) pairs[n++] = (nd_pair){i, partner, NULL};
    }
    return n;
}

/* Input `index` of a node, element e times factor[e / inner % channels], as a constant of its own. */
static nd_status scale_constant(nd_graph *graph, int node, int index, const float *factor, int64_t channels,
                                int64_t inner) {
    const nd_tensor *old = nd_graph_constant(graph, &graph->nodes[node], index);
    nd_tensor scaled;
    int value;
    if (!old) return nd_status_ok;
    ND_TRY(nd_tensor_new(nd_dtype_f32, old->rank, old->dims, &scaled));
    const int64_t count = nd_tensor_count(old);
    for (int64_t i = 0; i < count; i++)
        ((float *)scaled.data)[i] = ((const float *)old->data)[i] * factor[i / inner % channels];
    const nd_status status =
        nd_graph_add_init(graph, graph->values[graph->nodes[node].in[index]].name, &scaled, &value);
    nd_tensor_free(&scaled);
    if (status) return status;
    graph->nodes[node].in[index] = value;
    return nd_status_ok;
}

static nd_status balance_pair(nd_graph *graph, const nd_pair *pair) {
    const nd_tensor *w = nd_graph_constant(graph, &graph->nodes[pair->pointwise], 1);
    const nd_tensor *filters = nd_graph_constant(graph, &graph->nodes[pair->depthwise], 1);
    const int64_t channels = w->dims[1], outputs = w->dims[0];
    float *up = nd_arena_alloc(&graph->arena, (size_t)channels * sizeof *up);
    float *down = nd_arena_alloc(&graph->arena, (size_t)channels * sizeof *down);
    double *scale = nd_arena_alloc(&graph->arena, (size_t)channels * sizeof *scale), logs = 0;
    int64_t live = 0;
    ND_REQUIRE(up && down && scale, nd_status_memory, "no memory to balance a pair");
    for (int64_t c = 0; c < channels; c++) {
        double squares = 0;
        for (int64_t o = 0; o < outputs; o++)
            squares += pow((double)((const float *)w->data)[o * channels + c], 2);
        scale[c] = squares > 0 ? pow(pair->magnitude[c], 0.75) / pow(squares, 0.125) : 0;
        if (!(scale[c] > 0)) continue;
        logs += log(scale[c]);
        live++;
    }
    /* About 1, as what has no scale of its own keeps it. */
    const double middle = live ? exp(logs / (double)live) : 1;
    for (int64_t c = 0; c < channels; c++) {
        up[c] = scale[c] > 0 ? (float)fmin(fmax(scale[c] / middle, 1e-6), 1e6) : 1;
        down[c] = 1 / up[c];
    }
    ND_TRY(scale_constant(graph, pair->depthwise, 1, down, channels, filters->dims[2] * filters->dims[3]));
    if (graph->nodes[pair->depthwise].n_in > 2 && graph->nodes[pair->depthwise].in[2] >= 0)
        ND_TRY(scale_constant(graph, pair->depthwise, 2, down, channels, 1));
    return scale_constant(graph, pair->pointwise, 1, up, channels, 1);
}

nd_status nd_balance(nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                     const bool *chosen, int *pairs) {
    nd_status status = nd_status_ok;
    nd_pair *found = nd_alloc_array((size_t)graph->n_nodes + 1, sizeof *found);
    int *values = nd_alloc_array((size_t)graph->n_nodes + 1, sizeof *values);
    double **magnitudes = nd_alloc_array((size_t)graph->n_nodes + 1, sizeof *magnitudes);
    int n = 0;
    ND_REQUIRE_DONE(found && values && magnitudes, nd_status_memory, "no memory to balance pairs");
    n = find_pairs(graph, chosen, found);
    for (int i = 0; i < n; i++) {
        values[i] = graph->nodes[found[i].depthwise].out[0];
        magnitudes[i] = nd_alloc_array((size_t)graph->values[values[i]].dims[1], sizeof **magnitudes);
        ND_REQUIRE_DONE(magnitudes[i], nd_status_memory, "no memory to balance pairs");
        found[i].magnitude = magnitudes[i];
    }
    ND_TRY_DONE(nd_ranges_channels(graph, backend, batches, images, values, n, magnitudes));
    for (int i = 0; i < n; i++) ND_TRY_DONE(balance_pair(graph, &found[i]));
    *pairs = n;
done:
    for (int i = 0; magnitudes && i < n; i++) free(magnitudes[i]);
    free(magnitudes);
    free(values);
    free(found);
    return status;
}
