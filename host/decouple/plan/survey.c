#include "decouple/plan/survey.h"

#include "decouple/plan/plan.h"

#include <math.h>
#include <stdlib.h>

static nd_survey_layer survey_describe(const nd_graph *graph, int index) {
    const nd_node *node = &graph->nodes[index];
    const nd_value *out = &graph->values[node->out[0]];
    nd_survey_layer layer = {
        .node = index,
        .name = node->name,
        .kh = 1,
        .kw = 1,
        .stride = 1,
        .h = 1,
        .w = 1,
        .cost = nd_cost_node(graph, node),
    };
    nd_conv conv;
    layer.conv = node->op == nd_op_conv;
    if (layer.conv && !nd_conv_from_node(graph, node, &conv)) {
        layer.spatial = nd_conv_taps(&conv) > 1;
        layer.ni = conv.ni;
        layer.no = conv.no;
        layer.kh = conv.window.kernel[0];
        layer.kw = conv.window.kernel[1];
        layer.stride = conv.window.stride[0];
        layer.h = nd_conv_out_h(&conv);
        layer.w = nd_conv_out_w(&conv);
    } else if (!layer.conv && out->rank > 0) {
        const nd_value *x = &graph->values[node->in[0]];
        layer.ni = x->rank > 0 ? x->dims[x->rank - 1] : -1;
        layer.no = out->dims[out->rank - 1];
    }
    return layer;
}

nd_status nd_survey_make(const nd_graph *graph, nd_survey *out) {
    *out = (nd_survey){.cost = nd_cost_graph(graph)};
    out->layers = nd_alloc_array((size_t)graph->n_nodes, sizeof *out->layers);
    ND_REQUIRE(out->layers, nd_status_memory, "no memory for the list of layers");
    bool first = true;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_op op = graph->nodes[i].op;
        if (op != nd_op_conv && op != nd_op_gemm && op != nd_op_matmul) continue;
        nd_survey_layer *layer = &out->layers[out->n_layers++];
        *layer = survey_describe(graph, i);
        layer->first = layer->conv && first;
        if (layer->conv) first = false;
    }
    return nd_status_ok;
}

void nd_survey_free(nd_survey *survey) {
    free(survey->layers);
    *survey = (nd_survey){0};
}

static nd_survey_layer *survey_find(const nd_survey *survey, int node) {
    for (size_t i = 0; i < survey->n_layers; i++)
        if (survey->layers[i].node == node) return &survey->layers[i];
    return NULL;
}

nd_status nd_survey_cost(const nd_graph *graph, const nd_survey *survey, const nd_decouple_settings *settings,
                         nd_cost *layers, nd_cost *total) {
    nd_plan plan;
    ND_TRY(nd_plan_open(graph, settings, &plan));
    nd_status status;
    ND_REQUIRE_DONE(settings->rule == nd_rule_rank, nd_status_usage,
                    "only a given rank has a cost that is known without the weights");
    ND_TRY_DONE(nd_plan_by_layer(NULL, settings, &plan)); /* this rule computes nothing on a backend */
    *total = survey->cost;
    for (size_t i = 0; layers && i < survey->n_layers; i++) layers[i] = survey->layers[i].cost;
    for (int l = 0; l < plan.n_layers; l++) {
        const nd_layer *layer = &plan.layers[l];
        if (!layer->method) continue;
        const nd_survey_layer *dense = survey_find(survey, layer->node);
        ND_REQUIRE_DONE(dense, nd_status_internal, "%s: not in the survey", layer->name);
        nd_cost cost = {.params =
                            nd_method_params(layer->method, &layer->conv, settings->ranks, layer->rank)};
        cost.conv_macs = cost.total_macs =
            nd_method_macs(layer->method, &layer->conv, settings->ranks, layer->rank);
        total->conv_macs += cost.conv_macs - dense->cost.conv_macs;
        total->total_macs += cost.total_macs - dense->cost.total_macs;
        total->params += cost.params - dense->cost.params;
        if (layers) layers[dense - survey->layers] = cost;
    }
done:
    nd_plan_close(&plan);
    return status;
}

nd_status nd_survey_spectrum(nd_backend *backend, const nd_graph *graph, const nd_survey_layer *layer,
                             const nd_method *method, nd_arena *arena, nd_survey_curve *out) {
    *out = (nd_survey_curve){0};
    nd_conv conv;
    if (!layer->ni || layer->spatial == method->pointwise) return nd_status_ok;
    const nd_node *node = &graph->nodes[layer->node];
    const nd_status read =
        layer->conv ? nd_conv_from_node(graph, node, &conv) : nd_conv_from_product(graph, node, arena, &conv);
    if (read == nd_status_unsupported && !layer->conv) return nd_status_ok;
    ND_TRY(read);
    if (!method->applies(&conv)) return nd_status_ok;
    double *error2, *energy;
    size_t count;
    ND_TRY(method->spectrum(backend, &conv, nd_ranks_uniform, &error2, &energy, &count));
    nd_status status = nd_status_ok;
    const size_t n = count - 1; /* both start at rank 0 */
    out->energy = nd_arena_alloc(arena, n * sizeof *out->energy);
    out->error = nd_arena_alloc(arena, n * sizeof *out->error);
    ND_REQUIRE_DONE(out->energy && out->error, nd_status_memory, "%s: no memory for its spectrum",
                    layer->name);
    for (size_t i = 0; i < n; i++) {
        out->energy[i] = energy[i + 1];
        out->error[i] = error2[0] > 0 ? sqrt(fmax(error2[i + 1], 0) / error2[0]) : 0;
    }
    out->n = n;
done:
    free(error2);
    free(energy);
    return status;
}
