#include "model/shrink.h"

#include "base/gcd.h"

#include <stdlib.h>
#include <string.h>

/* Values whose channels stay or go together form a class, a tree over `parent`. The channels of each of its
 * values make `blocks` runs of equal length, and live[block] says whether a run is read. */
typedef struct nd_shrink {
    nd_graph *graph;
    int *parent;
    int64_t *blocks; /* of a root */
    bool **live;     /* of a root that is not whole */
    bool *whole;     /* of a root: all is read */
} nd_shrink;

static int64_t channels_of(const nd_graph *graph, int value) {
    const nd_value *v = &graph->values[value];
    return v->rank >= 2 && v->dims[1] > 0 ? v->dims[1] : 1;
}

static int shrink_root(const nd_shrink *s, int value) {
    while (s->parent[value] != value) value = s->parent[value];
    return value;
}

static void shrink_keep(nd_shrink *s, int value) {
    if (value >= 0) s->whole[shrink_root(s, value)] = true;
}

static void shrink_join(nd_shrink *s, int a, int b, int64_t groups) {
    int x = shrink_root(s, a), y = shrink_root(s, b);
    s->blocks[x] = nd_gcd(nd_gcd(s->blocks[x], s->blocks[y]), groups);
    s->whole[x] = s->whole[x] || s->whole[y];
    s->parent[y] = x;
}

static bool shrink_is_live(const nd_shrink *s, int value, int64_t channel) {
    int root = shrink_root(s, value);
    if (!s->live[root]) return true;
    return s->live[root][channel / (channels_of(s->graph, value) / s->blocks[root])];
}

/* --- which channels belong together */

static bool is_floats(const nd_tensor *tensor, int rank, int64_t first) {
    return tensor && tensor->dtype == nd_dtype_f32 && tensor->rank == rank && tensor->dims[0] == first;
}

static void shrink_keep_all(nd_shrink *s, const nd_node *node) {
    for (int i = 0; i < node->n_in; i++) shrink_keep(s, node->in[i]);
    for (int o = 0; o < node->n_out; o++) shrink_keep(s, node->out[o]);
}

static bool link_conv(nd_shrink *s, const nd_node *node) {
    const nd_tensor *weight = nd_graph_constant(s->graph, node, 1);
    int64_t no = channels_of(s->graph, node->out[0]);
    bool biased = node->n_in > 2 && node->in[2] >= 0;
    if (!is_floats(weight, 4, no)) return false;
    if (biased && !is_floats(nd_graph_constant(s->graph, node, 2), 1, no)) return false;
    if (node->attr.groups == 1)
        shrink_keep(s, node->in[0]);
    else
        shrink_join(s, node->in[0], node->out[0], node->attr.groups);
    return true;
}

static bool link_same(nd_shrink *s, const nd_node *node) {
    if (node->n_out != 1) return false;
    shrink_join(s, node->in[0], node->out[0], channels_of(s->graph, node->out[0]));
    return true;
}

static bool link_batchnorm(nd_shrink *s, const nd_node *node) {
    int64_t channels = channels_of(s->graph, node->out[0]);
    for (int i = 1; i < 5; i++)
        if (i >= node->n_in || !is_floats(nd_graph_constant(s->graph, node, i), 1, channels)) return false;
    return link_same(s, node);
}

/* The axis of a constant operand that meets the channels of an output of `rank`, -1 where it is broadcast. */
static int channel_axis(const nd_tensor *operand, int rank) {
    int axis = operand->rank - (rank - 1);
    return axis >= 0 && operand->dims[axis] > 1 ? axis : -1;
}

static bool link_binary(nd_shrink *s, const nd_node *node) {
    const nd_value *y = &s->graph->values[node->out[0]];
    if (node->n_in != 2 || node->in[1] < 0) return false;
    for (int i = 0; i < 2; i++) {
        const nd_value *x = &s->graph->values[node->in[i]];
        if (x->raw) return false;
        if (!x->init && (x->rank != y->rank || x->dims[1] != y->dims[1])) return false;
    }
    for (int i = 0; i < 2; i++)
        if (!s->graph->values[node->in[i]].init) shrink_join(s, node->in[i], node->out[0], y->dims[1]);
    return true;
}

/* Its channels are followed one by one, once all classes are known. */
static bool link_gather(nd_shrink *s, const nd_node *node) {
    const nd_tensor *index = nd_graph_constant(s->graph, node, 1);
    const nd_value *x = &s->graph->values[node->in[0]];
    if (node->attr.axis != 1 || x->rank < 2 || x->init || !index) return false;
    if (index->dtype != nd_dtype_i64 || index->rank != 1) return false;
    for (int64_t c = 0; c < index->dims[0]; c++) {
        int64_t channel = ((const int64_t *)index->data)[c];
        if (channel < 0 || channel >= x->dims[1]) return false;
    }
    return true;
}

typedef bool nd_link(nd_shrink *s, const nd_node *node);

static nd_link *const nd_links[nd_op_count] = {
    [nd_op_conv] = link_conv,
    [nd_op_batchnorm] = link_batchnorm,
    [nd_op_relu] = link_same,
    [nd_op_clip] = link_same,
    [nd_op_leaky_relu] = link_same,
    [nd_op_sigmoid] = link_same,
    [nd_op_hard_sigmoid] = link_same,
    [nd_op_hard_swish] = link_same,
    [nd_op_max_pool] = link_same,
    [nd_op_average_pool] = link_same,
    [nd_op_global_average_pool] = link_same,
    [nd_op_global_max_pool] = link_same,
    [nd_op_dropout] = link_same,
    [nd_op_identity] = link_same,
    [nd_op_add] = link_binary,
    [nd_op_mul] = link_binary,
    [nd_op_unary] = link_same,
    [nd_op_gather] = link_gather,
};

static bool is_followed(const nd_graph *graph, const nd_node *node) {
    return !node->within && nd_links[node->op] && node->n_in > 0 && node->in[0] >= 0 && node->n_out > 0 &&
           graph->values[node->out[0]].rank >= 2;
}

/* No network has wider tensors than that; files that claim to are not followed channel by channel. */
enum { shrink_channels_max = 1 << 20 };

static bool is_fixed(const nd_value *value) {
    return (value->rank >= 2 && value->dims[1] > shrink_channels_max) || value->init || value->raw ||
           value->pinned || value->rank < 2;
}

static void shrink_link(nd_shrink *s) {
    const nd_graph *graph = s->graph;
    for (int n = 0; n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        if (!is_followed(graph, node) || !nd_links[node->op](s, node)) shrink_keep_all(s, node);
    }
    for (int n = 0; n < graph->n_aside; n++) shrink_keep_all(s, &graph->aside[n]);
    for (int i = 0; i < graph->n_inputs; i++) shrink_keep(s, graph->inputs[i]);
    for (int o = 0; o < graph->n_outputs; o++) shrink_keep(s, graph->outputs[o]);
    for (int v = 0; v < graph->n_values; v++)
        if (is_fixed(&graph->values[v])) shrink_keep(s, v);
}

/* --- which of them are read */

static bool follow_gather(nd_shrink *s, const nd_node *node) {
    const nd_tensor *index = nd_graph_constant(s->graph, node, 1);
    int root = shrink_root(s, node->in[0]);
    int64_t block = channels_of(s->graph, node->in[0]) / s->blocks[root];
    bool changed = false;
    for (int64_t c = 0; c < index->dims[0]; c++) {
        bool *live = &s->live[root][((const int64_t *)index->data)[c] / block];
        if (*live || !shrink_is_live(s, node->out[0], c)) continue;
        *live = changed = true;
    }
    return changed;
}

static bool is_gather(const nd_shrink *s, const nd_node *node) {
    return node->op == nd_op_gather && !s->whole[shrink_root(s, node->in[0])];
}

static nd_status shrink_mark(nd_shrink *s) {
    const nd_graph *graph = s->graph;
    for (int v = 0; v < graph->n_values; v++) {
        if (s->parent[v] != v || s->whole[v]) continue; /* without a list, all are read */
        s->live[v] = nd_alloc_array((size_t)s->blocks[v], sizeof **s->live);
        ND_REQUIRE(s->live[v], nd_status_memory, "%s: no memory for its channels", graph->name);
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int n = graph->n_nodes - 1; n >= 0; n--)
            if (is_gather(s, &graph->nodes[n]) && follow_gather(s, &graph->nodes[n])) changed = true;
    }
    for (int v = 0; v < graph->n_values; v++) /* what nothing reads keeps a channel all the same */
        if (s->live[v] && !memchr(s->live[v], true, (size_t)s->blocks[v])) s->live[v][0] = true;
    return nd_status_ok;
}

static int64_t shrink_count(const nd_shrink *s, int value) {
    int64_t count = 0;
    if (!s->live[shrink_root(s, value)]) return channels_of(s->graph, value);
    for (int64_t c = 0; c < channels_of(s->graph, value); c++) count += shrink_is_live(s, value, c);
    return count;
}

/* --- taking the others out */

/* Puts a tensor in place of the one a node reads, under the same name where no other node reads that. */
static nd_status shrink_set(nd_graph *graph, nd_node *node, int slot, const nd_tensor *tensor) {
    int value = node->in[slot], user;
    node->edited |= UINT32_C(1) << slot;
    node->narrowed = true;
    if (graph->values[value].producer < 0 && nd_graph_uses(graph, value, &user) == 1 &&
        !graph->values[value].computed)
        return nd_graph_set_init(graph, value, tensor);
    return nd_graph_add_init(graph, graph->values[value].name, tensor, &node->in[slot]);
}

/* The live rows along an axis instead of all. */
static nd_status shrink_rows(nd_shrink *s, nd_node *node, int slot, int axis, int value) {
    const nd_tensor *from = nd_graph_constant(s->graph, node, slot);
    nd_tensor to = {0};
    int64_t dims[nd_rank_max], inner = (int64_t)nd_dtype_bytes(from->dtype), outer = 1;
    for (int d = 0; d < axis; d++) outer *= from->dims[d];
    for (int d = axis + 1; d < from->rank; d++) inner *= from->dims[d];
    memcpy(dims, from->dims, sizeof dims);
    dims[axis] = shrink_count(s, value);
    ND_TRY(nd_tensor_new(from->dtype, from->rank, dims, &to));
    char *row = to.data;
    for (int64_t b = 0; b < outer; b++)
        for (int64_t c = 0; c < from->dims[axis]; c++) {
            if (!shrink_is_live(s, value, c)) continue;
            memcpy(row, (const char *)from->data + (b * from->dims[axis] + c) * inner, (size_t)inner);
            row += inner;
        }
    nd_status status = shrink_set(s->graph, node, slot, &to);
    nd_tensor_free(&to);
    return status;
}

static nd_status shrink_conv(nd_shrink *s, nd_node *node, int64_t *dropped) {
    int y = node->out[0];
    int64_t all = channels_of(s->graph, y), left = shrink_count(s, y);
    if (left == all) return nd_status_ok;
    *dropped += all - left;
    ND_TRY(shrink_rows(s, node, 1, 0, y));
    if (node->n_in > 2 && node->in[2] >= 0) ND_TRY(shrink_rows(s, node, 2, 0, y));
    if (node->attr.groups == 1) return nd_status_ok;
    node->attr.groups = node->attr.groups * left / all;
    return nd_status_ok;
}

static nd_status shrink_constants(nd_shrink *s, nd_node *node) {
    const nd_graph *graph = s->graph;
    int y = node->out[0];
    if (shrink_count(s, y) == channels_of(graph, y)) return nd_status_ok;
    for (int i = 0; i < node->n_in; i++) {
        const nd_tensor *operand = nd_graph_constant(graph, node, i);
        if (!operand) continue;
        int axis = node->op == nd_op_batchnorm ? 0 : channel_axis(operand, graph->values[y].rank);
        if (axis >= 0) ND_TRY(shrink_rows(s, node, i, axis, y));
    }
    return nd_status_ok;
}

/* Numbers the live channels of both sides anew. */
static nd_status shrink_gather(nd_shrink *s, nd_node *node) {
    int x = node->in[0], y = node->out[0];
    const nd_tensor *old = nd_graph_constant(s->graph, node, 1);
    int64_t count = shrink_count(s, y), given = channels_of(s->graph, x), used = 0, next = 0;
    int64_t *renamed = nd_alloc_array((size_t)given, sizeof *renamed);
    nd_tensor index = {0};
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(renamed, nd_status_memory, "%s: no memory for its channels", s->graph->name);
    for (int64_t c = 0; c < given; c++) renamed[c] = shrink_is_live(s, x, c) ? next++ : -1;
    ND_TRY_DONE(nd_tensor_new(nd_dtype_i64, 1, &count, &index));
    for (int64_t c = 0; c < old->dims[0]; c++)
        if (shrink_is_live(s, y, c))
            ((int64_t *)index.data)[used++] = renamed[((const int64_t *)old->data)[c]];
    ND_TRY_DONE(shrink_set(s->graph, node, 1, &index));
done:
    nd_tensor_free(&index);
    free(renamed);
    return status;
}

/* Whether it is the node that the file has: those of a chain share the one that they stand for. */
static bool is_of_file(const nd_graph *graph, const nd_node *node) {
    if (!node->raw) return false;
    for (int n = 0; n < graph->n_nodes; n++)
        if (&graph->nodes[n] != node && graph->nodes[n].raw == node->raw) return false;
    return true;
}

/* Removes a Gather of all channels in their order. */
static void shrink_skip_gather(nd_shrink *s, int number) {
    nd_graph *graph = s->graph;
    const nd_node *node = &graph->nodes[number];
    int x = node->in[0], y = node->out[0];
    const nd_tensor *index = nd_graph_constant(graph, node, 1);
    bool identity = index->dims[0] == shrink_count(s, x);
    for (int64_t c = 0; identity && c < index->dims[0]; c++)
        identity = ((const int64_t *)index->data)[c] == c;
    /* One that the file has stays there, with the indices it has now. */
    if (!identity || is_of_file(graph, node) || nd_graph_is_output(graph, y) || graph->values[y].pinned)
        return;
    nd_graph_remove_node(graph, number);
    nd_graph_replace_value(graph, y, x);
}

/* Whether its indices change: its input is narrower, or less of its output is read. */
static bool is_narrowed_gather(const nd_shrink *s, const nd_node *node) {
    return is_gather(s, node) ||
           (node->op == nd_op_gather && shrink_count(s, node->out[0]) < channels_of(s->graph, node->out[0]));
}

static nd_status shrink_apply(nd_shrink *s, int64_t *dropped) {
    nd_graph *graph = s->graph;
    for (int n = 0; n < graph->n_nodes; n++) {
        nd_node *node = &graph->nodes[n];
        if (!is_followed(graph, node)) continue;
        if (node->op == nd_op_conv)
            ND_TRY(shrink_conv(s, node, dropped));
        else if (node->op == nd_op_batchnorm || node->op == nd_op_add || node->op == nd_op_mul)
            ND_TRY(shrink_constants(s, node));
        else if (is_narrowed_gather(s, node))
            ND_TRY(shrink_gather(s, node));
    }
    for (int n = 0; n < graph->n_nodes; n++)
        if (is_followed(graph, &graph->nodes[n]) && is_gather(s, &graph->nodes[n])) shrink_skip_gather(s, n);
    return nd_graph_sort(graph);
}

static void shrink_close(nd_shrink *s, int n_values) {
    for (int v = 0; s->live && v < n_values; v++) free(s->live[v]);
    free(s->live);
    free(s->parent);
    free(s->blocks);
    free(s->whole);
}

nd_status nd_graph_shrink(nd_graph *graph, int64_t *dropped) {
    nd_status status = nd_status_ok;
    const int n_values = graph->n_values; /* initializers are added on the way */
    const size_t count = (size_t)n_values;
    nd_shrink s = {
        .graph = graph,
        .parent = nd_alloc_array(count, sizeof *s.parent),
        .blocks = nd_alloc_array(count, sizeof *s.blocks),
        .live = nd_alloc_array(count, sizeof *s.live),
        .whole = nd_alloc_array(count, sizeof *s.whole),
    };
    *dropped = 0;
    ND_REQUIRE_DONE(s.parent && s.blocks && s.live && s.whole, nd_status_memory,
                    "%s: no memory for its channels", graph->name);
    for (int v = 0; v < n_values; v++) {
        s.parent[v] = v;
        s.blocks[v] = channels_of(graph, v);
    }
    shrink_link(&s);
    ND_TRY_DONE(shrink_mark(&s));
    ND_TRY_DONE(shrink_apply(&s, dropped));
done:
    shrink_close(&s, n_values);
    return status;
}
