#include "decouple/plan/preview.h"

#include "model/infer/infer.h"
#include "model/shrink.h"

static void shape_of(const nd_decouple_settings *settings, const nd_layer *layer, nd_chain *out) {
    layer->method->shape(&layer->conv, settings->ranks, layer->rank, out);
}

bool nd_plan_prunes(const nd_decouple_settings *settings, const nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++) {
        nd_chain shape = {0};
        if (!plan->layers[l].method) continue;
        shape_of(settings, &plan->layers[l], &shape);
        int64_t ni = plan->layers[l].conv.ni;
        if (shape.stages[0].ni < ni || (shape.reads && shape.reads < ni)) return true;
    }
    return false;
}

/* The channels that a stage gathers from `given`, as many as its shape says; which ones is not known yet.
 * Spread over all: those of one group alone would let a grouped layer before lose the others. */
static nd_status choose_channels(nd_stage *stage, int64_t given) {
    stage->channel = nd_alloc_array((size_t)stage->ni, sizeof *stage->channel);
    ND_REQUIRE(stage->channel, nd_status_memory, "no memory for the channels of a %s stage", stage->suffix);
    for (int64_t c = 0; c < stage->ni; c++) stage->channel[c] = (int32_t)(c * given / stage->ni);
    return nd_status_ok;
}

static nd_status put_shape(nd_graph *graph, const nd_decouple_settings *settings, const nd_layer *layer) {
    nd_chain chain = {0};
    nd_status status = nd_status_ok;
    shape_of(settings, layer, &chain);
    for (int s = 0; s < chain.n; s++) {
        const int64_t all = s ? chain.stages[s - 1].no : layer->conv.ni;
        const int64_t read = !s && chain.reads ? chain.reads : all;
        if (chain.stages[s].ni != all) ND_TRY_DONE(choose_channels(&chain.stages[s], read));
    }
    ND_TRY_DONE(nd_chain_set_bias(&chain, layer->conv.bias));
    ND_TRY_DONE(nd_chain_rewrite(graph, layer->node, &chain));
done:
    nd_chain_free(&chain);
    return status;
}

/* As it is; what the rewriter notes in a chain goes into a copy. */
static nd_status put_chain(nd_graph *graph, const nd_layer *layer, const nd_chain *chain) {
    nd_chain copy = *chain;
    return nd_chain_rewrite(graph, layer->node, &copy);
}

nd_status nd_plan_preview(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                          const nd_chain *chains, int fitted, nd_cost *out) {
    const nd_value *x = &graph->values[graph->inputs[0]];
    const nd_infer_settings infer = {
        .batch = x->dims[0], .height = x->dims[2], .width = x->dims[3], .allow_opaque = true};
    nd_graph *copy = NULL;
    int64_t dropped = 0;
    nd_status status = nd_status_ok;
    ND_TRY(nd_graph_clone(graph, &copy));
    for (int l = 0; l < plan->n_layers; l++)
        if (plan->layers[l].method && l < fitted)
            ND_TRY_DONE(put_chain(copy, &plan->layers[l], &chains[l]));
        else if (plan->layers[l].method)
            ND_TRY_DONE(put_shape(copy, settings, &plan->layers[l]));
    ND_TRY_DONE(nd_graph_sort(copy));
    ND_TRY_DONE(nd_graph_infer(copy, &infer));
    ND_TRY_DONE(nd_graph_shrink(copy, &dropped));
    ND_TRY_DONE(nd_graph_infer(copy, &infer));
    *out = nd_cost_graph(copy);
done:
    nd_graph_free(copy);
    return status;
}
