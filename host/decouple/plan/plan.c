#include "decouple/plan/plan.h"
#include "model/infer/infer.h"
#include "model/model.h"

#include "base/gcd.h"
#include "base/text/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Moments of more inputs than this take gigabytes (method.md, "Pointwise layers"). */
enum { most_inputs = 12288 };

/* The two forms; with images, which tell what a method is worth in each layer, all that win somewhere
 * (method.md, "Auto"). */
static const char forms[] = "dwpw,pwdw", all_forms[] = "dwpw,pwdw,dwpw_lowrank,spatial,channel,lowrank";
/* Every step of a fit of pwdw takes time with the square of the inputs for each output and term: of wider
 * layers it is left out of them. */
enum { widest_pwdw = 128 };

static nd_status read_methods(const nd_decouple_settings *settings, nd_plan *plan) {
    const char *text = settings->method;
    plan->automatic = !strcmp(text, "auto") && settings->calib && settings->rule == nd_rule_macs_ratio;
    if (!strcmp(text, "auto")) text = plan->automatic ? all_forms : forms;
    char **names = NULL;
    size_t count = 0;
    nd_arena arena = {0};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_text_split(&arena, text, ',', &names, &count));
    ND_REQUIRE_DONE(count > 0 && count <= nd_methods_max, nd_status_usage,
                    "method %s: between 1 and %d names", text, nd_methods_max);
    for (size_t n = 0; n < count; n++) {
        plan->methods[n] = nd_method_find(names[n]);
        ND_REQUIRE_DONE(plan->methods[n], nd_status_usage, "no method is called %s", names[n]);
    }
    plan->n_methods = (int)count;
done:
    nd_arena_free(&arena);
    return status;
}

/* SETTING: T, "dense", a method, or method:T. */
static nd_status read_setting(const nd_layer_rule *rule, nd_layer *layer) {
    const char *text = rule->setting;
    char name[64];
    layer->only = NULL;
    layer->terms = 0;
    layer->why = NULL;
    if (!strcmp(text, "dense")) {
        layer->why = "by setting";
        return nd_status_ok;
    }
    const char *colon = strchr(text, ':');
    const char *number = colon ? colon + 1 : text;
    bool has_number = nd_text_int(number, &layer->terms);
    if (has_number && !colon && layer->terms >= 1) return nd_status_ok;
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    ND_REQUIRE(length < sizeof name && (!colon || (has_number && layer->terms >= 1)), nd_status_usage,
               "layer setting %s=%s: expected T, dense, METHOD or METHOD:T", rule->pattern, text);
    memcpy(name, text, length);
    name[length] = '\0';
    layer->only = nd_method_find(name);
    ND_REQUIRE(layer->only, nd_status_usage, "layer setting %s=%s: no method is called %s", rule->pattern,
               text, name);
    if (!colon) layer->terms = 0;
    return nd_status_ok;
}

/* A pointwise layer stays as it is unless a method for such layers is asked for. */
static bool opens_pointwise(const nd_plan *plan, const nd_layer *layer) {
    bool open = layer->only && layer->only->pointwise;
    for (int m = 0; m < plan->n_methods; m++) open = open || plan->methods[m]->pointwise;
    return open;
}

static nd_status apply_settings(const nd_decouple_settings *settings, const nd_plan *plan, bool first,
                                nd_layer *layer) {
    if (first && !settings->first_conv) layer->why = "first conv";
    for (size_t s = 0; s < settings->n_skip; s++)
        if (nd_text_match(settings->skip[s], layer->name)) layer->why = "skipped";
    for (size_t r = 0; r < settings->n_layers; r++)
        if (nd_text_match(settings->layers[r].pattern, layer->name))
            ND_TRY(read_setting(&settings->layers[r], layer));
    if (!layer->spatial && !opens_pointwise(plan, layer)) {
        layer->why = "pointwise";
        layer->only = NULL;
        layer->terms = 0;
    }
    return nd_status_ok;
}

/* A pattern that names nothing is a typing error, not a wish: the message says what there is. */
static nd_status require_matches(const nd_plan *plan, const char *pattern) {
    enum { named_max = 8 };
    char names[600] = "";
    int n = 0;
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        if (!layer->spatial && !opens_pointwise(plan, layer)) continue;
        if (nd_text_match(pattern, layer->name)) return nd_status_ok;
        const size_t used = strlen(names);
        if (n++ < named_max)
            snprintf(names + used, sizeof names - used, "%s%.60s", used ? ", " : "", layer->name);
    }
    for (int i = 0; i < plan->n_left; i++)
        if (nd_text_match(pattern, plan->left[i].name)) return nd_status_ok;
    if (!n)
        return nd_fail(nd_status_usage, "no layer with a spatial kernel matches %s: there is none", pattern);
    return nd_fail(nd_status_usage, "no layer with a spatial kernel matches %s: there %s %s%s", pattern,
                   n == 1 ? "is" : "are", names, n > named_max ? " and others" : "");
}

/* An inner product by a constant, where a method for layers without a spatial kernel may want it and the
 * budget counts it. One that nd cannot read stays as it is. */
static nd_status add_product(const nd_graph *graph, int n, const nd_decouple_settings *settings,
                             nd_plan *plan) {
    nd_layer layer = {.name = graph->nodes[n].name, .node = n};
    if (settings->conv_only) return nd_status_ok;
    ND_TRY(apply_settings(settings, plan, false, &layer));
    if (layer.why && !strcmp(layer.why, "pointwise")) return nd_status_ok;
    const nd_status status = nd_conv_from_product(graph, &graph->nodes[n], &plan->arena, &layer.conv);
    if (status) return status == nd_status_unsupported ? nd_status_ok : status;
    if (!layer.why && settings->calib && layer.conv.ni > most_inputs) layer.why = "too wide for moments";
    layer.dense_macs = nd_conv_macs(&layer.conv);
    plan->layers[plan->n_layers++] = layer;
    return nd_status_ok;
}

/* The node that nd cannot follow on the way to a value of unknown shape; NULL where an input has none. */
static const nd_node *find_culprit(const nd_graph *graph, int value) {
    const nd_node *node = NULL;
    for (int steps = 0; steps < graph->n_nodes; steps++) {
        const int producer = graph->values[value].producer;
        if (producer < 0) return node;
        node = &graph->nodes[producer];
        int next = -1;
        for (int k = 0; k < node->n_in && next < 0; k++)
            if (node->in[k] >= 0 && graph->values[node->in[k]].rank < 0) next = node->in[k];
        if (next < 0) return node;
        value = next;
    }
    return node;
}

/* Operators that convolve and are no Conv. */
static const char *explain_other(const nd_node *node, nd_arena *arena) {
    static const char *const kinds[][2] = {
        {"ConvTranspose", "a transposed convolution, which no method decouples"},
        {"ConvInteger", "a convolution of integers"},
        {"QLinearConv", "a convolution of integers"},
        {"DeformConv", "whose places of its input follow from the data"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(node->op_type, kinds[i][0]))
            return nd_arena_printf(arena, "%s, %s", node->op_type, kinds[i][1]);
    return nd_arena_printf(arena, "%s, no Conv of ONNX", node->op_type);
}

/* Why nd cannot read a convolution; the message of nd_conv_from_node where there is no better one. */
static const char *explain(const nd_graph *graph, const nd_node *node, nd_arena *arena) {
    const bool read = node->op == nd_op_conv && node->in[0] >= 0;
    const nd_value *w = node->n_in > 1 && node->in[1] >= 0 ? &graph->values[node->in[1]] : NULL;
    if (!read && strcmp(node->op_type, "Conv")) return explain_other(node, arena);
    if (w && !w->init && w->producer >= 0) {
        const nd_node *maker = &graph->nodes[w->producer];
        return nd_arena_printf(arena, "weights computed by %s (%s)", maker->name, maker->op_type);
    }
    if (!read) return "not a 2-D convolution";
    if (graph->values[node->in[0]].rank < 0) {
        const nd_node *culprit = find_culprit(graph, node->in[0]);
        if (culprit)
            return nd_arena_printf(arena, "input of unknown shape behind %s (%s)", culprit->name,
                                   culprit->op_type);
    }
    return nd_arena_strdup(arena, nd_error());
}

static nd_status leave_for(nd_plan *plan, const char *name, const char *why) {
    nd_left *left = nd_array_grow(plan->left, (size_t)plan->n_left, &plan->left_capacity, sizeof *left);
    ND_REQUIRE(left && name && why, nd_status_memory, "no memory for a plan");
    plan->left = left;
    left[plan->n_left++] = (nd_left){name, why};
    return nd_status_ok;
}

typedef struct nd_around {
    nd_plan *plan;
    const nd_node *node;
} nd_around;

static nd_status leave_nested(void *context, const char *name, const char *op_type) {
    const nd_around *around = context;
    nd_arena *arena = &around->plan->arena;
    return leave_for(around->plan, nd_arena_printf(arena, "%s/%s", around->node->name, name ? name : op_type),
                     nd_arena_printf(arena, "%s in a subgraph of %s (%s)", op_type, around->node->name,
                                     around->node->op_type));
}

/* The file has one body for all calls of a function, whose weights may be operands. */
static nd_status leave_within(const nd_node *node, nd_plan *plan) {
    if (!strstr(node->op_type, "Conv")) return nd_status_ok;
    return leave_for(plan, node->name,
                     nd_arena_printf(&plan->arena, "%s in the function %s of the file, which stays as it is",
                                     node->op_type, node->within));
}

static nd_status leave(const nd_graph *graph, const nd_node *node, nd_plan *plan) {
    return leave_for(plan, node->name, explain(graph, node, &plan->arena));
}

int nd_plan_methods(const nd_plan *plan, const nd_layer *layer, const nd_method **methods) {
    int count = 0;
    const nd_method *const *allowed = layer->only ? &layer->only : plan->methods;
    const int n = layer->only ? 1 : plan->n_methods;
    for (int m = 0; m < n; m++) {
        const bool slow = plan->automatic && !layer->only && allowed[m] == &nd_method_pwdw &&
                          layer->conv.ni / layer->conv.groups > widest_pwdw;
        if (!slow && allowed[m]->pointwise == !layer->spatial && allowed[m]->applies(&layer->conv))
            methods[count++] = allowed[m];
    }
    return count;
}

nd_status nd_plan_open(const nd_graph *graph, const nd_decouple_settings *settings, nd_plan *out) {
    nd_status status = nd_status_ok;
    nd_plan plan = {.before = nd_cost_graph(graph)};
    bool seen = false;
    plan.layers = nd_alloc_array((size_t)graph->n_nodes, sizeof *plan.layers);
    ND_REQUIRE_DONE(plan.layers, nd_status_memory, "no memory for a plan");
    ND_TRY_DONE(read_methods(settings, &plan));
    for (int n = 0; n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        if (node->within) {
            seen = seen || node->op == nd_op_conv;
            ND_TRY_DONE(leave_within(node, &plan));
            continue;
        }
        if (node->op != nd_op_conv && node->op_type && strstr(node->op_type, "Conv"))
            ND_TRY_DONE(leave(graph, node, &plan));
        if (node->op == nd_op_gemm || node->op == nd_op_matmul)
            ND_TRY_DONE(add_product(graph, n, settings, &plan));
        if (node->op == nd_op_opaque)
            ND_TRY_DONE(nd_onnx_nested_convs(node, leave_nested, &(nd_around){&plan, node}));
        if (node->op != nd_op_conv) continue;
        bool first = !seen;
        seen = true;
        nd_layer layer = {.name = node->name, .node = n};
        if (nd_conv_from_node(graph, node, &layer.conv)) {
            ND_TRY_DONE(leave(graph, node, &plan));
            continue;
        }
        layer.spatial = nd_conv_taps(&layer.conv) > 1;
        layer.dense_macs = nd_conv_macs(&layer.conv);
        ND_TRY_DONE(apply_settings(settings, &plan, first, &layer));
        plan.layers[plan.n_layers++] = layer;
    }
    for (size_t s = 0; s < settings->n_skip; s++) ND_TRY_DONE(require_matches(&plan, settings->skip[s]));
    for (size_t r = 0; r < settings->n_layers; r++)
        ND_TRY_DONE(require_matches(&plan, settings->layers[r].pattern));
    const nd_method *methods[nd_methods_max];
    for (int l = 0; l < plan.n_layers; l++) {
        nd_layer *layer = &plan.layers[l];
        if (layer->why || nd_plan_methods(&plan, layer, methods)) continue;
        layer->why = layer->conv.ni == layer->conv.groups ? "depthwise already" : "method does not apply";
    }
done:
    if (status)
        nd_plan_close(&plan);
    else
        *out = plan;
    return status;
}

void nd_plan_close(nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++) free(plan->layers[l].metric);
    free(plan->layers);
    free(plan->left);
    nd_arena_free(&plan->arena);
    *plan = (nd_plan){0};
}

int64_t nd_plan_step(const nd_decouple_settings *settings, const nd_method *method, const nd_conv *conv) {
    int64_t step = method->step(conv, settings->ranks);
    return settings->round > 1 ? step / nd_gcd(step, settings->round) * settings->round : step;
}

static bool cheaper(const nd_layer *layer, nd_ranks ranks, const nd_method *method, int64_t rank) {
    return !layer->method || nd_method_macs(method, &layer->conv, ranks, rank) <
                                 nd_method_macs(layer->method, &layer->conv, ranks, layer->rank);
}

int64_t nd_plan_rank(const nd_decouple_settings *settings, const nd_method *method, const nd_conv *conv,
                     int64_t terms) {
    const int64_t channels = method->channels(conv), most = method->max_rank(conv);
    const int64_t step = nd_plan_step(settings, method, conv);
    if (terms > most / channels) return most;
    const int64_t rank = (terms * channels + step - 1) / step * step;
    return rank < most ? rank : most;
}

static void choose_terms(const nd_decouple_settings *settings, const nd_method *method, int64_t terms,
                         nd_layer *layer) {
    const int64_t rank = nd_plan_rank(settings, method, &layer->conv, terms);
    if (!cheaper(layer, settings->ranks, method, rank)) return;
    layer->method = method;
    layer->rank = rank;
}

/* Smallest rank that satisfies the energy or Frobenius rule; 0 where only the full kernel does. */
static nd_status rank_by_spectrum(nd_backend *backend, const nd_decouple_settings *settings,
                                  const nd_method *method, const nd_conv *conv, int64_t *rank) {
    double *error2 = NULL, *energy = NULL;
    size_t count = 0;
    int64_t own = method->step(conv, settings->ranks), step = nd_plan_step(settings, method, conv);
    ND_TRY(method->spectrum(backend, conv, settings->ranks, &error2, &energy, &count));
    *rank = 0;
    for (size_t r = (size_t)(step / own); !*rank && r < count; r += (size_t)(step / own)) {
        bool enough = settings->rule == nd_rule_energy
                          ? energy[r] >= settings->target - 1e-12
                          : error2[r] <= (1 - settings->target + 1e-12) * error2[0];
        if (enough) *rank = (int64_t)r * own;
    }
    free(error2);
    free(energy);
    return nd_status_ok;
}

nd_status nd_plan_by_layer(nd_backend *backend, const nd_decouple_settings *settings, nd_plan *plan) {
    const nd_method *methods[nd_methods_max];
    for (int l = 0; l < plan->n_layers; l++) {
        nd_layer *layer = &plan->layers[l];
        if (layer->why) continue;
        bool by_count = layer->terms > 0 || settings->rule == nd_rule_rank;
        int64_t terms = layer->terms > 0 ? layer->terms : (int64_t)settings->target;
        int n = nd_plan_methods(plan, layer, methods);
        for (int m = 0; m < n; m++) {
            if (by_count) {
                choose_terms(settings, methods[m], terms, layer);
                continue;
            }
            int64_t rank = 0;
            ND_TRY(rank_by_spectrum(backend, settings, methods[m], &layer->conv, &rank));
            if (!rank || !cheaper(layer, settings->ranks, methods[m], rank)) continue;
            layer->method = methods[m];
            layer->rank = rank;
        }
        int64_t macs = layer->method
                           ? nd_method_macs(layer->method, &layer->conv, settings->ranks, layer->rank)
                           : layer->dense_macs;
        if (by_count || macs < layer->dense_macs) continue;
        layer->method = NULL;
        layer->why = "cheaper dense";
    }
    return nd_status_ok;
}

/* Of one layer in one method: at every rank that is cheaper than dense, or at the one that is set. */
static nd_status add_candidates(nd_backend *backend, const nd_decouple_settings *settings,
                                const nd_plan *plan, int number, const nd_method *method,
                                nd_candidate_list *list) {
    const nd_layer *layer = &plan->layers[number];
    const nd_conv *conv = &layer->conv;
    const int64_t own = method->step(conv, settings->ranks), step = nd_plan_step(settings, method, conv);
    double *error2 = NULL, *energy = NULL;
    size_t count = 0;
    nd_status status = nd_status_ok;
    ND_TRY(method->spectrum(backend, conv, settings->ranks, &error2, &energy, &count));
    const int64_t set = layer->terms > 0 ? nd_plan_rank(settings, method, conv, layer->terms) : 0;
    const int64_t last = set ? set : ((int64_t)count - 1) * own;
    for (int64_t rank = set ? set : step; rank <= last; rank += step) {
        const nd_candidate candidate = {
            .layer = number,
            .cost = nd_method_macs(method, conv, settings->ranks, rank),
            .error = error2[0] > 0 ? error2[rank / own] / error2[0] : 0,
            .method = method,
            .rank = rank,
        };
        if (!set && candidate.cost >= layer->dense_macs) break;
        ND_TRY_DONE(nd_candidate_list_add(list, &candidate));
    }
done:
    free(error2);
    free(energy);
    return status;
}

nd_status nd_plan_candidates(nd_backend *backend, const nd_decouple_settings *settings, const nd_plan *plan,
                             nd_candidate **out, size_t *count) {
    nd_status status = nd_status_ok;
    nd_candidate_list table = {0};
    const nd_method *methods[nd_methods_max];
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        if (layer->why) continue;
        nd_candidate dense = {.layer = l, .cost = layer->dense_macs};
        if (!layer->terms) ND_TRY_DONE(nd_candidate_list_add(&table, &dense));
        const int n_methods = nd_plan_methods(plan, layer, methods);
        for (int m = 0; m < n_methods; m++)
            ND_TRY_DONE(add_candidates(backend, settings, plan, l, methods[m], &table));
    }
done:
    if (status) {
        free(table.rows);
        return status;
    }
    *out = table.rows;
    *count = table.count;
    return nd_status_ok;
}

nd_status nd_decouple_infer(nd_graph *graph) {
    const nd_value *x = graph->n_inputs > 0 ? &graph->values[graph->inputs[0]] : NULL;
    ND_REQUIRE(x, nd_status_unsupported, "%s: the network has no input", graph->name);
    nd_infer_settings infer = nd_infer_image(graph);
    if (x->rank > 0 && x->dims[0] > 0) infer.batch = x->dims[0];
    infer.allow_opaque = true;
    return nd_graph_infer(graph, &infer);
}
