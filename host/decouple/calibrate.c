#include "decouple/calibrate.h"

#include "decouple/refit.h"
#include "decouple/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nd_graph_scores(const nd_graph *graph) {
    int value = graph->outputs[0], producer = graph->values[value].producer;
    if (producer >= 0 && graph->nodes[producer].op == nd_op_softmax) return graph->nodes[producer].in[0];
    return value;
}

static nd_status set_floats(nd_graph *graph, nd_node *node, int slot, int rank, const int64_t *dims,
                            const float *data, const char *what) {
    char name[512];
    nd_tensor tensor = {0};
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, &tensor));
    memcpy(tensor.data, data, nd_tensor_bytes(&tensor));
    snprintf(name, sizeof name, "%.400s.%s", node->name, what);
    nd_status status = nd_graph_add_init(graph, name, &tensor, &node->in[slot]);
    nd_tensor_free(&tensor);
    return status;
}

nd_status nd_conv_set(nd_graph *graph, int node, const nd_conv *conv, const float *weights,
                      const float *bias) {
    nd_node *target = &graph->nodes[node];
    int64_t dims[4] = {conv->no, conv->ni / conv->groups, conv->window.kernel[0], conv->window.kernel[1]};
    if (target->n_in < 3) {
        int *in = nd_arena_alloc(&graph->arena, 3 * sizeof *in);
        ND_REQUIRE(in, nd_status_memory, "conv %s: no memory for a bias", conv->name);
        in[0] = target->in[0];
        in[1] = target->in[1];
        target->in = in;
        target->n_in = 3;
    }
    target->in[2] = -1;
    ND_TRY(set_floats(graph, target, 1, 4, dims, weights, "weight"));
    return bias ? set_floats(graph, target, 2, 1, dims, bias, "bias") : nd_status_ok;
}

/* Largest number of a convolution that `value` depends on, -1 for none. */
static int last_conv_behind(const nd_graph *graph, int value, bool *seen) {
    int producer = graph->values[value].producer, last = -1;
    if (producer < 0 || seen[producer]) return -1;
    seen[producer] = true;
    const nd_node *node = &graph->nodes[producer];
    if (node->op == nd_op_conv) last = producer;
    for (int i = 0; i < node->n_in; i++) {
        if (node->in[i] < 0) continue;
        int behind = last_conv_behind(graph, node->in[i], seen);
        if (behind > last) last = behind;
    }
    return last;
}

/* The other operand where the conv's output goes straight into a residual sum and everything behind that
 * operand is already final: the conv then also makes up for the shortcut's error. -1 otherwise. */
static nd_status shortcut_of(const nd_graph *graph, int node, int *shortcut) {
    int user = -1, y = graph->nodes[node].out[0];
    *shortcut = -1;
    if (nd_graph_uses(graph, y, &user) != 1 || user < 0 || graph->nodes[user].op != nd_op_add)
        return nd_status_ok;
    const nd_node *sum = &graph->nodes[user];
    int other = sum->in[0] == y ? sum->in[1] : sum->in[0];
    if (graph->values[other].init || nd_value_size(graph, other) != nd_value_size(graph, y))
        return nd_status_ok;
    bool *seen = nd_alloc_array((size_t)graph->n_nodes, sizeof *seen);
    ND_REQUIRE(seen, nd_status_memory, "no memory for a walk");
    if (last_conv_behind(graph, other, seen) < node) *shortcut = other;
    free(seen);
    return nd_status_ok;
}

typedef struct layer_job {
    nd_backend *backend;
    const nd_conv *conv;
    nd_moments *moments;
    nd_taps original, current; /* y and shortcut; x and shortcut */
    int64_t size;              /* of y, one image */
} layer_job;

static nd_status layer_block(void *context, int64_t n) {
    layer_job *job = context;
    float *y = job->original.data[0];
    if (job->original.n > 1)
        for (int64_t e = 0; e < n * job->size; e++)
            y[e] += job->original.data[1][e] - job->current.data[1][e];
    return nd_moments_add(job->moments, job->backend, job->conv, n, job->current.data[0], y);
}

/* Moments of one layer: inputs of the current network against outputs of the original. */
static nd_status layer_moments(const nd_graph *original, const nd_graph *current, nd_backend *backend,
                               const nd_decouple_settings *settings, const nd_layer *layer,
                               nd_moments **out) {
    nd_status status = nd_status_ok;
    layer_job job = {.backend = backend, .conv = &layer->conv};
    const nd_node *node = &original->nodes[layer->node];
    int shortcut = -1;
    ND_TRY(shortcut_of(original, layer->node, &shortcut));
    int wanted[2] = {node->out[0], shortcut}, given[2] = {node->in[0], shortcut}, n = shortcut < 0 ? 1 : 2;
    job.size = nd_value_size(original, node->out[0]);
    ND_TRY_DONE(nd_moments_new(&layer->conv, &job.moments));
    ND_TRY_DONE(nd_taps_open(backend, original, settings->calib->batch, wanted, n, &job.original));
    ND_TRY_DONE(nd_taps_open(backend, current, settings->calib->batch, given, n, &job.current));
    nd_taps *taps[2] = {&job.original, &job.current};
    ND_TRY_DONE(nd_sample(settings->calib, settings->calib_images, taps, 2, layer_block, &job));
    ND_TRY_DONE(nd_moments_finish(job.moments));
done:
    nd_taps_close(&job.original);
    nd_taps_close(&job.current);
    if (status)
        nd_moments_free(job.moments);
    else
        *out = job.moments;
    return status;
}

/* The least-squares kernel as a chain of one stage. */
static nd_status refit_dense(nd_backend *backend, const nd_conv *conv, const nd_moments *moments,
                             nd_chain *out) {
    nd_stage *stage = NULL;
    ND_TRY(nd_chain_add(out, "", &conv->window, conv->no, conv->ni, conv->groups, false, &stage));
    int64_t count = moments->no * moments->k;
    double *w = nd_alloc_array((size_t)count, sizeof *w);
    ND_REQUIRE(w, nd_status_memory, "conv %s: no memory for refitting it", conv->name);
    nd_status status = nd_refit_kernel(backend, conv, moments, w);
    for (int64_t e = 0; e < count; e++) stage->weights[e] = (float)w[e];
    free(w);
    return status ? status : nd_refit_chain_bias(conv, moments, out);
}

/* Puts the chain, composed to one kernel again, into the running network. */
static nd_status advance(nd_graph *current, nd_backend *backend, const nd_layer *layer,
                         const nd_moments *moments, const nd_chain *chain, double *error) {
    nd_status status = nd_status_ok;
    int64_t count = moments->no * moments->k;
    double *w = nd_alloc_array((size_t)count, sizeof *w);
    float *weights = nd_alloc_array((size_t)count, sizeof *weights);
    ND_REQUIRE_DONE(w && weights, nd_status_memory, "conv %s: no memory for its new kernel", layer->name);
    ND_TRY_DONE(nd_chain_compose(chain, &layer->conv, w));
    ND_TRY_DONE(nd_moments_error(moments, backend, &layer->conv, w, error));
    for (int64_t e = 0; e < count; e++) weights[e] = (float)w[e];
    ND_TRY_DONE(nd_conv_set(current, layer->node, &layer->conv, weights, chain->stages[chain->n - 1].bias));
done:
    free(w);
    free(weights);
    return status;
}

static nd_status fit_layer(const nd_graph *original, nd_graph *current, nd_backend *backend,
                           const nd_decouple_settings *settings, const nd_layer *layer, nd_chain *chain,
                           double *error) {
    nd_moments *moments = NULL;
    ND_TRY(layer_moments(original, current, backend, settings, layer, &moments));
    double per_unknown = moments->pixels / (double)moments->k;
    double lambda = nd_moments_ridge(moments, &layer->conv, settings->ridge);
    if (per_unknown < 7)
        nd_log(nd_log_warn, "%s: only %.1f pixels per unknown; calibrate on more images", layer->name,
               per_unknown);
    nd_log(nd_log_debug, "%s: %.1f pixels per unknown, ridge %g", layer->name, per_unknown, lambda);
    nd_status status = layer->method ? layer->method->decompose(backend, &layer->conv, settings->ranks,
                                                                layer->rank, moments, chain)
                                     : refit_dense(backend, &layer->conv, moments, chain);
    if (!status) status = advance(current, backend, layer, moments, chain, error);
    nd_moments_free(moments);
    return status;
}

nd_status nd_calibrate(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                       const nd_plan *plan, nd_chain *chains, double *error) {
    nd_graph *current = NULL;
    bool changed = false;
    nd_status status = nd_graph_clone(graph, &current);
    for (int l = 0; !status && l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        nd_progress_report(settings->progress, "calibrating", l, plan->n_layers);
        error[l] = -1;
        changed = changed || layer->method;
        if (!changed) continue;
        status = fit_layer(graph, current, backend, settings, layer, &chains[l], &error[l]);
        if (!status) nd_log(nd_log_info, "%s: output error %.4f", layer->name, error[l]);
    }
    nd_progress_report(settings->progress, "calibrating", plan->n_layers, plan->n_layers);
    nd_graph_free(current);
    return status;
}
