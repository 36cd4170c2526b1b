#include "decouple/calib/activation_cache.h"
#include "decouple/calib/calibrate.h"
#include "decouple/calib/curves_cache.h"
#include "decouple/fit/refit.h"
#include "decouple/fit/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Measured ranks, as shares of the dense layer's cost, and images measured on (method.md, "Measured curves").
 */
static const double measured_shares[] = {.06, .09, .125, .185, .25, .31, .37, .5, .62, .8};
enum { n_shares = sizeof measured_shares / sizeof *measured_shares, measured_images = 128 };
/* A layer that keeps more than this many times the share that the network keeps is rare, and high ranks are
 * slow to fit. */
static const double most_of_mean = 2.5;
static const double interpolated_share = 1.0 / 72; /* step of the candidates between them */
static const double least_loss = 1e-12;

/* The network, its images at the layer that is measured, and what is asked of the fits. */
typedef struct pass {
    const nd_graph *graph;
    nd_backend *backend;
    const nd_decouple_settings *settings;
    nd_activation_cache *activations;
} pass;

/* One candidate kernel being measured. */
typedef struct trial {
    nd_graph *graph;
    nd_exec *exec;
    double loss[nd_heads_max]; /* of each head, sum |l' - l|^2 */
} trial;

/* One of the outputs that changes are measured at. */
typedef struct head {
    int value;
    int64_t size;         /* numbers of an image */
    float *out;           /* [batch][size] */
    double *sum, squares; /* [size] */
} head;

typedef struct measurement {
    const nd_layer *layer;
    nd_captures original; /* x, then what the rest needs besides y, then the heads */
    nd_exec *rest;
    int n_sides;
    trial *trials;
    int n_trials;
    float *y;
    head heads[nd_heads_max];
    int n_heads;
    int64_t images;
} measurement;

static void head_add(head *of, int64_t n, const float *wanted) {
    for (int64_t e = 0; e < n * of->size; e++) {
        of->sum[e % of->size] += wanted[e];
        of->squares += (double)wanted[e] * wanted[e];
    }
}

static double head_distance(const head *of, int64_t n, const float *wanted) {
    double sum = 0;
    for (int64_t e = 0; e < n * of->size; e++) {
        const double change = (double)of->out[e] - wanted[e];
        sum += change * change;
    }
    return sum;
}

/* Sum over images and numbers of |l - mean l|^2, the mean being that of the number; 1 where nothing
 * varies. */
static double head_spread(const head *of, int64_t images) {
    double spread = of->squares;
    for (int64_t c = 0; c < of->size; c++) spread -= of->sum[c] * of->sum[c] / (double)images;
    return spread > 0 ? spread : 1;
}

static nd_status measure_block(void *context, int64_t n) {
    measurement *m = context;
    const float *x = m->original.data[0], *const *wanted =
                                              (const float *const *)&m->original.data[m->n_sides + 1];
    float *outputs[nd_heads_max];
    const float *inputs[nd_captures_max];
    inputs[0] = m->y;
    for (int s = 0; s < m->n_sides; s++) inputs[s + 1] = m->original.data[s + 1];
    m->images += n;
    for (int h = 0; h < m->n_heads; h++) {
        outputs[h] = m->heads[h].out;
        head_add(&m->heads[h], n, wanted[h]);
    }
    for (int t = 0; t < m->n_trials; t++) {
        ND_TRY(nd_exec_run(m->trials[t].exec, n, &x, &m->y));
        ND_TRY(nd_exec_run(m->rest, n, inputs, outputs));
        for (int h = 0; h < m->n_heads; h++)
            m->trials[t].loss[h] += head_distance(&m->heads[h], n, wanted[h]);
    }
    return nd_status_ok;
}

/* A graph of the one convolution with another kernel. */
static nd_status trial_open(nd_backend *backend, const nd_conv *conv, const float *weights, const float *bias,
                            int64_t batch, trial *out) {
    nd_conv changed = *conv;
    changed.weights = weights;
    changed.bias = bias;
    ND_TRY(nd_conv_graph(&changed, batch, &out->graph));
    nd_exec_settings settings = {.batch = batch, .shrink = true};
    return nd_exec_open(backend, out->graph, &settings, &out->exec);
}

/* What nodes after value `y` need from nodes that are not: the other ends of the cut. What follows from
 * constants alone is not among them. */
static nd_status cut_after(const nd_graph *graph, int y, int *sides, int *n_sides) {
    nd_status status = nd_status_ok;
    bool *after = nd_alloc_array((size_t)graph->n_values, sizeof *after);
    bool *images = nd_alloc_array((size_t)graph->n_values, sizeof *images);
    bool *listed = nd_alloc_array((size_t)graph->n_values, sizeof *listed);
    ND_REQUIRE_DONE(after && images && listed, nd_status_memory, "no memory for a cut");
    nd_mark_images(graph, images);
    after[y] = true;
    nd_mark_after(graph, after);
    *n_sides = 0;
    for (int n = 0; n < graph->n_nodes; n++) {
        const nd_node *node = &graph->nodes[n];
        bool touched = false;
        for (int i = 0; i < node->n_in; i++) touched = touched || (node->in[i] >= 0 && after[node->in[i]]);
        if (!touched) continue;
        for (int i = 0; i < node->n_in; i++) {
            int value = node->in[i];
            if (value < 0 || after[value] || listed[value] || !images[value]) continue;
            ND_REQUIRE_DONE(*n_sides < nd_captures_max - 1 - nd_heads_max, nd_status_unsupported,
                            "%s: too many values pass by layer %s", graph->name, node->name);
            listed[value] = true;
            sides[(*n_sides)++] = value;
        }
    }
done:
    free(after);
    free(images);
    free(listed);
    return status;
}

static void measurement_close(measurement *m) {
    nd_captures_close(&m->original);
    nd_exec_close(m->rest);
    for (int t = 0; t < m->n_trials; t++) {
        nd_exec_close(m->trials[t].exec);
        nd_graph_free(m->trials[t].graph);
    }
    free(m->trials);
    free(m->y);
    for (int h = 0; h < m->n_heads; h++) {
        free(m->heads[h].out);
        free(m->heads[h].sum);
    }
}

static nd_status measurement_heads(const nd_graph *graph, int64_t batch, measurement *m, int *values) {
    m->n_heads = nd_graph_heads(graph, values);
    for (int h = 0; h < m->n_heads; h++) {
        head *of = &m->heads[h];
        of->value = values[h];
        of->size = nd_value_size(graph, values[h]);
        of->out = nd_alloc_array((size_t)batch, (size_t)of->size * sizeof *of->out);
        of->sum = nd_alloc_array((size_t)of->size, sizeof *of->sum);
        ND_REQUIRE(of->out && of->sum, nd_status_memory, "%s: no memory for its outputs", graph->name);
    }
    return nd_status_ok;
}

static nd_status measurement_open(const pass *at, const nd_layer *layer, int n_trials, measurement *m) {
    nd_status status = nd_status_ok;
    const nd_graph *graph = at->graph;
    int64_t batch = at->settings->calib->batch;
    const nd_node *node = &graph->nodes[layer->node];
    int values[nd_captures_max], rest[nd_captures_max], heads[nd_heads_max], y = node->out[0];
    *m = (measurement){.layer = layer};
    ND_TRY_DONE(measurement_heads(graph, batch, m, heads));
    values[0] = node->in[0];
    rest[0] = y;
    ND_TRY_DONE(cut_after(graph, y, values + 1, &m->n_sides));
    memcpy(rest + 1, values + 1, (size_t)m->n_sides * sizeof *rest);
    memcpy(values + m->n_sides + 1, heads, (size_t)m->n_heads * sizeof *values);
    ND_TRY_DONE(nd_activation_cache_captures(at->activations, at->backend, graph, values,
                                             m->n_sides + 1 + m->n_heads, &m->original));
    nd_exec_settings settings = {.batch = batch,
                                 .shrink = true,
                                 .inputs = rest,
                                 .n_inputs = m->n_sides + 1,
                                 .outputs = heads,
                                 .n_outputs = m->n_heads};
    ND_TRY_DONE(nd_exec_open(at->backend, graph, &settings, &m->rest));
    m->trials = nd_alloc_array((size_t)n_trials, sizeof *m->trials);
    m->y = nd_alloc_array((size_t)batch, (size_t)nd_value_size(graph, y) * sizeof *m->y);
    ND_REQUIRE_DONE(m->trials && m->y, nd_status_memory, "no memory for measuring %s", layer->name);
done:
    if (status) measurement_close(m);
    return status;
}

typedef struct moments_job {
    nd_backend *backend;
    const nd_conv *conv;
    nd_split split;
    nd_captures captures;
} moments_job;

static nd_status moments_block(void *context, int64_t n) {
    moments_job *job = context;
    return nd_split_add(&job->split, job->backend, job->conv, n, job->captures.data[0],
                        job->captures.data[1]);
}

static nd_status own_moments(const pass *at, const nd_layer *layer, nd_split *out) {
    nd_status status = nd_status_ok;
    moments_job job = {.backend = at->backend, .conv = &layer->conv};
    const nd_node *node = &at->graph->nodes[layer->node];
    int values[2] = {node->in[0], node->out[0]};
    ND_TRY_DONE(nd_split_open(&layer->conv, nd_sample_count(at->settings->calib, at->settings->calib_images),
                              &job.split));
    ND_TRY_DONE(
        nd_activation_cache_captures(at->activations, at->backend, at->graph, values, 2, &job.captures));
    ND_TRY_DONE(nd_activation_cache_sample(at->activations, 0, &job.captures, NULL, moments_block, &job));
    ND_TRY_DONE(nd_split_finish(&job.split, &layer->conv, at->settings->ridge));
    job.split.fit->metric = layer->metric;
done:
    nd_captures_close(&job.captures);
    if (status)
        nd_split_close(&job.split);
    else
        *out = job.split;
    return status;
}

static double most_share(const nd_decouple_settings *settings) {
    return settings->rule == nd_rule_macs_ratio ? most_of_mean / settings->target : 1;
}

/* Ranks worth measuring: at the shares of cost above, each once, below dense and within reach of the target.
 */
static int grid_of(const nd_decouple_settings *settings, const nd_method *method, const nd_layer *layer,
                   int64_t *ranks) {
    const nd_conv *conv = &layer->conv;
    int64_t step = nd_plan_step(settings, method, conv), most = method->max_rank(conv) / step * step;
    int n = 0;
    for (int s = 0; s < n_shares && (!n || measured_shares[s] <= most_share(settings)); s++) {
        int64_t low = step, high = most; /* the largest rank within the share */
        double budget = measured_shares[s] * (double)layer->dense_macs;
        while (low < high) {
            int64_t middle = (low + high + step) / 2 / step * step;
            if ((double)nd_method_macs(method, conv, settings->ranks, middle) <= budget)
                low = middle;
            else
                high = middle - step;
        }
        bool costlier = nd_method_macs(method, conv, settings->ranks, low) >= layer->dense_macs;
        if (low > most || costlier || (n && ranks[n - 1] >= low)) continue;
        ranks[n++] = low;
    }
    return n;
}

static nd_status fit_trial(const pass *at, const nd_layer *layer, const nd_method *method, int64_t rank,
                           const nd_moments *moments, trial *out) {
    nd_status status = nd_status_ok;
    const nd_decouple_settings *settings = at->settings;
    nd_backend *backend = at->backend;
    nd_chain chain = {0};
    int64_t count = moments->no * moments->k;
    double *w = nd_alloc_array((size_t)count, sizeof *w);
    float *weights = nd_alloc_array((size_t)count, sizeof *weights);
    ND_REQUIRE_DONE(w && weights, nd_status_memory, "no memory for measuring %s", layer->name);
    ND_TRY_DONE(method->decompose(backend, &layer->conv, settings->ranks, rank, moments, &chain));
    ND_TRY_DONE(nd_chain_compose(&chain, &layer->conv, w));
    for (int64_t e = 0; e < count; e++) weights[e] = (float)w[e];
    ND_TRY_DONE(trial_open(backend, &layer->conv, weights, chain.stages[chain.n - 1].bias,
                           settings->calib->batch, out));
done:
    nd_chain_free(&chain);
    free(w);
    free(weights);
    return status;
}

/* One ridge for all ranks and methods: that which suits the middle rank of one of them. */
static nd_status choose_ridge(const pass *at, const nd_layer *layer, const nd_method *method,
                              nd_split *split) {
    int64_t ranks[nd_curve_points];
    const int n = grid_of(at->settings, method, layer, ranks);
    nd_chain chain = {0};
    nd_status status = nd_status_ok;
    if (n && split->held && at->settings->ridge <= 0) {
        status = method->decompose(at->backend, &layer->conv, at->settings->ranks, ranks[n / 2], split->fit,
                                   &chain);
        if (!status) status = nd_split_ridge(split, at->backend, &layer->conv, &chain);
        nd_log(nd_log_debug, "%s: ridge %g", layer->name, split->lambda);
    }
    nd_chain_free(&chain);
    return status;
}

typedef nd_status judge(const nd_split *split, nd_backend *backend, const nd_conv *conv,
                        const nd_chain *chain, double *result);

/* What the images held out say of a fit to the others. */
static nd_status judge_rank(const pass *at, const nd_layer *layer, const nd_method *method, int64_t rank,
                            const nd_split *split, judge *judge, double *result) {
    nd_chain chain = {0};
    nd_status status =
        method->decompose(at->backend, &layer->conv, at->settings->ranks, rank, split->fit, &chain);
    if (!status) status = judge(split, at->backend, &layer->conv, &chain, result);
    nd_chain_free(&chain);
    return status;
}

/* By how much more the loss of each point would be on images that the fit has not seen, in place of the loss:
 * found at the ends and in the middle. */
static nd_status find_optimism(const pass *at, const nd_layer *layer, const nd_method *method,
                               const nd_split *split, nd_curve *curve) {
    const int last = curve->n - 1, middle = last / 2, at_rank[] = {0, middle, last};
    double ends[3] = {1, 1, 1};
    for (int e = 0; split->held && e < 3 && last >= 0; e++)
        ND_TRY(judge_rank(at, layer, method, curve->rank[at_rank[e]], split, nd_split_optimism, &ends[e]));
    for (int p = 0; p <= last; p++) {
        const int part = p > middle, begin = at_rank[part], end = at_rank[part + 1];
        const double share = end > begin ? (double)(p - begin) / (end - begin) : 0;
        curve->loss[p] = ends[part] * (1 - share) + ends[part + 1] * share;
    }
    return nd_status_ok;
}

/* The relative squared change, each head weighing the same. */
static double trial_loss(const measurement *m, const trial *of) {
    double loss = 0;
    for (int h = 0; h < m->n_heads; h++)
        loss += of->loss[h] / head_spread(&m->heads[h], m->images) / m->n_heads;
    return loss;
}

static nd_status measure_trials(const pass *at, measurement *m, int n_methods, nd_curve *curves) {
    ND_TRY(
        nd_activation_cache_sample(at->activations, measured_images, &m->original, NULL, measure_block, m));
    for (int c = 0, t = 0; c < n_methods; c++)
        for (int p = 0; p < curves[c].n; p++, t++) curves[c].loss[p] *= trial_loss(m, &m->trials[t]);
    return nd_status_ok;
}

/* At the scores: fits to all images, whose losses count times their optimism. */
static nd_status measure_at_scores(const pass *at, const nd_layer *layer, const nd_method *const *methods,
                                   int n_methods, nd_split *split, nd_curve *curves) {
    measurement m = {0};
    for (int c = 0; c < n_methods; c++) ND_TRY(find_optimism(at, layer, methods[c], split, &curves[c]));
    nd_split_pool(split, &layer->conv);
    ND_TRY(measurement_open(at, layer, n_methods * nd_curve_points, &m));
    nd_status status = nd_status_ok;
    for (int c = 0; c < n_methods; c++)
        for (int p = 0; !status && p < curves[c].n; p++)
            status = fit_trial(at, layer, methods[c], curves[c].rank[p], split->fit, &m.trials[m.n_trials++]);
    if (!status) status = measure_trials(at, &m, n_methods, curves);
    measurement_close(&m);
    return status;
}

/* The curves of one layer in several methods at once, so that the images pass the network once. */
static nd_status measure_layer(const pass *at, const nd_layer *layer, const nd_method *const *methods,
                               int n_methods, nd_curve *curves) {
    nd_split split = {0};
    nd_status status = nd_activation_cache_move(at->activations, at->backend, at->graph, NULL, layer->node);
    if (!status) status = own_moments(at, layer, &split);
    if (!status) status = choose_ridge(at, layer, methods[0], &split);
    for (int c = 0; c < n_methods; c++)
        curves[c].n = grid_of(at->settings, methods[c], layer, curves[c].rank);
    for (int c = 0; at->settings->quick && c < n_methods; c++)
        for (int p = 0; !status && p < curves[c].n; p++)
            status = judge_rank(at, layer, methods[c], curves[c].rank[p], &split, nd_split_error,
                                &curves[c].loss[p]);
    if (!status && !at->settings->quick)
        status = measure_at_scores(at, layer, methods, n_methods, &split, curves);
    nd_split_close(&split);
    return status;
}

/* More rank never loses more; what measures otherwise is noise. */
static void make_monotone(nd_curve *curve) {
    for (int p = curve->n - 1; p >= 0; p--) {
        curve->loss[p] = fmax(curve->loss[p], least_loss);
        if (p + 1 < curve->n) curve->loss[p] = fmax(curve->loss[p], curve->loss[p + 1]);
    }
}

static double interpolate(const nd_curve *curve, int64_t rank) {
    int p = 0;
    while (p + 2 < curve->n && rank > curve->rank[p + 1]) p++;
    if (curve->n == 1 || curve->loss[p] == curve->loss[p + 1]) return curve->loss[p]; /* not an ulp apart */
    double x0 = log((double)curve->rank[p]), x1 = log((double)curve->rank[p + 1]);
    double share = (log((double)rank) - x0) / (x1 - x0);
    return exp(log(curve->loss[p]) * (1 - share) + log(curve->loss[p + 1]) * share);
}

static nd_status add_curve(const nd_decouple_settings *settings, const nd_layer *layer, int number,
                           const nd_method *method, nd_curve *curve, nd_candidate_list *t) {
    if (!curve->n) return nd_status_ok;
    make_monotone(curve);
    int64_t step = nd_plan_step(settings, method, &layer->conv), last = curve->rank[curve->n - 1];
    double per_rank = (double)nd_method_macs(method, &layer->conv, settings->ranks, last) / (double)last;
    int64_t stride = (int64_t)(interpolated_share * (double)layer->dense_macs / per_rank) / step * step;
    if (stride < step) stride = step;
    for (int64_t rank = curve->rank[0]; rank <= last; rank += stride) {
        nd_candidate candidate = {
            .layer = number,
            .cost = nd_method_macs(method, &layer->conv, settings->ranks, rank),
            .error = interpolate(curve, rank),
            .method = method,
            .rank = rank,
        };
        ND_TRY(nd_candidate_list_add(t, &candidate));
    }
    return nd_status_ok;
}

/* A layer whose T is set has no choice but between methods, and takes the cheapest. */
static nd_status add_fixed(const nd_decouple_settings *settings, const nd_plan *plan, int number,
                           nd_candidate_list *t) {
    const nd_layer *layer = &plan->layers[number];
    const nd_method *methods[nd_methods_max];
    int n = nd_plan_methods(plan, layer, methods);
    for (int m = 0; m < n; m++) {
        int64_t rank = layer->terms * methods[m]->channels(&layer->conv);
        int64_t most = methods[m]->max_rank(&layer->conv);
        nd_candidate candidate = {.layer = number, .method = methods[m], .rank = rank < most ? rank : most};
        candidate.cost = nd_method_macs(methods[m], &layer->conv, settings->ranks, candidate.rank);
        ND_TRY(nd_candidate_list_add(t, &candidate));
    }
    return nd_status_ok;
}

static nd_status curves_of_layer(const pass *at, const nd_plan *plan, int number, nd_json_cache *cache,
                                 nd_candidate_list *t) {
    const nd_layer *layer = &plan->layers[number];
    const nd_method *methods[nd_methods_max], *missing[nd_methods_max];
    nd_curve curves[nd_methods_max], measured[nd_methods_max];
    bool known[nd_methods_max];
    int n = nd_plan_methods(plan, layer, methods), n_missing = 0;
    for (int m = 0; m < n; m++) {
        int64_t grid[nd_curve_points];
        const int points = grid_of(at->settings, methods[m], layer, grid);
        known[m] = nd_curves_cache_get(cache, layer->name, methods[m]->name, &curves[m]) &&
                   (!points || curves[m].rank[curves[m].n - 1] >= grid[points - 1]);
        if (!known[m]) missing[n_missing++] = methods[m];
    }
    if (n_missing) ND_TRY(measure_layer(at, layer, missing, n_missing, measured));
    for (int m = 0, next = 0; m < n; m++) {
        if (!known[m]) {
            curves[m] = measured[next++];
            nd_curves_cache_put(cache, layer->name, methods[m]->name, &curves[m]);
        }
        ND_TRY(add_curve(at->settings, layer, number, methods[m], &curves[m], t));
    }
    return nd_status_ok;
}

nd_status nd_curves(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                    const nd_plan *plan, nd_candidate **out, size_t *count) {
    nd_json_cache cache;
    nd_candidate_list t = {0};
    pass at = {graph, backend, settings, NULL};
    ND_TRY(nd_curves_cache_open(graph, settings, &cache));
    nd_status status = nd_activation_cache_new(settings->calib, settings->calib_images,
                                               nd_activation_cache_bytes, &at.activations);
    for (int l = 0; !status && l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        nd_progress_report(settings->progress, "measuring curves", l, plan->n_layers);
        if (layer->why) continue;
        nd_candidate dense = {.layer = l, .cost = layer->dense_macs};
        if (layer->terms > 0) {
            status = add_fixed(settings, plan, l, &t);
            continue;
        }
        status = nd_candidate_list_add(&t, &dense);
        if (!status) status = curves_of_layer(&at, plan, l, &cache, &t);
    }
    nd_progress_report(settings->progress, "measuring curves", plan->n_layers, plan->n_layers);
    nd_activation_cache_free(at.activations);
    nd_json_cache_close(&cache);
    if (status) {
        free(t.rows);
        return status;
    }
    *out = t.rows;
    *count = t.count;
    return nd_status_ok;
}
