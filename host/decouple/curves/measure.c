#include "decouple/curves/measure.h"

#include "decouple/curves/curve_ranks.h"
#include "decouple/curves/layer_fits.h"
#include "model/cost.h"

#include <math.h>

/* Shares of the dense layer's cost: where the ridge is chosen, by how much more images lose that a fit has
 * not seen (whatever the target and the methods are, so that what was measured for others is what would be
 * measured now), and what errors do to the scores (method.md, "Quick"). */
static const double ridge_share = .25, optimism_shares[] = {.06, .185, .37},
                    scale_shares[nd_scale_points] = {.06, .125, .25};
enum {
    n_optimism_shares = sizeof optimism_shares / sizeof *optimism_shares,
    quick_images = 128 /* that a quick survey takes its moments of */
};

/* Images that losses at the scores are measured on: as many as take so many multiply-accumulates through the
 * network. */
typedef struct images_within {
    double macs;
    int least, most;
} images_within;
static const images_within measured_within = {7.5e11, 32, 128}, scale_within = {2.6e11, 16, 32};

typedef struct moments_job {
    nd_backend *backend;
    const nd_conv *conv;
    nd_split split;
    nd_captures captures;
} moments_job;

static nd_status moments_block(void *context, int64_t n) {
    moments_job *job = context;
    return nd_split_add(&job->split, job->backend, job->conv, n, job->captures.data[0], NULL);
}

int64_t nd_curve_images(const nd_decouple_settings *settings) {
    const int64_t images = nd_sample_count(settings->calib, settings->calib_images);
    return settings->quick && images > quick_images ? quick_images : images;
}

static nd_status own_moments(const nd_curve_pass *at, const nd_layer *layer, nd_split *out) {
    nd_status status = nd_status_ok;
    moments_job job = {.backend = at->backend, .conv = &layer->conv};
    const nd_node *node = &at->graph->nodes[layer->node];
    const int x = node->in[0];
    ND_TRY_DONE(nd_split_open(&layer->conv, nd_curve_images(at->settings), &job.split));
    nd_activation_cache_ahead(at->activations, at->next, false);
    ND_TRY_DONE(nd_activation_cache_captures(at->activations, at->backend, at->graph, &x, 1, &job.captures));
    ND_TRY_DONE(nd_activation_cache_sample(at->activations, 0, &job.captures, NULL, moments_block, &job));
    ND_TRY_DONE(nd_split_finish(&job.split, at->backend, &layer->conv, at->settings->ridge));
    job.split.fit->metric = layer->metric;
done:
    nd_captures_close(&job.captures);
    if (status)
        nd_split_close(&job.split);
    else
        *out = job.split;
    return status;
}

/* The first method that there is for such a layer. */
static const nd_method *first_method(const nd_layer *layer) {
    const nd_method *const *m = nd_method_table;
    while (*m && ((*m)->pointwise == layer->spatial || !(*m)->applies(&layer->conv))) m++;
    return *m;
}

/* One ridge for all ranks and methods: that which suits the refit of one of them at a middle rank, its
 * other stages from the weights alone, since what would choose them from data is found with a ridge. */
static nd_status choose_ridge(const nd_curve_pass *at, const nd_layer *layer, nd_split *split) {
    const nd_method *method = first_method(layer);
    const int64_t rank = method ? nd_curve_rank_within(at->settings, method, layer, ridge_share) : 0;
    nd_chain chain = {0};
    nd_status status = nd_status_ok;
    if (rank && split->held && at->settings->ridge <= 0) {
        status = method->decompose(at->backend, &layer->conv, at->settings->ranks, rank, NULL, &chain);
        if (!status) status = nd_split_ridge(split, at->backend, &layer->conv, &chain);
        nd_log(nd_log_debug, "%s: ridge %g", layer->name, split->lambda);
    }
    nd_chain_free(&chain);
    return status;
}

static nd_layer_fits fits_of(const nd_curve_pass *at, const nd_layer *layer, const nd_split *split) {
    return (nd_layer_fits){
        .backend = at->backend, .ranks = at->settings->ranks, .layer = layer, .split = split};
}

/* Linear between the ranks, constant outside. */
static double between(int n, const int64_t *ranks, const double *values, int64_t rank) {
    int p = 0;
    while (p + 2 < n && rank > ranks[p + 1]) p++;
    if (n < 2 || rank <= ranks[p]) return values[p];
    if (rank >= ranks[p + 1]) return values[p + 1];
    const double share = (double)(rank - ranks[p]) / (double)(ranks[p + 1] - ranks[p]);
    return values[p] * (1 - share) + values[p + 1] * share;
}

/* By how much more the loss of each point would be on images that the fit has not seen, in place of the
 * loss. */
static nd_status find_optimism(const nd_curve_pass *at, const nd_layer *layer, const nd_method *method,
                               const nd_split *split, nd_curve *curve) {
    int64_t ranks[n_optimism_shares];
    double factors[n_optimism_shares] = {1, 1, 1};
    const int n = curve->n && split->held
                      ? nd_curve_ranks(at->settings, method, layer, optimism_shares, n_optimism_shares, ranks)
                      : 0;
    nd_layer_fits list = fits_of(at, layer, split);
    for (int i = 0; i < n; i++)
        nd_layer_fits_add(&list, (nd_layer_fit){.method = method,
                                                .rank = ranks[i],
                                                .judge = nd_split_optimism,
                                                .result = &factors[i]});
    ND_TRY(nd_layer_fits_run(&list));
    for (int p = 0; p < curve->n; p++) curve->loss[p] = n ? between(n, ranks, factors, curve->rank[p]) : 1;
    return nd_status_ok;
}

static int64_t images_of(const images_within *within, const nd_graph *graph) {
    const double images = within->macs / (double)(nd_cost_graph(graph).total_macs + 1);
    return (int64_t)fmin(fmax(images, within->least), within->most);
}

static nd_status open_scores(const nd_curve_pass *at, const nd_layer *layer, int n_trials, int64_t images,
                             nd_score_loss **out) {
    const int64_t batch = at->settings->calib->batch;
    ND_TRY(nd_score_tail_open(at->backend, at->graph, at->graph->nodes[at->last].out[0], batch, at->tail));
    return nd_score_loss_open(at->activations, at->backend, at->graph, layer, batch, n_trials, images,
                              at->heads, at->tail, out);
}

/* At the scores: fits to all images, whose losses count times their optimism. */
static nd_status measure_at_scores(const nd_curve_pass *at, const nd_layer *layer,
                                   const nd_method *const *methods, int n_methods, nd_split *split,
                                   nd_curve *curves) {
    nd_score_loss *scores = NULL;
    double loss[nd_methods_max * nd_curve_points];
    nd_chain chains[nd_methods_max * nd_curve_points] = {{0}};
    for (int c = 0; c < n_methods; c++) ND_TRY(find_optimism(at, layer, methods[c], split, &curves[c]));
    nd_split_pool(split, &layer->conv);
    ND_TRY(
        open_scores(at, layer, n_methods * nd_curve_points, images_of(&measured_within, at->graph), &scores));
    nd_layer_fits list = fits_of(at, layer, split);
    for (int c = 0; c < n_methods; c++)
        for (int p = 0; p < curves[c].n; p++)
            nd_layer_fits_add(
                &list,
                (nd_layer_fit){.method = methods[c], .rank = curves[c].rank[p], .kept = &chains[list.n]});
    nd_status status = nd_layer_fits_run(&list);
    for (int i = 0; i < list.n; i++) {
        if (!status) status = nd_score_loss_add(scores, &chains[i]);
        nd_chain_free(&chains[i]);
    }
    if (!status) status = nd_score_loss_measure(scores, at->activations, loss);
    for (int c = 0, t = 0; !status && c < n_methods; c++)
        for (int p = 0; p < curves[c].n; p++) curves[c].loss[p] *= loss[t++];
    nd_score_loss_close(scores);
    return status;
}

/* What errors of this layer do to the scores, by fits of one method at so many ranks, on the first images.
 * Part of those were seen by the fits. chains[n]: those that are there already; the others are filled. */
static nd_status measure_scale(const nd_curve_pass *at, const nd_layer *layer, const nd_method *method,
                               const nd_split *split, int n, const int64_t *ranks, nd_chain *chains,
                               nd_scale *scale) {
    const int64_t images = images_of(&scale_within, at->graph);
    const double unseen = split->held ? (double)nd_split_held(0, images) / (double)images : 0;
    nd_score_loss *scores = NULL;
    nd_status status = nd_status_ok;
    *scale = (nd_scale){.n = n};
    ND_TRY(open_scores(at, layer, n, images, &scores));
    for (int i = 0; i < n; i++) {
        double held = 0, optimism = 1;
        if (!chains[i].n)
            ND_TRY_DONE(method->decompose(at->backend, &layer->conv, at->settings->ranks, ranks[i],
                                          split->fit, &chains[i]));
        ND_TRY_DONE(nd_split_error(split, at->backend, &layer->conv, &chains[i], &held));
        ND_TRY_DONE(nd_split_optimism(split, at->backend, &layer->conv, &chains[i], &optimism));
        scale->error[i] = optimism > 0 ? held * (unseen + (1 - unseen) / optimism) : held;
        ND_TRY_DONE(nd_score_loss_add(scores, &chains[i]));
    }
    ND_TRY_DONE(nd_score_loss_measure(scores, at->activations, scale->loss));
done:
    nd_score_loss_close(scores);
    return status;
}

/* Of `by` the chains at the ranks[n] are kept. */
static nd_status judge_curves(const nd_curve_pass *at, const nd_layer *layer, const nd_method *const *methods,
                              int n_methods, const nd_split *split, const nd_method *by, int n,
                              const int64_t *ranks, nd_chain *chains, nd_curve *curves) {
    nd_layer_fits list = fits_of(at, layer, split);
    for (int c = 0; c < n_methods; c++)
        for (int p = 0; p < curves[c].n; p++) {
            nd_layer_fit fit = {.method = methods[c],
                                .rank = curves[c].rank[p],
                                .judge = nd_split_error,
                                .result = &curves[c].loss[p]};
            for (int i = 0; methods[c] == by && i < n; i++)
                if (ranks[i] == fit.rank) fit.kept = &chains[i];
            nd_layer_fits_add(&list, fit);
        }
    return nd_layer_fits_run(&list);
}

nd_status nd_curve_measure(const nd_curve_pass *at, const nd_layer *layer, const nd_method *const *methods,
                           int n_methods, nd_curve *curves, const nd_method *by, nd_scale *scale) {
    nd_split split = {0};
    nd_chain chains[nd_scale_points] = {{0}};
    int64_t ranks[nd_scale_points];
    const int n = by ? nd_curve_ranks(at->settings, by, layer, scale_shares, nd_scale_points, ranks) : 0;
    nd_status status = nd_activation_cache_move(at->activations, at->backend, at->graph, NULL, layer->node);
    if (!status) status = own_moments(at, layer, &split);
    if (!status) status = choose_ridge(at, layer, &split);
    for (int c = 0; c < n_methods; c++)
        curves[c].n = nd_curve_grid(at->settings, methods[c], layer, curves[c].rank);
    if (!status && at->settings->quick)
        status = judge_curves(at, layer, methods, n_methods, &split, by, n, ranks, chains, curves);
    if (!status && n) status = measure_scale(at, layer, by, &split, n, ranks, chains, scale);
    if (!status && !at->settings->quick)
        status = measure_at_scores(at, layer, methods, n_methods, &split, curves);
    for (int i = 0; i < nd_scale_points; i++) nd_chain_free(&chains[i]);
    nd_split_close(&split);
    return status;
}
