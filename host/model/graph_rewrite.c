#include "model/graph_names.h"

#include <stdlib.h>
#include <string.h>

void nd_graph_remove_node(nd_graph *graph, int node) {
    graph->nodes[node].n_in = graph->nodes[node].n_out = 0;
}

void nd_graph_replace_value(nd_graph *graph, int from, int to) {
    for (int i = 0; i < graph->n_nodes; i++) {
        nd_node *node = &graph->nodes[i];
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] == from) node->in[k] = to;
    }
    for (int i = 0; i < graph->n_aside; i++)
        for (int k = 0; k < graph->aside[i].n_in; k++)
            if (graph->aside[i].in[k] == from) graph->aside[i].in[k] = to;
    for (int i = 0; i < graph->n_outputs; i++)
        if (graph->outputs[i] == from) graph->outputs[i] = to;
}

int nd_graph_uses(const nd_graph *graph, int value, int *node) {
    int uses = 0;
    *node = -1;
    for (int i = 0; i < graph->n_nodes; i++) {
        for (int k = 0; k < graph->nodes[i].n_in; k++) {
            if (graph->nodes[i].in[k] != value) continue;
            uses++;
            if (*node < 0) *node = i;
        }
    }
    for (int i = 0; i < graph->n_aside; i++)
        for (int k = 0; k < graph->aside[i].n_in; k++) uses += graph->aside[i].in[k] == value;
    return uses;
}

bool nd_graph_is_output(const nd_graph *graph, int value) {
    for (int i = 0; i < graph->n_outputs; i++)
        if (graph->outputs[i] == value) return true;
    return false;
}

/* One dimension beside the batch, which comes first, and others of 1; else 0. */
static int64_t value_classes(const nd_graph *graph, const nd_value *value) {
    const nd_value *images = &graph->values[graph->inputs[0]];
    if (value->rank < 2 || images->rank < 1 || value->dims[0] != images->dims[0]) return 0;
    int64_t classes = 1;
    for (int i = 1; i < value->rank; i++) {
        if (value->dims[i] < 1 || (classes > 1 && value->dims[i] > 1)) return 0;
        classes *= value->dims[i];
    }
    return classes;
}

int nd_graph_class_scores(const nd_graph *graph, int64_t *classes) {
    int scores = -1;
    *classes = 0;
    for (int i = 0; i < graph->n_outputs && graph->n_inputs && *classes < 2; i++) {
        const int64_t found = value_classes(graph, &graph->values[graph->outputs[i]]);
        if (found <= *classes) continue;
        scores = graph->outputs[i];
        *classes = found;
    }
    return scores;
}

/* Renews every producer; each value must have exactly one origin. */
static nd_status sort_producers(nd_graph *graph) {
    for (int i = 0; i < graph->n_values; i++) graph->values[i].producer = -1;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        for (int k = 0; k < node->n_out; k++) {
            if (node->out[k] < 0) continue;
            nd_value *value = &graph->values[node->out[k]];
            ND_REQUIRE(value->producer < 0, nd_status_format,
                       "%s: value '%s' is written by node '%s' and by node '%s'", graph->name, value->name,
                       graph->nodes[value->producer].name, node->name);
            ND_REQUIRE((!value->init && !value->raw) || node->op == nd_op_constant, nd_status_format,
                       "%s: node '%s' writes '%s', which is an initializer", graph->name, node->name,
                       value->name);
            value->producer = i;
        }
    }
    for (int i = 0; i < graph->n_inputs; i++) {
        const nd_value *value = &graph->values[graph->inputs[i]];
        ND_REQUIRE(value->producer < 0, nd_status_format, "%s: node '%s' writes '%s', which is an input",
                   graph->name, graph->nodes[value->producer].name, value->name);
    }
    return nd_status_ok;
}

/* A depth-first traversal of the nodes that the outputs depend on. `order` grows from the front as nodes are
 * finished, `path` is the stack of nodes under way with the next input to look at. */
typedef struct nd_sort {
    nd_graph *graph;
    enum { nd_visit_unseen, nd_visit_open, nd_visit_done } * visit;
    bool *live;
    int *order, *path, *next;
    int n_order;
} nd_sort;

static nd_status sort_open(nd_graph *graph, nd_sort *sort) {
    const size_t count = (size_t)graph->n_nodes;
    *sort = (nd_sort){
        .graph = graph,
        .visit = nd_alloc_array(count, sizeof *sort->visit),
        .live = nd_alloc_array(count, sizeof *sort->live),
        .order = nd_alloc_array(count, sizeof *sort->order),
        .path = nd_alloc_array(count, sizeof *sort->path),
        .next = nd_alloc_array(count, sizeof *sort->next),
    };
    ND_REQUIRE(sort->visit && sort->live && sort->order && sort->path && sort->next, nd_status_memory,
               "%s: no memory to sort %zu nodes", graph->name, count);
    return nd_status_ok;
}

static void sort_close(nd_sort *sort) {
    free(sort->visit);
    free(sort->live);
    free(sort->order);
    free(sort->path);
    free(sort->next);
}

static void sort_need(nd_sort *sort, int value, int *pending) {
    const int producer = value < 0 ? -1 : sort->graph->values[value].producer;
    if (producer < 0 || sort->live[producer]) return;
    sort->live[producer] = true;
    sort->path[(*pending)++] = producer;
}

/* Marks what the outputs and the nodes set aside need; `path` serves as the list of nodes to look at. */
static void sort_mark(nd_sort *sort) {
    const nd_graph *graph = sort->graph;
    int pending = 0;
    for (int i = 0; i < graph->n_outputs; i++) sort_need(sort, graph->outputs[i], &pending);
    for (int i = 0; i < graph->n_aside; i++)
        for (int k = 0; k < graph->aside[i].n_in; k++) sort_need(sort, graph->aside[i].in[k], &pending);
    while (pending) {
        const nd_node *node = &graph->nodes[sort->path[--pending]];
        for (int k = 0; k < node->n_in; k++) sort_need(sort, node->in[k], &pending);
    }
}

/* A node of the file that goes here stays there, and goes on reading what it reads. */
static void sort_pin(const nd_sort *sort) {
    for (int i = 0; i < sort->graph->n_nodes; i++) {
        const nd_node *node = &sort->graph->nodes[i];
        for (int k = 0; !sort->live[i] && node->raw && k < node->n_in; k++)
            if (node->in[k] >= 0) sort->graph->values[node->in[k]].pinned = true;
    }
}

static nd_status sort_visit(nd_sort *sort, int root) {
    const nd_graph *graph = sort->graph;
    int depth = 0;
    sort->path[0] = root;
    sort->visit[root] = nd_visit_open;
    while (depth >= 0) {
        const int at = sort->path[depth];
        const nd_node *node = &graph->nodes[at];
        if (sort->next[at] == node->n_in) {
            sort->visit[at] = nd_visit_done;
            sort->order[sort->n_order++] = at;
            depth--;
            continue;
        }
        const int value = node->in[sort->next[at]++];
        const int producer = value < 0 ? -1 : graph->values[value].producer;
        if (producer < 0 || sort->visit[producer] == nd_visit_done) continue;
        ND_REQUIRE(sort->visit[producer] == nd_visit_unseen, nd_status_format,
                   "%s: node '%s' depends on its own output through '%s'", graph->name, node->name,
                   graph->values[value].name);
        sort->visit[producer] = nd_visit_open;
        sort->path[++depth] = producer;
    }
    return nd_status_ok;
}

static nd_status sort_reorder(nd_sort *sort) {
    nd_graph *graph = sort->graph;
    nd_node *nodes = nd_alloc_array((size_t)sort->n_order, sizeof *nodes);
    ND_REQUIRE(nodes, nd_status_memory, "%s: no memory to sort", graph->name);
    for (int i = 0; i < sort->n_order; i++) nodes[i] = graph->nodes[sort->order[i]];
    free(graph->nodes);
    graph->nodes = nodes;
    graph->n_nodes = graph->cap_nodes = sort->n_order;
    return nd_graph_names_renew(graph, nd_named_node);
}

static void sort_use(const nd_node *node, bool *used) {
    for (int k = 0; k < node->n_in; k++)
        if (node->in[k] >= 0) used[node->in[k]] = true;
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k] >= 0) used[node->out[k]] = true;
}

/* Values that nothing writes, reads or promises lose their tensor and their name. */
static nd_status sort_values(nd_graph *graph) {
    bool *used = nd_alloc_array((size_t)graph->n_values, sizeof *used);
    ND_REQUIRE(used, nd_status_memory, "%s: no memory to sort", graph->name);
    for (int i = 0; i < graph->n_inputs; i++) used[graph->inputs[i]] = true;
    for (int i = 0; i < graph->n_outputs; i++) used[graph->outputs[i]] = true;
    for (int i = 0; i < graph->n_nodes; i++) sort_use(&graph->nodes[i], used);
    for (int i = 0; i < graph->n_aside; i++) sort_use(&graph->aside[i], used);
    for (int i = 0; i < graph->n_values; i++) {
        nd_value *value = &graph->values[i];
        if (used[i]) continue;
        if (value->init) nd_tensor_free((nd_tensor *)value->init);
        *value = (nd_value){.name = "", .rank = -1, .producer = -1};
    }
    free(used);
    return nd_graph_names_renew(graph, nd_named_value);
}

/* Every value that is read must come from somewhere. */
static nd_status sort_origins(const nd_graph *graph) {
    bool *known = nd_alloc_array((size_t)graph->n_values, sizeof *known);
    ND_REQUIRE(known, nd_status_memory, "%s: no memory to sort", graph->name);
    nd_status status = nd_status_ok;
    for (int i = 0; i < graph->n_inputs; i++) known[graph->inputs[i]] = true;
    for (int i = 0; i < graph->n_values; i++)
        if (graph->values[i].init || graph->values[i].raw || graph->values[i].producer >= 0) known[i] = true;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        for (int k = 0; k < node->n_in; k++)
            ND_REQUIRE_DONE(node->in[k] < 0 || known[node->in[k]], nd_status_format,
                            "%s: node '%s' reads '%s', which nothing writes", graph->name, node->name,
                            graph->values[node->in[k]].name);
    }
    for (int i = 0; i < graph->n_outputs; i++)
        ND_REQUIRE_DONE(known[graph->outputs[i]], nd_status_format, "%s: nothing writes the output '%s'",
                        graph->name, graph->values[graph->outputs[i]].name);
done:
    free(known);
    return status;
}

nd_status nd_graph_sort(nd_graph *graph) {
    ND_TRY(sort_producers(graph));
    nd_sort sort;
    nd_status status = sort_open(graph, &sort);
    if (status) goto done;
    sort_mark(&sort);
    sort_pin(&sort);
    /* Roots are taken in the present order, so a sorted graph stays as it is. */
    for (int i = 0; i < graph->n_nodes; i++)
        if (sort.live[i] && sort.visit[i] == nd_visit_unseen) ND_TRY_DONE(sort_visit(&sort, i));
    ND_TRY_DONE(sort_reorder(&sort));
    ND_TRY_DONE(sort_producers(graph));
    ND_TRY_DONE(sort_origins(graph));
    ND_TRY_DONE(sort_values(graph));
done:
    sort_close(&sort);
    return status;
}

static void drop_init(nd_value *value) {
    if (value->init) nd_tensor_free((nd_tensor *)value->init);
    value->init = NULL;
    value->integers = NULL;
    value->computed = false;
}

/* Marked nodes whose outputs others read as data and cannot have as a tensor: promised by name, or an output.
 */
static bool has_to_stay(const nd_graph *graph, const nd_node *node) {
    for (int k = 0; k < node->n_out; k++)
        if (node->out[k] >= 0 && nd_graph_is_output(graph, node->out[k])) return true;
    return false;
}

nd_status nd_graph_set_aside(nd_graph *graph, const bool *marked) {
    nd_node *aside =
        realloc(graph->aside, ((size_t)graph->n_aside + (size_t)graph->n_nodes + 1) * sizeof *aside);
    ND_REQUIRE(aside, nd_status_memory, "%s: no memory", graph->name);
    graph->aside = aside;
    for (int i = 0; i < graph->n_nodes; i++) {
        nd_node *node = &graph->nodes[i];
        if (!marked[i] || !node->n_out) continue;
        const bool stays = has_to_stay(graph, node);
        for (int k = 0; k < node->n_out; k++) {
            if (node->out[k] < 0) continue;
            nd_value *value = &graph->values[node->out[k]];
            if (stays) drop_init(value);
        }
        if (stays) continue;
        aside[graph->n_aside++] = *node;
        nd_graph_remove_node(graph, i);
    }
    return nd_graph_sort(graph);
}

nd_status nd_graph_bring_back(nd_graph *graph) {
    if (!graph->n_aside) return nd_status_ok;
    const int total = graph->n_nodes + graph->n_aside;
    nd_node *nodes = realloc(graph->nodes, (size_t)total * sizeof *nodes);
    ND_REQUIRE(nodes, nd_status_memory, "%s: no memory", graph->name);
    graph->nodes = nodes;
    graph->cap_nodes = total;
    /* In front, where what computes shapes mostly is; sorting does the rest. */
    memmove(nodes + graph->n_aside, nodes, (size_t)graph->n_nodes * sizeof *nodes);
    memcpy(nodes, graph->aside, (size_t)graph->n_aside * sizeof *nodes);
    graph->n_nodes = total;
    graph->n_aside = 0;
    for (int i = 0; i < graph->n_values; i++)
        if (graph->values[i].computed) drop_init(&graph->values[i]);
    return nd_graph_sort(graph);
}
