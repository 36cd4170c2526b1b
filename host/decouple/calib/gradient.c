#include "decouple/calib/gradient.h"

#include "base/log.h"
#include "base/parallel.h"
#include "decouple/calib/gradient_ops.h"
#include "decouple/chain.h"
#include "model/infer/infer.h"
#include "run/captures.h"

#include <stdlib.h>
#include <string.h>

/* What a linear node does to gradients: a convolution of spread gradients with the kernel turned around, or a
 * product with the matrix the other way. */
typedef struct adjoint {
    nd_graph *graph; /* NULL: the node is not linear */
    nd_exec *exec;
    nd_conv conv;            /* convolutions: the node's own */
    int64_t in[2], first[2]; /* convolutions: the adjoint's input, and where in it the first gradient goes */
} adjoint;

struct nd_gradient {
    nd_backend *backend;
    const nd_graph *graph;
    int64_t batch, n;
    int heads[nd_heads_max], n_heads;
    bool *known;       /* [values] */
    bool *images;      /* [values] differ from image to image */
    float **kept;      /* [values] forward values the backward pass needs; NULL where it does not */
    float **gradient;  /* [values] of the pass under way */
    adjoint *adjoints; /* [nodes] */
    nd_exec *forward;  /* NULL where nothing needs to be kept */
    int *outputs, n_outputs;
    float *spread, *result;           /* room for an adjoint's input and output */
    int64_t spread_size, result_size; /* one image */
};

static bool linear(const nd_graph *graph, const nd_node *node) {
    const nd_tensor *weight = node->n_in > 1 ? nd_graph_constant(graph, node, 1) : NULL;
    if (!weight || weight->dtype != nd_dtype_f32) return false;
    nd_conv conv;
    if (node->op == nd_op_conv) return !nd_conv_from_node(graph, node, &conv);
    return (node->op == nd_op_gemm || node->op == nd_op_matmul) && !node->attr.trans_a && weight->rank == 2 &&
           graph->values[node->in[0]].rank == 2;
}

static const nd_backward_rule *rule_of(const nd_gradient *g, const nd_node *node) {
    return nd_backward_rule_of(&(nd_backward_site){g->graph, node, g->images});
}

static bool has_rule(const nd_gradient *g, const nd_node *node) {
    const nd_graph *graph = g->graph;
    for (int o = 0; o < node->n_out; o++)
        if (node->out[o] >= 0 && nd_value_size(graph, node->out[o]) == 0) return false;
    if (node->n_in > nd_backward_values_max || node->n_out > nd_backward_values_max) return false;
    return linear(graph, node) || rule_of(g, node);
}

/* known = reached from a head through rules alone, and depends on a convolution. */
static nd_status find_known(nd_gradient *g) {
    const nd_graph *graph = g->graph;
    const nd_node *obstacle = NULL;
    bool *blocked = nd_alloc_array((size_t)graph->n_values, sizeof *blocked);
    bool *varies = nd_alloc_array((size_t)graph->n_values, sizeof *varies);
    if (!blocked || !varies) {
        free(blocked);
        free(varies);
        return nd_fail(nd_status_memory, "no memory for gradients");
    }
    for (int n = 0; n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        bool any = node->op == nd_op_conv;
        for (int i = 0; i < node->n_in; i++) any = any || (node->in[i] >= 0 && varies[node->in[i]]);
        for (int o = 0; o < node->n_out; o++)
            if (node->out[o] >= 0) varies[node->out[o]] = any;
    }
    for (int h = 0; h < g->n_heads; h++) g->known[g->heads[h]] = true;
    for (int n = graph->n_nodes - 1; n >= 0; n--) {
        const nd_node *node = &graph->nodes[n];
        bool reached = false, stopped = false, any = false;
        for (int i = 0; i < node->n_in; i++) any = any || (node->in[i] >= 0 && varies[node->in[i]]);
        for (int o = 0; any && o < node->n_out; o++) {
            reached = reached || (node->out[o] >= 0 && g->known[node->out[o]]);
            stopped = stopped || (node->out[o] >= 0 && blocked[node->out[o]]);
        }
        if (reached && !stopped && !has_rule(g, node)) {
            stopped = true;
            obstacle = obstacle ? obstacle : node;
        }
        for (int i = 0; i < node->n_in; i++) {
            if (node->in[i] < 0) continue;
            g->known[node->in[i]] |= reached;
            blocked[node->in[i]] |= stopped;
        }
    }
    for (int v = 0; v < graph->n_values; v++) g->known[v] = g->known[v] && !blocked[v] && varies[v];
    if (obstacle)
        nd_log(nd_log_warn, "%s: %s has no gradient here; layers before it go without", obstacle->name,
               obstacle->op_type ? obstacle->op_type : nd_op_name(obstacle->op));
    free(blocked);
    free(varies);
    return nd_status_ok;
}

/* --- linear nodes --- */

/* a[ni][no/groups] of turned kernels from w[no][ni/groups]. */
static void turn_kernel(const nd_conv *conv, float *a) {
    int64_t rows = conv->no / conv->groups, cols = conv->ni / conv->groups, taps = nd_conv_taps(conv);
    for (int64_t o = 0; o < conv->no; o++)
        for (int64_t i = 0; i < cols; i++) {
            const float *from = conv->weights + (o * cols + i) * taps;
            float *to = a + ((o / rows * cols + i) * rows + o % rows) * taps;
            for (int64_t t = 0; t < taps; t++) to[t] = from[taps - 1 - t];
        }
}

static nd_status adjoint_conv(nd_gradient *g, const nd_node *node, adjoint *out) {
    nd_conv *conv = &out->conv;
    ND_TRY(nd_conv_from_node(g->graph, node, conv));
    const nd_window *w = &conv->window;
    int64_t size[2] = {conv->in_h, conv->in_w};
    for (int axis = 0; axis < 2; axis++) {
        int64_t reach = w->dilation[axis] * (w->kernel[axis] - 1);
        out->in[axis] = size[axis] + reach;
        out->first[axis] = reach - w->pad[axis];
    }
    nd_conv turned = {.name = conv->name,
                      .no = conv->ni,
                      .ni = conv->no,
                      .groups = conv->groups,
                      .in_h = out->in[0],
                      .in_w = out->in[1]};
    turned.window = (nd_window){.kernel = {w->kernel[0], w->kernel[1]},
                                .stride = {1, 1},
                                .dilation = {w->dilation[0], w->dilation[1]}};
    float *weights = nd_alloc_array((size_t)(conv->no * (conv->ni / conv->groups)),
                                    (size_t)nd_conv_taps(conv) * sizeof *weights);
    ND_REQUIRE(weights, nd_status_memory, "conv %s: no memory for its gradient", conv->name);
    turn_kernel(conv, weights);
    turned.weights = weights;
    nd_status status = nd_conv_graph(&turned, g->batch, &out->graph);
    free(weights);
    int64_t spread = conv->no * out->in[0] * out->in[1], result = conv->ni * conv->in_h * conv->in_w;
    if (spread > g->spread_size) g->spread_size = spread;
    if (result > g->result_size) g->result_size = result;
    return status;
}

static nd_status adjoint_product(nd_gradient *g, const nd_node *node, adjoint *out) {
    const nd_tensor *weight = nd_graph_constant(g->graph, node, 1);
    bool transposed = node->op == nd_op_gemm && node->attr.trans_b;
    int64_t dims[2] = {g->batch, weight->dims[transposed ? 0 : 1]};
    int64_t result = weight->dims[transposed ? 1 : 0];
    int in[2] = {-1, -1}, y = -1;
    nd_node *product = NULL;
    ND_TRY(nd_graph_new(node->name, &out->graph));
    ND_TRY(nd_graph_add_input(out->graph, "dy", 2, dims, &in[0]));
    ND_TRY(nd_graph_add_init(out->graph, "w", weight, &in[1]));
    ND_TRY(nd_graph_add_value(out->graph, "dx", &y));
    ND_TRY(nd_graph_add_node(out->graph, nd_op_gemm, node->name, in, 2, &y, 1, &product));
    product->attr = node->attr;
    if (node->op == nd_op_matmul) product->attr.alpha = product->attr.beta = 1;
    product->attr.trans_b = !transposed;
    ND_TRY(nd_graph_add_output(out->graph, y));
    ND_TRY(nd_graph_sort(out->graph));
    nd_infer_settings infer = {.batch = g->batch};
    if (result > g->result_size) g->result_size = result;
    return nd_graph_infer(out->graph, &infer);
}

typedef struct spread_job {
    const adjoint *a;
    const float *dy;
    float *to;
} spread_job;

/* Gradients at the outputs onto the grid of the inputs: `stride` apart, zeros between and around. */
static void spread_body(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const spread_job *s = context;
    const nd_conv *conv = &s->a->conv;
    const int64_t *in = s->a->in, *first = s->a->first, *stride = conv->window.stride;
    int64_t oh = nd_conv_out_h(conv), ow = nd_conv_out_w(conv);
    for (int64_t plane = begin; plane < end; plane++) {
        const float *dy = s->dy + plane * oh * ow;
        float *to = s->to + plane * in[0] * in[1];
        memset(to, 0, (size_t)(in[0] * in[1]) * sizeof *to);
        for (int64_t y = 0; y < oh; y++) {
            int64_t row = first[0] + y * stride[0];
            if (row < 0 || row >= in[0]) continue;
            for (int64_t x = 0; x < ow; x++) {
                int64_t column = first[1] + x * stride[1];
                if (column >= 0 && column < in[1]) to[row * in[1] + column] = dy[y * ow + x];
            }
        }
    }
}

static nd_status run_adjoint(nd_gradient *g, const nd_node *node, const adjoint *a) {
    const float *dy = g->gradient[node->out[0]], *from = dy;
    float *dx = g->gradient[node->in[0]];
    if (node->op == nd_op_conv) {
        spread_job spread = {a, dy, g->spread};
        nd_parallel_for(g->n * a->conv.no, a->in[0] * a->in[1], spread_body, &spread);
        from = g->spread;
    }
    ND_TRY(nd_exec_run(a->exec, g->n, &from, &g->result));
    int64_t size = g->n * nd_value_size(g->graph, node->in[0]);
    for (int64_t e = 0; e < size; e++) dx[e] += g->result[e];
    return nd_status_ok;
}

/* --- passes --- */

/* Whether a gradient may come to it, and one is wanted of it. */
static bool hands_on(const nd_gradient *g, const nd_node *node) {
    bool above = false, below = false;
    for (int o = 0; o < node->n_out; o++) above = above || (node->out[o] >= 0 && g->known[node->out[o]]);
    for (int i = 0; i < node->n_in; i++) below = below || (node->in[i] >= 0 && g->known[node->in[i]]);
    return above && below;
}

static unsigned keeps(const nd_backward_site *at) {
    const nd_backward_rule *rule = linear(at->graph, at->node) ? NULL : nd_backward_rule_of(at);
    return rule ? rule->keep : 0;
}

/* How many inputs the rule wants to see. */
static int kept_inputs(const nd_backward_site *at) {
    const unsigned keep = keeps(at);
    return keep & nd_keep_all ? at->node->n_in : keep & nd_keep_first ? 1 : 0;
}

/* What is the same for all images comes whole, and as often as a run has parts. */
static nd_status keep_value(nd_gradient *g, const nd_node *node, int value) {
    const nd_value *v = &g->graph->values[value];
    if (value < 0 || v->init || g->kept[value]) return nd_status_ok;
    const size_t count = (size_t)nd_dims_count(v->rank, v->dims);
    g->kept[value] = nd_alloc_array((size_t)g->batch, count * sizeof **g->kept);
    ND_REQUIRE(g->kept[value], nd_status_memory, "%s: no memory for a block of its values", node->name);
    g->outputs[g->n_outputs++] = value;
    return nd_status_ok;
}

static nd_status prepare_nodes(nd_gradient *g) {
    const nd_graph *graph = g->graph;
    for (int n = 0; n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        if (!hands_on(g, node)) continue;
        if (linear(graph, node)) {
            adjoint *a = &g->adjoints[n];
            ND_TRY(node->op == nd_op_conv ? adjoint_conv(g, node, a) : adjoint_product(g, node, a));
            nd_exec_settings settings = {.batch = g->batch, .shrink = true};
            ND_TRY(nd_exec_open(g->backend, a->graph, &settings, &a->exec));
            continue;
        }
        const nd_backward_site at = {graph, node, g->images};
        for (int i = 0; i < kept_inputs(&at); i++) ND_TRY(keep_value(g, node, node->in[i]));
        if (keeps(&at) & nd_keep_result) ND_TRY(keep_value(g, node, node->out[0]));
    }
    g->spread = nd_alloc_array((size_t)g->batch, (size_t)g->spread_size * sizeof *g->spread);
    g->result = nd_alloc_array((size_t)g->batch, (size_t)g->result_size * sizeof *g->result);
    ND_REQUIRE((g->spread || !g->spread_size) && (g->result || !g->result_size), nd_status_memory,
               "no memory for gradients");
    nd_exec_settings settings = {
        .batch = g->batch, .outputs = g->outputs, .n_outputs = g->n_outputs, .shrink = true};
    return g->n_outputs ? nd_exec_open(g->backend, graph, &settings, &g->forward) : nd_status_ok;
}

nd_status nd_gradient_open(nd_backend *backend, const nd_graph *graph, int64_t batch, const int *heads,
                           int n_heads, nd_gradient **out) {
    nd_status status = nd_status_ok;
    nd_gradient *g = calloc(1, sizeof *g);
    ND_REQUIRE(g, nd_status_memory, "no memory for gradients");
    g->backend = backend;
    g->graph = graph;
    g->batch = batch;
    g->n_heads = n_heads;
    memcpy(g->heads, heads, (size_t)n_heads * sizeof *heads);
    size_t values = (size_t)graph->n_values, nodes = (size_t)graph->n_nodes;
    g->known = nd_alloc_array(values, sizeof *g->known);
    g->images = nd_alloc_array(values, sizeof *g->images);
    g->kept = nd_alloc_array(values, sizeof *g->kept);
    g->gradient = nd_alloc_array(values, sizeof *g->gradient);
    g->outputs = nd_alloc_array(values, sizeof *g->outputs);
    g->adjoints = nd_alloc_array(nodes, sizeof *g->adjoints);
    ND_REQUIRE_DONE(g->known && g->images && g->kept && g->gradient && g->outputs && g->adjoints,
                    nd_status_memory, "no memory for gradients");
    nd_mark_images(graph, g->images);
    ND_TRY_DONE(find_known(g));
    ND_TRY_DONE(prepare_nodes(g));
done:
    if (status)
        nd_gradient_close(g);
    else
        *out = g;
    return status;
}

static void drop_gradients(nd_gradient *g) {
    for (int v = 0; g->gradient && v < g->graph->n_values; v++) {
        free(g->gradient[v]);
        g->gradient[v] = NULL;
    }
}

void nd_gradient_close(nd_gradient *g) {
    if (!g) return;
    drop_gradients(g);
    for (int v = 0; g->kept && v < g->graph->n_values; v++) free(g->kept[v]);
    for (int n = 0; g->adjoints && n < g->graph->n_nodes; n++) {
        nd_exec_close(g->adjoints[n].exec);
        nd_graph_free(g->adjoints[n].graph);
    }
    nd_exec_close(g->forward);
    free(g->known);
    free(g->images);
    free(g->kept);
    free(g->gradient);
    free(g->outputs);
    free(g->adjoints);
    free(g->spread);
    free(g->result);
    free(g);
}

bool nd_gradient_known(const nd_gradient *g, int value) {
    return g->known[value];
}

int64_t nd_gradient_kept_bytes(const nd_graph *graph, int64_t batch) {
    int64_t sum = 0;
    bool *images = nd_alloc_array((size_t)graph->n_values, sizeof *images);
    if (images) nd_mark_images(graph, images);
    for (int n = 0; images && n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        const nd_backward_site at = {graph, node, images};
        for (int i = 0; i < kept_inputs(&at); i++)
            if (node->in[i] >= 0) sum += nd_value_size(graph, node->in[i]);
        if (keeps(&at) & nd_keep_result) sum += nd_value_size(graph, node->out[0]);
    }
    free(images);
    return sum * batch * (int64_t)sizeof(float);
}

nd_status nd_gradient_forward(nd_gradient *g, int64_t n, const float *images) {
    nd_status status = nd_status_ok;
    float **outputs = nd_alloc_array((size_t)g->n_outputs + 1, sizeof *outputs);
    ND_REQUIRE(outputs, nd_status_memory, "no memory for gradients");
    for (int o = 0; o < g->n_outputs; o++) outputs[o] = g->kept[g->outputs[o]];
    if (g->forward) status = nd_exec_run(g->forward, n, &images, outputs);
    free(outputs);
    g->n = n;
    return status;
}

typedef struct node_job {
    nd_gradient *g;
    const nd_node *node;
    const nd_backward_rule *rule;
} node_job;

/* Of one image; what does not differ is there once. */
static const float *kept_of(const nd_gradient *g, int value, int64_t image) {
    if (value < 0) return NULL;
    const nd_tensor *init = g->graph->values[value].init;
    if (init) return init->dtype == nd_dtype_f32 ? init->data : NULL;
    if (!g->kept[value]) return NULL;
    return g->kept[value] + (g->images[value] ? image * nd_value_size(g->graph, value) : 0);
}

static float *gradient_of(const nd_gradient *g, int value, int64_t image) {
    if (value < 0 || !g->gradient[value]) return NULL;
    return g->gradient[value] + image * nd_value_size(g->graph, value);
}

static void node_body(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const node_job *job = context;
    const nd_gradient *g = job->g;
    const nd_node *node = job->node;
    const float *x[nd_backward_values_max], *dy[nd_backward_values_max];
    float *dx[nd_backward_values_max];
    for (int64_t image = begin; image < end; image++) {
        const nd_backward b = {.graph = g->graph,
                               .node = node,
                               .x = x,
                               .y = kept_of(g, node->out[0], image),
                               .dy = dy,
                               .dx = dx};
        for (int o = 0; o < node->n_out; o++) dy[o] = gradient_of(g, node->out[o], image);
        for (int i = 0; i < node->n_in; i++) {
            x[i] = kept_of(g, node->in[i], image);
            dx[i] = node->in[i] >= 0 && g->known[node->in[i]] ? gradient_of(g, node->in[i], image) : NULL;
        }
        job->rule->run(&b);
    }
}

/* Adds what the node hands on to the gradients at its inputs. */
static nd_status run_node(nd_gradient *g, int number) {
    const nd_node *node = &g->graph->nodes[number];
    bool any = false;
    for (int i = 0; i < node->n_in; i++) {
        int v = node->in[i];
        if (v < 0 || !g->known[v]) continue;
        any = true;
        if (g->gradient[v]) continue;
        g->gradient[v] =
            nd_alloc_array((size_t)g->n, (size_t)nd_value_size(g->graph, v) * sizeof **g->gradient);
        ND_REQUIRE(g->gradient[v], nd_status_memory, "%s: no memory for a gradient", node->name);
    }
    if (!any || (!g->gradient[node->out[0]] && node->op != nd_op_split)) return nd_status_ok;
    if (g->adjoints[number].exec) return run_adjoint(g, node, &g->adjoints[number]);
    node_job job = {g, node, rule_of(g, node)};
    nd_parallel_for(g->n, nd_value_size(g->graph, node->in[0]), node_body, &job);
    return nd_status_ok;
}

/* What begins at a head adds to what reaches it from another, of which it may be a part. */
static nd_status seed_heads(nd_gradient *g, const float *const *seeds) {
    for (int h = 0; h < g->n_heads; h++) {
        const int v = g->heads[h];
        const size_t count = (size_t)(g->n * nd_value_size(g->graph, v));
        if (!g->gradient[v]) g->gradient[v] = nd_alloc_array(count, sizeof *g->gradient[v]);
        ND_REQUIRE(g->gradient[v], nd_status_memory, "no memory for gradients");
        for (size_t e = 0; e < count; e++) g->gradient[v][e] += seeds[h][e];
    }
    return nd_status_ok;
}

nd_status nd_gradient_backward(nd_gradient *g, const float *const *seeds, nd_gradient_visit *visit,
                               void *context) {
    nd_status status = nd_status_ok;
    ND_TRY_DONE(seed_heads(g, seeds));
    for (int n = g->graph->n_nodes - 1; n >= 0; n--) {
        const nd_node *node = &g->graph->nodes[n];
        bool arrived = false;
        for (int o = 0; o < node->n_out; o++) {
            const int y = node->out[o];
            if (y < 0 || !g->known[y] || !g->gradient[y]) continue;
            ND_TRY_DONE(visit(context, y, g->n, g->gradient[y]));
            arrived = true;
        }
        if (arrived) ND_TRY_DONE(run_node(g, n));
        for (int o = 0; o < node->n_out; o++) {
            if (node->out[o] < 0) continue;
            free(g->gradient[node->out[o]]);
            g->gradient[node->out[o]] = NULL;
        }
    }
done:
    drop_gradients(g);
    return status;
}
